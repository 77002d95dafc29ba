"""The only loop that sees labels: a head on frozen features, or encoder and head end to end; prediction of exams."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn as nn
import torch.nn.functional as F

from .checkpoint import Resume
from .clips import ClipConfig, clip_rows
from .features import extract
from .frames import FrameStore, Progress, quiet
from .heads import mask
from .pretext import autocast, least_loss
from .seeds import generator
from .warp import Warp, normalise

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class DownstreamConfig:
    """How labels are learnt. The defaults are the paper's; `lrs` is the grid that tune chooses from, the same for all methods."""

    epochs: int = 30
    batch: int = 1
    lrs: tuple[float, ...] = (1e-5,)
    trial: int = 30  # epochs that each learning rate is tried for before the best goes on alone
    optimiser: str = "rmsprop"  # or adam
    decay: float = 0.95  # of the learning rate, per epoch
    clips: int = 8  # per exam at prediction
    head: str = "convlstm"
    hidden: int = 512
    standardise: bool = False  # frozen features per channel, by their mean and spread over the fit frames
    views: int = 4  # cached feature views of a fit exam: the frames as they are, and views - 1 augmented
    dtype: str = "float32"

    def optimise(self, model: nn.Module) -> torch.optim.Optimizer:
        trained = [p for p in model.parameters() if p.requires_grad]
        return {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam}[self.optimiser](trained)


