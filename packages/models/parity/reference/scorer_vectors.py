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


def torchvision_pixels(data, size=SIZE):
    steps = [Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size), ToTensor(), Normalize(MEAN, STD)]
    return Compose(steps)(Image.fromarray(data.numpy()))[None]


def tensor_pixels(data, size=SIZE):
    steps = [ToTensor(), Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size), Normalize(MEAN, STD)]
    return Compose(steps)(Image.fromarray(data.numpy()))[None]


def image_reward(folder, shown, prompts, seed="tiny", size=SIZE, width=64, depth=1, text_width=24, text_heads=3):
    folder.mkdir(parents=True, exist_ok=True)
    vision = dict(
        hidden_size=width, intermediate_size=3 * width // 2, num_hidden_layers=depth, num_attention_heads=width // 64,
        image_size=size, patch_size=8,
    )  # fmt: skip
    text = dict(
        vocab_size=len(VOCABULARY) + 2, hidden_size=text_width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=text_heads,
        max_position_embeddings=40, hidden_act="gelu", layer_norm_eps=1e-12,
    )  # fmt: skip
    eyes = draw(BlipVisionModel(BlipVisionConfig(**vision, hidden_act="gelu", layer_norm_eps=1e-6)), f"{seed} eyes")
    reader = draw(BlipTextModel(BlipTextConfig(**text, encoder_hidden_size=width, is_decoder=True), add_pooling_layer=False), f"{seed} reader")
    judge = head(stream(f"{seed} judge"), text_width)
    state = {f"blip.visual_encoder.{own_name(n)}": p for n, p in eyes.state_dict().items()}
    state |= {f"blip.text_encoder.{n}": p for n, p in reader.state_dict().items()}
    state |= {f"mlp.{n}": p for n, p in judge.items()}
    state = {n: p.half() if p.is_floating_point() else p for n, p in state.items()}
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(40).expand((1, -1))
    state |= {"blip.vision_proj.weight": torch.zeros(2, width), "blip.vision_proj.bias": torch.zeros(2)}
    state |= {"blip.text_proj.weight": torch.zeros(2, text_width), "blip.text_proj.bias": torch.zeros(2)}
    torch.save(state, folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps({**text, "add_cross_attention": True}, indent=1) + "\n")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    tokens = tokenizer(prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    patches = eyes(torch.cat([torchvision_pixels(data, size) for data in shown])).last_hidden_state
    states = reader(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=patches,
        encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long), is_decoder=False,
    ).last_hidden_state  # fmt: skip
    return (mlp(judge, states[:, 0]) - 0.16717362830052426) / 1.0333394966054072


def clip_files(folder, prompts):
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
    ids = tokenizer(prompts, padding="max_length", truncation=True, max_length=24, return_tensors="pt").input_ids
    return ids, len(vocab)


def open_clip_model(folder, prompts, name, image_size=SIZE, width=24, depth=2):
    ids, size = clip_files(folder, prompts)
    config = {
        "embed_dim": 12, "quick_gelu": False,
        "vision_cfg": {"image_size": image_size, "layers": depth, "width": width, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": size, "width": 16, "heads": 2, "layers": depth},
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


def hps(folder, shown, prompts, name, size=SIZE, **sizes):
    model, ids = open_clip_model(folder, prompts, name, size, **sizes)
    file = {"hpsv2": "HPS_v2_compressed.pt", "hpsv2.1": "HPS_v2.1_compressed.pt"}[name.split("/")[-1]]
    torch.save({"epoch": 1, "name": "tiny", "state_dict": {n: p.half() for n, p in model.state_dict().items()}}, folder / file)
    return cosines(model, ids, torch.cat([tensor_pixels(data, size) for data in shown]))


def clip_score(folder, shown, prompts, name="clip-score", size=SIZE, **sizes):
    """Also gives the unit vectors of the pictures, which LAION's head reads."""
    model, ids = open_clip_model(folder, prompts, name, size, **sizes)
    save_file({n: p.half().contiguous() for n, p in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    eyes = torch.cat([torchvision_pixels(data, size) for data in shown])
    return 100 * cosines(model, ids, eyes), torch.nn.functional.normalize(model.encode_image(eyes), dim=-1)


def laion(folder, embeddings, seed="tiny aesthetic"):
    folder.mkdir(parents=True, exist_ok=True)
    judge = head(stream(seed), 12)
    torch.save(judge, folder / "sac+logos+ava1-l14-linearMSE.pth")
    return mlp(judge, embeddings)


def pickscore(folder, shown, prompts, seed="tiny pickscore", size=SIZE, width=16, depth=2):
    ids, words = clip_files(folder, prompts)
    sizes = dict(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=depth, num_attention_heads=width // 8, projection_dim=12,
        hidden_act="gelu",
    )  # fmt: skip
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": words, "max_position_embeddings": 24, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1},
        vision_config={**sizes, "image_size": size, "patch_size": 8}, projection_dim=12,
    )  # fmt: skip
    model = draw(CLIPModel(config), seed)
    save_file({n: p.half().contiguous() for n, p in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=1) + "\n")
    processor = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")
    shower = CLIPImageProcessorPil(**processor)
    pixels = torch.cat([torch.as_tensor(shower(Image.fromarray(data.numpy()), return_tensors="np")["pixel_values"]) for data in shown])
    return model(input_ids=ids, pixel_values=pixels).logits_per_image.diagonal()


def all_scores(folder, shown, prompts, vectors=True):
    """Weights of every reward in `folder`, and what they score. Larger ones, to be thrown away, if not for the stored vectors."""
    more = {} if vectors else {"size": 64}
    wide = {} if vectors else {"width": 64, "depth": 5}
    image = {} if vectors else {"width": 192, "depth": 4, "text_width": 128, "text_heads": 2, "seed": "wide"}
    named = lambda name: name if vectors else f"wide/{name}"  # noqa: E731
    score, embeddings = clip_score(folder / "clip-score", shown, prompts, named("clip-score"), **more, **wide)
    return {
        "imagereward": image_reward(folder / "imagereward", shown, prompts, **more, **image),
        "hpsv2": hps(folder / "hpsv2", shown, prompts, named("hpsv2"), **more, **wide),
        "hpsv2.1": hps(folder / "hpsv2.1", shown, prompts, named("hpsv2.1"), **more, **wide),
        "clip-score": score,
        "laion-aesthetic": laion(folder / "laion-aesthetic", embeddings, named("tiny aesthetic")),
        "pickscore": pickscore(folder / "pickscore", shown, prompts, named("tiny pickscore"), **more, **wide),
    }


def scorer_vectors():
    shown = [data for data in pictures(stream("scorer vectors")) if min(data.shape[:2]) > 20][:3]
    scores = all_scores(FOLDER / "tiny", shown, PROMPTS)
    save_file({f"picture.{i}": data for i, data in enumerate(shown)}, FOLDER / "pictures.safetensors")
    numbers = {name: [float(f"{score:.9g}") for score in values.tolist()] for name, values in scores.items()}
    others = json.loads((FOLDER / "vectors.json").read_text())["scores"]
    (FOLDER / "vectors.json").write_text(json.dumps({"prompts": PROMPTS, "scores": {**others, **numbers}}, indent=1) + "\n")
    print(numbers, sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) // 1024, "KiB")
