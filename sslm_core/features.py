"""Feature maps of whole frames, computed once per exam and view and read by every epoch, head and clip."""

import torch
import torch.nn as nn

from .frames import FrameStore, Progress, offsets_of, quiet
from .pretext import autocast
from .seeds import generator
from .warp import Warp, normalise


class Standardised(nn.Module):
    """A frozen encoder whose channels have mean 0 and spread 1 over the frames of `maps` [N, C, h, w]: no label is seen.

    Encoders differ in the scale of their features; without this, one learning rate favours one of them.
    """

    def __init__(self, encoder: nn.Module, maps: torch.Tensor):
        super().__init__()
        self.encoder = encoder
        pixels = maps.transpose(0, 1).flatten(1)  # [C, N * h * w]
        spread = torch.stack([c.float().std() for c in pixels])
        self.register_buffer("mean", torch.stack([c.float().mean() for c in pixels])[:, None, None])
        self.register_buffer("spread", spread.clamp(min=0.01 * float(spread.mean()))[:, None, None])  # a dead channel stays quiet

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale(self.encoder(x))

    def scale(self, maps: torch.Tensor) -> torch.Tensor:
        return (maps - self.mean) / self.spread


@torch.no_grad()
def extract(
    encoder: nn.Module,
    store: FrameStore,
    exams: torch.Tensor,
    batch: int = 32,
    dtype: str = "float32",
    warp: Warp | None = None,
    seed: int = 0,
    progress: Progress = quiet,
) -> FrameStore:
    """Maps of every frame of `exams` in their order, a FrameStore of float16 [N, C, h, w] on the store's device.

    With `warp`, one augmented view: each exam's frames moved by one transform drawn for it.
    """
    device = store.data.device
    exams = exams.to(device)
    rows, lengths = store.rows(exams), store.lengths[exams]
    if warp:
        view = torch.randint(len(warp), (len(exams),), generator=generator(device, seed, "view"), device=device)
        view = torch.repeat_interleave(view, lengths)
    maps = None
    encoder.eval()
    for a in progress(range(0, len(rows), batch), "features"):
        gray = store.data[rows[a : a + batch]]
        gray = warp(gray, view[a : a + batch]) if warp else gray
        with autocast(device, dtype):
            part = encoder(normalise(gray)[:, None])
        if maps is None:
            maps = torch.empty((len(rows), *part.shape[1:]), dtype=torch.float16, device=device)
        maps[a : a + batch] = part
    return FrameStore(maps, offsets_of(lengths.tolist()).to(device))
