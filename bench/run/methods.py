"""METHODS: name -> all that is particular to a method. Its fit() is given a Cell and returns an Outcome."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from baselines import imagenet, reweighted
from baselines.supervised import small_net
from baselines.timm_backbone import timm_backbone
from sslm_core.downstream import ClipModel, DownstreamConfig, Fitted
from sslm_core.encoder import Upto, frozen
from sslm_core.errors import UserError
from sslm_core.features import Scale
from sslm_core.losses import Loss, Sampling, bce, constant, losses
from sslm_core.sslm import SSLMConfig, diagnose, finetune, new_encoder, new_head

from . import probe
from .encoders import PRETEXTS, Cell, Pretext


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


PARTS = ("backbone", "scale", "head")  # of a ClipModel, as they are stored
Weighing = Callable[[torch.Tensor], Loss]  # the truth of the labelled exams -> the loss to train with


@dataclass(frozen=True)
class Method:
    """Where a method's backbone comes from, and what labels do to it; of what is None or empty the preset decides.

    backbone: of a cell, a module of frames [B, 1, H, W] to maps [B, channels, h, w] with `channels`; or pretext: the
    name in PRETEXTS of an encoder that all methods which name it share.
    """

    backbone: Callable[[Cell], torch.nn.Module] | None = None
    pretext: str = ""
    freeze: bool | None = None  # the backbone under a head; or it is trained on with the head
    head: str = ""
    loss: Weighing | None = None
    sampling: Sampling | None = None
    pace: float = 1.0  # of a backbone that is trained on: times the head's learning rate

    def frozen(self, config: SSLMConfig) -> bool:
        """Whether it learns a head alone."""
        return config.downstream.freeze if self.freeze is None else self.freeze

    @property
    def alone(self) -> bool:
        """Whether several ranks cannot share its work."""
        return bool(self.pretext) and PRETEXTS[self.pretext].alone

    def fit(self, cell: Cell) -> Outcome:
        if self.backbone:
            return downstream(cell, self, self.backbone(cell))
        made = PRETEXTS[self.pretext].encoder(cell, self.pretext)
        outcome = downstream(cell, self, made.encoder)
        outcome.pretext, outcome.classes, outcome.pretext_flops = made.history, made.classes, made.flops
        outcome.seconds = {"pretext": made.seconds} | outcome.seconds
        return outcome


def downstream(cell: Cell, method: Method, backbone: torch.nn.Module) -> Outcome:
    """The backbone frozen under a head, or trained on with it."""
    began = time.monotonic()
    freeze, head, loss, sampling = method.frozen(cell.config), method.head, method.loss, method.sampling
    part = "downstream" if freeze else "finetune"
    config = replace(cell.config, **{part: replace(getattr(cell.config, part), **({"head": head} if head else {}))})
    if cell.stored:
        return Outcome(rebuilt(cell, cell.stored, getattr(config, part), backbone), torch.empty(0), None)
    strategy: dict[str, Any] = {"loss": loss(cell.truth[cell.labelled]) if loss else bce, "sampling": sampling}
    common: dict[str, Any] = strategy | {"progress": cell.progress, "resume": cell.resume}
    exams, among = (cell.store, cell.truth, cell.labelled, cell.judged), (cell.fit, cell.tune)
    terms = (config, backbone, channels_of(backbone), *exams, cell.seed)
    if getattr(config, part).head == probe.HEAD:
        if not freeze or loss or sampling:
            raise UserError(
                f"{part}.head={probe.HEAD}: a probe of frozen features under the plain loss; choose another head"
            )
        fitted, scores = probe.fit(config, backbone, *exams, cell.cache, among, cell.progress)
    elif freeze:
        fitted, scores = diagnose(*terms, **common, cache=cell.cache, among=among)
    else:
        fitted, scores = finetune(*terms, **common, pace=method.pace)
    truth = cell.truth[cell.judged]
    nothing = constant(cell.truth[cell.labelled], **strategy).expand_as(truth)
    judged = torch.stack(
        [losses(logits, truth, **strategy) for logits in (torch.logit(scores.clamp(1e-6, 1 - 1e-6)), nothing)]
    )
    seconds = {"downstream": time.monotonic() - began + fitted.spent}
    return Outcome(fitted.model, scores, fitted, judged, seconds=seconds)


def channels_of(backbone: Any) -> int:
    return backbone.channels


def rebuilt(cell: Cell, stored: dict, config: DownstreamConfig, backbone: torch.nn.Module) -> ClipModel:
    """The fitted model whose parts were `stored`."""
    channels = channels_of(backbone)
    if layer := stored.get("layer"):
        backbone = part = Upto(backbone.eval(), layer)
        channels = part.channels(cell.frame)
    scale = Scale(channels) if stored["scale"] else None
    model = ClipModel(backbone, new_head(config, channels, cell.truth.shape[1], cell.seed), scale)
    for name in PARTS:
        getattr(model, name).load_state_dict(stored[name])
    if stored["frozen"]:
        frozen(model.backbone)
    return model.to(cell.store.device).eval()


def _probed(method: Method) -> Method:
    return replace(method, freeze=True, head=probe.HEAD)


STRATEGIES: dict[str, dict[str, Any]] = {  # against imbalance
    "weighted": {"loss": reweighted.weighted},
    "focal": {"loss": reweighted.focal},
    "effective": {"loss": reweighted.effective},
    "ldam": {"loss": reweighted.ldam},
    "sampled": {"sampling": reweighted.balanced},
}
SSLM, RANDOM = Method(pretext="jigsaw"), Method(pretext="random")
SUPERVISED = Method(lambda cell: new_encoder(cell.config.encoder, cell.seed), freeze=False)
IMAGENET = Method(lambda cell: imagenet.efficientnet_lite0(), pace=imagenet.PACE)
TIMM = Method(
    lambda cell: timm_backbone(cell.config.backbone, cell.frame, trained=cell.stored is None), pace=imagenet.PACE
)

METHODS: dict[str, Method] = {
    "sslm": SSLM,  # the paper: a jigsaw-pretrained encoder, frozen, under a ConvLSTM head
    "sslm-probe": _probed(SSLM),
    "sslm-finetuned": replace(SSLM, freeze=False),
    "random": RANDOM,  # the control: SSLM's encoder with random weights, frozen, under the same head
    "random-probe": _probed(RANDOM),
    "supervised": SUPERVISED,  # SSLM's encoder and head, end to end
    "supervised-probe": _probed(Method(pretext="supervised")),
    "supervised-small": Method(lambda cell: small_net(cell.frame, cell.seed), freeze=False),
    "imagenet": IMAGENET,
    "imagenet-probe": _probed(IMAGENET),
    "imagenet-mrnet": replace(IMAGENET, head="max"),  # MRNet's head on frozen features
    "imagenet-finetuned": replace(IMAGENET, freeze=False),
    "timm": TIMM,  # any network of timm: --set backbone=NAME
    "timm-probe": _probed(TIMM),
    "timm-finetuned": replace(TIMM, freeze=False),
    "timm-mrnet": replace(TIMM, freeze=False, head="max"),  # MRNet's recipe: all is trained, the maximum over frames
    # SSLM with another pretext
    **{
        name: Method(pretext=name)
        for name, task in PRETEXTS.items()
        if isinstance(task, Pretext) and name != SSLM.pretext
    },
    **{f"sslm-{name}": replace(SSLM, **how) for name, how in STRATEGIES.items()},
    **{f"supervised-{name}": replace(SUPERVISED, **how) for name, how in STRATEGIES.items()},
}
