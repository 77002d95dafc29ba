"""The field's own small net, for training from scratch. (SSLM's encoder from scratch needs nothing of its own.)"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from sslm_core.seeds import seeded

PACE = 0.3  # of the learning rate of its head: docs/method.md


def small_net(frame: int, seed: int) -> "SmallNet":
    """SmallNet for frames of `frame` pixels at its start."""
    with seeded(seed, "small net"):
        return SmallNet(frame)


class BlurPool(nn.Module):
    """Every second pixel of a binomially smoothed map (Zhang 2019): [B, C, h, w] -> [B, C, ceil(h/2), ceil(w/2)]."""

    def __init__(self, channels: int):
        super().__init__()
        row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("kernel", torch.outer(row, row).repeat(channels, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), "replicate"), self.kernel, stride=2, groups=len(self.kernel))


class Block(nn.Module):
    """Two convolutions, normalised, with a path around them; then a convolution to `outputs` channels, pooled to half the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        inner = [layer for _ in range(2) for layer in (_conv(inputs, inputs, kernel), nn.GroupNorm(1, inputs), nn.ReLU(inplace=True))]
        self.inner = nn.Sequential(*inner)
        self.outer = nn.Sequential(_conv(inputs, outputs, kernel), nn.ReLU(inplace=True), BlurPool(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(x + self.inner(x))


class SmallNet(nn.Module):
    """Frames [B, 1, H, W] -> features [B, channels, 1, 1], after ELNet (Tsai et al. 2020, arXiv 2005.02706): about 290,000 parameters.

    Every frame is normalised by itself (multi-slice normalisation as a layer norm over its channels and pixels), so that neither
    the clip nor the batch matters; the maximum over the map is taken here, that over frames by the head.
    """

    channels = 64

    def __init__(self, frame: int):
        super().__init__()
        stem = _conv(1, 16, 7, stride=2 if frame >= 128 else 1)  # ELNet's stride belongs to 256 pixels
        first = nn.Sequential(stem, nn.GroupNorm(1, 16), nn.ReLU(inplace=True), BlurPool(16))
        self.layers = nn.Sequential(first, Block(16, 32, 5), Block(32, 64, 3), Block(64, 64, 3), Block(64, 64, 3))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.contiguous(memory_format=torch.channels_last)).amax((2, 3), keepdim=True)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
