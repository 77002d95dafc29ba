"""The pretext encoder ("rocket"): one branch per grid position, one trunk. Every size and grid is one class.

The branches' weights are kept side by side, [P * width, ...], as a grouped convolution wants them. The two ways to run
them, `grouped` and `sequential`, give the same figures; which is faster depends on the width.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn as nn
import torch.nn.functional as F

from . import ranks
from .errors import UserError, one_of
from .settings import check


@dataclass(frozen=True)
class EncoderConfig:
    """Widths of one encoder. `reductions`: filters of each path of the two reduction blocks."""

    branch: int
    stem: int
    reductions: tuple[int, int]
    bottleneck: int = 1  # divides the first width of each residual block
    positions: int = 9
    shared: bool = False  # one branch for all positions (siamese), an ablation
    form: Literal["auto", "grouped", "sequential"] = "auto"  # how the branches are run; auto: by width

    def __post_init__(self):
        check(self)

    @property
    def channels(self) -> int:
        """C of the feature maps."""
        return 2 * self.reductions[1]


def narrow(width: int) -> EncoderConfig:
    """The paper's proportions at another branch width."""
    return EncoderConfig(width, 4 * width, (4 * width, 8 * width))


SIZES = {
    "sslm": narrow(256),  # the paper's evaluation script
    "skid-v1": EncoderConfig(256, 1024, (512, 2048), bottleneck=2),  # the authors' later notebook
    **{f"w{width}": narrow(width) for width in (8, 16, 32, 64)},
}


def size(name: str, **changes) -> EncoderConfig:
    if name not in SIZES:
        raise UserError(f"encoder size {name!r}: {one_of(SIZES, name)}")
    return replace(SIZES[name], **changes)


def halved(x: torch.Tensor) -> torch.Tensor:
    """2 x 2 maxima of [B, C, h, w]. Where no gradient asks which place had them, a CPU compares whole rows in half the
    time."""
    if x.requires_grad or x.device.type != "cpu" or x.shape[2] % 2 or x.shape[3] % 2:
        return F.max_pool2d(x, 2)
    x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(x[..., ::2], x[..., 1::2])


def conv_bn_relu(
    x, conv: nn.Conv2d, norm: nn.BatchNorm2d, part=slice(None), groups: int = 1, weight=None, pool: bool = False
) -> torch.Tensor:
    """Convolution, batch norm, ReLU with the output channels in `part`, and 2 x 2 maxima where `pool`.

    In evaluation the norm is folded into the convolution.
    """
    assert conv.bias is not None and norm.momentum is not None
    assert norm.running_mean is not None and norm.running_var is not None
    weight, bias = conv.weight[part] if weight is None else weight, conv.bias[part]
    mean, var, gain, shift = norm.running_mean[part], norm.running_var[part], norm.weight[part], norm.bias[part]
    if norm.training:
        x = F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=groups)
        x = F.relu_(ranks.batch_norm(x, mean, var, gain, shift, norm.momentum, norm.eps))
        return F.max_pool2d(x, 2) if pool else x
    factor = gain * (var + norm.eps).rsqrt()
    weight, bias = weight * factor[:, None, None, None], (bias - mean) * factor + shift
    x = F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=groups)
    return F.relu_(halved(x) if pool else x)


