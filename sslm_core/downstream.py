"""The only loop that sees labels: a head on frozen features, or encoder and head end to end; prediction of exams."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn as nn

from . import ranks
from .checkpoint import Resume
from .clips import ClipConfig, clip_rows, prediction_clips, sample_clips
from .errors import UserError
from .features import Features, Scale, maps_of
from .frames import FrameStore, Progress, quiet
from .heads import HEADS, mask
from .history import least_loss
from .losses import Loss, Sampling, bce, constant, mean_loss, tempered, trained_by
from .pretext import autocast, warmed_cosine
from .seeds import generator, seeded
from .settings import Number, check
from .warp import Warp

# exams [B] of each batch, in host memory, and what draws their clips
Plans = Iterable[tuple[torch.Tensor, torch.Generator]]
# this rank's: exams, their clips' x, real frames of each clip [B] and, where some are padded, of all of them
Batches = Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]]


@dataclass(frozen=True)
class DownstreamConfig:
    """How labels are learnt. The defaults are the paper's; `lrs` is the grid that tune chooses from, the same for all
    methods."""

    epochs: int = 30
    batch: int = 1
    lrs: tuple[float, ...] = (1e-5,)
    trial: int = 30  # epochs that each learning rate is tried for before the best goes on alone
    optimiser: Literal["rmsprop", "adam", "adamw"] = "rmsprop"
    weight_decay: float = 0.01  # of adamw
    # of the learning rate; cosine: to zero over `epochs`, after a warm-up
    schedule: Literal["exponential", "cosine"] = "exponential"
    decay: float = 0.95  # per epoch, schedule exponential
    warmup: float = 0.1  # share of the steps, schedule cosine
    clips: int = 8  # per exam at prediction
    tune_clips: int = 8  # per exam where an epoch is judged on tune
    head: Literal[*HEADS] = "convlstm"  # type: ignore[valid-type]
    hidden: int = 512
    # of a frozen backbone: the stage whose maps the head sees; by default the last, for logistic the best on tune
    layer: str = ""
    freeze: bool = True  # of a pretrained encoder; False trains it on, end to end, as supervised training does
    standardise: bool = False  # frozen features per channel, by their mean and spread over the fit frames
    views: int = 4  # cached feature views of a fit exam: the frames as they are, and views - 1 augmented
    dtype: Number = "float32"

    def __post_init__(self):
        check(self, weight_decay=0, warmup=0)

    def rate(self, step: int, per_epoch: int) -> float:
        """The share of the learning rate at one step of a rate's own."""
        if self.schedule == "exponential":
            return self.decay ** (step // per_epoch)
        return warmed_cosine(step, self.epochs * per_epoch, self.warmup)

    def optimise(self, model: "ClipModel") -> torch.optim.Optimizer:
        """Over what requires a gradient, the backbone's at its own pace."""
        parts = ((model.backbone, model.pace), (model.head, 1.0))
        groups = [{"params": [p for p in part.parameters() if p.requires_grad], "pace": pace} for part, pace in parts]
        groups = [group for group in groups if group["params"]]
        if self.optimiser == "rmsprop":
            return torch.optim.RMSprop(groups)
        if self.optimiser == "adam":
            return torch.optim.Adam(groups, fused=True)
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay, fused=True)


