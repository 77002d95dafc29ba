"""FrameStore: whatever is kept per frame of one plane (gray frames, or an encoder's feature maps), exam after exam."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .exams import ExamSet, read_volume

Progress = Callable[[Iterable, str], Iterable]


def quiet(iterable: Iterable, _: str) -> Iterable:
    """The default progress: none. A caller passes its own bar as `progress(iterable, what)`."""
    return iterable


@dataclass(frozen=True, eq=False)
class FrameStore:
    """`data` [N, ...] holds one entry per frame, resident on its device; exam e owns data[offsets[e]:offsets[e + 1]]."""

    data: torch.Tensor
    offsets: torch.Tensor  # int64 [E + 1], on the device of `data`

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> torch.Tensor:
        """T of each exam: int64 [E]."""
        return self.offsets.diff()

    def to(self, device: torch.device | str) -> "FrameStore":
        return FrameStore(self.data.to(device), self.offsets.to(device))

    def rows(self, exams: torch.Tensor) -> torch.Tensor:
        """Indices of all frames of `exams`, in their order: int64 [sum of T]."""
        starts, counts = self.offsets[exams], self.lengths[exams]
        first = torch.repeat_interleave(starts - (counts.cumsum(0) - counts), counts)
        return first + torch.arange(len(first), device=first.device)


def joined(stores: list[FrameStore]) -> FrameStore:
    """The exams of all stores, one store after another."""
    if len(stores) == 1:
        return stores[0]
    return FrameStore(torch.cat([s.data for s in stores]), offsets_of(torch.cat([s.lengths for s in stores]).tolist()))


def offsets_of(lengths: Iterable[int]) -> torch.Tensor:
    return torch.tensor(np.concatenate([[0], np.cumsum(np.asarray(lengths))]), dtype=torch.int64)


def resize(frames: np.ndarray, size: int) -> torch.Tensor:
    """uint8 [T, H, W] -> uint8 [T, size, size]: antialiased bilinear, the identity where the size already fits."""
    gray = torch.from_numpy(np.ascontiguousarray(frames))
    if gray.shape[1:] == (size, size):
        return gray
    small = F.interpolate(gray[:, None].float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return small[:, 0].round_().clamp_(0, 255).to(torch.uint8)


def load_frames(exams: ExamSet, plane: str, size: int, progress: Progress = quiet) -> FrameStore:
    """All frames of one plane as uint8 [N, size, size], on the CPU."""
    lengths = exams.frames(plane)
    data = torch.empty((int(lengths.sum()), size, size), dtype=torch.uint8)
    store = FrameStore(data, offsets_of(lengths))
    for e in progress(range(len(exams)), f"reading {exams.split}/{plane}"):
        data[store.offsets[e] : store.offsets[e + 1]] = resize(read_volume(exams.path(plane, e)), size)
    return store
