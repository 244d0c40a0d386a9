"""diffusers' side of `npm run bench -- stable-diffusion`: one JSON question a line, one JSON answer a line.

{"ask": "hello"}                                       -> versions, device in words
{"ask": "make", "model": FOLDER, "configs": {...}, "tokenizer": FOLDER, "dtype": d, "seed": n, "device": d}
                                                       -> writes a model folder of seeded random weights: parameters, bytes
{"ask": "load", "model": FOLDER, "device": d, "dtype": d, "tf32": "default" | "off" | "all"}
{"ask": "way", "way": "eager" | "channels_last"}
{"ask": "draw", "latents": FILE, "prompts": [...], "steps": n, "guidance": g, "file": FILE?}
                                                       -> seconds from prompts to bytes; `file`: float32 pictures and latents
{"ask": "adapter", "file": FILE}                       -> load_lora_weights; "file": null unloads
{"ask": "used"}                                        -> bytes in use on the whole device, bytes of this process
{"ask": "unload"}
"""

import gc
import json
import os
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

diffusers.utils.logging.set_verbosity_error()
transformers.utils.logging.set_verbosity_error()
torch.set_grad_enabled(False)

pipe = None
device = "cpu"


def synchronise():
    if device != "cpu":
        torch.cuda.synchronize()


def hello(_):
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "name": name,
        "threads": torch.get_num_threads(),
    }


def make(question):
    """Random weights whose answers have the scale of a trained model's: unit noise, pictures of spread 0.5."""
    where, configs = question["device"], question["configs"]
    torch.manual_seed(question["seed"])
    with torch.device(where):  # the classes' own initialisation; seconds instead of minutes at 860 million
        unet = UNet2DConditionModel.from_config(configs["unet"])
        vae = AutoencoderKL.from_config(configs["vae"])
        text = CLIPTextModel(CLIPTextConfig(**configs["text_encoder"]))
    for network in (unet, vae, text):
        network.to(where).eval()
    size, channels = unet.config.sample_size, unet.config.in_channels
    noise = torch.randn(2, channels, size, size, device=where)
    words = torch.randn(2, 77, unet.config.cross_attention_dim, device=where)
    answer = unet(noise, torch.tensor([500, 500], device=where), words).sample
    unet.conv_out.weight.div_(answer.std())
    picture = vae.decode(noise).sample
    vae.decoder.conv_out.weight.mul_(0.5 / picture.std())
    tokenizer = CLIPTokenizer.from_pretrained(question["tokenizer"], model_max_length=77)
    dtype = getattr(torch, question["dtype"])
    made = StableDiffusionPipeline(
        vae=vae.to(dtype), text_encoder=text.to(dtype), tokenizer=tokenizer, unet=unet.to(dtype),
        scheduler=PNDMScheduler.from_config(configs["scheduler"]),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    made.save_pretrained(question["model"], safe_serialization=True)
    count = {name: sum(p.numel() for p in network.parameters()) for name, network in
             (("unet", unet), ("vae", vae), ("textEncoder", text))}  # fmt: skip
    size = sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(question["model"]) for f in files)
    return {"parameters": count, "bytes": size}


def load(question):
    global pipe, device
    device = question["device"]
    torch.backends.cudnn.allow_tf32 = question["tf32"] != "off"
    torch.backends.cuda.matmul.allow_tf32 = question["tf32"] == "all"
    pipe = StableDiffusionPipeline.from_pretrained(
        question["model"], torch_dtype=getattr(torch, question["dtype"]), safety_checker=None
    ).to(device)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    pipe.set_progress_bar_config(disable=True)
    return {}


def way(question):
    form = torch.channels_last if question["way"] == "channels_last" else torch.contiguous_format
    pipe.unet.to(memory_format=form)
    pipe.vae.to(memory_format=form)
    return {}


def draw(question):
    latents = load_file(question["latents"])["latents"].to(pipe.unet.dtype).to(device)
    options = {"num_inference_steps": question["steps"], "guidance_scale": question["guidance"], "eta": 0.0}
    kept = {}

    def keep(_pipe, _step, _timestep, kwargs):
        kept["latents"] = kwargs["latents"]
        return kwargs

    if question.get("file"):
        options["callback_on_step_end"] = keep
    synchronise()
    start = time.perf_counter()
    images = pipe(prompt=question["prompts"], latents=latents, output_type="pt", **options).images
    images.permute(0, 2, 3, 1).mul(255).round().to(torch.uint8).contiguous().cpu()
    seconds = time.perf_counter() - start
    if question.get("file"):
        tensors = {"images": images, "latents": kept["latents"]}
        save_file({name: t.float().cpu().contiguous() for name, t in tensors.items()}, question["file"])
    return {"seconds": seconds}


def adapter(question):
    pipe.unload_lora_weights()
    if question["file"] is not None:
        folder, name = os.path.split(question["file"])
        pipe.load_lora_weights(folder, weight_name=name)
    return {}


def used(_):
    if device == "cpu":
        with open("/proc/self/status") as file:
            peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
        return {"device": None, "allocated": None, "reserved": None, "process": peak}
    free, total = torch.cuda.mem_get_info()
    most = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    return {"device": total - free, "process": None, **most}


def unload(_):
    global pipe
    pipe = None
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return {}


answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
asks = {f.__name__: f for f in (hello, make, load, way, draw, adapter, used, unload)}
for line in sys.stdin:
    try:
        question = json.loads(line)
        device = question.get("device", device)
        start = time.perf_counter()
        reply = asks[question["ask"]](question)
        synchronise()
        reply = {"took": time.perf_counter() - start, **reply}
    except Exception as error:  # an answer, not the end: other steps go on
        pieces = str(error).strip()[-1500:]
        reply = {"error": f"{type(error).__name__}: {pieces}"}
    print(json.dumps(reply), file=answers, flush=True)
