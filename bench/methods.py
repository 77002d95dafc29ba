"""METHODS: name -> how it is fitted. A method is given a Cell and returns an Outcome; nothing else is asked of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from baselines.pretexts import random_weights
from baselines.supervised import supervised
from sslm_core.checkpoint import Resume
from sslm_core.downstream import ClipModel, Fitted
from sslm_core.frames import FrameStore, Progress
from sslm_core.jigsaw import Jigsaw
from sslm_core.sslm import SSLMConfig, diagnose, pretext


@dataclass(frozen=True)
class Cell:
    """What a method may see: the frames of train, its labels, which exams to fit and to tune on. No reported exam."""

    config: SSLMConfig
    store: FrameStore
    truth: torch.Tensor  # float32 [E, L]
    fit: torch.Tensor  # exam numbers
    tune: torch.Tensor
    seed: int
    progress: Progress
    resume: Callable[[str], Resume]  # part of the method -> its checkpoint


@dataclass
class Outcome:
    """A model of frames to logits, its scores on tune [tune exams, L], and what the record of the run tells."""

    model: ClipModel
    tune_scores: torch.Tensor
    fitted: Fitted
    pretext: list[dict] = field(default_factory=list)  # history, where there is a pretext
    classes: int = 0  # of the pretext
    seconds: dict[str, float] = field(default_factory=dict)


def _frozen(cell: Cell, encoder: torch.nn.Module, **more) -> Outcome:
    began = time.monotonic()
    fitted, scores = diagnose(cell.config, encoder, cell.config.encoder.channels, cell.store, cell.truth, cell.fit, cell.tune,
                              cell.seed, progress=cell.progress, resume=cell.resume("downstream"))  # fmt: skip
    seconds = more.pop("seconds", {}) | {"downstream": time.monotonic() - began}
    return Outcome(fitted.model, scores, fitted, seconds=seconds, **more)


def sslm(cell: Cell) -> Outcome:
    """The paper: a jigsaw-pretrained encoder, frozen, under a ConvLSTM head."""
    began = time.monotonic()
    pretrained = pretext(cell.config, cell.store, cell.fit, cell.tune, cell.seed, cell.progress, cell.resume("pretext"))
    seconds = {"pretext": time.monotonic() - began}
    classes = len(Jigsaw(cell.config.jigsaw, cell.store.data.shape[-1], cell.seed).permutations)
    return _frozen(cell, pretrained.encoder, pretext=pretrained.history, classes=classes, seconds=seconds)


def random(cell: Cell) -> Outcome:
    """The control: SSLM's encoder with random weights, frozen, under the same head."""
    began = time.monotonic()
    task = Jigsaw(cell.config.jigsaw, cell.store.data.shape[-1], cell.seed, cell.store.data.device)
    encoder = random_weights(cell.config, task, cell.store, cell.fit, cell.seed, cell.progress)
    return _frozen(cell, encoder, seconds={"pretext": time.monotonic() - began})


def from_scratch(cell: Cell) -> Outcome:
    """SSLM's encoder and head, end to end, from scratch."""
    began = time.monotonic()
    fitted, scores = supervised(cell.config, cell.store, cell.truth, cell.fit, cell.tune, cell.seed, progress=cell.progress,
                                resume=cell.resume("downstream"))  # fmt: skip
    return Outcome(fitted.model, scores, fitted, seconds={"downstream": time.monotonic() - began})


METHODS: dict[str, Callable[[Cell], Outcome]] = {
    "sslm": sslm,
    "random": random,
    "supervised": from_scratch,
}
