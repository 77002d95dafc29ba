"""METHODS: name -> how it is fitted. A method is given a Cell and returns an Outcome; nothing else is asked of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from baselines import imagenet, reweighted
from baselines.pretexts import PIRL, Geometric, SimCLR, random_weights
from baselines.supervised import small_net
from sslm_core.cache import Cache
from sslm_core.checkpoint import Resume
from sslm_core.downstream import ClipModel, DownstreamConfig, Fitted
from sslm_core.encoder import Upto, frozen
from sslm_core.errors import UserError
from sslm_core.features import Scale
from sslm_core.frames import FrameStore, Progress
from sslm_core.jigsaw import Jigsaw
from sslm_core.losses import Loss, Sampling, bce, constant, losses
from sslm_core.pretext import PretextConfig, PretextTask, Pretrained, pretrain
from sslm_core.sslm import SSLMConfig, diagnose, finetune, new_encoder, new_head, pretext

from . import flops, probe


@dataclass(frozen=True)
class Cell:
    """What a method may see: frames of the exams to fit and to tune on, labels of those of them that are `labelled` and
    `judged`.

    Under protocol `clean`, no reported exam.
    """

    config: SSLMConfig
    store: FrameStore
    truth: torch.Tensor  # float32 [E, L]
    fit: torch.Tensor  # exam numbers
    tune: torch.Tensor
    seed: int
    progress: Progress
    resume: Resume  # of the loop that sees labels
    cache: Cache
    # an encoder trained once for all cells that want it
    shared: Callable[[str, Callable[[Resume], Pretrained]], tuple[Pretrained, float]]
    stored: dict | None = None  # parts of a model that was fitted before: it is built again, and nothing is trained
    # the exams of fit and tune whose labels are seen, where not all are
    shown: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def frame(self) -> int:
        """H = W of the frames."""
        return self.store.data.shape[-1]

    @property
    def labelled(self) -> torch.Tensor:
        return self.shown[0] if self.shown else self.fit

    @property
    def judged(self) -> torch.Tensor:
        return self.shown[1] if self.shown else self.tune


@dataclass
class Outcome:
    """A model of frames to logits, its scores on tune [tune exams, L], and what the record of the run tells."""

    model: ClipModel
    tune_scores: torch.Tensor
    fitted: Fitted | None  # None: built again from what is stored
    # [2, tune exams]: of the model and of the constant predictor of the fit exams
    tune_losses: torch.Tensor | None = None
    pretext: list[dict] = field(default_factory=list)  # history, where there is a pretext
    classes: int = 0  # of the pretext
    pretext_flops: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


ALONE = ("simclr", "pirl")  # not by several ranks: each frame is told from all others of its batch
PARTS = ("backbone", "scale", "head")  # of a ClipModel, as they are stored
Weighing = Callable[[torch.Tensor], Loss]  # the truth of the labelled exams -> the loss to train with


def _strategy(cell: Cell, loss: Weighing | None, sampling: Sampling | None) -> dict:
    """What the loop that sees labels does against imbalance; by default nothing."""
    return {"loss": loss(cell.truth[cell.labelled]) if loss else bce, "sampling": sampling}


def downstream(
    cell: Cell,
    backbone: torch.nn.Module,
    channels: int,
    loss: Weighing | None = None,
    sampling: Sampling | None = None,
    freeze: bool | None = None,
    head: str = "",
    pace: float = 1.0,
    **more,
) -> Outcome:
    """The backbone frozen under a head, or trained on with it, at `pace` times the learning rate; the preset's choice,
    if not given."""
    began = time.monotonic()
    freeze = cell.config.downstream.freeze if freeze is None else freeze
    part = "downstream" if freeze else "finetune"
    config = replace(cell.config, **{part: replace(getattr(cell.config, part), **({"head": head} if head else {}))})
    if cell.stored:
        return Outcome(rebuilt(cell, getattr(config, part), backbone, channels), torch.empty(0), None, **more)
    terms = (config, backbone, channels, cell.store, cell.truth, cell.labelled, cell.judged, cell.seed)
    strategy = _strategy(cell, loss, sampling)
    common = strategy | {"progress": cell.progress, "resume": cell.resume}
    if getattr(config, part).head == probe.HEAD:
        if not freeze or loss or sampling:
            raise UserError(
                f"{part}.head={probe.HEAD}: a probe of frozen features under the plain loss; choose another head"
            )
        fitted, scores = probe.fit(
            config,
            backbone,
            cell.store,
            cell.truth,
            cell.labelled,
            cell.judged,
            cell.cache,
            (cell.fit, cell.tune),
            cell.progress,
        )
    elif freeze:
        fitted, scores = diagnose(*terms, **common, cache=cell.cache, among=(cell.fit, cell.tune))
    else:
        fitted, scores = finetune(*terms, **common, pace=pace)
    truth = cell.truth[cell.judged]
    nothing = constant(cell.truth[cell.labelled], **strategy).expand_as(truth)
    judged = torch.stack(
        [losses(logits, truth, **strategy) for logits in (torch.logit(scores.clamp(1e-6, 1 - 1e-6)), nothing)]
    )
    seconds = more.pop("seconds", {}) | {"downstream": time.monotonic() - began + fitted.spent}
    return Outcome(fitted.model, scores, fitted, judged, seconds=seconds, **more)


def rebuilt(cell: Cell, config: DownstreamConfig, backbone: torch.nn.Module, channels: int) -> ClipModel:
    """The fitted model whose parts the cell has stored."""
    if layer := cell.stored.get("layer"):
        backbone = Upto(backbone.eval(), layer)
        channels = backbone.channels(cell.frame)
    scale = Scale(channels) if cell.stored["scale"] else None
    model = ClipModel(backbone, new_head(config, channels, cell.truth.shape[1], cell.seed), scale)
    for part in PARTS:
        getattr(model, part).load_state_dict(cell.stored[part])
    if cell.stored["frozen"]:
        frozen(model.backbone)
    return model.to(cell.store.device).eval()


def _jigsaw(cell: Cell) -> Jigsaw:
    return Jigsaw(cell.config.jigsaw, cell.frame, cell.seed, cell.store.device)


def sslm(cell: Cell, **how) -> Outcome:
    """The paper: a jigsaw-pretrained encoder, frozen, under a ConvLSTM head. `how`: another head, trained on, or a
    strategy."""
    pretrained, seconds = cell.shared(
        "jigsaw", lambda resume: pretext(cell.config, cell.store, cell.fit, cell.tune, cell.seed, cell.progress, resume)
    )
    work = flops.pretext(flops.patches(cell.config, cell.frame), cell.config.pretext, len(cell.fit), len(cell.tune))
    return downstream(
        cell,
        pretrained.encoder,
        cell.config.encoder.channels,
        **how,
        pretext=pretrained.history,
        classes=_jigsaw(cell).classes,
        seconds={"pretext": seconds},
        pretext_flops=work,
    )


def random(cell: Cell, **how) -> Outcome:
    """The control: SSLM's encoder with random weights, frozen, under the same head."""
    untrained, seconds = cell.shared(
        "random",
        lambda resume: Pretrained(
            random_weights(cell.config, _jigsaw(cell), cell.store, cell.fit, cell.seed, cell.progress)
        ),
    )
    work = flops.patches(cell.config, cell.frame) * len(cell.fit) * cell.config.pretext.draws
    return downstream(
        cell, untrained.encoder, cell.config.encoder.channels, seconds={"pretext": seconds}, pretext_flops=work, **how
    )


