"""What `rldf rewards check NAME --weights tiny` reads: tiny random weights in each project's published layout, pictures,
prompts, and the scores that the projects' own preprocessing, tokenizers and networks give them."""

import json
import string

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers import (
    BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel, CLIPConfig, CLIPModel, CLIPTokenizer,
)  # fmt: skip
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from .common import HERE, draw, normal, stream
from .scorers import MEAN, STD, VOCABULARY, head, mlp, own_name, pictures

FOLDER = HERE.parents[1] / "rldf" / "assets" / "rewards"
SIZE = 32
PROMPTS = ["a photo of a cat", "a red hat on the dog, and a cat with a red hat on the dog with a dog " * 2, "two cats and a dog!"]


def torchvision_pixels(data):
    steps = [Resize(SIZE, interpolation=InterpolationMode.BICUBIC), CenterCrop(SIZE), ToTensor(), Normalize(MEAN, STD)]
    return Compose(steps)(Image.fromarray(data.numpy()))[None]


def tensor_pixels(data):
    steps = [ToTensor(), Resize(SIZE, interpolation=InterpolationMode.BICUBIC), CenterCrop(SIZE), Normalize(MEAN, STD)]
    return Compose(steps)(Image.fromarray(data.numpy()))[None]


def image_reward(shown):
    folder = FOLDER / "tiny" / "imagereward"
    folder.mkdir(parents=True, exist_ok=True)
    vision = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=1, image_size=SIZE, patch_size=8)
    text = dict(
        vocab_size=len(VOCABULARY) + 2, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=40, hidden_act="gelu", layer_norm_eps=1e-12,
    )  # fmt: skip
    eyes = draw(BlipVisionModel(BlipVisionConfig(**vision, hidden_act="gelu", layer_norm_eps=1e-6)), "tiny eyes")
    reader = draw(BlipTextModel(BlipTextConfig(**text, encoder_hidden_size=64, is_decoder=True), add_pooling_layer=False), "tiny reader")
    judge = head(stream("tiny judge"), 24)
    state = {f"blip.visual_encoder.{own_name(n)}": p for n, p in eyes.state_dict().items()}
    state |= {f"blip.text_encoder.{n}": p for n, p in reader.state_dict().items()}
    state |= {f"mlp.{n}": p for n, p in judge.items()}
    state = {n: p.half() if p.is_floating_point() else p for n, p in state.items()}
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(40).expand((1, -1))
    state |= {"blip.vision_proj.weight": torch.zeros(2, 64), "blip.vision_proj.bias": torch.zeros(2)}
    state |= {"blip.text_proj.weight": torch.zeros(2, 24), "blip.text_proj.bias": torch.zeros(2)}
    torch.save(state, folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps({**text, "add_cross_attention": True}, indent=1) + "\n")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    tokens = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    patches = eyes(torch.cat([torchvision_pixels(data) for data in shown])).last_hidden_state
    states = reader(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=patches,
        encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long), is_decoder=False,
    ).last_hidden_state  # fmt: skip
    return (mlp(judge, states[:, 0]) - 0.16717362830052426) / 1.0333394966054072


def clip_files(folder):
    """A tokenizer whose words are letters, a few of them joined."""
    letters = [*string.ascii_lowercase, *string.digits, *"!,.-"]
    merges = ["c a", "ca t</w>", "d o", "do g</w>", "o f</w>", "r e", "re d</w>"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocab = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab) + "\n")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 24, "tokenizer_class": "CLIPTokenizer"}) + "\n")
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[tuple(merge.split()) for merge in merges], model_max_length=24)
    ids = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=24, return_tensors="pt").input_ids
    return ids, len(vocab)


def open_clip_model(folder, name):
    ids, size = clip_files(folder)
    config = {
        "embed_dim": 12, "quick_gelu": False,
        "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 24, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": size, "width": 16, "heads": 2, "layers": 2},
    }  # fmt: skip
    model = open_clip.CLIP(**config)
    gen = stream(name)
    with torch.no_grad():
        for parameter_name, parameter in sorted(model.named_parameters()):
            spread = 0.3 if parameter.ndim < 2 else 1 / parameter.shape[-1] ** 0.5
            value = normal(gen, *(parameter.shape or (1,)), std=spread).reshape(parameter.shape)
            if "ln_" in parameter_name and parameter_name.endswith("weight"):
                value += 1
            parameter.copy_((torch.tensor(1.3125) if parameter_name == "logit_scale" else value).half())
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": MEAN, "std": STD}}, indent=1) + "\n"
    )
    return model.eval(), ids


def cosines(model, ids, pixels):
    image, text, _ = model(pixels, ids)
    return (image * text).sum(1)


def scorer_vectors():
    gen = stream("scorer vectors")
    shown = [data for data in pictures(gen) if min(data.shape[:2]) > 20][:3]
    tiny = FOLDER / "tiny"
    scores = {"imagereward": image_reward(shown)}

    for name, file in (("hpsv2", "HPS_v2_compressed.pt"), ("hpsv2.1", "HPS_v2.1_compressed.pt")):
        folder = tiny / name
        model, ids = open_clip_model(folder, name)
        torch.save({"epoch": 1, "name": "tiny", "state_dict": {n: p.half() for n, p in model.state_dict().items()}}, folder / file)
        scores[name] = cosines(model, ids, torch.cat([tensor_pixels(data) for data in shown]))

    folder = tiny / "clip-score"
    model, ids = open_clip_model(folder, "clip-score")
    save_file({n: p.half().contiguous() for n, p in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    eyes = torch.cat([torchvision_pixels(data) for data in shown])
    scores["clip-score"] = 100 * cosines(model, ids, eyes)

    head_folder = tiny / "laion-aesthetic"
    head_folder.mkdir(parents=True, exist_ok=True)
    judge = head(stream("tiny aesthetic"), 12)
    torch.save(judge, head_folder / "sac+logos+ava1-l14-linearMSE.pth")
    embeddings = torch.nn.functional.normalize(model.encode_image(eyes), dim=-1)
    scores["laion-aesthetic"] = mlp(judge, embeddings)

    folder = tiny / "pickscore"
    ids, size = clip_files(folder)
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, projection_dim=12, hidden_act="gelu")
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": size, "max_position_embeddings": 24, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1},
        vision_config={**sizes, "image_size": SIZE, "patch_size": 8}, projection_dim=12,
    )  # fmt: skip
    model = draw(CLIPModel(config), "tiny pickscore")
    save_file({n: p.half().contiguous() for n, p in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=1) + "\n")
    processor = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")
    shower = CLIPImageProcessorPil(**processor)
    pixels = torch.cat([torch.as_tensor(shower(Image.fromarray(data.numpy()), return_tensors="np")["pixel_values"]) for data in shown])
    scores["pickscore"] = model(input_ids=ids, pixel_values=pixels).logits_per_image.diagonal()

    save_file({f"picture.{i}": data for i, data in enumerate(shown)}, FOLDER / "pictures.safetensors")
    numbers = {name: [float(f"{score:.9g}") for score in values.tolist()] for name, values in scores.items()}
    (FOLDER / "vectors.json").write_text(json.dumps({"prompts": PROMPTS, "scores": numbers}, indent=1) + "\n")
    print(numbers, sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) // 1024, "KiB")
