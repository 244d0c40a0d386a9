# goldens/long-prompts.safetensors: text features of prompts in pieces, by compel on transformers' text encoder.
# pip install compel==2.5.1 transformers==4.57.6; run in packages/models.
import json

import torch
from compel import Compel
from compel.embeddings_provider import SplitLongTextMode
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

folder = "goldens/pipeline"
prompts = [
    "a cat and a dog on the green grass beside a red car and a blue fish in front of a large house and a small tree "
    "under a yellow sun with many birds around them and three boats",
    "a cat",
    "",
]
tokenizer = CLIPTokenizer.from_pretrained(f"{folder}/tokenizer")
encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(f"{folder}/text_encoder")).eval()
weights = load_file(f"{folder}/text_encoder/model.safetensors")
prefix = "text_model."
encoder.load_state_dict({k if k.startswith(prefix) else prefix + k: v for k, v in weights.items()})
compel = Compel(
    tokenizer=tokenizer,
    text_encoder=encoder,
    truncate_long_prompts=False,
    split_long_text_mode=SplitLongTextMode.BRUTAL,
)
with torch.no_grad():
    features = compel.pad_conditioning_tensors_to_same_length([compel([prompt]) for prompt in prompts])
save_file(
    {"features": torch.cat(features).contiguous()},
    "goldens/long-prompts.safetensors",
    metadata={"prompts": json.dumps(prompts)},
)
