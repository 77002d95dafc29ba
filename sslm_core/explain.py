"""Where a model looks: Grad-CAM per label and frame (Selvaraju et al. 2017), and occlusion, its control.

Both explain the logits that `predict` makes its scores of: those of an exam's prediction clips.
"""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn as nn
import torch.nn.functional as F

from .clips import ClipConfig, prediction_clips
from .downstream import ClipModel, DownstreamConfig
from .errors import UserError, one_of
from .frames import FrameStore, Progress, quiet
from .heads import ConvLSTMHead, mask
from .pretext import autocast
from .seeds import generator
from .warp import normalise

# the first ConvLSTM layer, the backbone's last maps; auto: the first that there is
Layer = Literal["auto", "convlstm", "encoder"]
BATCH = 32  # frames that pass the backbone at a time
HELD = 1 << 25  # numbers of the clips' maps in memory at a time; what gradients need comes on top
GRID = 8  # occluded places along each side of a frame


@dataclass(frozen=True, eq=False)
class Explained:
    """One exam: its scores [L], and the evidence for each label, 0 or more, on the grid on which it was found: float32
    [L, T, h, w].

    seen: bool [T], the frames that prediction clips hold; on the others there is no evidence.
    """

    scores: torch.Tensor
    evidence: torch.Tensor
    seen: torch.Tensor

    def maps(self, height: int, width: int) -> torch.Tensor:
        """The evidence at the size of frames, each label's largest value 1 (0 where nothing speaks for a label): [L, T,
        H, W]."""
        return enlarged(self.evidence / self.evidence.amax((1, 2, 3), keepdim=True).clamp(min=1e-30), height, width)

    def shares(self) -> torch.Tensor:
        """Of each label's evidence the share that lies on each frame: [L, T]."""
        each = self.evidence.sum((2, 3))
        return each / each.sum(1, keepdim=True).clamp(min=1e-30)


