"""Goldens of the networks that score pictures: ImageReward (BLIP), CLIP under open_clip's names, LAION's head, preprocessing.

Also needs: pip install --no-deps open_clip_torch ftfy wcwidth timm torchvision pillow
"""

import json
import math

import open_clip
import torch
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from torchvision.transforms import functional as vision
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from .common import OUT, draw, normal, stream, vjp, write

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VISION = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4)
TEXT = dict(
    vocab_size=40, hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=3,
    max_position_embeddings=20, encoder_hidden_size=16, is_decoder=True, hidden_act="gelu", layer_norm_eps=1e-12,
)  # fmt: skip
WIDTHS = [10, 8, 6, 4]

# transformers' names of BLIP's parts -> those of ImageReward.pt (ImageReward/models/BLIP/vit.py and med.py of the package
# image-reward 1.5, which are BLIP's own)
RENAMED = [
    ("embeddings.class_embedding", "cls_token"), ("embeddings.position_embedding", "pos_embed"),
    ("embeddings.patch_embedding", "patch_embed.proj"), ("encoder.layers.", "blocks."), ("layer_norm", "norm"),
    ("self_attn.qkv", "attn.qkv"), ("self_attn.projection", "attn.proj"), ("post_layernorm", "norm"),
]  # fmt: skip


def own_name(name):
    for theirs, own in RENAMED:
        name = name.replace(theirs, own)
    return name


def head(gen, inputs):
    """LAION's MLP: five linear layers, no activations; the gaps in the numbers are dropouts."""
    places, sizes = [0, 2, 4, 6, 7], [inputs, *WIDTHS, 1]
    state = {}
    for place, into, out in zip(places, sizes, sizes[1:]):
        state[f"layers.{place}.weight"] = normal(gen, out, into, std=1 / math.sqrt(into)).half().float()
        state[f"layers.{place}.bias"] = normal(gen, out, std=0.3).half().float()
    return state


def mlp(state, x):
    for place in (0, 2, 4, 6, 7):
        x = torch.nn.functional.linear(x, state[f"layers.{place}.weight"], state[f"layers.{place}.bias"])
    return x.squeeze(1)


def image_reward():
    name = "image-reward"
    vision_model = draw(BlipVisionModel(BlipVisionConfig(**VISION, hidden_act="gelu", layer_norm_eps=1e-6)), name)
    text_model = draw(BlipTextModel(BlipTextConfig(**TEXT), add_pooling_layer=False), name + "/text")
    gen = stream(name + "/inputs")
    mlp_state = head(gen, TEXT["hidden_size"])
    ids = torch.randint(5, 38, (3, 9), generator=gen)
    mask = torch.ones(3, 9, dtype=torch.long)
    for row, words in ((1, 4), (2, 2)):
        ids[row, words:], mask[row, words:] = 0, 0
    pixels = normal(gen, 3, 3, 16, 16).requires_grad_()
    patches = vision_model(pixels).last_hidden_state
    states = text_model(
        input_ids=ids, attention_mask=mask, encoder_hidden_states=patches,
        encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long), is_decoder=False,
    ).last_hidden_state  # fmt: skip
    scores = (mlp(mlp_state, states[:, 0]) - 0.16717362830052426) / 1.0333394966054072
    named = {f"blip.visual_encoder.{own_name(n)}": p for n, p in vision_model.named_parameters()}
    named |= {f"blip.text_encoder.{n}": p for n, p in text_model.named_parameters()}
    chosen = [
        "blip.visual_encoder.cls_token", "blip.visual_encoder.pos_embed", "blip.visual_encoder.blocks.0.attn.qkv.weight",
        "blip.text_encoder.encoder.layer.0.crossattention.self.value.weight",
        "blip.text_encoder.encoder.layer.1.attention.output.LayerNorm.weight",
        "blip.text_encoder.embeddings.word_embeddings.weight",
    ]  # fmt: skip
    cotangent, gradients = vjp(scores, {"pixel_values": pixels, **{n: named[n] for n in chosen}}, gen)
    unused = {
        "blip.vision_proj.weight": torch.zeros(2, 16), "blip.vision_proj.bias": torch.zeros(2),
        "blip.text_proj.weight": torch.zeros(2, 12), "blip.text_proj.bias": torch.zeros(2),
        "blip.text_encoder.embeddings.position_ids": torch.arange(20).expand((1, -1)),
    }  # fmt: skip
    write(
        name,
        {"class": "ImageReward", "heads": {"vision": 2, "text": 3}},
        weights={**named, **{f"mlp.{n}": t for n, t in mlp_state.items()}, **unused},
        inputs={"input_ids": ids, "mask": mask, "pixel_values": pixels, "cotangent": cotangent},
        outputs={"scores": scores},
        blocks={"patches": patches, "states": states},
        gradients=gradients,
    )


