"""Goldens of other people's adapter files: PEFT's folders and patterns, and LDM's names of a U-Net's layers."""

import json
import shutil

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file
from transformers import CLIPTextModel

from .common import OUT, VERSIONS, normal, stream, write

PATTERNS = [
    "to_q", "attn1.to_q", r"attn1\.to_[qk]", r".*attn2\.to_(k|v)", r"mid_block\..*\.to_v", "^mid_block", "q",
    r"up_blocks\.\d+\.attentions\.0\..*", "to_out.0", "to_out", r"(down|up)_blocks\.0\.(.+\.)?to_k", "attn1|attn2.to_q",
    r"down_blocks\.0\.attentions\.0\.transformer_blocks\.0\.attn1\.to_q", "^down_blocks.0.*to_q$", r"(?P<a>attn)1\.to_q",
    r"\Adown_blocks.*\Z", r"to_[^q]", "o_q", ".to_q", r"\w+\.to_q", r".{,70}\.to_q", r"attn\d{1}\.to_q", "",
]  # fmt: skip
PATHS = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v", "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "up_blocks.0.attentions.1.transformer_blocks.10.attn1.to_k", "to_q",
]  # fmt: skip


def ldm_layers(levels, layers_per_block, attention_levels, depths=None):
    """The layers of LDM's UNetModel in its own words (openaimodel.py), of Stable Diffusion 1.x's kind; with depths, of XL's."""
    resnet = ["in_layers.2", "emb_layers.1", "out_layers.3"]
    block = [f"attn{i}.{p}" for i in (1, 2) for p in ("to_q", "to_k", "to_v", "to_out.0")] + ["ff.net.0.proj", "ff.net.2"]


    def attention_of(level):
        depth = depths[level] if depths else 1
        return ["proj_in", *(f"transformer_blocks.{i}.{layer}" for i in range(depth) for layer in block), "proj_out"]

    yield from ("time_embed.0", "time_embed.2", "input_blocks.0.0")
    if depths:
        yield from ("label_emb.0.0", "label_emb.0.2")
    number = 1
    for level in range(levels):
        for place in range(layers_per_block):
            yield from (f"input_blocks.{number}.0.{layer}" for layer in resnet)
            if place == 0 and level in (1, 2):
                yield f"input_blocks.{number}.0.skip_connection"
            if level in attention_levels:
                yield from (f"input_blocks.{number}.1.{layer}" for layer in attention_of(level))
            number += 1
        if level != levels - 1:
            yield f"input_blocks.{number}.0.op"
            number += 1
    for place, layers in enumerate((resnet, attention_of(levels - 1), resnet)):
        yield from (f"middle_block.{place}.{layer}" for layer in layers)
    number = 0
    for level in reversed(range(levels)):
        for place in range(layers_per_block + 1):
            inner = 1
            yield from (f"output_blocks.{number}.0.{layer}" for layer in [*resnet, "skip_connection"])
            if level in attention_levels:
                yield from (f"output_blocks.{number}.1.{layer}" for layer in attention_of(level))
                inner = 2
            if level and place == layers_per_block:
                yield f"output_blocks.{number}.{inner}.conv"
            number += 1
    yield "out.2"


def ldm_names(layers_per_block, blocks):
    """LDM's name of every layer, and diffusers' of the same by its own converter of checkpoints."""
    with torch.device("meta"):
        down = ["CrossAttnDownBlock2D" if i < blocks - 1 else "DownBlock2D" for i in range(blocks)]
        up = ["UpBlock2D" if i == 0 else "CrossAttnUpBlock2D" for i in range(blocks)]
        channels = [8, 16, 24, 24][:blocks]
        config = dict(
            down_block_types=down, up_block_types=up, block_out_channels=channels, layers_per_block=layers_per_block,
            norm_num_groups=4, attention_head_dim=2, cross_attention_dim=8,
        )  # fmt: skip
        network = UNet2DConditionModel(**config)
    layers = list(ldm_layers(blocks, layers_per_block, range(blocks - 1)))
    checkpoint = {f"model.diffusion_model.{layer}.weight": layer for layer in layers}
    for layer in layers:
        checkpoint[f"model.diffusion_model.{layer}.bias"] = layer
    found = convert_ldm_unet_checkpoint(checkpoint, config)
    names = {layer: key.removesuffix(".weight") for key, layer in found.items() if key.endswith(".weight")}
    convs = {n for n, m in network.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))}
    assert set(names.values()) == convs, set(names.values()) ^ convs
    assert len(names) == len(layers)
    return names


