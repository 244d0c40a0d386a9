"""The clients' side of `npm run crosscheck`: one JSON question a line, one JSON answer a line.

Tensors travel in safetensors files that the question names; pictures are uint8 [n, h, w, 3].
"""

import math
import os

import quiet  # noqa: F401, first

import torch
from answering import answer_all
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SCHEDULERS = {
    "ddim": DDIMScheduler,
    "dpm-solver++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "lms": LMSDiscreteScheduler,
    "pndm": PNDMScheduler,
    "unipc": UniPCMultistepScheduler,
}
pipelines = {}


def pipeline(folder):
    """As a stranger loads it."""
    if folder not in pipelines:
        pipelines[folder] = DiffusionPipeline.from_pretrained(folder)
        pipelines[folder].set_progress_bar_config(disable=True)
    return pipelines[folder]


def images(pipe, question):
    pipe.scheduler = SCHEDULERS[question["scheduler"]].from_config(pipe.scheduler.config)
    latents = load_file(question["latents"])["latents"]
    xl = isinstance(pipe, StableDiffusionXLPipeline)
    # XL takes no negative prompt for zeros, which is not the empty prompt
    negative = question.get("negative", None if xl else "")
    grounding = {}
    if "boxes" in question:
        grounding = {
            "gligen_phrases": [one["phrase"] for one in question["boxes"]],
            "gligen_boxes": [one["box"] for one in question["boxes"]],
            "gligen_scheduled_sampling_beta": question["beta"],
        }
    with torch.no_grad():
        pictures = pipe(
            prompt=question["prompts"],
            negative_prompt=None if negative is None else [negative] * len(question["prompts"]),
            latents=latents,
            num_inference_steps=question["steps"],
            guidance_scale=question["guidance"],
            **({"eta": 0.0} if question["scheduler"] == "ddim" else {}),
            **grounding,
            **dict(zip(("height", "width"), question.get("size", ()))),
            output_type="np",
        ).images
    return torch.from_numpy((pictures * 255).round().astype("uint8")).contiguous()


def draw(question):
    """Adapters: [{"file", "strength"}], each loaded with `load_lora_weights` and weighted with `set_adapters`.

    Of a file in LDM's names ("ldm"), diffusers wants to know the U-Net's config.
    """
    pipe = pipeline(question["model"])
    adapters = question.get("adapters", [])
    names = [f"adapter{i}" for i in range(len(adapters))]
    for name, adapter in zip(names, adapters):
        known = {"unet_config": pipe.unet.config} if adapter.get("ldm") else {}
        pipe.load_lora_weights(adapter["file"], adapter_name=name, **known)
    if adapters:
        pipe.set_adapters(names, [adapter["strength"] for adapter in adapters])
    pictures = images(pipe, question)
    if adapters:
        pipe.unload_lora_weights()
    save_file({"images": pictures}, question["output"])
    return {"pictures": len(pictures)}


def tokenize(question):
    tokenizer = CLIPTokenizer.from_pretrained(question["tokenizer"])
    ids = tokenizer(question["prompts"], padding="max_length", truncation=True).input_ids
    return {"ids": ids}


def text(question):
    """Both text towers on given ids: the pipeline's features and CLIP's unit vectors."""
    ids = load_file(question["input"])["ids"]
    encoder = pipeline(question["model"]).text_encoder
    clip = CLIPModel.from_pretrained(question["clip"])
    with torch.no_grad():
        hidden = encoder(ids).last_hidden_state
        embeds = clip.get_text_features(ids)
    save_file({"hidden": hidden.contiguous(), "embeds": unit(embeds)}, question["output"])
    return {}


def vision(question):
    pixels = load_file(question["input"])["pixels"]
    clip = CLIPModel.from_pretrained(question["clip"])
    with torch.no_grad():
        hidden = clip.vision_model(pixels).last_hidden_state
        embeds = clip.get_image_features(pixels)
    save_file({"hidden": hidden.contiguous(), "embeds": unit(embeds)}, question["output"])
    return {}


def unit(features):
    vectors = features if isinstance(features, torch.Tensor) else features.pooler_output
    return torch.nn.functional.normalize(vectors, dim=-1).contiguous()


