"""Feature maps of whole frames: computed once per exam and view, and read by every epoch, head and clip."""

import hashlib

import numpy as np
import torch
import torch.nn as nn

from .cache import Cache
from .frames import FrameStore, Progress, offsets_of, quiet
from .pretext import autocast
from .seeds import generator
from .warp import Warp, normalise

SAMPLE = 512  # frames that features are standardised by


class Scale(nn.Module):
    """Per channel (x - mean) / spread, both taken from up to SAMPLE frames of `exams`: no label is seen.

    Encoders differ in the scale of their features; without this, one learning rate favours one of them.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.ones(channels, 1, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return (maps - self.mean) / self.spread

    def measure(self, encoder: nn.Module, store: FrameStore, exams: torch.Tensor, dtype: str) -> "Scale":
        rows = store.rows(exams)
        some = rows[torch.linspace(0, len(rows) - 1, min(SAMPLE, len(rows)), device=rows.device).long()]
        maps = torch.cat(list(maps_of(encoder, store, some, dtype))).float()  # [frames, C, h, w]
        spread, mean = torch.std_mean(maps, (0, 2, 3))
        self.mean.copy_(mean[:, None, None])
        self.spread.copy_(spread.clamp(min=0.01 * float(spread.mean()))[:, None, None])  # a dead channel stays quiet
        return self


@torch.no_grad()
def maps_of(encoder, store: FrameStore, rows: torch.Tensor, dtype: str = "float32", warp: Warp | None = None, view=None,
            batch: int = 32, progress: Progress = quiet):  # fmt: skip
    """Yields float16 maps [batch, C, h, w] of the frames in `rows` of the store, each moved by its transform view [len(rows)]."""
    device = store.data.device
    for a in progress(range(0, len(rows), batch), "features"):
        gray = store.data[rows[a : a + batch]]
        gray = warp(gray, view[a : a + batch]) if warp else gray
        with autocast(device, dtype):
            yield encoder(normalise(gray)[:, None]).half()


class Features:
    """One view of the maps of `exams` (numbered here from 0): from a cache as far as it reaches, computed anew beyond it.

    A view is the frames as they are or, with `warp`, each exam's frames moved by one transform drawn for it. Without a cache
    all maps are kept in memory.
    """

    def __init__(self, encoder: nn.Module, store: FrameStore, exams: torch.Tensor, dtype: str, cache: Cache | None = None,
                 warp: Warp | None = None, seed: int = 0, progress: Progress = quiet):  # fmt: skip
        device = store.data.device
        self.encoder, self.store, self.exams, self.dtype, self.warp = encoder.eval(), store, exams.to(device), dtype, warp
        self.lengths = store.lengths[self.exams]
        self.view = torch.randint(len(warp), (len(exams),), generator=generator(device, seed, "view"), device=device) if warp else None
        self.saved_seconds = 0.0  # what a cache of an earlier process has spared
        counts = self.lengths.tolist()

        def make(items: int):
            rows, view = store.rows(self.exams[:items]), None
            if warp:
                view = torch.repeat_interleave(self.view[:items], self.lengths[:items])
            return maps_of(encoder, store, rows, dtype, warp, view, progress=progress)

        if cache is None:
            maps = torch.cat(list(make(len(exams))))
        else:
            one = next(maps_of(encoder, store, store.offsets[self.exams[:1]], dtype))
            name = fingerprint(encoder, cache.content, self.exams.tolist(), dtype, warp and (seed, warp.grid.shape, float(warp.grid.sum())))
            mapped, self.saved_seconds = cache.rows(name, counts, one.shape[1:], lambda n: (maps.cpu().numpy() for maps in make(n)))
            maps = one[:0] if mapped is None else on_device(mapped, device)
        self.kept = int(np.searchsorted(np.cumsum(counts), len(maps), side="right"))  # exams whose maps are at hand
        self.maps = FrameStore(maps, offsets_of(counts[: self.kept]).to(maps.device))

    @property
    def whole(self) -> bool:
        return self.kept == len(self.exams)

    def clips(self, exams: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Maps of the frames `chosen` [B, T] of `exams` [B]: float16 [B, T, C, h, w]."""
        if self.whole:
            return self._read(exams, chosen)
        parts = [self._read(exams[b : b + 1], chosen[b : b + 1]) if e < self.kept else self._compute(exams[b : b + 1], chosen[b])
                 for b, e in enumerate(exams.tolist())]  # fmt: skip
        return torch.cat(parts)

    def _read(self, exams: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        at = self.maps.data.device
        rows = self.maps.offsets[exams.to(at)][:, None] + chosen.to(at)
        return self.maps.data[rows].to(self.store.data.device)

    def _compute(self, exam: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        rows = self.store.offsets[self.exams[exam]] + chosen
        view = self.view[exam].expand(len(rows)) if self.warp else None
        return torch.cat(list(maps_of(self.encoder, self.store, rows, self.dtype, self.warp, view)))[None]


def on_device(mapped: np.memmap, device: torch.device) -> torch.Tensor:
    """The mapped file as a tensor: on a GPU where it takes at most half of the free memory, else left on disk."""
    maps = torch.from_numpy(mapped)
    if device.type == "cuda" and mapped.nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
        return maps.to(device)
    return maps


def fingerprint(encoder: nn.Module, *what: object) -> str:
    """16 hex digits over an encoder's weights and whatever else its maps depend on."""
    total = hashlib.sha256(repr((type(encoder).__qualname__, *what)).encode())  # some have no weights
    for name, value in sorted(encoder.state_dict().items()):
        total.update(name.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