class ConvBN(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return conv_bn_relu(x, self.conv, self.norm)


class Branches(nn.Module):
    """Four 3x3 convolutions per position, pooled after the second and fourth: [B, P or 1, h, w] -> [B, P * width, h/4,
    w/4]."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.groups = 1 if config.shared else config.positions
        out = self.groups * config.branch
        # the first layer has weights for 3 channels, as published; the input is gray, so forward() folds them into one
        inputs = (3, config.branch, config.branch, config.branch)
        self.convs = nn.ModuleList(nn.Conv2d(c * self.groups, out, 3, padding=1, groups=self.groups) for c in inputs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for _ in inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, p = x.shape[:2]
        positions, width = self.config.positions, self.config.branch
        if self.config.shared:
            y = self._run(x.reshape(b * p, 1, *x.shape[2:]), slice(None), 1)
            y = y.reshape(b, p * width, *y.shape[2:])
            # a whole frame looks alike from every position
            return y if p == positions else y.repeat(1, positions, 1, 1)
        if self.grouped(x):
            return self._run(x, slice(None), positions)
        parts = [slice(k * width, (k + 1) * width) for k in range(positions)]
        return torch.cat([self._run(x[:, k % p, None], part, 1) for k, part in enumerate(parts)], 1)

    def grouped(self, x: torch.Tensor) -> bool:
        """Narrow branches on patches run faster as one grouped convolution; wide ones, and whole frames, one after
        another."""
        if self.config.form == "auto":
            return self.config.branch < 16 and x.shape[1] > 1
        return self.config.form == "grouped"

    def _run(self, x: torch.Tensor, part: slice, groups: int) -> torch.Tensor:
        """The four layers of the branches in `part` of the weights."""
        # one channel counts as either layout: so written it is channels last, and the layers above stay so
        if x.shape[1] == 1:
            x = x[:, 0].contiguous()[..., None].permute(0, 3, 1, 2)
        layers: Iterable[tuple[Any, Any]] = zip(self.convs, self.norms)
        for i, (conv, norm) in enumerate(layers):
            weight = conv.weight[part] if i else conv.weight[part].sum(1, keepdim=True)
            # one gray image for all branches is one ungrouped convolution
            x = conv_bn_relu(x, conv, norm, part, 1 if i == 0 and x.shape[1] == 1 else groups, weight, pool=i % 2 == 1)
        return x


class Residual(nn.Module):
    def __init__(self, channels: int, bottleneck: int):
        super().__init__()
        inner = channels // bottleneck
        self.block = nn.Sequential(ConvBN(channels, inner, 3), ConvBN(inner, channels, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.25 * self.block(x)


class Reduction(nn.Module):
    """Half the size, the channels of two paths side by side."""

    def __init__(self, channels: int, path: int):
        super().__init__()
        self.convolved = nn.Sequential(ConvBN(channels, path, 3), ConvBN(path, path, 3, stride=2))
        self.pooled = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), ConvBN(channels, path, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.convolved(x), self.pooled(x)], 1)


class Encoder(nn.Module):
    """Patches [B, P, h, w], or whole frames [B, 1, H, W] shown to every branch -> feature maps [B, C, h/16, w/16].

    Gray input in -1..1; h and w multiples of 16. Source: arXiv 2104.10481 and the authors' notebooks.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        first, second = config.reductions
        self.channels = config.channels
        self.branches = Branches(config)
        self.trunk = nn.Sequential(
            ConvBN(config.positions * config.branch, config.stem, 1),
            Residual(config.stem, config.bottleneck),
            Reduction(config.stem, first),
            Residual(2 * first, config.bottleneck),
            Reduction(2 * first, second),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def stages(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """The maps after each part, by the part's name; the last ones are those of forward()."""
        x = self.branches(x.contiguous(memory_format=torch.channels_last))
        yield "branches", x
        for name, part in zip(("stem", "residual1", "reduction1", "residual2", "reduction2"), self.trunk):
            x = part(x)
            yield name, x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return deque(self.stages(x), 1)[0][1]


def stages(backbone: nn.Module, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, maps [B, C, h, w]) after each stage of a backbone, in order; of one that names none, its last maps."""
    if of := getattr(backbone, "stages", None):
        yield from of(x)
    else:
        yield "last", backbone(x)


class Upto(nn.Module):
    """A backbone up to its stage `layer`: frames [B, 1, H, W] -> the maps of that stage."""

    def __init__(self, backbone: nn.Module, layer: str):
        super().__init__()
        self.backbone, self.layer = backbone, layer

    @torch.no_grad()
    def channels(self, frame: int) -> int:
        """C of the maps of frames of `frame` pixels a side."""
        return self(torch.zeros(1, 1, frame, frame, device=next(self.parameters()).device)).shape[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        names = []
        for name, maps in stages(self.backbone, x):  # what comes after is not computed
            if name == self.layer:
                return maps
            names.append(name)
        raise UserError(f"layer {self.layer}: {one_of(names, self.layer)}")


def frozen(encoder: nn.Module) -> nn.Module:
    """`encoder` without gradients and in evaluation mode for good: batch-norm statistics cannot drift either."""
    encoder.requires_grad_(False)
    encoder.eval()
    encoder.train = lambda mode=True: encoder  # type: ignore[method-assign] # a parent's train() must not reach it
    return encoder
