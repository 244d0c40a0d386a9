"""Goldens of a whole Stable Diffusion pipeline, and of LoRA on its networks."""

import math
import shutil

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from .clip import TEXT, text_ids
from .common import OUT, draw, normal, stream, vjp, write
from .networks import EMOJI, VAE
from .schedulers import SD_BETAS
from .tokenizer import make_vocabulary, write_tokenizer


UNET_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]


def add_adapter(model, targets, rank, alpha, seed):
    model.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), adapter_name="default")
    gen = stream(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.copy_(normal(gen, *parameter.shape, std=0.5 / math.sqrt(parameter.shape[1])))


def plain_state(model):
    return {k.replace(".base_layer.", "."): v.detach().clone() for k, v in model.state_dict().items() if "lora_" not in k}


def pipeline_parts():
    """U-Net and text encoder of the pipeline golden, which LoRA's golden adapts too."""
    vocab, _ = make_vocabulary()
    text = CLIPTextModel(
        CLIPTextConfig(
            **{
                **TEXT, "vocab_size": len(vocab), "max_position_embeddings": 16, "bos_token_id": len(vocab) - 2,
                "eos_token_id": len(vocab) - 1, "pad_token_id": len(vocab) - 1, "num_hidden_layers": 2,
                "hidden_size": 12,
            },
        )
    )  # fmt: skip
    plain = {"addition_embed_type": None, "addition_embed_type_num_heads": 64, "resnet_time_scale_shift": "default"}
    unet_model = UNet2DConditionModel(**{**EMOJI, **plain, "layers_per_block": 1, "sample_size": 8})
    return draw(unet_model, "pipeline-unet"), draw(text, "pipeline-text")


def lora():
    unet_model, text = pipeline_parts()
    gen = stream("lora/inputs")
    latents, hidden, times = normal(gen, 2, 4, 6, 6), normal(gen, 2, 7, 12), torch.tensor([11, 801])
    ids = text_ids(gen, {**text.config.to_dict(), "end": text.config.eos_token_id}, 16)
    unet_base, text_base = unet_model(latents, times, hidden).sample, text(ids).last_hidden_state
    add_adapter(unet_model, UNET_TARGETS, 3, 6, "lora-unet-adapter")
    add_adapter(text, TEXT_TARGETS, 2, 5, "lora-text-adapter")
    outputs = {"unet_base": unet_base, "text_base": text_base}
    for scale in (0.0, 0.5, 1.0):
        unet_model.set_adapters(["default"], weights=[scale])
        scale_text(text, scale)
        outputs[f"unet_{scale}"] = unet_model(latents, times, hidden).sample
        outputs[f"text_{scale}"] = text(ids).last_hidden_state
    assert torch.equal(outputs["unet_0.0"], unet_base) or (outputs["unet_0.0"] - unet_base).abs().max() < 1e-6
    a = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    down = next(p for n, p in unet_model.named_parameters() if n.startswith(a) and "lora_A" in n)
    up = next(p for n, p in unet_model.named_parameters() if n.startswith(a) and "lora_B" in n)
    for parameter in (down, up):
        parameter.requires_grad_()
    cotangent, gradients = vjp(outputs["unet_1.0"], {f"{a}.lora_A.weight": down, f"{a}.lora_B.weight": up}, gen)
    # As diffusers writes it, alpha inside the metadata.
    folder = OUT / "lora-diffusers"
    shutil.rmtree(folder, ignore_errors=True)
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet_model),
        text_encoder_lora_layers=get_peft_model_state_dict(text),
        unet_lora_adapter_metadata=peft_metadata(unet_model),
        text_encoder_lora_adapter_metadata=peft_metadata(text),
    )
    # As trainers of the kohya family write it: alpha as a tensor beside each pair, names joined by "_".
    kohya = {}
    for prefix, alpha, state in (
        ("lora_unet_", 6.0, get_peft_model_state_dict(unet_model)),
        ("lora_te_text_model_", 5.0, get_peft_model_state_dict(text)),
    ):
        for key, value in state.items():
            module, kind = key.rsplit(".lora_", 1)
            stem = prefix + module.removeprefix("text_model.").replace(".", "_")
            kohya[f"{stem}.lora_{'down' if kind.startswith('A') else 'up'}.weight"] = value.detach().contiguous()
            kohya[f"{stem}.alpha"] = torch.tensor(alpha)
    save_file(kohya, OUT / "lora-kohya.safetensors")
    check_kohya(plain_state(unet_model), latents, times, hidden, outputs["unet_1.0"])
    unet_model.set_adapters(["default"], weights=[1.0])
    unet_model.fuse_lora(lora_scale=0.5)
    outputs["unet_fused_0.5"] = unet_model(latents, times, hidden).sample
    write(
        "lora",
        {
            "class": "LoRA",
            "folder": "pipeline",
            "unet": {"rank": 3, "alpha": 6, "targets": UNET_TARGETS},
            "text": {"rank": 2, "alpha": 5, "targets": TEXT_TARGETS},
            "scales": [0.0, 0.5, 1.0],
        },
        inputs={"latents": latents, "hidden_states": hidden, "timesteps": times, "input_ids": ids, "cotangent": cotangent},
        outputs=outputs,
        gradients=gradients,
    )