def _other_pretext(
    cell: Cell, name: str, task: PretextTask, sample: float, config: PretextConfig, classes: int
) -> Outcome:
    """SSLM with another task in the jigsaw's place, `sample` FLOPs a frame, for the FLOPs that the jigsaw takes."""
    config = flops.equal(config, sample, flops.patches(cell.config, cell.frame))
    start = new_encoder(cell.config.encoder, cell.seed)
    pretrained, seconds = cell.shared(
        name,
        lambda resume: pretrain(task, start, cell.store, cell.fit, cell.tune, config, cell.seed, cell.progress, resume),
    )
    work = flops.pretext(sample, config, len(cell.fit), len(cell.tune))
    return downstream(
        cell,
        pretrained.encoder,
        cell.config.encoder.channels,
        pretext=pretrained.history,
        classes=classes,
        seconds={"pretext": seconds},
        pretext_flops=work,
    )


def geometric(cell: Cell) -> Outcome:
    """Pretext: which transform was applied to the whole frame. Frames cost many patch sets each: they come in the
    paper's batches of 16."""
    frame, config = cell.frame, cell.config.pretext
    task = Geometric(cell.config.jigsaw, frame, cell.store.device)
    config = replace(config, batch=min(config.batch, 16))
    return _other_pretext(cell, "geometric", task, flops.encoding(cell.config, 1, frame), config, task.classes)


