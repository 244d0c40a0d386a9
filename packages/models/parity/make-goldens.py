"""Makes the golden vectors in ../goldens from the reference implementations.

Run by hand, never by the product or its tests. Environment:

    python3 -m venv venv
    venv/bin/pip install torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 peft==0.21.2 scipy lycoris-lora==4.1.3
    venv/bin/python packages/models/parity/make-goldens.py [NAME ...]

Without names, everything is made again (some seconds). Each golden is `NAME.json` (class, config,
options) and `NAME.safetensors`: `weights.*` under Hugging Face's names, drawn exact in float16 and stored
so to save space; float32 or float64 `inputs.*`, `outputs.*`, `blocks.*` (output of one submodule) and
`gradients.*` (of sum(output * cotangent)). Networks run in float32, schedulers in float64.

EVERY parameter is drawn at random, biases, norms and LoRA's B included, since default initialisation
hides faults. Layers that write into a residual stream are drawn small, so that the variances seen by
normalisation layers are about 0.01 and a wrong epsilon shows.
"""

import sys
from importlib import import_module

sys.dont_write_bytecode = True

from reference.common import OUT  # noqa: E402

# What makes each golden: module of `reference` and function. Loaded when asked for: not all need the same packages.
GOLDENS = {
    "clip-text": "clip.clip_text",
    "clip-vision": "clip.clip_vision",
    "clip-model": "clip.clip_model",
    "unet": "networks.unet",
    "vae": "networks.vae",
    "schedulers": "schedulers.schedulers",
    "tokenizer": "tokenizer.tokenizer",
    "pipeline": "pipeline.pipeline",
    "pipeline-xl": "pipeline_xl.pipeline_xl",
    "gligen": "gligen.gligen",
    "lora": "pipeline.lora",
    "half": "half.half",
    "adapters": "adapters.adapters",
    "kinds": "kinds.kinds",
    "resnet": "classifier.resnet",
    "scorers": "scorers.scorers",
    "face-quality": "face_quality.face_quality",
    "scorer-vectors": "scorer_vectors.scorer_vectors",
    "single-file": "single_file.single_file",
    "torch-files": "torch_files.torch_files",
    "real-models": "real_models.real_models",
}

if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for wanted in sys.argv[1:] or GOLDENS:
        if wanted not in GOLDENS:
            raise SystemExit(f"unknown golden {wanted}; one of {', '.join(GOLDENS)}")
        module, function = GOLDENS[wanted].split(".")
        getattr(import_module(f"reference.{module}"), function)()
    total = sum(f.stat().st_size for f in OUT.rglob("*") if f.is_file())
    print(f"all goldens: {total / 1e6:.2f} MB")
