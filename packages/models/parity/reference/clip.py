"""Goldens of the CLIP towers and of CLIP as a whole."""

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from .common import config_of, draw, normal, stream, vjp, write


TEXT = dict(
    vocab_size=100, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
    max_position_embeddings=77, projection_dim=12, bos_token_id=98, eos_token_id=99, pad_token_id=99,
)  # fmt: skip
VISION = dict(
    hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=24,
    patch_size=8, projection_dim=12,
)  # fmt: skip


def published(state):
    """transformers 5 dropped the `text_model.` level of CLIPTextModel; published checkpoints have it."""
    return {k if k.startswith(("text_model.", "text_projection")) else f"text_model.{k}": v for k, v in state.items()}


def text_ids(gen, config, length):
    """Rows: full length, short with padding, empty prompt, and one with an id above EOS (if 77 are not too many)."""
    bos, eos, pad = config["bos_token_id"], config["end"], config["pad_token_id"]
    rows = []
    for words in (length - 2, 5, 0, 9)[: 4 if length < 77 else 3]:
        ids = torch.randint(3, 95, (words,), generator=gen).tolist()
        if words == 9 and eos < config["vocab_size"] - 1 and config["eos_token_id"] != 2:
            ids[3] = config["vocab_size"] - 1
        rows.append(([bos, *ids, eos] + [pad] * length)[:length])
    return torch.tensor(rows)


def text_golden(name, cls=CLIPTextModel, end=None, **overrides):
    options = {**TEXT, **overrides}
    model = draw(cls(CLIPTextConfig(**options, attn_implementation="eager")), name)
    gen = stream(name + "/inputs")
    length = options["max_position_embeddings"]
    ids = text_ids(gen, {**options, "end": options["eos_token_id"] if end is None else end}, length)
    result = model(ids, output_hidden_states=True)
    inner = getattr(model, "text_model", model)
    outputs = {
        "last_hidden_state": result.last_hidden_state,
        "penultimate_normed": inner.final_layer_norm(result.hidden_states[-2]),
    }
    if cls is CLIPTextModelWithProjection:
        outputs["text_embeds"] = result.text_embeds
        outputs["pooled"] = inner(ids).pooler_output
    else:
        outputs["pooled"] = result.pooler_output
    named = {n if n.startswith("text_") else f"text_model.{n}": p for n, p in model.named_parameters()}
    chosen = [
        "text_model.embeddings.token_embedding.weight",
        "text_model.encoder.layers.0.self_attn.q_proj.weight",
        "text_model.encoder.layers.1.mlp.fc1.bias",
        "text_model.final_layer_norm.weight",
    ]
    cotangent, gradients = vjp(result.last_hidden_state, {n: named[n] for n in chosen}, gen)
    write(
        name,
        {"class": cls.__name__, "config": config_of(model)},
        weights=published(model.state_dict()),
        inputs={"input_ids": ids, "cotangent": cotangent},
        outputs=outputs,
        blocks={f"hidden_states.{i}": state for i, state in enumerate(result.hidden_states[:3])},
        gradients=gradients,
    )


def clip_text():
    text_golden("clip-text-quick-gelu", hidden_act="quick_gelu")
    # SD 2.x: gelu, more heads, padding "!" = 0, and an id above EOS (argmax would pool the wrong token).
    text_golden(
        "clip-text-gelu", hidden_act="gelu", num_attention_heads=4, eos_token_id=97, pad_token_id=0,
        max_position_embeddings=20,
    )  # fmt: skip
    # Old configs say eos_token_id 2: then the pooled token is the one with the highest id.
    text_golden("clip-text-old-eos", hidden_act="quick_gelu", eos_token_id=2, pad_token_id=1, end=99, max_position_embeddings=16)
    text_golden(
        "clip-text-projection", cls=CLIPTextModelWithProjection, hidden_act="gelu", max_position_embeddings=16,
        projection_dim=10, layer_norm_eps=1e-6,
    )  # fmt: skip


def clip_vision():
    for name, act in (("clip-vision-quick-gelu", "quick_gelu"), ("clip-vision-gelu", "gelu")):
        config = CLIPVisionConfig(**VISION, hidden_act=act, attn_implementation="eager")
        model = draw(CLIPVisionModelWithProjection(config), name)
        gen = stream(name + "/inputs")
        pixels = normal(gen, 2, 3, 24, 24).requires_grad_()
        result = model(pixels, output_hidden_states=True)
        cotangent, gradients = vjp(result.image_embeds, {"pixel_values": pixels}, gen)
        write(
            name,
            {"class": "CLIPVisionModelWithProjection", "config": config_of(model)},
            weights=model.state_dict(),
            inputs={"pixel_values": pixels, "cotangent": cotangent},
            outputs={
                "image_embeds": result.image_embeds,
                "last_hidden_state": result.last_hidden_state,
                "pooled": model.vision_model(pixels).pooler_output,
            },
            blocks={f"hidden_states.{i}": state for i, state in enumerate(result.hidden_states[:3])},
            gradients=gradients,
        )


def clip_model():
    name = "clip-model"
    text = {**TEXT, "max_position_embeddings": 16}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    model = draw(CLIPModel(config), name)
    gen = stream(name + "/inputs")
    ids = text_ids(gen, {**text, "end": text["eos_token_id"]}, 16)
    pixels = normal(gen, 3, 3, 24, 24).requires_grad_()
    result = model(input_ids=ids, pixel_values=pixels)
    cotangent, gradients = vjp(result.logits_per_image, {"pixel_values": pixels}, gen)
    write(
        name,
        {"class": "CLIPModel", "config": config_of(model)},
        weights=model.state_dict(),
        inputs={"input_ids": ids, "pixel_values": pixels, "cotangent": cotangent},
        outputs={
            "logits_per_image": result.logits_per_image,
            "logits_per_text": result.logits_per_text,
            "image_embeds": result.image_embeds,
            "text_embeds": result.text_embeds,
        },
        gradients=gradients,
    )
