"""Random weights, tracing and writing: what all goldens share."""

import json
import math
import zlib
from pathlib import Path

import diffusers
import peft
import torch
import transformers
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
diffusers.utils.logging.set_verbosity_error()

HERE = Path(__file__).resolve().parents[1]
OUT = HERE.parent / "goldens"
EMOJI_TOKENIZER = HERE.parents[1] / "emoji-world" / "model" / "tokenizer"
VERSIONS = {
    "torch": torch.__version__.split("+")[0],
    "diffusers": diffusers.__version__,
    "transformers": transformers.__version__,
    "peft": peft.__version__,
}


def stream(name):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def normal(gen, *shape, std=1.0, dtype=torch.float32):
    return torch.randn(shape, generator=gen, dtype=torch.float32).to(dtype) * std


# Layers whose result is added to a residual stream (or starts one): small.
STREAM_WRITERS = (
    "conv_in", "conv1", "conv2", "conv_shortcut", "proj_out", "to_out.0", "ff.net.2", "time_emb_proj",
    "samplers.0.conv", "out_proj", "fc2", "patch_embedding", "class_embedding", "token_embedding",
    "position_embedding", "mid_block.attentions.0.to_out.0",
)  # fmt: skip
SHARP = ("to_q", "to_k", "q_proj", "k_proj", "ff.net.0.proj", "fc1")


def draw(module, seed):
    """Draws every parameter (and float buffer that is saved) of `module` at random, in place."""
    gen = stream(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            stem = name.rsplit(".", 1)[0]
            writer = any(stem.endswith(w) or name.endswith(w) for w in STREAM_WRITERS)
            if name == "logit_scale":
                value = torch.tensor(1.3125)
            elif "norm" in stem.lower():
                value = normal(gen, *parameter.shape, std=0.3)
                value = value + 1.0 if name.endswith("weight") else value
            elif parameter.ndim >= 2 or "embedding" in name:
                fan_in = math.prod(parameter.shape[1:]) if parameter.ndim > 1 else 1
                if "token_embedding" in name or "position_embedding" in name or "class_embedding" in name:
                    fan_in = 1
                gain = 0.1 if writer else 1.5 if any(stem.endswith(s) for s in SHARP) else 1.0
                value = normal(gen, *parameter.shape, std=gain / math.sqrt(fan_in))
            else:
                value = normal(gen, *parameter.shape, std=0.05 if writer else 0.3)
            parameter.copy_(value.half())  # exact in float16, so that goldens may store them so
    return module.eval()


def flatten(prefix, tree):
    return {f"{prefix}.{key}": value.detach().contiguous().clone() for key, value in tree.items()}


def write(name, description, *, weights=None, **groups):
    tensors = flatten("weights", {k: halved(name, k, v) for k, v in (weights or {}).items()})
    for prefix, group in groups.items():
        tensors.update(flatten(prefix, group or {}))
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise SystemExit(f"{name}: {key} is not finite")
    save_file(tensors, OUT / f"{name}.safetensors")
    (OUT / f"{name}.json").write_text(
        json.dumps({"name": name, "madeWith": VERSIONS, **description}, indent=1, ensure_ascii=False) + "\n"
    )
    outputs = {k: f"{v.float().abs().max():.3g}" for k, v in tensors.items() if k.startswith("outputs.")}
    print(f"{name}: {(OUT / f'{name}.safetensors').stat().st_size // 1024} KiB {outputs}")


def halved(name, key, value):
    if not value.is_floating_point():
        return value
    if not torch.equal(value.half().float(), value):
        raise SystemExit(f"{name}: {key} is not exact in float16")
    return value.half()


def config_of(model):
    config = dict(model.config) if not hasattr(model.config, "to_dict") else model.config.to_dict()
    drop = ("_name_or_path", "_use_default_values", "transformers_version", "_diffusers_version", "architectures", "dtype")
    return json.loads(json.dumps({k: v for k, v in config.items() if k not in drop}, default=str))


TRACED = {
    "TimestepEmbedding": "TimestepEmbedding", "ResnetBlock2D": "ResnetBlock2D", "Transformer2DModel": "Transformer2DModel",
    "BasicTransformerBlock": "BasicTransformerBlock", "Attention": "Attention", "Downsample2D": "Downsample2D",
    "Upsample2D": "Upsample2D", "DownBlock2D": "DownBlock", "CrossAttnDownBlock2D": "DownBlock", "UpBlock2D": "UpBlock",
    "CrossAttnUpBlock2D": "UpBlock", "UNetMidBlock2DCrossAttn": "MidBlock",
    "GatedSelfAttentionDense": "GatedSelfAttentionDense", "GLIGENTextBoundingboxProjection": "TextBoxProjection",
}  # fmt: skip


def trace(model, forward, wanted, without=()):
    """Runs `forward` with hooks on `model`. Returns its result, the outputs of the submodules whose name `wanted`
    accepts, and for each traced class the names of its instances in the order in which they finished: that is how
    parity finds the same blocks in networks whose layers are private."""
    outputs, order = {}, {}

    def hook(name, kind):
        def save(_module, _inputs, output):
            order.setdefault(kind, []).append(name)
            if isinstance(output, tuple):
                output = output[0]
            if hasattr(output, "sample"):
                output = output.sample
            if wanted(name):
                outputs[name] = output

        return save

    handles = []
    for name, module in model.named_modules():
        kind = TRACED.get(type(module).__name__)
        if kind and kind not in without:
            handles.append(module.register_forward_hook(hook(name, kind)))
    result = forward()
    for handle in handles:
        handle.remove()
    return result, outputs, order


def vjp(output, inputs, gen):
    """Gradient of sum(output * cotangent) for the named tensors; returns (cotangent, gradients)."""
    cotangent = normal(gen, *output.shape) / math.sqrt(output.numel())
    gradients = torch.autograd.grad((output * cotangent).sum(), list(inputs.values()))
    return cotangent, dict(zip(inputs, gradients))
