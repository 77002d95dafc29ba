"""The method at a glance: pretrain -> freeze -> features -> fit -> predict; or, as an ablation, pretrain -> fit end to
end.

`__all__` is what one needs to run it on arrays of one's own.
"""

from dataclasses import dataclass, field, replace

import torch

from .cache import Cache
from .clips import ClipConfig, clip_warp
from .downstream import ClipModel, DownstreamConfig, FeatureClips, Fitted, FrameClips, fit, predict
from .encoder import Encoder, EncoderConfig, Upto, frozen, size
from .errors import UserError
from .explain import gradcam, occlusion
from .features import Features, Scale
from .frames import FrameStore, Progress, quiet, store_of
from .heads import clip_head
from .jigsaw import Jigsaw, JigsawConfig
from .losses import Loss, Sampling, bce
from .pretext import PretextConfig, Pretrained, pretrain
from .seeds import seeded

__all__ = [
    "SSLMConfig",
    "EncoderConfig",
    "JigsawConfig",
    "PretextConfig",
    "ClipConfig",
    "DownstreamConfig",
    "size",
    "store_of",
    "new_encoder",
    "pretext",
    "diagnose",
    "finetune",
    "predict",
    "gradcam",
    "occlusion",
]


@dataclass(frozen=True)
class BackboneConfig:
    """A network in the encoder's place, for baselines that take one by name."""

    name: str = "resnet18"
    weights: str = ""  # the name of a file; else what was published with the network

    def __post_init__(self):
        for what, given in (("name", self.name), ("weights", self.weights)):
            if "/" in given:
                raise UserError(f"{what} = {given}: expected a name without a folder")


@dataclass(frozen=True)
class SSLMConfig:
    encoder: EncoderConfig
    jigsaw: JigsawConfig = field(default_factory=JigsawConfig)
    pretext: PretextConfig = field(default_factory=PretextConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    # a head on the frozen encoder; clips and number type of all
    downstream: DownstreamConfig = field(default_factory=DownstreamConfig)
    # encoder and head end to end; as downstream, if not given
    finetune: DownstreamConfig = None  # type: ignore[assignment]
    backbone: BackboneConfig = field(default_factory=BackboneConfig)

    def __post_init__(self):
        if self.finetune is None:
            object.__setattr__(self, "finetune", replace(self.downstream, layer="", standardise=False))
        if self.finetune.layer:
            raise UserError("finetune.layer: only a frozen backbone is read at an inner stage")
        if self.finetune.standardise:
            raise UserError(
                "finetune.standardise: only features of a frozen backbone are standardised; one that trains has "
                "batch norm"
            )

    @property
    def trained(self) -> DownstreamConfig:
        """`finetune`, with the clips and the number type that exams are scored with."""
        scored = ("clips", "tune_clips", "dtype")
        return replace(self.finetune, **{name: getattr(self.downstream, name) for name in scored})


def new_encoder(config: EncoderConfig, seed: int) -> Encoder:
    with seeded(seed, "encoder"):
        return Encoder(config)


def pretext(
    config: SSLMConfig,
    store: FrameStore,
    exams: torch.Tensor,
    tune: torch.Tensor,
    seed: int,
    progress: Progress = quiet,
    resume=None,
) -> Pretrained:
    """Solve jigsaws of the frames of `exams`; no label is seen."""
    task = Jigsaw(config.jigsaw, store.data.shape[-1], seed, store.device)
    return pretrain(task, new_encoder(config.encoder, seed), store, exams, tune, config.pretext, seed, progress, resume)


def diagnose(
    config: SSLMConfig,
    encoder: torch.nn.Module,
    channels: int,
    store: FrameStore,
    truth: torch.Tensor,
    exams: torch.Tensor,
    tune: torch.Tensor,
    seed: int,
    loss: Loss = bce,
    sampling: Sampling | None = None,
    progress: Progress = quiet,
    resume=None,
    cache: Cache | None = None,
    among: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[Fitted, torch.Tensor]:
    """A head on the frozen encoder's features: the fitted encoder-and-head, and its scores on `tune` [len(tune), L].

    truth: float [E, L] of the store's exams; any backbone that maps frames [B, 1, H, W] to maps [B, channels, h, w]
    will do. among: rising exam numbers, `exams` and `tune` among them, whose maps are cached together: fits to parts of
    them share the files.
    """
    device, down = store.device, config.downstream
    encoder = frozen(encoder.to(device))
    if down.layer:
        part = Upto(encoder, down.layer)
        encoder, channels = frozen(part), part.channels(store.data.shape[-1])
    exams, tune, truth = exams.to(device), tune.to(device), truth.to(device)
    learnt, judged = torch.arange(len(exams), device=device), torch.arange(len(tune), device=device)
    mapped, looked = exams, tune
    if among:
        mapped, looked = (part.to(device) for part in among)
        # where they stand among the maps
        learnt, judged = torch.searchsorted(mapped, exams), torch.searchsorted(looked, tune)
    warp = clip_warp(config.clip, store.data.shape[-1], device)
    views = Features(encoder, store, mapped, down.dtype, cache, warp, down.views, seed, progress)
    held = Features(encoder, store, looked, down.dtype, cache, progress=progress)
    scale = Scale(channels).to(device).measure(encoder, store, exams, down.dtype) if down.standardise else None
    model = ClipModel(encoder, new_head(down, channels, truth.shape[1], seed), scale).to(device)
    judging = replace(down, clips=down.tune_clips)

    def judge(m: ClipModel) -> torch.Tensor:
        return predict(m, held, judged, config.clip, judging, seed)

    clips, loop = FeatureClips(views, config.clip), (down, seed, loss, sampling, progress, resume)
    fitted = fit(model, clips, truth[mapped], learnt, judge, truth[tune], *loop)
    fitted.spent += views.saved_seconds + held.saved_seconds
    return fitted, predict(fitted.model, held, judged, config.clip, down, seed)


def finetune(
    config: SSLMConfig,
    encoder: torch.nn.Module,
    channels: int,
    store: FrameStore,
    truth: torch.Tensor,
    exams: torch.Tensor,
    tune: torch.Tensor,
    seed: int,
    loss: Loss = bce,
    sampling: Sampling | None = None,
    progress: Progress = quiet,
    resume=None,
    pace: float = 1.0,
) -> tuple[Fitted, torch.Tensor]:
    """Encoder, at `pace` times the learning rate, and head trained end to end on the labels; otherwise as
    `diagnose`."""
    device, down = store.device, config.trained
    exams, tune, truth = exams.to(device), tune.to(device), truth.to(device)
    model = ClipModel(encoder, new_head(down, channels, truth.shape[1], seed), pace=pace).to(device)
    clips = FrameClips(store, config.clip, clip_warp(config.clip, store.data.shape[-1], device))
    judging = replace(down, clips=down.tune_clips)

    def judge(m: ClipModel) -> torch.Tensor:
        return predict(m, store, tune, config.clip, judging, seed)

    loop = (down, seed, loss, sampling, progress, resume)
    fitted = fit(model, clips, truth, exams, judge, truth[tune], *loop)
    return fitted, predict(fitted.model, store, tune, config.clip, down, seed)


def new_head(config: DownstreamConfig, channels: int, labels: int, seed: int) -> torch.nn.Module:
    with seeded(seed, "clip head"):
        return clip_head(config.head, channels, config.hidden, labels)
