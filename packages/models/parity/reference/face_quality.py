"""Golden of qualityface 1.0.3's network, and the tiny one that `rldf rewards check face` reads.

Also needs: pip install --no-deps torchvision pillow

Its own code is a MobileNetV2 of torchvision, of which it keeps the features twice (siriusbackbone 1.0.3), then a mean over
places and a linear layer, all under DataParallel.
"""

import json

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.transforms import InterpolationMode, Normalize, Resize

from .classifier import draw_all
from .common import HERE, normal, stream, vjp, write

FOLDER = HERE.parents[1] / "rldf" / "assets" / "rewards"
LAST = 24  # 1280 in the package


class QualityNet(nn.Module):
    """As the package's models.py, narrow."""

    def __init__(self):
        super().__init__()
        self.net = MobileNetV2(width_mult=0.1)
        self.net.features[18][0] = nn.Conv2d(self.net.features[18][0].in_channels, LAST, 1, bias=False)
        self.net.features[18][1] = nn.BatchNorm2d(LAST)
        self.classify = nn.Linear(LAST, 1)

    def forward(self, x):
        return self.classify(torch.mean(self.net.features(x), dim=(2, 3)))


def drawn(name):
    model = QualityNet().eval()
    with torch.no_grad():
        draw_all(model, stream(name))
    named = {}
    for key, value in model.state_dict().items():
        if not key.startswith("net.classifier"):
            named["module." + key.replace("net.", "backbone.net.")] = value.clone()
    return model, named


def crops(size=128):
    """What `rldf` shows the network of a crop: resized between bytes and network, in floats."""
    resize = Resize((size, size), interpolation=InterpolationMode.BILINEAR, antialias=True)
    show = Normalize([0.5] * 3, [0.5] * 3)
    shown = load_file(FOLDER / "pictures.safetensors")
    return torch.stack([show(resize(data.permute(2, 0, 1).float() / 255)) for data in shown.values()])


def face_quality():
    model, weights = drawn("face-quality")
    gen = stream("face-quality/inputs")
    faces = normal(gen, 2, 3, 45, 66).half().float().requires_grad_()  # odd sizes on the way down
    scores = model(faces)
    named = dict(model.named_parameters())
    chosen = {
        name.replace("net.", "", 1): named[name]
        for name in [
            "net.features.0.0.weight", "net.features.1.conv.0.0.weight", "net.features.2.conv.0.0.weight",
            "net.features.3.conv.1.0.weight", "net.features.4.conv.3.bias", "net.features.18.1.weight",
        ]
    }  # fmt: skip
    cotangent, gradients = vjp(scores.squeeze(1), {**chosen, "classify.weight": named["classify.weight"], "faces": faces}, gen)
    write(
        "face-quality", {"class": "FaceQualityNet"}, weights=weights, inputs={"faces": faces.detach(), "cotangent": cotangent},
        outputs={"scores": scores.squeeze(1)}, gradients=gradients,
    )  # fmt: skip
    tiny, state = drawn("tiny face-quality")
    folder = FOLDER / "tiny" / "face"
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(halves, folder / "last.pth", _use_new_zipfile_serialization=False)
    with torch.no_grad():
        store("face", tiny(crops()).squeeze(1))


def store(name, scores):
    file = FOLDER / "vectors.json"
    vectors = json.loads(file.read_text())
    vectors["scores"][name] = [float(f"{score:.9g}") for score in scores.tolist()]
    file.write_text(json.dumps(vectors, indent=1) + "\n")


def published(folder):
    """What the package's own code and file give the stored pictures: `published` in rewards/check.ts. FOLDER has it unpacked."""
    import sys

    sys.path.insert(0, folder)
    from qualityface.api import net

    with torch.no_grad():
        return net(crops()).squeeze(1).tolist()
