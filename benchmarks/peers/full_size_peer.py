"""diffusers' side of `npm run bench -- full-size`: one JSON question a line, one JSON answer a line.

{"ask": "make", "model": FOLDER, "configs": {...}, "tokenizer": FOLDER, "seed": n}   -> writes a folder of seeded random weights in float16
{"ask": "draw", "model": FOLDER, "dtype": d, "latents": FILE, "prompts": [...], "objects": [[phrase, box], ...]?,
 "steps": n, "guidance": g, "size": [h, w], "adapter": FILE?, "file": FILE}  -> seconds; `file`: float32 latents and pictures
"""

import json
import math
import os
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import diffusers
import torch
import transformers
from answering import answer_all
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

diffusers.utils.logging.set_verbosity_error()
transformers.utils.logging.set_verbosity_error()
torch.set_grad_enabled(False)


def drawn(make):
    """The class's structure without its slow initialisation: matrices uniform within 1/sqrt(inputs), norms 1, biases small."""
    with torch.device("meta"):
        network = make()
    network = network.to(torch.bfloat16).to_empty(device="cpu").eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim >= 2:
            bound = 1 / math.sqrt(math.prod(parameter.shape[1:]))
            if "embedding" in name and "patch" not in name and "time" not in name and "add_" not in name:
                bound = 0.03
            parameter.uniform_(-bound, bound)
        elif "norm" in name and name.endswith("weight"):
            parameter.fill_(1)
        else:
            parameter.uniform_(-0.02, 0.02)
    for name, buffer in network.named_buffers():  # whole numbers that to_empty left undefined
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return network


def make(question):
    configs, folder = question["configs"], question["model"]
    torch.manual_seed(question["seed"])
    sdxl, gated = "text_encoder_2" in configs, configs["unet"].get("attention_type") == "gated"
    counts = {}

    def save(name, network):
        counts[name] = sum(parameter.numel() for parameter in network.parameters())
        network.to(torch.float16).save_pretrained(os.path.join(folder, name), max_shard_size="20GB")

    unet = drawn(lambda: UNet2DConditionModel.from_config(configs["unet"]))
    width = unet.config.cross_attention_dim
    added = None
    if sdxl:
        added = {"text_embeds": torch.randn(1, 1280).bfloat16(), "time_ids": torch.tensor([[256.0, 256, 0, 0, 256, 256]])}
    noise, words = torch.randn(1, unet.config.in_channels, 16, 16), torch.randn(1, 77, width)
    answer = unet(noise.bfloat16(), torch.tensor([500]), words.bfloat16(), added_cond_kwargs=added).sample
    unet.conv_out.weight.div_(answer.float().std())  # as large as a trained model's
    save("unet", unet)
    del unet
    vae = drawn(lambda: AutoencoderKL.from_config(configs["vae"]))
    vae.decoder.conv_out.weight.mul_(0.5 / vae.decode(noise.bfloat16()).sample.float().std())
    save("vae", vae)
    save("text_encoder", drawn(lambda: CLIPTextModel(CLIPTextConfig(**configs["text_encoder"]))))
    kinds = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    if sdxl:
        save("text_encoder_2", drawn(lambda: CLIPTextModelWithProjection(CLIPTextConfig(**configs["text_encoder_2"]))))
        kinds["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        kinds["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    for name in [kind for kind in kinds if kind.startswith("tokenizer")]:
        CLIPTokenizer.from_pretrained(question["tokenizer"], model_max_length=77).save_pretrained(os.path.join(folder, name))
    settings = {**configs["scheduler"], "clip_sample": False, "set_alpha_to_one": False, "_class_name": "DDIMScheduler"}
    DDIMScheduler.from_config(settings).save_pretrained(os.path.join(folder, "scheduler"))
    name = "StableDiffusionXLPipeline" if sdxl else "StableDiffusionGLIGENPipeline" if gated else "StableDiffusionPipeline"
    extra = {"force_zeros_for_empty_prompt": True} if sdxl else {
        "requires_safety_checker": False, "safety_checker": [None, None], "feature_extractor": [None, None],
    }  # fmt: skip
    index = {
        "_class_name": name, "_diffusers_version": diffusers.__version__, **extra, **kinds,
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }  # fmt: skip
    with open(os.path.join(folder, "model_index.json"), "w") as file:
        json.dump(index, file, indent=2)
    return {"parameters": counts}


def draw(question):
    dtype = getattr(torch, question["dtype"])
    torch.set_num_threads(question["threads"])
    began = time.perf_counter()
    pipe = DiffusionPipeline.from_pretrained(question["model"], torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    if question.get("adapter"):
        if hasattr(pipe, "load_lora_weights"):
            folder, name = os.path.split(question["adapter"])
            pipe.load_lora_weights(folder, weight_name=name)
        else:  # GLIGEN's pipeline reads none; its U-Net does
            pipe.unet.load_lora_adapter(load_file(question["adapter"]), prefix="unet")
    loading = time.perf_counter() - began
    kept = {}

    def keep(_pipe, _step, _timestep, kwargs):
        kept["latents"] = kwargs["latents"]
        return kwargs

    height, width = question["size"]
    options = {
        "prompt": question["prompts"], "num_inference_steps": question["steps"], "guidance_scale": question["guidance"],
        "height": height, "width": width, "eta": 0.0, "output_type": "pt",
        "latents": load_file(question["latents"])["latents"].to(dtype),
    }  # fmt: skip
    if question.get("objects"):
        options["gligen_phrases"] = [phrase for phrase, _ in question["objects"]]
        options["gligen_boxes"] = [box for _, box in question["objects"]]
        options["gligen_scheduled_sampling_beta"] = 1.0
        options["callback"], options["callback_steps"] = lambda _i, _t, latents: kept.update(latents=latents), 1
    else:
        options["callback_on_step_end"] = keep
    start = time.perf_counter()
    images = pipe(**options).images
    seconds = time.perf_counter() - start
    tensors = {"images": images, "latents": kept["latents"]}
    save_file({name: t.float().contiguous() for name, t in tensors.items()}, question["file"])
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    return {"seconds": seconds, "loading": loading, "process": peak}


ANSWERS = {answer.__name__: answer for answer in (make, draw)}

answer_all(lambda question: ANSWERS[question["ask"]](question))
