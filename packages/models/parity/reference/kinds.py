"""Goldens of adapters that are no pair of matrices: files of LyCORIS (LoCon, LoHa, LoKr, DoRA) and PEFT's folders of LoHa, LoKr and DoRA."""

import json
import logging
import math
import shutil

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from .adapters import networks
from .common import OUT, normal, stream, write

FOLDER = OUT / "lora-kinds"

# name: algorithm, options
LYCORIS = {
    "locon-tucker": ("locon", dict(use_tucker=True)),
    "loha": ("loha", {}),
    "loha-tucker": ("loha", dict(use_tucker=True)),
    "lokr": ("lokr", {}),
    "lokr-tucker-both": ("lokr", dict(use_tucker=True, decompose_both=True, factor=4)),
    "lokr-whole": ("lokr", dict(full_matrix=True, factor=2)),
    "dora": ("locon", dict(weight_decompose=True, wd_on_out=True)),
    "dora-of-inputs": ("locon", dict(weight_decompose=True, wd_on_out=False)),
    "lokr-dora": ("lokr", dict(weight_decompose=True, wd_on_out=True)),
}
LINEAR = ["to_q", "to_out.0", "ff.net.0.proj", "linear_1"]
PEFT = {
    "peft-loha": LoHaConfig(r=2, alpha=3, target_modules=[*LINEAR, "conv1"], use_effective_conv2d=True, rank_pattern={"to_q": 3}, alpha_pattern={"conv1": 1}),
    "peft-lokr": LoKrConfig(r=2, alpha=3, target_modules=[*LINEAR, "conv1"], use_effective_conv2d=True, decompose_both=True, alpha_pattern={"to_q": 5}),
    "peft-dora": LoraConfig(r=2, lora_alpha=3, target_modules=[*LINEAR, "conv1"], use_dora=True, rank_pattern={"to_q": 3}),
}  # fmt: skip


def redraw(gen, name, parameter):
    """Adapters begin as nothing."""
    if "dora_scale" in name or "magnitude" in name:
        return parameter * (1 + 0.2 * normal(gen, *parameter.shape))
    return normal(gen, *parameter.shape, std=0.7 / math.sqrt(max(2, parameter[0].numel())))


def lycoris(name, algorithm, options, network, prefix, gen):
    from lycoris.wrapper import LycorisNetwork  # needed for these goldens only

    logging.getLogger("LyCORIS").setLevel(logging.ERROR)
    LycorisNetwork.apply_preset(dict(enable_conv=True, target_module=["Linear", "Conv2d"], target_name=[], lora_prefix=prefix))
    sizes = dict(lora_dim=2, conv_lora_dim=2, alpha=3, conv_alpha=1)
    adapter = LycorisNetwork(network, multiplier=1.0, network_module=algorithm, dropout=0.0, **sizes, **options)
    # some of each kind: linear layers, convolutions of kernels 3 and 1
    adapter.loras = [lora for i, lora in enumerate(adapter.loras) if i % 3 == 0 or "conv_shortcut" in lora.lora_name]
    state = {}
    with torch.no_grad():
        for lora in adapter.loras:
            for key, parameter in sorted(lora.named_parameters()):
                if "org" not in key:
                    parameter.copy_(redraw(gen, key, parameter).half())
            state.update({f"{lora.lora_name}.{key}": value.detach().clone() for key, value in lora.custom_state_dict().items()})
    adapter.apply_to()
    return state


def kinds():
    golden = load_file(OUT / "lora.safetensors")
    latents, hidden, times, ids = (golden[f"inputs.{key}"] for key in ("latents", "hidden_states", "timesteps", "input_ids"))
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    outputs = {}
    for name, (algorithm, options) in LYCORIS.items():
        gen = stream(f"lora-kinds-{name}")
        unet, text = networks()
        state = lycoris(name, algorithm, options, unet, "lora_unet", gen)
        # transformers 5 leaves `text_model` out of the names
        state.update(lycoris(name, algorithm, options, text, "lora_te_text_model", gen))
        with torch.no_grad():
            outputs[f"{name}.unet"] = unet(latents, times, hidden).sample
            outputs[f"{name}.text"] = text(ids).last_hidden_state
        halves = {key: value.half().contiguous() for key, value in state.items()}
        assert all(torch.equal(value.float(), state[key].float()) for key, value in halves.items())
        save_file(halves, FOLDER / f"{name}.safetensors")
        print(f"lora-kinds {name}: {len(state)} tensors, {sorted({key.split('.', 1)[1] for key in state})}")
    for name, config in PEFT.items():
        gen = stream(f"lora-kinds-{name}")
        unet, _ = networks()
        wrapped = get_peft_model(unet, config)
        with torch.no_grad():
            for key, parameter in sorted(wrapped.named_parameters()):
                if any(part in key for part in ("lora_", "hada_", "lokr_")):
                    parameter.copy_(redraw(gen, key, parameter))
        wrapped.save_pretrained(FOLDER / name)
        (FOLDER / name / "README.md").unlink(missing_ok=True)
        order = FOLDER / name / "adapter_config.json"
        written = json.loads(order.read_text())
        written["target_modules"] = sorted(written["target_modules"])
        order.write_text(json.dumps(written, indent=2) + "\n")
        unet, _ = networks()
        PeftModel.from_pretrained(unet, FOLDER / name)
        with torch.no_grad():
            outputs[f"{name}.unet"] = unet(latents, times, hidden).sample
        print(f"lora-kinds {name}: {sorted({key.split('.')[-1] for key in load_file(FOLDER / name / 'adapter_model.safetensors')})}")
    base = golden["outputs.unet_base"]
    for key, value in outputs.items():
        if key.endswith(".unet"):
            assert (value - base).abs().max() > 0.02 * base.abs().max(), key
    write("lora-kinds-outputs", {"class": "LoRA", "folder": "pipeline"}, outputs=outputs)
