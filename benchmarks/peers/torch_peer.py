"""PyTorch's side of `npm run bench -- torch`: one JSON question a line, one JSON answer a line.

{"ask": "hello"}                                    -> {"threads": n, "torch": version}
{"ask": "prepare", "case": c, "inputs": FILE, ...}  -> {"output": FILE, "shape": [...]}: float32 bytes of one result
{"ask": "run", "case": c, "calls": n}               -> {"seconds": s}
{"ask": "memory", "updates": [50, 1000]}            -> {"rss": [bytes, bytes]}
"""

import json
import sys
import time

import torch
import torch.nn.functional as F


def read_safetensors(path):
    """A reader of its own: PyTorch does not bring one."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    kinds = {"F32": torch.float32, "I64": torch.int64}
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(data[begin:end], dtype=kinds[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors


def unet(tensors, question):
    from diffusers import UNet2DConditionModel

    config = {k: v for k, v in question["config"].items() if not k.startswith("_")}
    model = UNet2DConditionModel(**config)
    prefix = "model."
    model.load_state_dict({k[len(prefix):]: v for k, v in tensors.items() if k.startswith(prefix)})
    model.eval().requires_grad_(False)
    latents, times, text = tensors["latents"], tensors["timesteps"], tensors["text"]
    return lambda: model(latents, times, text).sample


def build(case, tensors, question):
    a = tensors.get("a")
    b = tensors.get("b")
    c = tensors.get("c")
    if case == "add":
        return lambda: torch.add(a, b)
    if case == "matmul":
        return lambda: torch.matmul(a, b)
    if case == "conv2d":
        return lambda: F.conv2d(a, b, c, padding=1)
    if case == "conv2d backward":
        a.requires_grad_()
        b.requires_grad_()
        y = F.conv2d(a, b, c, padding=1)
        ones = torch.ones_like(y)
        return lambda: torch.autograd.grad(y, [a, b], ones, retain_graph=True)[1]
    if case == "attention":
        return lambda: F.scaled_dot_product_attention(a, b, c)
    if case == "unet":
        return unet(tensors, question)
    raise ValueError(f"unknown case {case}")


def resident():
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def memory(updates):
    """A small convolutional network, trained; resident bytes after each given number of updates."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(4, 32, 3, padding=1), torch.nn.GroupNorm(8, 32), torch.nn.SiLU(), torch.nn.Conv2d(32, 4, 3, padding=1)
    )
    parameters = list(net.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    x = torch.randn(16, 4, 16, 16)
    readings = []
    for step in range(1, max(updates) + 1):
        for p, g in zip(parameters, torch.autograd.grad(F.mse_loss(net(x), x), parameters)):
            p.grad = g
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step in updates:
            readings.append(resident())
    return readings


runs = {}


def answer(question):
    ask = question["ask"]
    if ask == "hello":
        return {"threads": torch.get_num_threads(), "torch": torch.__version__}
    if ask == "memory":
        return {"rss": memory(question["updates"])}
    case = question["case"]
    if ask == "prepare":
        runs[case] = build(case, read_safetensors(question["inputs"]), question)
        with torch.no_grad() if "backward" not in case else torch.enable_grad():
            result = runs[case]().detach().contiguous()
        with open(question["inputs"] + ".output", "wb") as file:
            file.write(bytes(result.flatten().view(torch.uint8).tolist()))
        return {"output": question["inputs"] + ".output", "shape": list(result.shape)}
    run, calls = runs[case], range(question["calls"])
    start = time.perf_counter()
    for _ in calls:
        run()
    return {"seconds": time.perf_counter() - start}


for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except Exception as error:  # an answer, not the end: other cases go on
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)
