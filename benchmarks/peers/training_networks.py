"""The built-in world's own networks as plain modules, for `npm run crosscheck -- training`: written from their descriptions."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class ConvBlock(nn.Module):
    """Convolution, group norm, silu."""

    def __init__(self, inputs, outputs, kernel, stride=1, bias=False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=1, bias=bias)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x):
        return F.silu(self.norm(self.conv(x)))


class OneStageDetector(nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.stem = nn.ModuleList([ConvBlock(3, 32, 4, 2), ConvBlock(32, 64, 4, 2), ConvBlock(64, 128, 4, 2)])
        self.fine = ConvBlock(128, 128, 3)
        self.down = ConvBlock(128, 160, 4, 2)
        self.deep = ConvBlock(160, 160, 3)
        self.up = nn.Conv2d(160, 128, 1)
        self.fuse = ConvBlock(128, 128, 3)
        self.head = ConvBlock(128, 160, 3)
        self.out = nn.Conv2d(160, 5 + labels, 1)

    def forward(self, x):
        for block in self.stem:
            x = block(x)
        x = x + self.fine(x)
        small = self.down(x)
        x = x + F.interpolate(self.up(small + self.deep(small)), size=x.shape[-2:], mode="nearest")
        x = x + self.fuse(x)
        return cells(self.out(self.head(x)))


class PatchVotingDetector(nn.Module):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.GroupNorm(16, 128)
            self.conv = nn.Conv2d(128, 128, 3, padding=1)

    def __init__(self, labels):
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, 128, 16, stride=8, padding=4)
        self.layers = nn.ModuleList(self.Layer() for _ in range(4))
        self.norm = nn.GroupNorm(16, 128)
        self.head = nn.Conv2d(128, 5 + labels, 1)

    def forward(self, x):
        x = self.patch_embedding(x)
        for layer in self.layers:
            x = x + layer.conv(F.silu(layer.norm(x)))
        return cells(self.head(F.silu(self.norm(x))))


def cells(output):
    """[B, 5 + K, 8, 8] -> objectness [B, N], edge distances in pixels [B, N, 4], label logits [B, N, K]"""
    rows = output.permute(0, 2, 3, 1).flatten(1, 2)
    return rows[..., 0], 8 * rows[..., 1:5] + 16, rows[..., 5:]


def detection_loss(predictions, objectness, positive, labels, distances):
    """Binary cross-entropy of all cells, over the number of positive ones; of those, cross-entropy, edges, 1 - IoU."""
    there, edges, classes = predictions
    bce = F.binary_cross_entropy_with_logits(there.float().flatten(), objectness, reduction="sum") / len(positive)
    found = edges.float().flatten(0, 1)[positive]
    label = F.cross_entropy(classes.float().flatten(0, 1)[positive], labels)

    def area(box):
        return (box[:, 0] + box[:, 2]).clamp(min=0) * (box[:, 1] + box[:, 3]).clamp(min=0)

    inside = found.clamp(min=0)
    common = area(torch.minimum(inside, distances))
    iou = common / (area(inside) + area(distances) - common + 1e-6)
    return bce + label + F.l1_loss(found, distances) / 8 + (1 - iou).mean()


class NounClassifier(nn.Module):
    def __init__(self, nouns):
        super().__init__()
        widths = [3, 32, 64, 96, 128]
        self.stages = nn.ModuleList(ConvBlock(a, b, 4, 2, bias=True) for a, b in zip(widths, widths[1:]))
        self.head = nn.Linear(16 * 128, nouns)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.head(x.flatten(1))


class SceneClassifier(nn.Module):
    def __init__(self, heads):
        super().__init__()
        widths = [3, 32, 64, 96, 128]
        self.stages = nn.ModuleList(ConvBlock(a, b, 4, 2, bias=True) for a, b in zip(widths, widths[1:]))
        self.last = ConvBlock(128, 128, 3, bias=True)
        self.heads = nn.ModuleDict({name: nn.Linear(128, count) for name, count in heads.items()})

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        features = (x + self.last(x)).mean((2, 3))
        return {name: head(features) for name, head in self.heads.items()}


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(branch + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """He et al. 2016, table 1, with torchvision's names."""

    def __init__(self, classes, width):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for stage in range(4):
            inputs, outputs = widths[stage], widths[stage + 1]
            blocks = nn.Sequential(BasicBlock(inputs, outputs, 1 if stage == 0 else 2), BasicBlock(outputs, outputs, 1))
            setattr(self, f"layer{stage + 1}", blocks)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class Head(nn.Module):
    """The MLP of the aesthetic predictor: linear layers with a ReLU between them, at LAION's places."""

    def __init__(self, inputs):
        super().__init__()
        sizes = [inputs, 128, 128, 64, 16, 1]
        places = [0, 2, 4, 6, 7]
        self.layers = nn.ModuleDict({str(p): nn.Linear(a, b) for p, a, b in zip(places, sizes, sizes[1:])})

    def forward(self, x):
        for i, layer in enumerate(self.layers.values()):
            x = layer(F.relu(x) if i > 0 else x)
        return x[:, 0]


