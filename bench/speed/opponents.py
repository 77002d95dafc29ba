"""What the suite's speed is measured against: pipelines of one sample at a time, batched libraries, the encoder written
out plainly.

The opponents are pinned: a test compares DIGESTS with their output for a fixed seed.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from scipy import ndimage

from sslm_core.encoder import Encoder
from sslm_core.jigsaw import JigsawConfig
from sslm_core.warp import Transform, Warp, normalise, product

PATCH, CELL = 64, 85  # of a frame of 256 pixels
CONFIG = JigsawConfig()
TRANSFORMS = product(CONFIG.angles, CONFIG.shifts, CONFIG.scales)
LIBRARIES = ("kornia", "monai", "cornucopia")
DIGESTS = {"Original": "8985502baa92", "Frugal": "0f23146227a4"}


def permutations(count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([np.arange(9), *(random.permutation(9) for _ in range(count - 1))])


class PerSample:
    """A data set of jigsaw samples, each made on its own: what a DataLoader of the field is given. Frames are 256 x
    256.

    Sample i is a function of i alone.
    """

    def __init__(self, volumes: list[Path], length: int):
        self.volumes, self.length, self.permutations = volumes, length, permutations(CONFIG.permutations)

    def __len__(self) -> int:
        return self.length

    def draw(self, i: int, mmap_mode: str | None = None) -> tuple[list[np.ndarray], int, list[tuple[int, float]]]:
        """Sample i before it is augmented: nine uint8 crops, permuted, the permutation's number, and per patch a
        transform's number and a brightness factor."""
        random = np.random.default_rng([0, i])
        volume = np.load(self.volumes[random.integers(len(self.volumes))], mmap_mode=mmap_mode)  # type: ignore[arg-type]
        frame = volume[random.integers(len(volume))]
        at = random.integers((CELL - PATCH) // 2, size=(9, 2)) + CELL * np.stack(np.divmod(np.arange(9), 3), 1)
        label = int(random.integers(len(self.permutations)))
        crops = [
            frame[row : row + PATCH, column : column + PATCH] for row, column in at[self.permutations[label]].tolist()
        ]
        gain = np.where(random.random(9) < 0.5, np.array(CONFIG.gains)[random.integers(len(CONFIG.gains), size=9)], 1.0)
        return crops, label, list(zip(random.integers(len(TRANSFORMS), size=9).tolist(), gain.tolist()))


class Original(PerSample):
    """As published: the whole volume is read for one frame; each patch is resampled twice, rotated first, then scaled
    and shifted."""

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        crops, label, choices = self.draw(i)
        patches = []
        for crop, (k, gain) in zip(crops, choices):
            angle, x, y, scale = TRANSFORMS[k]
            patch = sampled(sampled(crop, (angle, 0, 0, 1.0)), (0, x, y, scale))
            patch = np.clip(patch * np.float32(gain), 0, 255)
            patches.append(np.stack([patch] * 3) / np.float32(127.5) - 1)
        return torch.from_numpy(np.stack(patches)), label  # [9, 3, 64, 64]


class Frugal(PerSample):
    """What a careful author writes: volumes memory-mapped, each patch resampled once, one channel."""

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        crops, label, choices = self.draw(i, "r")
        patches = np.empty((9, PATCH, PATCH), np.float32)
        for patch, crop, (k, gain) in zip(patches, crops, choices):
            sampled(crop, TRANSFORMS[k], patch)
            np.clip(patch * np.float32(gain), 0, 255, out=patch)
        return torch.from_numpy(patches / np.float32(127.5) - 1), label  # [9, 64, 64]


class Tabled(PerSample):
    """The same with this suite's own sampling of windows by a table of grids: all but the batches."""

    def __init__(self, volumes: list[Path], length: int):
        super().__init__(volumes, length)
        self.warp = Warp(TRANSFORMS, PATCH)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        crops, label, choices = self.draw(i, "r")
        index, gain = (torch.tensor(column) for column in zip(*choices))
        return self.warp(torch.from_numpy(np.stack(crops)), index, gain, unit=True), label  # [9, 64, 64]


def matrix(transform: Transform, size: int = PATCH) -> np.ndarray:
    """What sslm_core.warp does, as (row, column, 1) of an output pixel -> of its source: float64 [3, 3]."""
    angle, x, y, scale = transform
    c, theta = (size - 1) / 2, np.deg2rad(angle)
    turn = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
    whole = np.eye(3)
    whole[:2, :2] = turn / scale
    whole[:2, 2] = c - turn @ (np.array([y, x]) / scale + c)
    return whole


def sampled(patch: np.ndarray, transform: Transform, out: np.ndarray | type = np.float32) -> np.ndarray:
    """One patch [h, w] resampled, zeros outside."""
    whole = matrix(transform, len(patch))
    return ndimage.affine_transform(patch, whole[:2, :2], whole[:2, 2], order=1, output=out)


def output_digest(data) -> str:
    """12 hex digits over the first samples, gray levels rounded to quarters: the last bits differ between machines."""
    total = hashlib.sha256()
    for i in range(8):
        patches, label = data[i]
        total.update(np.round((patches.numpy() + 1) * 127.5 * 4).astype("<i2").tobytes() + label.to_bytes(2, "little"))
    return total.hexdigest()[:12]


class LibraryWarp:
    """In the place of sslm_core.warp.Warp: the same transforms, sampled by another library as it is used, whole
    batches at a time."""

    def __init__(self, library: str, transforms: list[Transform], size: int):
        pull = torch.tensor(np.stack([matrix(t, size) for t in transforms]), dtype=torch.float32)
        if library == "kornia":
            from kornia.geometry.transform import warp_affine

            swap = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
            self.table = torch.linalg.inv(swap @ pull @ swap)[:, :2]  # (x, y) of a source pixel -> of the output
            self.sample = lambda windows, table: warp_affine(windows, table, (size, size), align_corners=True)
        elif library == "cornucopia":
            from cornucopia import ApplyAffineTransform

            # it takes windows for channels, and flow fields made once: much faster than from the matrices
            flows = ApplyAffineTransform(pull).make_flow((size, size))  # [2, table, h, w]
            self.table = flows.transpose(0, 1).contiguous()
            self.sample = lambda windows, table: ApplyAffineTransform(pull, table.transpose(0, 1), "zeros")(
                windows[:, 0]
            )[:, None]
        else:
            from monai.networks.layers import AffineTransform

            self.table, self.sample = pull, AffineTransform()

    def __len__(self) -> int:
        return len(self.table)

    def __call__(self, windows: torch.Tensor, index: torch.Tensor, gain: torch.Tensor, unit: bool) -> torch.Tensor:
        moved = self.sample(windows[:, None].float(), self.table.index_select(0, index))[:, 0]
        moved = moved.mul_(gain[:, None, None]).clamp_(0, 255)
        return normalise(moved, in_place=True) if unit else moved


class Plain(nn.Module):
    """The encoder as the paper draws it: nine separate branches on three channels, NCHW, without any sharing of code.

    It takes the weights of `encoder`, and its trunk for its own; patches are [B, P, 3, h, w].
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        width, b = encoder.config.branch, encoder.branches
        self.branches = nn.ModuleList()
        for k in range(encoder.config.positions):
            part, layers = slice(k * width, (k + 1) * width), []
            both: Iterable[tuple[Any, Any]] = zip(b.convs, b.norms)
            for i, (conv, norm) in enumerate(both):
                c = nn.Conv2d(conv.weight.shape[1], width, 3, padding=1, dtype=conv.weight.dtype)
                n = nn.BatchNorm2d(width, dtype=conv.weight.dtype)
                c.load_state_dict({"weight": conv.weight[part], "bias": conv.bias[part]})
                state = {name: getattr(norm, name)[part] for name in ("weight", "bias", "running_mean", "running_var")}
                n.load_state_dict(state | {"num_batches_tracked": torch.tensor(0)})
                layers += [c, n, nn.ReLU()] + ([nn.MaxPool2d(2)] if i % 2 else [])
            self.branches.append(nn.Sequential(*layers))
        self.trunk = encoder.trunk
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([branch(x[:, k]) for k, branch in enumerate(self.branches)], 1)
        stem, first, reduce1, second, reduce2 = self.trunk

        def layer(block, x):
            return F.relu(block.norm(block.conv(x)))

        def residual(block, x):
            return 0.25 * layer(block.block[1], layer(block.block[0], x)) + x

        def reduction(block, x):
            one = layer(block.convolved[1], layer(block.convolved[0], x))
            return torch.cat([one, layer(block.pooled[1], F.avg_pool2d(x, 2))], 1)

        return reduction(reduce2, residual(second, reduction(reduce1, residual(first, layer(stem, x)))))


def three_channels(x: torch.Tensor, positions: int) -> torch.Tensor:
    """Gray patches [B, P or 1, h, w] -> [B, positions, 3, h, w]."""
    return x[:, :, None].expand(-1, positions, 3, -1, -1)
