"""The jigsaw pretext: a frame cut into a grid of shuffled patches; the class is the permutation."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from .encoder import Encoder
from .errors import UserError
from .frames import FrameStore
from .heads import PermutationHead
from .seeds import derive, generator, seeded
from .settings import check
from .warp import Warp, normalise, product


@dataclass(frozen=True)
class JigsawConfig:
    """The paper's values; lengths in pixels are those of a 64-pixel patch and scale with the patch."""

    grid: int = 3
    permutations: int = 1000
    choice: Literal["random", "hamming"] = "random"  # hamming: far apart from each other
    angles: tuple[float, ...] = (-15, 0, 15)
    shifts: tuple[float, ...] = (-6, 0, 6)
    scales: tuple[float, ...] = (1.0, 1.1)
    gains: tuple[float, ...] = (0.85, 0.9, 1.0, 1.1, 1.15)

    def __post_init__(self):
        check(self, grid=2, angles=None, shifts=None)


LEAST = 4  # pixels of a patch


def patch_size(frame: int, grid: int) -> int:
    """3/4 of the cell, to the nearest pixel: 64 of 85, 16 of 21. Raises UserError where that is next to nothing."""
    patch = round(0.75 * (frame // grid))
    if patch < LEAST:
        raise UserError(f"grid = {grid}: frames of {frame} pixels leave patches of {patch}, expected {LEAST} or more")
    return patch


def permutation_set(patches: int, count: int, seed: int, choice: str = "random") -> torch.Tensor:
    """min(count, patches!) distinct permutations, the identity first: int64 [K, P]. Never lists patches! of them.

    `hamming` adds, one at a time, the candidate whose least Hamming distance to those chosen is greatest (Noroozi &
    Favaro 2016), out of a random pool.
    """
    count = min(count, math.factorial(patches))
    pool = count if choice == "random" else min(10 * count, math.factorial(patches))
    draw = generator("cpu", derive(seed, "permutations", patches))
    rows = torch.arange(patches)[None]
    while len(rows) < pool:
        fresh = torch.rand(2 * pool, patches, generator=draw).argsort(1)
        rows = torch.cat([rows, fresh])
        _, first = torch.unique(rows, dim=0, return_inverse=True)  # first: class of each row
        earliest = torch.full((int(first.max()) + 1,), len(rows)).scatter_reduce(
            0, first, torch.arange(len(rows)), "amin"
        )
        rows = rows[earliest.sort().values]  # distinct rows, in the order drawn
    rows = rows[:pool]
    if choice == "random":
        return rows
    chosen, distance = [0], (rows != rows[0]).sum(1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (rows != rows[chosen[-1]]).sum(1))
    return rows[chosen]


class Jigsaw:
    """The PretextTask of the paper: batches of permuted patches, a classifier of permutations, cross-entropy."""

    def __init__(self, config: JigsawConfig, frame: int, seed: int, device: torch.device | str = "cpu"):
        self.config, self.cell, self.patch = config, frame // config.grid, patch_size(frame, config.grid)
        self.permutations = permutation_set(config.grid**2, config.permutations, seed, config.choice).to(device)
        pixel = self.patch / 64
        self.warp = Warp(product(config.angles, [s * pixel for s in config.shifts], config.scales), self.patch, device)
        self.gains = torch.tensor(config.gains, device=device)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return {"permutations": self.permutations}

    @state.setter
    def state(self, state: dict[str, torch.Tensor]) -> None:
        self.permutations = state["permutations"]

    @property
    def classes(self) -> int:
        return len(self.permutations)

    def head(self, encoder: Encoder, seed: int) -> PermutationHead:
        with seeded(seed, "pretext head"):
            return PermutationHead(encoder.config.channels, encoder.config.stem, self.classes)

    def corners(self, count: int, draw: torch.Generator) -> torch.Tensor:
        """(row, column) at which the crop of each cell begins, drawn for each of `count` frames: int64 [count, P,
        2]."""
        g, device = self.config.grid, draw.device
        corner = torch.arange(g, device=device) * self.cell
        corner = torch.stack(torch.meshgrid(corner, corner, indexing="ij"), -1).reshape(g * g, 2)  # [P, 2]
        free = max(1, (self.cell - self.patch) // 2)
        return corner + torch.randint(free, (count, g * g, 2), generator=draw, device=device)

    def cut(self, store: FrameStore, frames: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """The crops that begin at `at` [B, P, 2] of the frames [B]: uint8 [B, P, h, w]."""
        data, size = store.data, self.patch
        frame, row, pixel = data.stride()
        last = sum((n - 1) * step for n, step in zip(data.shape, data.stride()))
        # a view with one window from every pixel on: a single index per window copies its rows whole, which takes a
        # tenth of the time of indices per frame, row and column
        windows = data.as_strided((last - (size - 1) * (row + pixel) + 1, size, size), (1, row, pixel))
        first = frames[:, None] * frame + at[..., 0] * row + at[..., 1] * pixel  # [B, P]
        return windows.index_select(0, first.flatten()).unflatten(0, first.shape)

    def batch(self, store: FrameStore, frames: torch.Tensor, draw: torch.Generator, train: bool):
        """Permuted patches float32 [B, P, h, w] in -1..1, and the class of each permutation, int64 [B]."""
        at = self.corners(len(frames), draw)
        target = torch.randint(self.classes, (len(frames),), generator=draw, device=frames.device)
        at = at.gather(1, self.permutations[target][..., None].expand(-1, -1, 2))
        patches = self.cut(store, frames, at)
        if not train:
            return normalise(patches), target
        b, p, h, w = patches.shape
        index = torch.randint(len(self.warp), (b * p,), generator=draw, device=frames.device)
        gain = self.gains[torch.randint(len(self.gains), (b * p,), generator=draw, device=frames.device)]
        bright = torch.rand(b * p, generator=draw, device=frames.device) < 0.5
        gain = torch.where(bright, gain, torch.ones((), device=frames.device))
        return self.warp(patches.flatten(0, 1), index, gain, unit=True).view(b, p, h, w), target

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target)

    def correct(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How many of the batch were classified right, as a 0-d tensor."""
        return (logits.argmax(1) == target).sum()
