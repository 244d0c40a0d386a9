"""Golden of ResNet-18, in evaluation and in training: torchvision's parameter names and arithmetic, on torch's layers."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .common import flatten, normal, stream, vjp, write

WIDTH, CLASSES = 2, 5  # torchvision's network has 64 and 1000


def conv(into, out, kernel, stride=1):
    return nn.Conv2d(into, out, kernel, stride, padding=(kernel - 1) // 2, bias=False)


class BasicBlock(nn.Module):
    def __init__(self, into, out, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(into, out, 3, stride), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = conv(out, out, 3), nn.BatchNorm2d(out)
        self.downsample = (
            nn.Sequential(conv(into, out, 1, stride), nn.BatchNorm2d(out)) if stride != 1 or into != out else nn.Identity()
        )

    def forward(self, x):
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.downsample(x))


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = conv(3, WIDTH, 7, 2), nn.BatchNorm2d(WIDTH)
        into = WIDTH
        for stage in range(4):
            out = WIDTH * 2**stage
            blocks = BasicBlock(into, out, 1 if stage == 0 else 2), BasicBlock(out, out, 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            into = out
        self.fc = nn.Linear(into, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), kernel_size=3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def draw_all(model, gen):
    """Every parameter and running statistic at random, exact in float16."""
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(7)
        elif name.endswith("running_var"):
            value = normal(gen, *tensor.shape, std=0.5).exp()
        elif tensor.ndim == 1:
            value = normal(gen, *tensor.shape, std=0.3) + (1.0 if name.endswith("weight") else 0.0)
        else:
            value = normal(gen, *tensor.shape, std=math.sqrt(2 / math.prod(tensor.shape[1:])))
        tensor.copy_(value.half() if value.is_floating_point() else value)


def resnet():
    gen = stream("resnet-18")
    model = ResNet18()
    with torch.no_grad():
        draw_all(model, gen)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = normal(gen, 2, 3, 25, 34).half()  # odd sizes on the way down
    model.eval()
    logits = model(images.float())
    model.train()
    training = model(images.float())
    named = dict(model.named_parameters())
    chosen = [
        "conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.weight", "layer4.1.bn2.weight", "fc.weight",
    ]  # fmt: skip
    cotangent, gradients = vjp(training, {name: named[name] for name in chosen}, gen)
    norms = ("bn1.", "layer2.0.downsample.1.", "layer4.1.bn2.")
    statistics = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(norms) and ("running" in name or "tracked" in name)
    }
    write(
        "resnet-18",
        {"class": "ResNet18", "config": {"classes": CLASSES, "width": WIDTH}},
        weights=weights,
        inputs={"images": images, "cotangent": cotangent},
        outputs={"logits": logits, "training": training, **flatten("after", statistics)},
        gradients=gradients,
    )
