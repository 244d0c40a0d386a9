"""Tensor names and shapes of the real configurations, from the reference classes on the meta device: no weights."""

import hashlib
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from .clip import published
from .common import HERE, OUT, VERSIONS

CONFIGS = HERE.parents[1] / "rldf" / "assets" / "configs"


def networks(configs):
    with torch.device("meta"):
        yield "unet", UNet2DConditionModel.from_config(configs["unet"]).state_dict()
        yield "vae", AutoencoderKL.from_config(configs["vae"]).state_dict()
        yield "text_encoder", published(CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])).state_dict())
        if "text_encoder_2" in configs:
            second = CLIPTextModelWithProjection(CLIPTextConfig(**configs["text_encoder_2"]))
            yield "text_encoder_2", published(second.state_dict())


def summary(state):
    """How many tensors and numbers, and a hash of all names and shapes: `NAME HEIGHT,WIDTH`, a line each, sorted."""
    lines = "\n".join(sorted(f"{name} {','.join(map(str, value.shape))}" for name, value in state.items()))
    count = sum(value.numel() for value in state.values())
    return {"tensors": len(state), "parameters": count, "sha256": hashlib.sha256(lines.encode()).hexdigest()}


def real_models():
    models = {
        path.stem: {name: summary(state) for name, state in networks(json.loads(path.read_text()))}
        for path in sorted(Path(CONFIGS).glob("*.json"))
    }
    content = {"name": "real-models", "madeWith": VERSIONS, "models": models}
    (OUT / "real-models.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"real-models: {', '.join(models)}")
