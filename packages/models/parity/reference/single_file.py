"""Names of single-file checkpoints, as the conversion scripts of the diffusers repository write them.

`single-file-names.json.gz`: for each real model its configurations, and a list of [original name, shape,
[diffusers' names]] of all tensors, from models on the meta device: no weights. The scripts are no part of the package: put
`convert_diffusers_to_original_stable_diffusion.py` and `convert_diffusers_to_original_sdxl.py` of the repository's
`scripts` folder (v0.42) into a folder and name it by DIFFUSERS_SCRIPTS.
"""

import gzip
import importlib.util
import json
import os
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from .common import HERE, OUT

CONFIGS = HERE.parents[1] / "rldf" / "assets" / "configs"


def script(name):
    folder = os.environ["DIFFUSERS_SCRIPTS"]
    spec = importlib.util.spec_from_file_location(name, Path(folder) / f"convert_diffusers_to_original_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def state(model_class, config):
    with torch.device("meta"):
        model = model_class.from_config(config) if hasattr(model_class, "from_config") else model_class(config)
    return model.state_dict()


def towered(tensors):
    """transformers 5 leaves `text_model.` out of the bare tower's names; the scripts expect it."""
    bare = ("embeddings.", "encoder.", "final_layer_norm.")
    return {f"text_model.{k}" if k.startswith(bare) else k: v for k, v in tensors.items()}


def renamed(convert, tensors):
    """Pairs by identity; what the script reshapes, cuts or joins, by converting it apart."""
    known = {id(v): k for k, v in tensors.items()}
    rows = []
    for name, value in convert(dict(tensors)).items():
        rows.append([name, list(value.shape), [known[id(value)]] if id(value) in known else None])
    return rows


def unet_rows(convert, tensors):
    return [[f"model.diffusion_model.{name}", shape, own] for name, shape, own in renamed(convert, tensors)]


def vae_rows(convert, tensors):
    rows = []
    for name, value in tensors.items():
        ((original, new),) = convert({name: value}).items()
        rows.append([f"first_stage_model.{original}", list(new.shape), [name]])
    return rows


def open_clip_rows(prefix, convert, tensors):
    rows = []
    for name, shape, own in renamed(convert, tensors):
        if own is None:  # joined
            layer = name.split(".resblocks.")[1].split(".")[0]
            leaf = name.rsplit("_", 1)[1]
            own = [f"text_model.encoder.layers.{layer}.self_attn.{p}_proj.{leaf}" for p in "qkv"]
        if name == "text_projection.weight":
            name = "text_projection"
        rows.append([prefix + name, shape, [one.removeprefix("transformer.") for one in own]])
    return rows


def single_file():
    if "DIFFUSERS_SCRIPTS" not in os.environ:
        return print("single-file: left as it is — DIFFUSERS_SCRIPTS names no folder, see reference/single_file.py")
    sd, xl = script("stable_diffusion"), script("sdxl")
    names = {}
    for model, config_name in {"sd1": "sd-1.5", "sd2": "sd-2.1", "xl": "sdxl-base-1.0"}.items():
        configs = json.loads((CONFIGS / f"{config_name}.json").read_text())
        module = xl if model == "xl" else sd
        rows = unet_rows(module.convert_unet_state_dict, state(UNet2DConditionModel, configs["unet"]))
        rows += vae_rows(module.convert_vae_state_dict, state(AutoencoderKL, configs["vae"]))
        text = towered(state(CLIPTextModel, CLIPTextConfig(**configs["text_encoder"])))
        if model == "sd2":
            text = {f"transformer.{name}": value for name, value in text.items()}  # as the script's main part does
            rows += open_clip_rows("cond_stage_model.model.", sd.convert_text_enc_state_dict_v20, text)
        else:
            prefix = "conditioner.embedders.0.transformer." if model == "xl" else "cond_stage_model.transformer."
            rows += [[prefix + name, list(value.shape), [name]] for name, value in text.items()]
        if model == "xl":
            second = CLIPTextModelWithProjection
            tensors = towered(state(second, CLIPTextConfig(**configs["text_encoder_2"])))
            rows += open_clip_rows("conditioner.embedders.1.model.", xl.convert_openclip_text_enc_state_dict, tensors)
        parts = [part for part in ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler") if part in configs]
        names[model] = {"configs": {part: configs[part] for part in parts}, "tensors": sorted(rows)}
        print(f"single-file {model}: {len(rows)} tensors")
    text = json.dumps(names, separators=(",", ":"))
    (OUT / "single-file-names.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
