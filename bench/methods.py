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

from .throughput import flops

TRAINING = 3  # a training pass costs three forward passes: backward is counted as two


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
    pretext_flops: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


def _frozen(cell: Cell, encoder: torch.nn.Module, **more) -> Outcome:
    began = time.monotonic()
    fitted, scores = diagnose(cell.config, encoder, cell.config.encoder.channels, cell.store, cell.truth, cell.fit, cell.tune,
                              cell.seed, progress=cell.progress, resume=cell.resume("downstream"))  # fmt: skip
    seconds = more.pop("seconds", {}) | {"downstream": time.monotonic() - began}
    return Outcome(fitted.model, scores, fitted, seconds=seconds, **more)


def _task(cell: Cell) -> Jigsaw:
    return Jigsaw(cell.config.jigsaw, cell.store.data.shape[-1], cell.seed, cell.store.data.device)


def patch_flops(cell: Cell, task: Jigsaw, encoder: torch.nn.Module) -> int:
    """Of the patches of one frame, forward."""
    encoder.eval()
    patches = torch.zeros(1, cell.config.encoder.positions, task.patch, task.patch, device=cell.store.data.device)
    with torch.no_grad():
        return flops(lambda: encoder(patches))


def training_flops(cell: Cell, outcome: Outcome) -> float:
    """All that was spent up to the choice of the model: pretext, features, every learning rate tried, every look at tune.

    Of the pretext the encoder is counted, not its small head.
    """
    model, down, lengths = outcome.model.eval(), cell.config.downstream, cell.store.lengths.cpu()
    with torch.no_grad():
        gray = torch.zeros(1, 1, *cell.store.data.shape[1:], device=cell.store.data.device)
        frame = flops(lambda: model.backbone(gray))
        maps = model.backbone(gray)[:, None].repeat(1, cell.config.clip.frames, 1, 1, 1)
        clip = flops(lambda: model.head(maps, torch.full((1,), cell.config.clip.frames, device=gray.device)))
    epochs = len(outcome.fitted.history)
    if any(p.requires_grad for p in model.backbone.parameters()):
        clip_frames = int(lengths[cell.fit].clamp(max=cell.config.clip.frames).sum())
        frames = epochs * (TRAINING * clip_frames + int(lengths[cell.tune].sum()))
    else:
        frames = down.views * int(lengths[cell.fit].sum()) + int(lengths[cell.tune].sum())
    clips = epochs * (TRAINING * len(cell.fit) + down.clips * len(cell.tune))
    return outcome.pretext_flops + frame * frames + clip * clips


def sslm(cell: Cell) -> Outcome:
    """The paper: a jigsaw-pretrained encoder, frozen, under a ConvLSTM head."""
    began = time.monotonic()
    pretrained = pretext(cell.config, cell.store, cell.fit, cell.tune, cell.seed, cell.progress, cell.resume("pretext"))
    seconds = {"pretext": time.monotonic() - began}
    task = _task(cell)
    looks = len(pretrained.history) * len(cell.tune) * cell.config.pretext.draws  # at tune
    work = patch_flops(cell, task, pretrained.encoder) * (TRAINING * pretrained.history[-1]["samples"] + looks)
    return _frozen(cell, pretrained.encoder, pretext=pretrained.history, classes=task.classes, seconds=seconds, pretext_flops=work)


def random(cell: Cell) -> Outcome:
    """The control: SSLM's encoder with random weights, frozen, under the same head."""
    began = time.monotonic()
    task = _task(cell)
    encoder = random_weights(cell.config, task, cell.store, cell.fit, cell.seed, cell.progress)
    work = patch_flops(cell, task, encoder) * len(cell.fit) * cell.config.pretext.draws
    return _frozen(cell, encoder, seconds={"pretext": time.monotonic() - began}, pretext_flops=work)


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
