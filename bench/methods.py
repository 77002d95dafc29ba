"""METHODS: name -> how it is fitted. A method is given a Cell and returns an Outcome; nothing else is asked of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from baselines import imagenet, reweighted
from baselines.pretexts import PIRL, Geometric, SimCLR, random_weights
from baselines.supervised import supervised, supervised_small
from sslm_core.cache import Cache
from sslm_core.checkpoint import Resume
from sslm_core.downstream import ClipModel, Fitted, Loss, Sampling, bce
from sslm_core.frames import FrameStore, Progress
from sslm_core.jigsaw import Jigsaw
from sslm_core.pretext import PretextConfig, PretextTask, Pretrained, pretrain
from sslm_core.sslm import SSLMConfig, diagnose, finetune, new_encoder, pretext

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


Weighing = Callable[[torch.Tensor], Loss]  # the truth of the fit exams -> the loss to train with


def _strategy(cell: Cell, loss: Weighing | None, sampling: Sampling | None) -> dict:
    """What the loop that sees labels does against imbalance; by default nothing."""
    return {"loss": loss(cell.truth[cell.fit]) if loss else bce, "sampling": sampling}


def downstream(cell: Cell, backbone: torch.nn.Module, channels: int, loss: Weighing | None = None, sampling: Sampling | None = None,
               freeze: bool | None = None, head: str = "", pace: float = 1.0, **more) -> Outcome:  # fmt: skip
    """The backbone frozen under a head, or trained on with it, at `pace` times the learning rate; the preset's choice, if not given."""
    began = time.monotonic()
    down = replace(cell.config.downstream, head=head or cell.config.downstream.head)
    terms = (replace(cell.config, downstream=down), backbone, channels, cell.store, cell.truth, cell.fit, cell.tune, cell.seed)
    common = _strategy(cell, loss, sampling) | {"progress": cell.progress, "resume": cell.resume}
    if down.freeze if freeze is None else freeze:
        fitted, scores = diagnose(*terms, **common, cache=cell.cache)
    else:
        fitted, scores = finetune(*terms, **common, pace=pace, pretrained=True)
    seconds = more.pop("seconds", {}) | {"downstream": time.monotonic() - began + fitted.spent}
    return Outcome(fitted.model, scores, fitted, seconds=seconds, **more)


def _jigsaw(cell: Cell) -> Jigsaw:
    return Jigsaw(cell.config.jigsaw, cell.store.data.shape[-1], cell.seed, cell.store.device)


def sslm(cell: Cell, **strategy) -> Outcome:
    """The paper: a jigsaw-pretrained encoder, frozen, under a ConvLSTM head."""
    pretrained, seconds = cell.shared("jigsaw", lambda resume: pretext(cell.config, cell.store, cell.fit, cell.tune, cell.seed,
                                                                       cell.progress, resume))  # fmt: skip
    work = cost.pretext(cost.patches(cell.config, cell.store.data.shape[-1]), cell.config.pretext, len(cell.fit), len(cell.tune))
    return downstream(cell, pretrained.encoder, cell.config.encoder.channels, **strategy, pretext=pretrained.history,
                       classes=_jigsaw(cell).classes, seconds={"pretext": seconds}, pretext_flops=work)  # fmt: skip


def random(cell: Cell) -> Outcome:
    """The control: SSLM's encoder with random weights, frozen, under the same head."""
    began = time.monotonic()
    encoder = random_weights(cell.config, _jigsaw(cell), cell.store, cell.fit, cell.seed, cell.progress)
    work = cost.patches(cell.config, cell.store.data.shape[-1]) * len(cell.fit) * cell.config.pretext.draws
    return downstream(cell, encoder, cell.config.encoder.channels, seconds={"pretext": time.monotonic() - began}, pretext_flops=work)