class ClipModel(nn.Module):
    """A backbone per frame, features scaled or as they are, and a clip head: logits [B, L].

    pace: the share of the learning rate at which the backbone moves, where it is trained.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, scale: Scale | None = None, pace: float = 1.0):
        super().__init__()
        self.backbone, self.head, self.scale, self.pace = backbone, head, scale or nn.Identity(), pace

    @property
    def frozen(self) -> bool:
        return not any(p.requires_grad for p in self.backbone.parameters())

    def looks(self, clip: ClipConfig, clips: int, longest: int) -> tuple[ClipConfig, int]:
        """What exams of up to `longest` frames are scored on: `clips` clips; under a head that reads whole exams, all
        their frames."""
        if not getattr(self.head, "whole", False):
            return clip, clips
        return replace(clip, frames=max(longest, 2 * clip.edge)), 1

    @property
    def learnt(self) -> nn.Module:
        """What training changes: the head alone where the backbone is frozen."""
        return self.head if self.frozen else self

    def forward(self, x: torch.Tensor, count: torch.Tensor, real: int | None = None) -> torch.Tensor:
        """x: frames [B, T, H, W] in -1..1, or the backbone's maps [B, T, C, h, w]; count [B] real frames of each clip.

        real: the sum of `count`, 0 where no frame is padding; if not given, a GPU is asked.
        """
        if x.ndim == 5:
            return self.head(self.scale(x.float()), count)
        frames = x.flatten(0, 1)[:, None]
        if real == 0:
            maps = self.scale(self.backbone(frames))  # [B * T, C, h, w]
        else:
            rows = mask(x, count).flatten().nonzero_static(size=int(count.sum()) if real is None else real)[:, 0]
            found = self.scale(self.backbone(frames[rows]))  # padding costs nothing and enters no batch norm
            maps = found.new_zeros(len(frames), *found.shape[1:])
            maps[rows] = found
        return self.head(maps.unflatten(0, x.shape[:2]), count)


@dataclass(frozen=True)
class FrameClips:
    """Clips of gray frames, moved by one transform per clip in training."""

    store: FrameStore
    config: ClipConfig
    warp: Warp

    @property
    def padded(self) -> bool:
        return self.store.extremes[0] < self.config.frames

    def batches(self, plans: Plans) -> Batches:
        """Frames float32 [B, T, H, W] in -1..1."""

        def rows():
            for exams, draw in plans:
                mine = ranks.mine(len(exams))
                real = int(self.store.known[exams[mine]].clamp(max=self.config.frames).sum()) if self.padded else 0
                exams = there(exams, self.store.device)
                chosen, count = clip_rows(self.store, exams, self.config, draw)  # [B, T]
                yield chosen[mine], exams, count, draw, real

        for part, chosen, exams, count, draw, real in self.store.ahead(rows()):
            mine, t = ranks.mine(len(exams)), chosen.shape[1]
            view = torch.randint(len(self.warp), (len(exams),), generator=draw, device=chosen.device)[
                mine
            ].repeat_interleave(t)
            yield (
                exams[mine],
                self.warp(part.data[chosen.flatten()], view, unit=True).unflatten(0, chosen.shape),
                count[mine],
                real,
            )


def there(exams: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Exam numbers on the device. No GPU waits: so small a copy is staged at once, from any memory."""
    return exams.to(device, non_blocking=True)


@dataclass(frozen=True)
class FeatureClips:
    """Clips of a frozen backbone's maps, each exam from one of its views."""

    features: Features
    config: ClipConfig

    def batches(self, plans: Plans) -> Batches:
        """Maps float16 [B, T, C, h, w]."""
        features, store = self.features, self.features.store
        longest = store.extremes[1] if store.device.type != "cpu" else 0

        def clips():
            for exams, draw in plans:
                exams = there(exams, store.device)
                one = exams * features.views  # the exam in its first view
                chosen, count = sample_clips(features.lengths[one], self.config, draw, longest)  # [B, T]
                if features.views > 1:
                    one = one + torch.randint(features.views, (len(exams),), generator=draw, device=exams.device)
                mine = ranks.mine(len(exams))
                yield one[mine], chosen[mine], exams[mine], count[mine]

        if not features.whole:
            yield from ((exams, features.clips(one, chosen), count, 0) for one, chosen, exams, count in clips())
            return
        wanted = ((features.maps.offsets[one][:, None] + chosen, exams, count) for one, chosen, exams, count in clips())
        for part, rows, exams, count in features.maps.ahead(wanted):
            yield exams, part.data[rows], count, 0


PREDICTED = 1 << 28  # numbers of the clips' maps that are in memory at a time


