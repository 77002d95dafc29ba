"""Affine sampling of many windows at once from a table of precomputed grids: used by jigsaw patches and clips.

A transform is (angle in degrees, shift x, shift y, scale). The value at output pixel p = (column, row) is read at
R(angle) ((p - shift) / scale - c) + c, c the centre of the window: the original's rotate, then scale and shift, in one
resample. Windows are cut out before they are sampled, so whatever lies outside a window reads as 0.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

Transform = tuple[float, float, float, float]
CHUNK = 1 << 17  # pixels sampled at a time on a CPU: small enough to stay in cache and off fresh pages


def product(angles: Sequence[float], shifts: Sequence[float], scales: Sequence[float]) -> list[Transform]:
    """All combinations: angle x shift x, shift y x scale."""
    return list(itertools.product(angles, shifts, shifts, scales))


def about_centre(transforms: Sequence[Transform], size: int) -> list[Transform]:
    """The same transforms, scaling about the window's centre instead of its pixel (0, 0)."""
    c = (size - 1) / 2
    return [(a, x + (1 - s) * c, y + (1 - s) * c, s) for a, x, y, s in transforms]


class Warp:
    """Samples windows by their entry in a table of transforms. Grids [table, h, w, 2] are made once, on `device`."""

    def __init__(self, transforms: Sequence[Transform], size: int, device: torch.device | str = "cpu"):
        angle, x, y, scale = torch.tensor(transforms, dtype=torch.float64).T[:, :, None, None]
        c = (size - 1) / 2
        row, column = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")
        u, v = (column - x) / scale - c, (row - y) / scale - c
        cos, sin = torch.cos(angle * math.pi / 180), torch.sin(angle * math.pi / 180)
        # in grid_sample's units (align_corners=True) the window reaches from -1 to 1
        self.grid = (torch.stack([cos * u - sin * v, sin * u + cos * v], -1) / max(c, 0.5)).float().to(device)
        self.still = all(tuple(transform) == (0, 0, 0, 1) for transform in transforms)  # nothing moves

    def __len__(self) -> int:
        return len(self.grid)

    def __call__(
        self, windows: torch.Tensor, index: torch.Tensor, gain: torch.Tensor | None = None, unit: bool = False
    ) -> torch.Tensor:
        """uint8 windows [M, h, w], table entries [M], brightness factors [M] -> float32 [M, h, w] in 0..255; in -1..1
        with `unit`."""
        out = torch.empty(windows.shape, dtype=torch.float32, device=windows.device)
        step = max(1, CHUNK // windows[0].numel()) if windows.device.type == "cpu" else len(windows)
        for a in range(0, len(windows), step):
            part = slice(a, a + step)
            sampled = windows[part].float()
            if not self.still:  # index_select copies whole grids, where indexing would look at each number
                sampled = F.grid_sample(sampled[:, None], self.grid.index_select(0, index[part]), align_corners=True)[
                    :, 0
                ]
            if gain is not None:
                sampled = sampled.mul_(gain[part, None, None]).clamp_(0, 255)
            out[part] = normalise(sampled, in_place=True) if unit else sampled
        return out


def normalise(gray: torch.Tensor, in_place: bool = False) -> torch.Tensor:
    """Gray levels 0..255 -> -1..1, the range of every encoder input. in_place: a float32 `gray` is overwritten."""
    return (gray.div_(127.5) if in_place else gray / 127.5).sub_(1)
