"""A small residual net for training from scratch. (SSLM's encoder from scratch needs nothing of its own.)"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from sslm_core.seeds import seeded


def small_net(frame: int, seed: int) -> "SmallNet":
    """SmallNet for frames of `frame` pixels at its start."""
    with seeded(seed, "small net"):
        return SmallNet(frame)


class Residual(nn.Module):
    """The basic block of He et al. 2016: two normalised 3 x 3 convolutions with a path around them."""

    def __init__(self, channels: int):
        super().__init__()
        self.inner = nn.Sequential(*_layer(channels, channels), *_layer(channels, channels)[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.inner(x))


class SmallNet(nn.Module):
    """Frames [B, 1, H, W] -> maps [B, channels, h, w]: a 7 x 7 convolution and three residual stages, 195,000
    parameters.

    A map has 4 x 4 places where frames have 64 x 64 pixels, 8 x 8 where they have 256.
    """

    channels = 128

    def __init__(self, frame: int):
        super().__init__()
        stem = [*_layer(1, 16, 7, stride=2 if frame >= 128 else 1), nn.MaxPool2d(2)]
        stages = [[Residual(width), *_layer(width, 2 * width), nn.MaxPool2d(2)] for width in (16, 32, 64)]
        self.layers = nn.Sequential(*stem, *(layer for stage in stages for layer in stage))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.contiguous(memory_format=torch.channels_last))


def _layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
