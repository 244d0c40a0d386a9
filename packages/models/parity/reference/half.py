"""Goldens of half precision: the networks of two pipeline goldens as PyTorch computes them in bfloat16 and float16, beside float32."""

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from .common import OUT, normal, stream, vjp, write


def half():
    inputs, outputs, gradients = {}, {}, {}
    for name, kind in (("pipeline", StableDiffusionPipeline), ("pipeline-xl", StableDiffusionXLPipeline)):
        gen = stream(f"half/{name}")
        pipe = kind.from_pretrained(OUT / name)
        width = pipe.unet.config.cross_attention_dim
        given = {
            "latents": normal(gen, 2, 4, 6, 8), "hidden_states": normal(gen, 2, 7, width),
            "timesteps": torch.tensor([11, 801]), "ids": torch.randint(0, 30, (2, 9), generator=gen),
        }  # fmt: skip
        if name == "pipeline-xl":
            given["pooled"] = normal(gen, 2, pipe.text_encoder_2.config.projection_dim)
            given["time_ids"] = torch.tensor([[48.0, 64, 0, 0, 48, 64], [32, 32, 4, 0, 48, 64]])
        inputs.update({f"{name}.{key}": value for key, value in given.items()})
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            pipe = kind.from_pretrained(OUT / name, torch_dtype=dtype)
            key = f"{name}.{str(dtype).removeprefix('torch.')}"
            latents = given["latents"].clone().requires_grad_()
            added = {"text_embeds": given["pooled"].to(dtype), "time_ids": given["time_ids"]} if "pooled" in given else None
            out = pipe.unet(
                latents.to(dtype), given["timesteps"], given["hidden_states"].to(dtype), added_cond_kwargs=added
            ).sample.float()  # fmt: skip
            cotangent, found = vjp(out, {"latents": latents}, stream(f"half/cotangent/{name}"))
            inputs[f"{name}.cotangent"] = cotangent
            gradients[f"{key}.latents"] = found["latents"]
            with torch.no_grad():
                outputs[f"{key}.unet"] = out
                outputs[f"{key}.vae"] = pipe.vae.decode(given["latents"].to(dtype)).sample.float()
                outputs[f"{key}.text"] = pipe.text_encoder(given["ids"]).last_hidden_state.float()
    write("half", {"class": "half precision", "folders": ["pipeline", "pipeline-xl"]}, inputs=inputs, outputs=outputs, gradients=gradients)