def _other_pretext(cell: Cell, name: str, task: PretextTask, sample: float, config: PretextConfig, classes: int) -> Outcome:
    """SSLM with another task in the jigsaw's place, `sample` FLOPs a frame, for the FLOPs that the jigsaw takes."""
    config = cost.equal(config, sample, cost.patches(cell.config, cell.store.data.shape[-1]))
    start = new_encoder(cell.config.encoder, cell.seed)
    pretrained, seconds = cell.shared(name, lambda resume: pretrain(task, start, cell.store, cell.fit, cell.tune, config, cell.seed,
                                                                    cell.progress, resume))  # fmt: skip
    return downstream(cell, pretrained.encoder, cell.config.encoder.channels, pretext=pretrained.history, classes=classes,
                       seconds={"pretext": seconds}, pretext_flops=cost.pretext(sample, config, len(cell.fit), len(cell.tune)))  # fmt: skip


def geometric(cell: Cell) -> Outcome:
    """Pretext: which transform was applied to the whole frame. Frames cost many patch sets each: they come in the paper's batches of 16."""
    frame, config = cell.store.data.shape[-1], cell.config.pretext
    task = Geometric(cell.config.jigsaw, frame, cell.store.device)
    config = replace(config, batch=min(config.batch, 16))
    return _other_pretext(cell, "geometric", task, cost.encoding(cell.config, 1, frame), config, task.classes)


def contrastive(cell: Cell, name: str, kind: type[SimCLR] | type[PIRL]) -> Outcome:
    """Pretext: views of one frame are alike, those of others are not."""
    frame, config = cell.store.data.shape[-1], cell.config.pretext
    task = kind(cell.config.jigsaw, frame, cell.seed, cell.store.device)
    return _other_pretext(cell, name, task, task.samples * cost.patches(cell.config, frame), config, task.classes(config.look))


def from_scratch(cell: Cell, train: Callable[..., tuple[Fitted, torch.Tensor]] = supervised, loss: Weighing | None = None,
                 sampling: Sampling | None = None) -> Outcome:  # fmt: skip
    """A backbone and a head, end to end, from scratch: SSLM's, or the field's small net."""
    began = time.monotonic()
    fitted, scores = train(cell.config, cell.store, cell.truth, cell.fit, cell.tune, cell.seed, progress=cell.progress,
                           resume=cell.resume, **_strategy(cell, loss, sampling))  # fmt: skip
    return Outcome(fitted.model, scores, fitted, seconds={"downstream": time.monotonic() - began + fitted.spent})


def pretrained(cell: Cell, backbone: Callable[[], imagenet.Backbone], **how) -> Outcome:
    """A backbone that has learnt ImageNet. `how`: frozen or not, and the head, where not as the preset says."""
    net = backbone()
    return downstream(cell, net, net.channels, pace=imagenet.PACE, **how)


METHODS: dict[str, Callable[[Cell], Outcome]] = {
    "sslm": sslm,
    "random": random,
    "supervised": from_scratch,
    "supervised-small": partial(from_scratch, train=supervised_small),
    "imagenet": partial(pretrained, backbone=imagenet.efficientnet_lite0),
    "imagenet-mrnet": partial(pretrained, backbone=imagenet.efficientnet_lite0, head="max"),  # MRNet's head on frozen features
    "imagenet-finetuned": partial(pretrained, backbone=imagenet.efficientnet_lite0, freeze=False),
    "resnet18": partial(pretrained, backbone=imagenet.resnet18),
    "alexnet": partial(pretrained, backbone=imagenet.alexnet, freeze=False, head="max"),  # MRNet as published
    "geometric": geometric,
    "simclr": partial(contrastive, name="simclr", kind=SimCLR),
    "pirl": partial(contrastive, name="pirl", kind=PIRL),
    "sslm-weighted": partial(sslm, loss=reweighted.weighted),
    "sslm-focal": partial(sslm, loss=reweighted.focal),
    "sslm-effective": partial(sslm, loss=reweighted.effective),
    "sslm-adjusted": partial(sslm, loss=reweighted.adjusted),
    "sslm-sampled": partial(sslm, sampling=reweighted.balanced),
    "supervised-weighted": partial(from_scratch, loss=reweighted.weighted),
    "supervised-focal": partial(from_scratch, loss=reweighted.focal),
    "supervised-effective": partial(from_scratch, loss=reweighted.effective),
    "supervised-adjusted": partial(from_scratch, loss=reweighted.adjusted),
    "supervised-sampled": partial(from_scratch, sampling=reweighted.balanced),
}
