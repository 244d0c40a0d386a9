"""Goldens of GLIGEN: the U-Net with gated layers, and the whole pipeline."""

import shutil

import torch
from diffusers import DDIMScheduler, StableDiffusionGLIGENPipeline, UNet2DConditionModel

from .common import OUT, draw, normal, stream, write
from .networks import UNET, unet_golden
from .pipeline import PROMPTS, WEAK, pipeline_parts, random_vae
from .tokenizer import write_tokenizer

GATED = dict(
    **UNET,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    attention_head_dim=2,
    attention_type="gated",
)
OBJECTS = (["a photo of a cat", "dog"], [[0.1, 0.25, 0.45, 0.9], [0.55, 0.2, 0.95, 0.7]])


def gligen():
    unet_golden("unet-gligen", GATED, (6, 10), [3, 999, 500], batch=3, objects=[2, 0, 3])
    unet_golden("unet-gligen-off", GATED, (5, 7), [3, 700], batch=2, blocks=False, gradients=False, weights_of="unet-gligen")
    pipeline()


def pipeline():
    folder = OUT / "pipeline-gligen"
    shutil.rmtree(folder, ignore_errors=True)
    tok = write_tokenizer(folder / "tokenizer", 16)
    plain, text = pipeline_parts()
    unet = draw(UNet2DConditionModel(**{**GATED, "cross_attention_dim": plain.config.cross_attention_dim, "sample_size": 8}), "pipeline-gligen-unet")
    pipe = StableDiffusionGLIGENPipeline(
        vae=random_vae("pipeline-gligen-vae"), text_encoder=text, tokenizer=tok, unet=unet,
        scheduler=DDIMScheduler(**WEAK, clip_sample=False, set_alpha_to_one=False, steps_offset=1), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.to(torch.float16).save_pretrained(folder)  # lossless, see draw()
    pipe.to(torch.float32)
    write_tokenizer(folder / "tokenizer", 16)
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)  # published folders have none
    latents = normal(stream("pipeline-gligen/inputs"), 2, 4, 8, 12)
    outputs, runs = {}, []
    for run, options in {
        "guidance-1": {"guidance_scale": 1.0, "beta": 1.0},
        "guidance-5": {"guidance_scale": 5.0, "beta": 1.0},
        "scheduled": {"guidance_scale": 5.0, "beta": 0.3},  # one of five steps
        "scheduled-3": {"guidance_scale": 3.0, "beta": 0.79, "negative_prompt": ["a blue dog", ""]},
        "one-box": {"guidance_scale": 3.0, "beta": 0.6, "objects": 1},
    }.items():
        phrases, boxes = (part[: options.get("objects", 2)] for part in OBJECTS)
        call = {
            "prompt": PROMPTS, "latents": latents, "num_inference_steps": 5, "height": 16, "width": 24, "guidance_scale": options["guidance_scale"],
            "negative_prompt": options.get("negative_prompt"), "gligen_phrases": phrases, "gligen_boxes": boxes,
            "gligen_scheduled_sampling_beta": options["beta"],
        }  # fmt: skip
        with torch.no_grad():
            final = pipe(**call, output_type="latent").images
            image = pipe(**call, output_type="pt").images
        outputs[f"{run}.latents"], outputs[f"{run}.images"] = final, image
        assert ((image > 0) & (image < 1)).float().mean() > 0.7, run
        runs.append({
            "name": run, "steps": 5, "prompts": PROMPTS, "guidanceScale": options["guidance_scale"], "negativePrompts": options.get("negative_prompt"),
            "objects": [{"phrase": phrase, "box": box} for phrase, box in zip(phrases, boxes)], "groundingBeta": options["beta"],
        })  # fmt: skip
    write(
        "pipeline-gligen-runs",
        {"class": "StableDiffusionGLIGENPipeline", "folder": "pipeline-gligen", "width": 24, "height": 16, "runs": runs},
        inputs={"latents": latents},
        outputs=outputs,
    )