def contrastive(cell: Cell, name: str, kind: type[SimCLR] | type[PIRL]) -> Outcome:
    """Pretext: views of one frame are alike, those of others are not."""
    frame, config = cell.frame, cell.config.pretext
    task = kind(cell.config.jigsaw, frame, cell.seed, cell.store.device)
    return _other_pretext(
        cell, name, task, task.samples * flops.patches(cell.config, frame), config, task.classes(config.look)
    )


def from_scratch(cell: Cell, **strategy) -> Outcome:
    """SSLM's encoder and head, end to end."""
    return downstream(
        cell, new_encoder(cell.config.encoder, cell.seed), cell.config.encoder.channels, freeze=False, **strategy
    )


def small(cell: Cell) -> Outcome:
    """A small residual net and head, end to end."""
    net = small_net(cell.frame, cell.seed)
    return downstream(cell, net, net.channels, freeze=False)


def pretrained(cell: Cell, backbone: Callable[[], imagenet.Backbone], **how) -> Outcome:
    """A backbone that has learnt ImageNet. `how`: frozen or not, and the head, where not as the preset says."""
    net = backbone()
    return downstream(cell, net, net.channels, pace=imagenet.PACE, **how)


METHODS: dict[str, Callable[[Cell], Outcome]] = {
    "sslm": sslm,
    "sslm-probe": partial(sslm, freeze=True, head=probe.HEAD),
    "sslm-finetuned": partial(sslm, freeze=False),
    "random": random,
    "random-probe": partial(random, freeze=True, head=probe.HEAD),
    "supervised": from_scratch,
    "supervised-small": small,
    "imagenet": partial(pretrained, backbone=imagenet.efficientnet_lite0),
    "imagenet-probe": partial(pretrained, backbone=imagenet.efficientnet_lite0, freeze=True, head=probe.HEAD),
    # MRNet's head on frozen features
    "imagenet-mrnet": partial(pretrained, backbone=imagenet.efficientnet_lite0, head="max"),
    "imagenet-finetuned": partial(pretrained, backbone=imagenet.efficientnet_lite0, freeze=False),
    "resnet18": partial(pretrained, backbone=imagenet.resnet18),
    "alexnet": partial(pretrained, backbone=imagenet.alexnet, freeze=False, head="max"),  # MRNet as published
    "geometric": geometric,
    "simclr": partial(contrastive, name="simclr", kind=SimCLR),
    "pirl": partial(contrastive, name="pirl", kind=PIRL),
    "sslm-weighted": partial(sslm, loss=reweighted.weighted),
    "sslm-focal": partial(sslm, loss=reweighted.focal),
    "sslm-effective": partial(sslm, loss=reweighted.effective),
    "sslm-ldam": partial(sslm, loss=reweighted.ldam),
    "sslm-sampled": partial(sslm, sampling=reweighted.balanced),
    "supervised-weighted": partial(from_scratch, loss=reweighted.weighted),
    "supervised-focal": partial(from_scratch, loss=reweighted.focal),
    "supervised-effective": partial(from_scratch, loss=reweighted.effective),
    "supervised-ldam": partial(from_scratch, loss=reweighted.ldam),
    "supervised-sampled": partial(from_scratch, sampling=reweighted.balanced),
}


def pretext_of(method: str) -> str:
    """Name of the encoder that the method's cells share; empty where they share none."""
    work = METHODS[method]
    kind = getattr(work, "func", work)
    return (
        work.keywords["name"]
        if kind is contrastive
        else {sslm: "jigsaw", random: "random", geometric: "geometric"}.get(kind, "")
    )


def frozen_by(method: str, config: SSLMConfig) -> bool:
    """Whether the method learns a head alone."""
    work = METHODS[method]
    if getattr(work, "func", work) in (from_scratch, small):
        return False
    return getattr(work, "keywords", {}).get("freeze", config.downstream.freeze)
