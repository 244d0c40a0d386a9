"""Goldens of a whole Stable Diffusion XL pipeline: two text encoders, and sizes that the network is told."""

import shutil

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from .clip import TEXT
from .common import OUT, draw, normal, stream, write
from .networks import SDXL
from .pipeline import PROMPTS, WEAK, random_vae
from .tokenizer import make_vocabulary, write_tokenizer


def parts():
    vocab, _ = make_vocabulary()
    text = {
        **TEXT, "vocab_size": len(vocab), "max_position_embeddings": 16, "bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1,
        "pad_token_id": len(vocab) - 1,
    }  # fmt: skip
    first = CLIPTextConfig(**{**text, "hidden_size": 8, "num_hidden_layers": 2, "hidden_act": "quick_gelu"})
    # the summary is as wide as the first encoder's features. As published: eos_token_id 2 whatever the vocabulary, and padding by "!", which is no end token
    second = {"hidden_size": 12, "num_hidden_layers": 3, "hidden_act": "gelu", "projection_dim": 8, "eos_token_id": 2, "pad_token_id": 0}
    unet = {
        **SDXL, "block_out_channels": (8, 8, 16), "cross_attention_dim": 8 + 12, "sample_size": 8,
        "projection_class_embeddings_input_dim": 8 + 6 * SDXL["addition_time_embed_dim"],
    }  # fmt: skip
    return (
        draw(UNet2DConditionModel(**unet), "pipeline-xl-unet"),
        draw(CLIPTextModel(first), "pipeline-xl-text"),
        draw(CLIPTextModelWithProjection(CLIPTextConfig(**{**text, **second})), "pipeline-xl-text-2"),
    )


def pipeline_xl():
    folder = OUT / "pipeline-xl"
    shutil.rmtree(folder, ignore_errors=True)
    unet, text, text_2 = parts()
    tokenizers = [write_tokenizer(folder / name, 16, pad) for name, pad in (("tokenizer", None), ("tokenizer_2", "!"))]
    pipe = StableDiffusionXLPipeline(
        vae=random_vae("pipeline-xl-vae"), text_encoder=text, text_encoder_2=text_2, tokenizer=tokenizers[0], tokenizer_2=tokenizers[1],
        unet=unet, scheduler=EulerDiscreteScheduler(**WEAK, steps_offset=1, timestep_spacing="leading"), add_watermarker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.to(torch.float16).save_pretrained(folder)  # lossless, see draw()
    pipe.to(torch.float32)
    for name, pad in (("tokenizer", None), ("tokenizer_2", "!")):
        write_tokenizer(folder / name, 16, pad)
        (folder / name / "tokenizer.json").unlink(missing_ok=True)  # published folders have none
    gen = stream("pipeline-xl/inputs")
    latents = normal(gen, 2, 4, 8, 12)
    sizes = {"original_size": (40, 57), "crops_coords_top_left": (3, 11), "target_size": (21, 28)}
    outputs, runs = {}, []
    for run, options in {
        "guidance-1": {"guidance_scale": 1.0},
        "none": {"guidance_scale": 5.0},
        "empty": {"guidance_scale": 5.0, "negative_prompt": ["", ""]},
        "none-not-zeros": {"guidance_scale": 5.0, "zeros": False},
        "negative": {"guidance_scale": 3.0, "negative_prompt": ["a blue dog", ""]},
        "sizes": {"guidance_scale": 3.0, **sizes},
    }.items():
        options = dict(options)
        pipe.register_to_config(force_zeros_for_empty_prompt=options.pop("zeros", True))
        call = {"prompt": PROMPTS, "latents": latents, "num_inference_steps": 5, "height": 16, "width": 24, **options}
        with torch.no_grad():
            final = pipe(**call, output_type="latent").images
            image = pipe(**call, output_type="pt").images
        outputs[f"{run}.latents"], outputs[f"{run}.images"] = final, image
        assert ((image > 0) & (image < 1)).float().mean() > 0.7, run
        runs.append({
            "name": run, "steps": 5, "prompts": PROMPTS, "guidanceScale": options["guidance_scale"],
            "negativePrompts": options.get("negative_prompt"), "forceZerosForEmptyPrompt": pipe.config.force_zeros_for_empty_prompt,
            "microConditioning": {"originalSize": sizes["original_size"], "crop": sizes["crops_coords_top_left"], "targetSize": sizes["target_size"]}
            if run == "sizes" else None,
        })  # fmt: skip
    with torch.no_grad():
        hidden, _, pooled, _ = pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
    outputs["text.hidden_states"], outputs["text.pooled"] = hidden, pooled
    write(
        "pipeline-xl-runs",
        {"class": "StableDiffusionXLPipeline", "folder": "pipeline-xl", "width": 24, "height": 16, "runs": runs},
        inputs={"latents": latents},
        outputs=outputs,
    )