def predict(
    model: ClipModel,
    store: FrameStore | Features,
    exams: torch.Tensor,
    clip: ClipConfig,
    config: DownstreamConfig,
    seed: int,
) -> torch.Tensor:
    """Mean probability over `config.clips` clips of each exam: float32 [len(exams), L]; `exams` are numbers of the
    store.

    Each rank scores its slice of them; all have the scores of all.
    """
    return ranks.gathered(scores_of(model, store, exams[ranks.mine(len(exams))], clip, config, seed), len(exams))


@torch.no_grad()
def scores_of(
    model: ClipModel,
    store: FrameStore | Features,
    exams: torch.Tensor,
    clip: ClipConfig,
    config: DownstreamConfig,
    seed: int,
) -> torch.Tensor:
    """As `predict`, by this process alone.

    Each frame passes the backbone once, however many clips hold it; none does whose maps a store of Features has.
    """
    model.eval()
    exams = exams.to(store.lengths.device)
    clip, clips = model.looks(clip, config.clips, (store.store if isinstance(store, Features) else store).extremes[1])
    scores, chunk = [], 1
    a = 0
    while a < len(exams):
        some = exams[a : a + chunk]
        chosen, count = prediction_clips(store.lengths[some], clip, clips, seed)  # [E, clips, T]
        if isinstance(store, Features) and store.whole:
            maps = store.clips(some.repeat_interleave(clips), chosen.flatten(0, 1))  # [E * clips, T, C, h, w]
        else:
            frames, numbers = (store.store, store.exams[some]) if isinstance(store, Features) else (store, some)
            rows, where = (frames.offsets[numbers][:, None, None] + chosen).unique(return_inverse=True)
            maps = torch.cat(list(maps_of(model.backbone, frames, rows, config.dtype)))[where.flatten(0, 1)]
        with autocast(maps.device, config.dtype):
            logits = model(maps, count.repeat_interleave(clips))
        scores.append(torch.sigmoid(logits.float()).unflatten(0, (len(some), clips)).mean(1))
        a += chunk
        chunk = max(1, min(16, PREDICTED * chunk // maps.numel()))  # the first exam has told how large the maps are
    return torch.cat(scores)


@dataclass
class Fitted:
    """The model at the learning rate and epoch that tune chose, and every epoch's record of every learning rate."""

    model: ClipModel
    history: list[dict] = field(default_factory=list)
    # seconds of earlier processes: a killed one that this one went on from, one that filled the cache
    spent: float = 0.0

    @property
    def best(self) -> dict:
        return least_loss(self.history)


def last_layer(head: nn.Module) -> nn.Linear:
    """The layer that gives a head's logits."""
    return [m for m in head.modules() if isinstance(m, nn.Linear)][-1]


def start_at_prior(head: nn.Module, logits: torch.Tensor) -> None:
    """Sets the last layer's bias to `logits` [L], the constant ones.

    From zero the first epochs would go into the prevalence, and rare labels take all features down on the way (Lin et
    al. 2017, 4.1).
    """
    with torch.no_grad():
        last_layer(head).bias.copy_(logits)


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
    sampling: Sampling | None = None,
    progress: Progress = quiet,
    resume: Resume | None = None,
) -> Fitted:
    """Train `model` from the same start at each learning rate for `config.trial` epochs; the rate with the least loss
    on tune goes on to `config.epochs`. Kept: the rate and epoch with the least loss on tune, at the temperature with
    the least (Guo et al. 2017).

    truth: float [E, L] by the clips' own exam numbers; exams: those to train on; tune(model) -> probabilities [tune
    exams, L]; sampling: an epoch draws exams with replacement by these weights, else each once. Tune is judged by what
    is trained, the same loss on exams weighed alike: a reweighted loss moves all logits on purpose, which plain
    cross-entropy would count as an error.
    """
    if getattr(model.head, "whole", False):
        raise UserError("head logistic: is fitted by the harness, on frozen features; choose another head")
    device = truth.device
    trial = min(config.trial, config.epochs)
    tried = len(config.lrs) * trial
    epochs = tried + config.epochs - trial  # of all learning rates together
    per_epoch = -(-len(exams) // config.batch)

    def epoch_of(position: int) -> int:
        """Of one learning rate's own, at `position` among the epochs of all."""
        return position % trial if position < tried else position - tried + trial

    learnt = model.learnt
    result, start = Fitted(model), 0
    best: dict = {}
    leader: dict = {}
    known, seen = exams.cpu(), truth[exams]
    weights = sampling(seen).cpu() if sampling else None
    prior = constant(seen, trained_by(loss, 0), sampling)
    start_at_prior(model.head, prior)
    first = copy.deepcopy(learnt.state_dict())
    optimiser = config.optimise(model)
    network = ranks.parallel(model)
    total = torch.zeros((), device=device)  # loss over the epoch so far
    with seeded(seed, "downstream loop"):
        if resume and (state := resume.load()):
            learnt.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            result.history, best, leader = state["history"], state["best"], state["leader"]
            start, result.spent, total = state["step"], state["seconds"], state["total"].to(device)
        began = time.monotonic() - result.spent

        def plans():
            for step in range(start, epochs * per_epoch):
                position, k = divmod(step, per_epoch)
                epoch = epoch_of(position)
                if k == 0 or step == start:  # an order that the epoch alone decides, whatever the rate
                    draw = generator("cpu", seed, "downstream", epoch)
                    if weights is None:
                        order = torch.randperm(len(known), generator=draw)
                    else:
                        order = torch.multinomial(weights, len(known), replacement=True, generator=draw)
                some = known[order[k * config.batch : (k + 1) * config.batch]]
                yield some, generator(device, seed, "downstream", epoch, k)

        steps = progress(range(start, epochs * per_epoch), "downstream")
        for step, (some, x, count, real) in zip(steps, clips.batches(plans())):
            position, k = divmod(step, per_epoch)
            lr, epoch = config.lrs[position // trial] if position < tried else leader["lr"], epoch_of(position)
            if k == 0 and epoch == 0:
                learnt.load_state_dict(first)
                optimiser = config.optimise(model)
            elif k == 0 and position == tried:
                learnt.load_state_dict(leader["model"])
                optimiser.load_state_dict(leader["optimiser"])
            for group in optimiser.param_groups:
                group["lr"] = lr * config.rate(epoch * per_epoch + k, per_epoch) * group["pace"]
            model.train()
            with autocast(device, config.dtype):
                logits = network(x, count, real)
            together = min(config.batch, len(exams) - k * config.batch)  # exams of all ranks
            value = trained_by(loss, epoch / config.epochs)(logits.float(), truth[some]) * ranks.weight(together)
            value.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            total += ranks.mean(value.detach()) * together
            if k == per_epoch - 1:
                least, temperature = tempered(
                    tune(model), prior, lambda logits: mean_loss(logits, tune_truth, loss, sampling)
                )
                record = {
                    "lr": lr,
                    "epoch": epoch,
                    "seconds": time.monotonic() - began,
                    "fit_loss": float(total) / len(exams),
                    "tune_loss": least,
                    "temperature": temperature,
                }
                result.history.append(record)
                total.zero_()
                if result.best is record:
                    best = copy.deepcopy(learnt.state_dict())
                if epoch == trial - 1 and position < tried and result.best["lr"] == lr:
                    leader = copy.deepcopy(
                        {"lr": lr, "model": learnt.state_dict(), "optimiser": optimiser.state_dict()}
                    )
            if resume:
                resume.tick(
                    lambda: {
                        "model": learnt.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "best": best,
                        "leader": leader,
                        "history": result.history,
                        "step": step + 1,
                        "total": total,
                        "seconds": time.monotonic() - began,
                    },
                    last=step == epochs * per_epoch - 1,
                )
    learnt.load_state_dict(best)
    with torch.no_grad():
        last = last_layer(model.head)
        last.weight.div_(result.best["temperature"])
        last.bias.copy_(prior + (last.bias - prior) / result.best["temperature"])
    return result
