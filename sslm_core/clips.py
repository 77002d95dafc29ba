"""Clips: which frames of an exam are looked at together, and the affine that moves them together in training."""

from dataclasses import dataclass

import torch

from .errors import UserError
from .frames import FrameStore
from .seeds import generator
from .settings import check
from .warp import Warp, about_centre, product


@dataclass(frozen=True)
class ClipConfig:
    """The paper's values; shifts in pixels of a 256-pixel frame."""

    frames: int = 16
    edge: int = 3  # drawn from the first and from the last fifth of the volume, the rest from between
    angles: tuple[float, ...] = (-20, 0, 20)
    shifts: tuple[float, ...] = (-15, 0, 15)
    scales: tuple[float, ...] = (1.0, 1.15)

    def __post_init__(self):
        check(self, edge=0, angles=None, shifts=None)
        if self.frames < 2 * self.edge:
            raise UserError(
                f"frames = {self.frames}: expected {2 * self.edge} or more, {self.edge} from each end of the volume"
            )


def clip_warp(config: ClipConfig, frame: int, device: torch.device | str = "cpu") -> Warp:
    """The table of clip-wise transforms for frames of `frame` pixels."""
    shifts = [s * frame / 256 for s in config.shifts]
    return Warp(about_centre(product(config.angles, shifts, config.scales), frame), frame, device)


def sample_clips(
    lengths: torch.Tensor, config: ClipConfig, draw: torch.Generator, longest: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """For exams of T = lengths [B] frames: frame numbers int64 [B, frames], rising, and how many are real [B].

    `edge` frames from each outer fifth (T // 5 frames, fewer where that holds fewer, more where the middle holds too
    few), the rest from the middle, without replacement; all frames where T <= frames. Padding repeats the last real
    frame. longest: no T is greater; if not given, it is asked of `lengths`, which a GPU makes wait.
    """
    n, device = config.frames, lengths.device
    longest = longest or int(lengths.max())
    at = torch.arange(longest, device=device).expand(len(lengths), -1)  # [B, longest]
    fifth = (lengths // 5)[:, None]
    # 0 1 2, padding 4
    part = (at >= fifth).long() + (at >= lengths[:, None] - fifth).long() + 2 * (at >= lengths[:, None]).long()
    quota = torch.clamp(fifth[:, 0], max=config.edge)
    middle = lengths - 2 * fifth[:, 0]
    quota = torch.maximum(quota, (n - middle + 1) // 2)  # what the middle does not hold comes from the outer fifths
    quota = torch.stack([quota, n - 2 * quota, quota, *[torch.zeros_like(quota)] * 2], 1)  # [B, 5]
    quota = torch.where((lengths <= n)[:, None], n * (torch.arange(5, device=device) < 3), quota)
    order = (part + torch.rand(part.shape, generator=draw, device=device).clamp_(max=1 - 2**-20)).argsort(1)
    part = part.gather(1, order)  # sorted by part, shuffled within it
    # where each part begins [B, 5]
    start = torch.searchsorted(part, torch.arange(5, device=device).repeat(len(lengths), 1))
    taken = at - start.gather(1, part) < quota.gather(1, part)
    chosen = torch.where(taken, order, longest).sort(1).values[:, :n]
    if longest < n:
        chosen = torch.nn.functional.pad(chosen, (0, n - longest), value=longest)
    return torch.minimum(chosen, lengths[:, None] - 1), torch.clamp(lengths, max=n)


def clip_rows(store: FrameStore, exams: torch.Tensor, config: ClipConfig, draw: torch.Generator):
    """One clip per exam [B]: rows of the store [B, frames] and the number of real frames [B]."""
    chosen, count = sample_clips(
        store.lengths[exams], config, draw, store.extremes[1] if store.device.type != "cpu" else 0
    )
    return store.offsets[exams][:, None] + chosen, count


def prediction_clips(
    lengths: torch.Tensor, config: ClipConfig, clips: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The clips that exams of T = lengths [E] frames are scored on: frame numbers [E, clips, frames] and real frames
    [E].

    They depend on seed and T alone, so an exam's score does not depend on which others are scored with it.
    """
    distinct, which = lengths.unique(return_inverse=True)
    chosen = [
        sample_clips(t.repeat(clips), config, generator(lengths.device, seed, "prediction clips", int(t)))[0]
        for t in distinct
    ]
    return torch.stack(chosen)[which], lengths.clamp(max=config.frames)
