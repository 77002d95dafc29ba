"""Feature maps of whole frames: computed once per exam and view, and read by every epoch, head and clip."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn as nn

from . import ranks
from .cache import Cache
from .encoder import Upto
from .errors import UserError
from .frames import FrameStore, Progress, offsets_of, quiet
from .pretext import autocast
from .seeds import derive, generator
from .warp import Warp, normalise

SAMPLE = 512  # frames that features are standardised by
BATCH = 32  # frames that maps are made of at a time
AS_IS = -1  # in place of a transform
WRITTEN, NONE = 0, -1  # in place of a number of exams whose maps the ranks are to make: they are there; none is kept


class Scale(nn.Module):
    """Per channel (x - mean) / spread, both taken from up to SAMPLE frames of `exams`: no label is seen.

    Encoders differ in the scale of their features; without this, one learning rate favours one of them.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.ones(channels, 1, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return (maps - self.mean) / self.spread

    def measure(self, encoder: nn.Module, store: FrameStore, exams: torch.Tensor, dtype: str) -> "Scale":
        rows = store.rows(exams)
        some = rows[torch.linspace(0, len(rows) - 1, min(SAMPLE, len(rows)), device=rows.device).long()]
        maps = torch.cat(list(maps_of(encoder, store, some, dtype, together=True))).float()  # [frames, C, h, w]
        spread, mean = torch.std_mean(maps, (0, 2, 3))
        self.mean.copy_(mean[:, None, None])
        self.spread.copy_(spread.clamp(min=0.01 * float(spread.mean()))[:, None, None])  # a dead channel stays quiet
        return self


@torch.no_grad()
def maps_of(
    encoder,
    store: FrameStore,
    rows: torch.Tensor,
    dtype: str = "float32",
    warp: Warp | None = None,
    view=None,
    progress: Progress = quiet,
    together: bool = False,
):
    """Yields float16 maps [BATCH or fewer, C, h, w] of the frames in `rows` of the store.

    view [len(rows)]: the transform of `warp` that each frame is moved by, AS_IS for none; without views all are taken
    as they are. together: all ranks want these rows, and share the work.
    """
    block = BATCH * (ranks.world() if together else 1)
    blocks = range(0, len(rows), block)

    def mine(a: int) -> slice:
        return ranks.mine(min(block, len(rows) - a)) if together else slice(block)

    plans = ((rows[a : a + block][mine(a)], a) for a in blocks)
    for _, (part, some, a) in zip(progress(blocks, "features"), store.ahead(plans)):
        gray = part.data[some]
        if view is not None:
            assert warp is not None
            moved = view[a : a + block][mine(a)]
            gray = torch.where((moved == AS_IS)[:, None, None], gray, warp(gray, moved.clamp(min=0)))
        with autocast(store.device, dtype):
            maps = encoder(normalise(gray)[:, None]).half()
        yield ranks.gathered(maps, min(block, len(rows) - a)) if together else maps


class Features:
    """The maps of `exams` in `views` views each, from a cache as far as it reaches, computed anew beyond it.

    Each view of an exam counts as an exam here: view v of exams[e] is number e * views + v. View 0 is the frames as
    they are; in each other all frames of an exam are moved by one transform of `warp`, drawn for it. Without a cache
    all maps are kept in memory.
    """

    def __init__(
        self,
        encoder: nn.Module,
        store: FrameStore,
        exams: torch.Tensor,
        dtype: str,
        cache: Cache | None = None,
        warp: Warp | None = None,
        views: int = 1,
        seed: int = 0,
        progress: Progress = quiet,
    ):
        device = store.device
        self.encoder, self.store, self.dtype, self.warp, self.views = encoder.eval(), store, dtype, warp, views
        self.exams = exams.to(device).repeat_interleave(views)
        self.lengths = store.lengths[self.exams]
        transforms = 0 if warp is None else len(warp)
        moved = [
            torch.randint(
                transforms, (len(exams),), generator=generator(device, derive(seed, "view", v), "view"), device=device
            )
            for v in range(1, views)
        ]
        self.moved = (
            torch.stack([torch.full((len(exams),), AS_IS, device=device), *moved], 1).flatten() if moved else None
        )
        self.saved_seconds = 0.0  # what a cache of an earlier process has spared
        counts = self.lengths.tolist()

        def make(items: int):
            view = None if self.moved is None else torch.repeat_interleave(self.moved[:items], self.lengths[:items])
            return maps_of(
                encoder, store, store.rows(self.exams[:items]), dtype, warp, view, progress=progress, together=True
            )

        if cache is None:
            maps = torch.cat(list(make(len(self.exams))))
        else:
            one = next(maps_of(encoder, store, store.offsets[self.exams[:1]], dtype))
            how = (views, seed, warp.grid.shape, float(warp.grid.sum())) if warp and moved else None
            name = ranks.agreed(fingerprint(encoder, cache.content, exams.tolist(), dtype, how))
            mapped, self.saved_seconds = rows_of(
                cache, name, counts, one.shape[1:], lambda n: (maps.cpu().numpy() for maps in make(n))
            )
            maps = one[:0] if mapped is None else torch.from_numpy(mapped)
        self.kept = int(np.searchsorted(np.cumsum(counts), len(maps), side="right"))  # exams whose maps are at hand
        self.maps = FrameStore(maps, offsets_of(counts[: self.kept])).to(device, "auto")

    @property
    def whole(self) -> bool:
        return self.kept == len(self.exams)

    def clips(self, exams: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Maps of the frames `chosen` [B, T] of `exams` [B]: float16 [B, T, C, h, w]."""
        if self.whole:
            return self._read(exams, chosen)
        # a cache that holds a part has the host decide, exam by exam
        parts = [
            self._read(exams[b : b + 1], chosen[b : b + 1])
            if e < self.kept
            else self._compute(exams[b : b + 1], chosen[b])
            for b, e in enumerate(exams.tolist())
        ]
        return torch.cat(parts)

    def _read(self, exams: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        return self.maps.take(self.maps.offsets[exams][:, None] + chosen)

    def _compute(self, exam: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        rows = self.store.offsets[self.exams[exam]] + chosen
        view = None if self.moved is None else self.moved[exam].expand(len(rows))
        return torch.cat(list(maps_of(self.encoder, self.store, rows, self.dtype, self.warp, view)))[None]


def rows_of(
    cache: Cache, name: str, sizes: list[int], shape: tuple[int, ...], make: Callable[[int], Iterable[np.ndarray]]
) -> tuple[np.memmap | None, float]:
    """cache.rows() of all ranks: all compute what the first one writes, then each maps the file."""
    if ranks.first():
        rows = cache.rows(name, sizes, shape, lambda items: make(ranks.agreed(items)))
        ranks.agreed(NONE if rows[0] is None else WRITTEN)
        return rows
    while (items := ranks.agreed(None)) > 0:
        for _ in make(items):
            pass
    if items == NONE:
        return None, 0.0

    def missing(_):
        raise UserError(
            f"{cache.folder}: the first rank's {name}.npy is not there; the machines of all ranks must share this "
            "folder"
        )

    return cache.rows(name, sizes, shape, missing)


def fingerprint(encoder: nn.Module, *what: object) -> str:
    """16 hex digits over an encoder's weights, the stage that is read of it, and whatever else its maps depend on."""
    layer = [part.layer for part in encoder.modules() if isinstance(part, Upto)]
    total = hashlib.sha256(repr((type(encoder).__qualname__, layer, *what)).encode())  # some have no weights
    for name, value in sorted(encoder.state_dict().items()):
        total.update(name.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