def enlarged(evidence: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear, [..., h, w] -> [..., H, W]. Beyond the frame is nothing: an outer cell, too, is largest at its
    middle."""
    planes = evidence.reshape(1, -1, *evidence.shape[-2:])
    grid = F.affine_grid(torch.eye(2, 3, device=evidence.device)[None], [1, 1, height, width], align_corners=False)
    return F.grid_sample(planes, grid, align_corners=False).reshape(*evidence.shape[:-2], height, width)


def layer_of(model: ClipModel, frame: int, layer: Layer = "auto") -> nn.Module:
    """The module whose maps are explained. Raises UserError where the model has none such."""
    if layer not in get_args(Layer):
        raise UserError(f"layer {layer}: {one_of(get_args(Layer), layer)}")
    if layer != "encoder" and isinstance(model.head, ConvLSTMHead):
        return model.head.first
    if layer == "convlstm":
        raise UserError(f"layer convlstm: the model's head is a {type(model.head).__name__}; use the layer encoder")
    last: list[nn.Module] = []

    def note(module, _, output):
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            last[:] = [module]

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for module in model.backbone.modules():
            hooks.callback(module.register_forward_hook(note).remove)
        model.backbone(torch.zeros(1, 1, frame, frame, device=next(model.head.parameters()).device))
    if not last:
        raise UserError(
            f"{type(model.backbone).__name__}: no layer has maps of more than one place: nothing to lay over a frame"
        )
    return last[0]


class _Cut:
    """Inside, what `layer` puts out are the leaves of the graph: nothing before it is differentiated, no weight needs a
    gradient."""

    def __init__(self, layer: nn.Module):
        self.layer, self.grad = layer, torch.no_grad()
        self.leaves: list[torch.Tensor] = []

    def __enter__(self) -> list[torch.Tensor]:
        self.grad.__enter__()
        self.hook = self.layer.register_forward_hook(self._cut)
        return self.leaves

    def _cut(self, module, inputs, output):
        maps, *rest = output if isinstance(output, tuple) else (output,)
        self.leaves.append(maps.detach().requires_grad_())
        torch.set_grad_enabled(True)  # until __exit__
        maps = self.leaves[-1].clone()  # a layer behind may work in place
        return (maps, *rest) if rest else maps

    def __exit__(self, *error):
        self.hook.remove()
        self.grad.__exit__(*error)


@dataclass(frozen=True)
class _Clips:
    """The prediction clips of some exams, and the frames that they are made of, each once."""

    rows: torch.Tensor  # of the store [N]
    where: torch.Tensor  # in `rows` [E * clips, T]
    count: torch.Tensor  # [E * clips]
    exam: torch.Tensor  # of each row, counted among these exams [N]
    frame: torch.Tensor  # of each row in its exam [N]
    lengths: list[int]

    @classmethod
    def of(
        cls,
        model: ClipModel,
        store: FrameStore,
        exams: torch.Tensor,
        clip: ClipConfig,
        config: DownstreamConfig,
        seed: int,
    ) -> "_Clips":
        clip, clips = model.looks(clip, config.clips, store.extremes[1])
        chosen, count = prediction_clips(store.lengths[exams], clip, clips, seed)  # [E, clips, T]
        starts = store.offsets[exams]
        numbers, lengths = torch.arange(len(exams), device=exams.device), store.lengths[exams]
        first = lengths.cumsum(0) - lengths  # of each exam, were these all
        at, where = (first[:, None, None] + chosen).unique(return_inverse=True)
        exam = numbers.repeat_interleave(lengths)[at]
        frame = at - first[exam]
        return cls(
            starts[exam] + frame, where.flatten(0, 1), count.repeat_interleave(clips), exam, frame, lengths.tolist()
        )

    @property
    def real(self) -> torch.Tensor:
        """[E * clips, T]"""
        return mask(self.where, self.count)

    def per_exam(self, scores: torch.Tensor, evidence: torch.Tensor) -> Iterator[Explained]:
        """scores [E, L]; evidence of each row [L, N, h, w]."""
        for e, t in enumerate(self.lengths):
            mine = self.exam == e
            seen = torch.zeros(t, dtype=torch.bool, device=evidence.device)
            seen[self.frame[mine]] = True
            whole = evidence.new_zeros(len(evidence), t, *evidence.shape[2:])
            whole[:, self.frame[mine]] = evidence[:, mine]
            yield Explained(scores[e], whole, seen)


def _maps(model: ClipModel, store: FrameStore, rows: torch.Tensor, config: DownstreamConfig) -> torch.Tensor:
    """The backbone's maps of rows of the store [N, C, h, w], not rounded as stored ones are: derivatives pass."""
    out = []
    for part, some in store.ahead((some,) for some in rows.split(BATCH)):
        with autocast(store.device, config.dtype):
            out.append(model.backbone(normalise(part.data[some])[:, None]))
    return torch.cat(out)


def gradcam(
    model: ClipModel,
    store: FrameStore,
    exams: torch.Tensor,
    clip: ClipConfig,
    config: DownstreamConfig,
    seed: int,
    layer: Layer = "auto",
) -> Iterator[Explained]:
    """What each of `exams`, numbers of the store, is scored by; several exams pass the model together.

    A frame's evidence for a label is the sum of the layer's maps, each weighted by the mean over places of the logit's
    derivative by it; a mean over the clips that hold the frame; what speaks against the label is cut off.
    """
    model.eval()
    exams = exams.to(store.device)
    tapped = layer_of(model, store.data.shape[-1], layer)
    a, chunk = 0, 1
    while a < len(exams):
        clips = _Clips.of(model, store, exams[a : a + chunk], clip, config, seed)
        with _Cut(tapped) as leaves, _recurrent(model.head):
            maps = _maps(model, store, clips.rows, config)[clips.where]  # [E * clips, T, C, h, w]
            with autocast(store.device, config.dtype):
                logits = model(maps, clips.count).float()  # [E * clips, L]
            slopes = [torch.autograd.grad(one.sum(), leaves, retain_graph=True) for one in logits.unbind(1)]
        found = [_by_row(clips, [leaf.detach() for leaf in leaves], of) for of in slopes]
        scores = torch.sigmoid(logits.detach()).unflatten(0, (len(clips.lengths), -1)).mean(1)
        yield from clips.per_exam(scores, torch.stack(found).clamp(min=0))
        a += chunk
        chunk = max(1, min(16, HELD * chunk // maps.numel()))  # the first exam has told how large the maps are


def _by_row(clips: _Clips, leaves: list[torch.Tensor], slopes: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Weighted sums of the maps in `leaves`, a mean over the clips that hold each row: [N, h, w]."""
    sums = torch.cat(
        [(slope.float().mean((-2, -1), keepdim=True) * leaf.float()).sum(-3) for leaf, slope in zip(leaves, slopes)]
    )
    times = torch.bincount(clips.where[clips.real], minlength=len(clips.rows))
    if sums.ndim == 4:  # of each clip and frame
        sums = sums.new_zeros(len(times), *sums.shape[2:]).index_add_(0, clips.where[clips.real], sums[clips.real])
    return sums / times[:, None, None]


def _recurrent(head: nn.Module):
    """cuDNN does not differentiate its recurrent layers in evaluation mode: without it, where `head` has any."""
    return (
        torch.backends.cudnn.flags(enabled=False)
        if any(isinstance(m, nn.RNNBase) for m in head.modules())
        else contextlib.nullcontext()
    )


@torch.no_grad()
def occlusion(
    model: ClipModel,
    store: FrameStore,
    exams: torch.Tensor,
    clip: ClipConfig,
    config: DownstreamConfig,
    seed: int,
    grid: int = GRID,
    progress: Progress = quiet,
) -> Iterator[Explained]:
    """As `gradcam`, by what a gray patch takes away: the fall of the logit, a mean over the clips that hold the frame.

    The patch, two cells of a grid x grid wide, is laid over one place of one frame at a time and has the exam's mean
    gray. Costs grid * grid passes of each frame and of each clip for each of its frames.
    """
    model.eval()
    size = store.data.shape[-1]
    if not 1 <= grid <= size:
        raise UserError(f"grid {grid}: expected 1 to {size}, the side of a frame")
    middle = (torch.arange(grid, device=store.device) + 0.5) * size / grid
    near = (torch.arange(size, device=store.device) + 0.5 - middle[:, None]).abs() <= size / grid  # [grid, size]
    covered = (near[:, None, :, None] & near[None, :, None, :]).flatten(0, 1)  # [grid * grid, H, W]
    for exam in exams.to(store.device).split(1):
        clips = _Clips.of(model, store, exam, clip, config, seed)
        maps = _maps(model, store, clips.rows, config)
        with autocast(store.device, config.dtype):
            logits = model(maps[clips.where], clips.count).float()  # [clips, L]
        frames = store.take(clips.rows)  # [N, H, W]
        gray = frames.float().mean().round().to(torch.uint8)
        some = max(1, HELD // maps[clips.where[0]].numel())  # clips at a time
        falls = []
        for n in progress(range(len(frames)), "occlusion"):
            patched = FrameStore(torch.where(covered, gray, frames[n]), store.offsets)
            # [grid * grid, C, h, w]
            others = _maps(model, patched, torch.arange(len(covered), device=store.device), config)
            fall = torch.zeros(len(covered), logits.shape[1], device=store.device)
            holding = ((clips.where == n) & clips.real).nonzero().tolist()
            for k, t in holding:
                for a in range(0, len(covered), some):
                    x = maps[clips.where[k]].repeat(len(others[a : a + some]), 1, 1, 1, 1)  # [places, T, C, h, w]
                    x[:, t] = others[a : a + some]
                    with autocast(store.device, config.dtype):
                        fall[a : a + some] += logits[k] - model(x, clips.count[k].expand(len(x))).float()
            falls.append(fall.T.unflatten(1, (grid, grid)) / len(holding))
        yield from clips.per_exam(torch.sigmoid(logits).mean(0)[None], torch.stack(falls, 1).clamp(min=0))


def shuffled(model: ClipModel, seed: int) -> ClipModel:
    """A copy of `model` that has learnt nothing: the entries of each weight in random order, so their spread stays.

    An explanation that shows what was learnt must not survive this (Adebayo et al. 2018).
    """
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for part in ("backbone", "head"):
            for name, weight in getattr(copied, part).named_parameters():
                order = torch.randperm(weight.numel(), generator=generator("cpu", seed, "shuffled", part, name)).to(
                    weight.device
                )
                weight.copy_(weight.flatten()[order].view_as(weight))
    return copied