def peft_metadata(model):
    config = model.peft_config["default"].to_dict()
    return {**config, "target_modules": sorted(config["target_modules"])}  # a set, in any order


def scale_text(model, scale):
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.set_scale("default", scale)


def check_kohya(state, latents, times, hidden, expected):
    """diffusers reads the kohya file back to the same network: our hand-written names are right."""
    fresh, _ = pipeline_parts()
    fresh.load_state_dict(state)
    pipe = StableDiffusionPipeline(
        vae=None, text_encoder=None, tokenizer=None, unet=fresh, scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    only_unet = {k: v for k, v in load_file(OUT / "lora-kohya.safetensors").items() if k.startswith("lora_unet")}
    pipe.load_lora_weights(only_unet)
    assert (fresh(latents, times, hidden).sample - expected).abs().max() < 1e-5


def random_vae(seed):
    return draw(
        AutoencoderKL(
            **{**VAE, "block_out_channels": (8, 8), "scaling_factor": 0.4, "sample_size": 16},
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        seed,
    )  # fmt: skip


# A random network predicts no noise: with weak noise its pictures stay between black and white.
WEAK = {**SD_BETAS, "beta_start": 0.0002, "beta_end": 0.004}
PROMPTS = ["a photo of a cat", "A red dog, on the left of a fox wearing a hat in the snow at night and a lake"]


def pipeline():
    folder = OUT / "pipeline"
    shutil.rmtree(folder, ignore_errors=True)
    tok = write_tokenizer(folder / "tokenizer", 16)
    unet_model, text = pipeline_parts()
    vae_model = random_vae("pipeline-vae")
    scheduler = DDIMScheduler(**WEAK, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipe = StableDiffusionPipeline(
        vae=vae_model, text_encoder=text, tokenizer=tok, unet=unet_model, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.to(torch.float16).save_pretrained(folder)  # lossless, see draw()
    pipe.to(torch.float32)
    write_tokenizer(folder / "tokenizer", 16)
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)  # published folders have none
    gen = stream("pipeline/inputs")
    prompts = PROMPTS
    negatives = ["a blue dog", ""]
    latents = normal(gen, 2, 4, 8, 12)
    outputs, runs = {}, []
    for run, options in {
        "guidance-1": {"guidance_scale": 1.0},
        "guidance-5": {"guidance_scale": 5.0},
        "negative": {"guidance_scale": 3.0, "negative_prompt": negatives},
        "prompts-swapped": {"guidance_scale": 5.0, "prompt": prompts[::-1]},
    }.items():
        call = {"prompt": prompts, "latents": latents, "num_inference_steps": 5, "height": 16, "width": 24, **options}
        with torch.no_grad():
            final = pipe(**call, output_type="latent").images
            image = pipe(**call, output_type="pt").images
        outputs[f"{run}.latents"], outputs[f"{run}.images"] = final, image
        assert ((image > 0) & (image < 1)).float().mean() > 0.8
        runs.append({"name": run, "steps": 5, "prompts": call["prompt"], "guidanceScale": options["guidance_scale"], "negativePrompts": options.get("negative_prompt")})
    write(
        "pipeline-runs",
        {"class": "StableDiffusionPipeline", "folder": "pipeline", "width": 24, "height": 16, "runs": runs},
        inputs={"latents": latents},
        outputs=outputs,
    )