def open_clip_towers():
    """The same classes that open_clip builds for ViT-H-14 and ViT-L-14-quickgelu, small; heads of width 8."""
    for name, quick in (("open-clip-gelu", False), ("open-clip-quick-gelu", True)):
        config = {
            "embed_dim": 12, "quick_gelu": quick,
            "vision_cfg": {"image_size": 24, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "mlp_ratio": 3.0},
            "text_cfg": {"context_length": 10, "vocab_size": 60, "width": 24, "heads": 3, "layers": 3},
        }  # fmt: skip
        model = open_clip.CLIP(**config)
        gen = stream(name)
        with torch.no_grad():
            for parameter_name, parameter in sorted(model.named_parameters()):
                spread = 0.3 if parameter.ndim < 2 else 1 / math.sqrt(parameter.shape[-1])
                value = normal(gen, *(parameter.shape or (1,)), std=spread).reshape(parameter.shape)
                if "ln_" in parameter_name and parameter_name.endswith("weight"):
                    value += 1
                parameter.copy_((torch.tensor(1.3125) if parameter_name == "logit_scale" else value).half())
        model.eval()
        ids = torch.randint(3, 57, (3, 10), generator=gen)
        for row, length in enumerate((9, 4, 1)):
            ids[row, 0], ids[row, length], ids[row, length + 1 :] = 58, 59, 0
        pixels = normal(gen, 3, 3, 24, 24).requires_grad_()
        image, text, scale = model(pixels, ids)
        logits = scale * image @ text.T
        cotangent, gradients = vjp(logits, {"pixel_values": pixels}, gen)
        write(
            name,
            {"class": "open_clip.CLIP", "openClip": open_clip.__version__, "config": config},
            weights=model.state_dict(),
            inputs={"input_ids": ids, "pixel_values": pixels, "cotangent": cotangent},
            outputs={"logits_per_image": logits, "image_embeds": image, "text_embeds": text},
            gradients=gradients,
        )


def aesthetic():
    gen = stream("aesthetic-head")
    state = head(gen, 12)
    embeddings = torch.nn.functional.normalize(normal(gen, 4, 12), dim=-1)
    write(
        "aesthetic-head",
        {"class": "LAION aesthetic predictor"},
        weights=state,
        inputs={"embeddings": embeddings},
        outputs={"scores": mlp(state, embeddings)},
    )


def pictures(gen):
    """Sizes above and below 14, odd remainders in both directions, loud edges; none may be resized by a whole factor only."""
    for height, width in ((33, 57), (64, 64), (9, 11), (14, 23), (40, 27)):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        waves = torch.stack([torch.sin(x / (3 + c)) * torch.cos(y / (4 - c)) for c in range(3)], -1)
        edges = ((x // 5 + y // 7) % 2 * 2 - 1)[..., None].float()
        noise = torch.rand(height, width, 3, generator=gen) * 2 - 1
        mixed = 0.5 * waves + 0.9 * edges + 0.3 * noise
        yield ((mixed * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def preprocessing():
    """Pictures as each project shows them to its network, edge 14: torchvision on PIL (ImageReward, open_clip, CLIP), on
    tensors (HPSv2's own copy of open_clip), transformers' processor."""
    size = 14
    gen = stream("preprocessing")
    torchvision = Compose([Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size), ToTensor(), Normalize(MEAN, STD)])
    tensors = Compose([ToTensor(), Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size), Normalize(MEAN, STD)])
    transformers_ = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    of_open_clip = image_transform(size, is_train=False, mean=MEAN, std=STD)
    inputs, outputs = {}, {}
    for index, data in enumerate(pictures(gen)):
        inputs[f"{index}"] = data
        picture = Image.fromarray(data.numpy())
        outputs[f"torchvision.{index}"] = torchvision(picture)
        assert torch.equal(of_open_clip(picture), outputs[f"torchvision.{index}"])
        outputs[f"tensors.{index}"] = tensors(picture)
        outputs[f"transformers.{index}"] = torch.as_tensor(transformers_(picture, return_tensors="np")["pixel_values"][0])
    write("preprocessing", {"size": size, "mean": MEAN, "std": STD, "torchvision": vision.__name__}, inputs=inputs, outputs=outputs)


VOCABULARY = """[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] ! ' , - . ? a b c d e f g h i l m n o p r s t u w y z ##a ##b ##c ##e ##er
##ing ##l ##n ##o ##r ##s ##t ##y an and cat dog cafe the on of with photo paint red hat 中 文 ä 2 0 ##0 ##1""".split()  # fmt: skip
PROMPTS = [
    "a photo of a cat", "", "A Red HAT, on the dog!", "café CAFÉ cafés", "paint painter painting paints", "中文 cat中dog", "a\u00a0cat\tand\na dog",
    "a photo of a cat " * 12, "[SEP] a [MASK] cat [DEC] [ENC]", "don't", "2001", "zzzzqqq", "a\u200bcat\ufffd \x00dog", "ÄÖÜ ä", "x" * 120, "- . ? '",
]  # fmt: skip


def bert():
    """BLIP's tokenizer: BERT's, uncased, and two tokens more; as ImageReward's code calls it."""
    path = OUT / "bert-vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = BertTokenizer(vocab=str(path))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    ids = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=35)["input_ids"]
    (OUT / "bert-tokenizer.json").write_text(json.dumps({"prompts": PROMPTS, "ids": ids}) + "\n")


def scorers():
    image_reward()
    open_clip_towers()
    aesthetic()
    preprocessing()
    bert()
