"""FrameStore: whatever is kept per frame of one plane (gray frames, or an encoder's feature maps), exam after exam."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

from . import stream
from .errors import UserError
from .exams import ExamSet, read_volume
from .files import drop_unfinished, locked, write_atomic
from .memory import free_memory

Progress = Callable[[Iterable, str], Iterable]
# auto: resident where the entries take no more than half of the free memory
Placing = Literal["auto", "resident", "stream"]


def quiet(iterable: Iterable, _: str) -> Iterable:
    """The default progress: none. A caller passes its own bar as `progress(iterable, what)`."""
    return iterable


@dataclass(frozen=True, eq=False)
class FrameStore:
    """`data` [N, ...] holds one entry per frame; exam e owns data[offsets[e]:offsets[e + 1]].

    Resident, `data` lies on the device. Streamed, it stays in host memory or in a file mapped into it, larger than
    either memory perhaps, and batches of it come to the device.
    """

    data: torch.Tensor
    offsets: torch.Tensor  # int64 [E + 1], on the device that computes
    streamed: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def device(self) -> torch.device:
        return self.offsets.device

    @cached_property
    def known(self) -> torch.Tensor:
        """T of each exam, in host memory: asked once, so that no loop waits for a GPU to tell."""
        return self.lengths.cpu()

    @cached_property
    def extremes(self) -> tuple[int, int]:
        """The least and the greatest T."""
        return int(self.known.min()), int(self.known.max())

    @property
    def lengths(self) -> torch.Tensor:
        """T of each exam: int64 [E]."""
        return self.offsets.diff()

    def to(self, device: torch.device | str, placing: Placing = "resident") -> "FrameStore":
        """For work on `device`, from a store in host memory."""
        if placing not in get_args(Placing):
            raise UserError(f"store {placing}: expected {', '.join(get_args(Placing))}")
        device = torch.device(device)
        streamed = placing == "stream" or placing == "auto" and self.data.nbytes > free_memory(device) // 2
        return FrameStore(self.data if streamed else self.data.to(device), self.offsets.to(device), streamed)

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """data[rows] on the device."""
        return self.data[rows.to(self.data.device)].to(self.device)

    def ahead(self, plans: Iterable[tuple]) -> Iterator[tuple]:
        """For each plan (rows, *rest): a store on the device and, in place of `rows`, where they are in it.

        A streamed store reads ahead, and the smaller store that it yields holds until the next one is asked for.
        """
        if not self.streamed:
            yield from ((self, *plan) for plan in plans)
            return
        for data, rows, *rest in stream.ahead(self.data, self.device, plans):
            here = torch.arange(len(data) + 1, device=self.device)
            yield FrameStore(data, here), here[:-1].view(rows.shape), *rest

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


def store_of(volumes: Iterable[np.ndarray], size: int) -> FrameStore:
    """The store of exams that are at hand as uint8 [T, H, W] each, at size x size. Raises UserError for another kind of
    array."""
    volumes = list(volumes)
    for e, volume in enumerate(volumes):
        if volume.dtype != np.uint8 or volume.ndim != 3 or not volume.size:
            raise UserError(f"volume {e}: {volume.dtype} {volume.shape}, expected uint8 (frames, height, width)")
    return FrameStore(
        torch.cat([resize(volume, size) for volume in volumes]), offsets_of([len(volume) for volume in volumes])
    )


def load_frames(exams: ExamSet, plane: str, size: int) -> FrameStore:
    """All frames of one plane as uint8 [N, size, size], on the CPU."""
    lengths = exams.frames(plane)
    data = torch.empty((int(lengths.sum()), size, size), dtype=torch.uint8)
    store = FrameStore(data, offsets_of(lengths))
    for e in range(len(exams)):
        data[store.offsets[e] : store.offsets[e + 1]] = resize(read_volume(exams.path(plane, e)), size)
    return store


def packed_frames(folder: Path, exams: ExamSet, plane: str, size: int, progress: Progress = quiet) -> FrameStore:
    """As load_frames, from one file in `folder` that is mapped into memory: processes share it, and it may be larger
    than memory.

    The file is packed once, exam by exam, and again where a volume has changed since or its checksum is wrong.
    """
    lengths = exams.frames(plane)
    shape = (int(lengths.sum()), size, size)
    path = folder / f"{exams.split}-{plane}-{size}-{hashlib.sha256(repr(exams.ids).encode()).hexdigest()[:12]}.u8"
    volumes = [exams.path(plane, e) for e in range(len(exams))]
    sources = hashlib.sha256(
        repr([(v.name, v.stat().st_size, v.stat().st_mtime_ns) for v in volumes]).encode()
    ).hexdigest()
    with locked(path.with_suffix(".lock")):
        mapped = _mapped(path, shape, sources)
        if mapped is None:
            drop_unfinished(folder, f"{path.stem}.*")
            total = hashlib.sha256()

            def pack(temporary: Path) -> None:
                with open(temporary, "wb") as file:
                    for volume in progress(volumes, f"packing {exams.split}/{plane}"):
                        block = resize(read_volume(volume), size).numpy().data
                        total.update(block)
                        file.write(block)

            write_atomic(path, pack)
            note = json.dumps({"sources": sources, "sha256": total.hexdigest()})
            write_atomic(path.with_suffix(".json"), lambda temporary: temporary.write_text(note))
            mapped = _mapped(path, shape, sources)
    return FrameStore(torch.from_numpy(mapped), offsets_of(lengths))


def _mapped(path: Path, shape: tuple[int, ...], sources: str) -> np.memmap | None:
    """The packed file; None where it is not there, made from other volumes, or damaged."""
    try:
        note = json.loads(path.with_suffix(".json").read_text())
        # copy on write: torch wants a writable array, the file never changes
        mapped = np.memmap(path, np.uint8, "c", shape=shape)
        if path.stat().st_size == mapped.nbytes and note == {
            "sources": sources,
            "sha256": hashlib.sha256(mapped.data).hexdigest(),
        }:
            return mapped
    except (OSError, ValueError):
        pass
    return None