class ClipModel(nn.Module):
    """A backbone per frame (none where features are cached) and a clip head: logits [B, L]."""

    def __init__(self, backbone: nn.Module | None, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """x: frames [B, T, H, W] in -1..1, or feature maps [B, T, C, h, w]; count [B] real frames of each clip."""
        if self.backbone is None:
            return self.head(x, count)
        real = mask(x, count)
        maps = self.backbone(x[real][:, None])  # [real frames, C, h, w]: padding costs nothing and enters no batch norm
        padded = maps.new_zeros(*real.shape, *maps.shape[1:])
        padded[real] = maps
        return self.head(padded, count)


@dataclass(frozen=True)
class FrameClips:
    """Clips of gray frames, moved by one transform per clip in training."""

    store: FrameStore
    config: ClipConfig
    warp: Warp

    def batch(self, exams: torch.Tensor, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows, count = clip_rows(self.store, exams, self.config, draw)
        frames = self.store.data[rows]  # [B, T, H, W]
        b, t = rows.shape
        view = torch.randint(len(self.warp), (b,), generator=draw, device=rows.device).repeat_interleave(t)
        return normalise(self.warp(frames.flatten(0, 1), view)).unflatten(0, (b, t)), count


@dataclass(frozen=True)
class FeatureClips:
    """Clips of cached feature maps, each exam from one of its views."""

    views: list[FrameStore]
    config: ClipConfig

    def batch(self, exams: torch.Tensor, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows, count = clip_rows(self.views[0], exams, self.config, draw)
        view = torch.randint(len(self.views), (len(exams),), generator=draw, device=exams.device)
        maps = torch.stack([store.data[rows] for store in self.views])  # [V, B, T, C, h, w]
        return maps[view, torch.arange(len(exams), device=exams.device)].float(), count


@torch.no_grad()
def predict(model: ClipModel, store: FrameStore, exams: torch.Tensor, clip: ClipConfig, config: DownstreamConfig, seed: int,
            chunk: int = 16) -> torch.Tensor:  # fmt: skip
    """Mean probability over `config.clips` clips of each exam: float32 [len(exams), L].

    Each frame passes the backbone once, however many clips hold it. The clips depend on `seed`, on `exams` and on their lengths.
    """
    model.eval()
    device = store.data.device
    draw = generator(device, seed, "prediction clips")
    scores = []
    for some in exams.to(device).split(chunk):
        features, index = store, some
        if model.backbone is not None:
            features = extract(model.backbone, store, some, dtype=config.dtype)
            index = torch.arange(len(some), device=device)
        rows, count = clip_rows(features, index.repeat(config.clips), clip, draw)
        with autocast(device, config.dtype):
            logits = model.head(features.data[rows].float(), count)
        scores.append(torch.sigmoid(logits.float()).unflatten(0, (config.clips, len(some))).mean(0))
    return torch.cat(scores)


@dataclass
class Fitted:
    """The model at the learning rate and epoch that tune chose, and every epoch's record of every learning rate."""

    model: ClipModel
    history: list[dict] = field(default_factory=list)

    @property
    def best(self) -> dict:
        return least_loss(self.history)


def bce(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, target)


def fit(
    model: ClipModel,
    clips: FrameClips | FeatureClips,
    truth: torch.Tensor,
    exams: torch.Tensor,
    tune: Callable[[ClipModel], torch.Tensor],
    tune_truth: torch.Tensor,
    config: DownstreamConfig,
    seed: int,
    loss: Loss = bce,
    sampling: torch.Tensor | None = None,
    progress: Progress = quiet,
    resume: Resume | None = None,
) -> Fitted:
    """Train `model` from the same start at each learning rate for `config.trial` epochs; the rate with the least loss on tune goes
    on to `config.epochs`. Kept: the rate and epoch with the least loss on tune.

    truth: float [E, L] by the clips' own exam numbers; exams: those to train on; tune(model) -> probabilities [tune exams, L];
    sampling: weights [len(exams)] by which an epoch draws exams with replacement, else each once.
    """
    device = truth.device
    trial = min(config.trial, config.epochs)
    tried = len(config.lrs) * trial
    epochs = tried + config.epochs - trial  # of all learning rates together
    result, best, leader, start, spent = Fitted(model), None, None, 0, 0.0
    first = copy.deepcopy(model.state_dict())
    optimiser = config.optimise(model)
    if resume and (state := resume.load()):
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        result.history, best, leader = state["history"], state["best"], state["leader"]
        start, spent = len(result.history), state["seconds"]
    began = time.monotonic() - spent
    for position in progress(range(start, epochs), "downstream"):
        lr, epoch = (config.lrs[position // trial], position % trial) if position < tried else (leader["lr"], position - tried + trial)
        if epoch == 0:
            model.load_state_dict(first)
            optimiser = config.optimise(model)
        elif position == tried:
            model.load_state_dict(leader["model"])
            optimiser.load_state_dict(leader["optimiser"])
        for group in optimiser.param_groups:
            group["lr"] = lr * config.decay**epoch
        draw = generator(device, seed, "downstream", epoch)
        if sampling is None:
            order = torch.randperm(len(exams), generator=draw, device=device)
        else:
            order = torch.multinomial(sampling, len(exams), replacement=True, generator=draw)
        model.train()
        total = torch.zeros((), device=device)
        for some in exams[order].split(config.batch):
            x, count = clips.batch(some, draw)
            with autocast(device, config.dtype):
                logits = model(x, count)
            value = loss(logits.float(), truth[some])
            value.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            total += value.detach() * len(some)
        scores = tune(model).clamp(1e-6, 1 - 1e-6)
        record = {"lr": lr, "epoch": epoch, "seconds": time.monotonic() - began, "fit_loss": float(total) / len(exams),
                  "tune_loss": float(loss(torch.logit(scores), tune_truth))}  # fmt: skip
        result.history.append(record)
        if result.best is record:
            best = copy.deepcopy(model.state_dict())
        if epoch == trial - 1 and position < tried and result.best["lr"] == lr:
            leader = copy.deepcopy({"lr": lr, "model": model.state_dict(), "optimiser": optimiser.state_dict()})
        if resume:
            resume.tick(lambda: {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "best": best, "leader": leader,
                                 "history": result.history, "seconds": time.monotonic() - began},
                        last=position == epochs - 1)  # fmt: skip
    model.load_state_dict(best)
    return result
