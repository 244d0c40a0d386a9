"""diffusers' side of `npm run bench -- sample`: one JSON question a line, one JSON answer a line.

{"ask": "hello"}                                                   -> {"threads": n, "torch": version, "diffusers": version}
{"ask": "prepare", "model": FOLDER, "way": w, "latents": FILE, "prompts": [...], "steps": n, "guidance": g,
 "threads": n}                                                     -> {"seconds": s, "pictures": FILE}: the first drawing
{"ask": "run"}                                                     -> {"seconds": s}
{"ask": "memory"}                                                  -> {"peak": bytes} since the end of "prepare"

Ways: "eager", "channels_last", "compile" (torch.compile of the U-Net and the decoder, for this batch only).
"""

import json
import os
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import diffusers
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

diffusers.utils.logging.set_verbosity_error()


def load(question):
    torch.set_num_threads(question["threads"])
    pipe = DiffusionPipeline.from_pretrained(question["model"], torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if question["way"] == "channels_last":
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    if question["way"] == "compile":
        pipe.unet = torch.compile(pipe.unet, dynamic=False)
        pipe.vae.decode = torch.compile(pipe.vae.decode, dynamic=False)
    return pipe


def drawing(question):
    pipe = load(question)
    latents = load_file(question["latents"])["latents"]
    options = {"num_inference_steps": question["steps"], "guidance_scale": question["guidance"], "eta": 0.0}

    def draw():
        # bytes as ours: floats in [0, 1], without the detour over PIL
        images = pipe(prompt=question["prompts"], latents=latents, output_type="pt", **options).images
        return images.permute(0, 2, 3, 1).mul(255).round().to(torch.uint8).contiguous()

    return draw


def status(name):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name}")


def timed(draw):
    start = time.perf_counter()
    images = draw()
    return time.perf_counter() - start, images


run = None


def answer(question):
    global run
    ask = question["ask"]
    if ask == "hello":
        return {"threads": torch.get_num_threads(), "torch": torch.__version__, "diffusers": diffusers.__version__}
    if ask == "prepare":
        run = drawing(question)
        seconds, images = timed(run)
        file = question["latents"] + ".peer"
        with open(file, "wb") as out:
            out.write(images.numpy().tobytes())
        with open("/proc/self/clear_refs", "w") as refs:  # the peak begins anew: not that of loading and compiling
            refs.write("5")
        return {"seconds": seconds, "pictures": file}
    if ask == "memory":
        return {"peak": status("VmHWM:")}
    return {"seconds": timed(run)[0]}


for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except Exception as error:  # an answer, not the end: other ways go on
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)