def xl_names():
    """The same for an XL U-Net, whose levels have transformers of different depth."""
    depths = [1, 2, 3]
    config = dict(
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], block_out_channels=[8, 16, 24],
        layers_per_block=2, norm_num_groups=4, attention_head_dim=[2, 4, 4], cross_attention_dim=8,
        transformer_layers_per_block=depths, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=4, projection_class_embeddings_input_dim=30,
    )  # fmt: skip
    with torch.device("meta"):
        network = UNet2DConditionModel(**config)
    layers = list(ldm_layers(3, 2, (1, 2), depths))
    checkpoint = {f"model.diffusion_model.{layer}.{leaf}": layer for layer in layers for leaf in ("weight", "bias")}
    config = {**dict(network.config), "class_embed_type": None}
    found = convert_ldm_unet_checkpoint(checkpoint, config)
    names = {layer: key.removesuffix(".weight") for key, layer in found.items() if key.endswith(".weight")}
    convs = {n for n, m in network.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))}
    assert set(names.values()) == convs, set(names.values()) ^ convs
    return names


def networks():
    """U-Net and text encoder of the pipeline golden."""
    unet = UNet2DConditionModel.from_pretrained(OUT / "pipeline" / "unet", torch_dtype=torch.float32)
    return unet.eval(), CLIPTextModel.from_pretrained(OUT / "pipeline" / "text_encoder", dtype=torch.float32).eval()


def adapters():
    names = {
        "madeWith": VERSIONS,
        "ldm": {"2": ldm_names(2, 4), "1": ldm_names(1, 3)},
        "xl": xl_names(),
        "patterns": [[pattern, path, get_pattern_key([pattern, "\0"], path) == pattern] for pattern in PATTERNS for path in PATHS],
    }
    (OUT / "lora-names.json").write_text(json.dumps(names, indent=1) + "\n")
    print(f"lora-names: {len(names['patterns'])} patterns")

    golden = load_file(OUT / "lora.safetensors")
    latents, hidden, times, ids = (golden[f"inputs.{key}"] for key in ("latents", "hidden_states", "timesteps", "input_ids"))
    # the first pattern that fits counts, so the broader one stands behind
    unet_config = LoraConfig(
        r=3, lora_alpha=6, target_modules=["to_q", "to_k", "to_v", "to_out.0", "conv1", "linear_1"],
        alpha_pattern={r"mid_block\..*attn1\.to_q": 1, r"attn1\.to_[qk]": 16, "to_q": 2, r".*resnets\.\d+\.conv1": 5},
        rank_pattern={r".*attn2\.to_(k|v)": 2, "conv1": 4},
    )  # fmt: skip
    text_config = LoraConfig(
        r=2, lora_alpha=5, target_modules=["q_proj", "v_proj", "fc1"], use_rslora=True, alpha_pattern={r"layers\.1\.mlp\.fc\d": 3},
    )  # fmt: skip
    shutil.rmtree(OUT / "lora-peft", ignore_errors=True)
    for name, model, config in zip(("unet", "text_encoder"), networks(), (unet_config, text_config)):
        wrapped = get_peft_model(model, config)
        gen = stream(f"lora-peft-{name}")
        with torch.no_grad():
            for key, parameter in sorted(wrapped.named_parameters()):
                if "lora_" in key:
                    parameter.copy_(normal(gen, *parameter.shape, std=0.3 / parameter[0].numel() ** 0.5))
        wrapped.save_pretrained(OUT / "lora-peft" / name)
        (OUT / "lora-peft" / name / "README.md").unlink(missing_ok=True)
        order = OUT / "lora-peft" / name / "adapter_config.json"
        written = json.loads(order.read_text())
        written["target_modules"] = sorted(written["target_modules"])  # a set, in any order
        order.write_text(json.dumps(written, indent=2) + "\n")
    # PEFT sorts the patterns when it saves them, so what counts is what it reads back
    unet_model, text = networks()
    assert (unet_model(latents, times, hidden).sample - golden["outputs.unet_base"]).abs().max() < 1e-5
    PeftModel.from_pretrained(unet_model, OUT / "lora-peft" / "unet")
    PeftModel.from_pretrained(text, OUT / "lora-peft" / "text_encoder")
    with torch.no_grad():
        outputs = {"unet_1.0": unet_model(latents, times, hidden).sample, "text_1.0": text(ids).last_hidden_state}
    write("lora-peft-outputs", {"class": "LoRA", "folder": "pipeline"}, outputs=outputs)
