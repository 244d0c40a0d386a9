"""The projects' side of `npm run crosscheck -- rewards`: weights in their published layouts, and what their preprocessing,
tokenizers and networks score. One JSON question a line, one JSON answer a line."""

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.simplefilter("ignore")
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "packages" / "models" / "parity"))

import torch

try:
    import torchvision
except RuntimeError:
    # The wheels of PyTorch and torchvision are of different builds, such as for CPUs and for CUDA: its compiled operators do not
    # load, of which nothing here needs one. They only must be known by name.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

import open_clip
import transformers
from answering import answer_all
from reference import scorer_vectors
from safetensors.torch import load_file


def hello(_question):
    return {"open_clip": open_clip.__version__, "transformers": transformers.__version__, "torchvision": torchvision.__version__}


def score(question):
    pictures = load_file(question["pictures"])
    shown = [pictures[f"{i}"] for i in range(len(pictures))]
    with torch.no_grad():
        scores = scorer_vectors.all_scores(Path(question["folder"]), shown, question["prompts"], vectors=False)
    return {name: values.tolist() for name, values in scores.items()}


ANSWERS = {answer.__name__: answer for answer in (hello, score)}

answer_all(lambda question: ANSWERS[question["ask"]](question))
