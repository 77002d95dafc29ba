"""METHODS: name -> how it is fitted. A method is given a Cell and returns an Outcome; nothing else is asked of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from baselines.pretexts import random_weights
from baselines.supervised import supervised
from sslm_core.cache import Cache
from sslm_core.checkpoint import Resume
from sslm_core.downstream import ClipModel, Fitted
from sslm_core.frames import FrameStore, Progress
from sslm_core.jigsaw import Jigsaw
from sslm_core.pretext import Pretrained
from sslm_core.sslm import SSLMConfig, diagnose, finetune, pretext

from . import cost


@dataclass(frozen=True)
class Cell:
    """What a method may see: frames and labels of the exams to fit and to tune on. Under protocol `clean`, no reported exam."""

    config: SSLMConfig
    store: FrameStore
    truth: torch.Tensor  # float32 [E, L]
    fit: torch.Tensor  # exam numbers
    tune: torch.Tensor
    seed: int
    progress: Progress
    resume: Resume  # of the loop that sees labels
    cache: Cache
    shared: Callable[[str, Callable[[Resume], Pretrained]], tuple[Pretrained, float]]  # an encoder trained once for all cells that want it


@dataclass
class Outcome:
    """A model of frames to logits, its scores on tune [tune exams, L], and what the record of the run tells."""

    model: ClipModel
    tune_scores: torch.Tensor
    fitted: Fitted
    pretext: list[dict] = field(default_factory=list)  # history, where there is a pretext
    classes: int = 0  # of the pretext
    pretext_flops: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


def _downstream(cell: Cell, encoder: torch.nn.Module, **more) -> Outcome:
    """The encoder frozen under a head, or trained on with it."""
    began = time.monotonic()
    terms = (cell.config, encoder, cell.config.encoder.channels, cell.store, cell.truth, cell.fit, cell.tune, cell.seed)
    if cell.config.downstream.freeze:
        fitted, scores = diagnose(*terms, progress=cell.progress, resume=cell.resume, cache=cell.cache)
    else:
        fitted, scores = finetune(*terms, progress=cell.progress, resume=cell.resume)
    seconds = more.pop("seconds", {}) | {"downstream": time.monotonic() - began + fitted.spent}
    return Outcome(fitted.model, scores, fitted, seconds=seconds, **more)


def _task(cell: Cell) -> Jigsaw:
    return Jigsaw(cell.config.jigsaw, cell.store.data.shape[-1], cell.seed, cell.store.data.device)


def sslm(cell: Cell) -> Outcome:
    """The paper: a jigsaw-pretrained encoder, frozen, under a ConvLSTM head."""
    pretrained, seconds = cell.shared("jigsaw", lambda resume: pretext(cell.config, cell.store, cell.fit, cell.tune, cell.seed,
                                                                       cell.progress, resume))  # fmt: skip
    work = cost.pretext(cost.patches(cell.config, cell.store.data.shape[-1]), cell.config.pretext, len(cell.fit), len(cell.tune))
    return _downstream(cell, pretrained.encoder, pretext=pretrained.history, classes=_task(cell).classes,
                       seconds={"pretext": seconds}, pretext_flops=work)  # fmt: skip


def random(cell: Cell) -> Outcome:
    """The control: SSLM's encoder with random weights, frozen, under the same head."""
    began = time.monotonic()
    encoder = random_weights(cell.config, _task(cell), cell.store, cell.fit, cell.seed, cell.progress)
    work = cost.patches(cell.config, cell.store.data.shape[-1]) * len(cell.fit) * cell.config.pretext.draws
    return _downstream(cell, encoder, seconds={"pretext": time.monotonic() - began}, pretext_flops=work)


def from_scratch(cell: Cell) -> Outcome:
    """SSLM's encoder and head, end to end, from scratch."""
    began = time.monotonic()
    fitted, scores = supervised(cell.config, cell.store, cell.truth, cell.fit, cell.tune, cell.seed, progress=cell.progress,
                                resume=cell.resume)  # fmt: skip
    return Outcome(fitted.model, scores, fitted, seconds={"downstream": time.monotonic() - began + fitted.spent})


METHODS: dict[str, Callable[[Cell], Outcome]] = {
    "sslm": sslm,
    "random": random,
    "supervised": from_scratch,
}