class Attended(nn.Module):
    """BERT's attention: heads, projection, sum, norm."""

    class Projections(nn.Module):
        def __init__(self, width, context):
            super().__init__()
            self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(context, width), nn.Linear(context, width)

    class Output(nn.Module):
        def __init__(self, inputs, width):
            super().__init__()
            self.dense = nn.Linear(inputs, width)
            self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.self = self.Projections(width, context)
        self.output = self.Output(width, width)

    def forward(self, x, context):
        def split(y):
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.self.query(x)), split(self.self.key(context)), split(self.self.value(context))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.output.LayerNorm(self.output.dense((weights @ v).transpose(1, 2).flatten(2)) + x)


class ImageRewardLayer(nn.Module):
    class Intermediate(nn.Module):
        def __init__(self, width, inner):
            super().__init__()
            self.dense = nn.Linear(width, inner)

    def __init__(self, width, inner, heads, vision):
        super().__init__()
        self.attention = Attended(width, width, heads)
        self.crossattention = Attended(width, vision, heads)
        self.intermediate = self.Intermediate(width, inner)
        self.output = Attended.Output(inner, width)

    def forward(self, x, patches):
        seen = self.crossattention(self.attention(x, x), patches)
        return self.output.LayerNorm(self.output.dense(F.gelu(self.intermediate.dense(seen))) + seen)


class ImageReward(nn.Module):
    """On a frozen CLIP: its text states attend to what its vision tower's first and last layer made of each patch."""

    def __init__(self, width, inner, heads, layers, text, vision):
        super().__init__()
        self.text_encoder = nn.Module()
        self.text_encoder.embeddings = nn.Module()
        self.text_encoder.embeddings.projection = nn.Linear(text, width)
        self.text_encoder.encoder = nn.Module()
        self.text_encoder.encoder.layer = nn.ModuleList(
            ImageRewardLayer(width, inner, heads, 2 * vision) for _ in range(layers)
        )
        self.mlp = Head(width)

    def forward(self, text_states, patches):
        x = self.text_encoder.embeddings.projection(text_states)
        for layer in self.text_encoder.encoder.layer:
            x = layer(x, patches)
        return self.mlp(x[:, 0])


class ValueNetwork(nn.Module):
    """DPOK's V(x_t, z, t): three layers ReLU(factor_t * (W x + b)), and a linear one."""

    def __init__(self, inputs, steps, width):
        super().__init__()
        sizes = [inputs, width, width]
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.factors = nn.ModuleList(nn.Embedding(steps, width) for _ in sizes)
        self.last = nn.Linear(width, 1)

    def forward(self, x, steps):
        for layer, factors in zip(self.layers, self.factors):
            x = F.relu(layer(x) * factors(steps))
        return self.last(x)[:, 0]