def write_model(question):
    """A model of Stable Diffusion 1.x's layout with random weights, as diffusers saves it."""
    torch.manual_seed(question["seed"])
    tokenizer = pipeline(question["model"]).tokenizer
    cross, up, down = 24, "CrossAttnUpBlock2D", "CrossAttnDownBlock2D"
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32, 32, 32), layers_per_block=1, cross_attention_dim=cross,
        attention_head_dim=4, norm_num_groups=8, down_block_types=(down, down, down, "DownBlock2D"),
        up_block_types=("UpBlock2D", up, up, up),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, sample_size=16,
    )  # fmt: skip
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=cross, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    with torch.no_grad():  # fresh weights hardly answer to text or time
        for network in (unet, vae, text_encoder):
            for parameter in network.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=1 / math.sqrt(parameter[0].numel()))
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(question["folder"])  # fmt: skip
    return {}


def write_xl_model(question):
    """A model of Stable Diffusion XL's layout with random weights, as diffusers saves it."""
    torch.manual_seed(question["seed"])
    tokenizer = pipeline(question["model"]).tokenizer
    text = dict(
        vocab_size=len(tokenizer), max_position_embeddings=tokenizer.model_max_length, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, num_attention_heads=4, num_hidden_layers=3,
        projection_dim=20,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32, 32), layers_per_block=2, cross_attention_dim=24 + 32, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 4), use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, sample_size=16,
    )  # fmt: skip
    first = CLIPTextModel(CLIPTextConfig(**text, hidden_size=24, intermediate_size=48, hidden_act="quick_gelu"))
    second = CLIPTextModelWithProjection(CLIPTextConfig(**text, hidden_size=32, intermediate_size=64, hidden_act="gelu"))
    with torch.no_grad():
        for network in (unet, vae, first, second):
            for parameter in network.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=1 / math.sqrt(parameter[0].numel()))
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading",
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae=vae, text_encoder=first, text_encoder_2=second, tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet, scheduler=scheduler,
        add_watermarker=False,
    ).save_pretrained(question["folder"])  # fmt: skip
    return {}


def write_again(question):
    """A model folder through diffusers' hands."""
    DiffusionPipeline.from_pretrained(question["model"]).save_pretrained(question["folder"])
    return {}


def write_adapter(question):
    """An adapter made and saved by PEFT and diffusers, on a fresh copy of a model, and the pictures it draws."""
    torch.manual_seed(question["seed"])
    pipe = DiffusionPipeline.from_pretrained(question["model"])
    pipe.set_progress_bar_config(disable=True)
    metadata = {}
    networks = [(name, getattr(pipe, name)) for name in ("unet", "text_encoder", "text_encoder_2") if name in question]
    for name, network in networks:
        config = LoraConfig(**question[name])
        network.add_adapter(config)
        metadata[name] = {
            key: sorted(value) if isinstance(value, set) else value
            for key, value in network.peft_config["default"].to_dict().items()
        }
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, LoraLayer):
                    module.lora_B["default"].weight.normal_(std=question["spread"])
    type(pipe).save_lora_weights(
        question["folder"],
        **{f"{name}_lora_layers": get_peft_model_state_dict(network) for name, network in networks},
        **{f"{name}_lora_adapter_metadata": value for name, value in metadata.items()},
    )
    save_file({"images": images(pipe, question)}, question["output"])
    return {}


def write_peft(question):
    """Folders as PEFT saves them, and the pictures drawn with the adapters."""
    torch.manual_seed(question["seed"])
    pipe = DiffusionPipeline.from_pretrained(question["model"])
    pipe.set_progress_bar_config(disable=True)
    for name, network in (("unet", pipe.unet), ("text_encoder", pipe.text_encoder)):
        wrapped = get_peft_model(network, LoraConfig(**question[name]))
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, LoraLayer):
                    module.lora_B["default"].weight.normal_(std=question["spread"])
        wrapped.save_pretrained(os.path.join(question["folder"], name))
    save_file({"images": images(pipe, question)}, question["output"])
    return {}


def tensorboard(question):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(question["folder"], size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return {
        "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]},
        "images": [
            [tag, e.step, e.width, e.height, e.encoded_image_string.hex()]
            for tag in events.Tags()["images"]
            for e in events.Images(tag)
        ],
    }


def hello(_):
    import diffusers
    import peft
    import transformers

    return {m.__name__: m.__version__ for m in (torch, diffusers, transformers, peft)}


ANSWERS = {
    answer.__name__: answer
    for answer in (hello, draw, tokenize, text, vision, write_model, write_xl_model, write_again, write_adapter, write_peft, tensorboard)
}

answer_all(lambda question: ANSWERS[question["ask"]](question))
