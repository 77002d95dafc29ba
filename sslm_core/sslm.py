"""The method at a glance: pretrain -> freeze -> features -> fit -> predict."""

from dataclasses import dataclass, field

import torch

from .clips import ClipConfig, clip_warp
from .downstream import ClipModel, DownstreamConfig, FeatureClips, Fitted, Loss, bce, fit, predict
from .encoder import Encoder, EncoderConfig, frozen
from .features import Standardised, extract
from .frames import FrameStore, Progress, quiet
from .heads import clip_head
from .jigsaw import Jigsaw, JigsawConfig
from .pretext import PretextConfig, Pretrained, pretrain
from .seeds import derive, seeded


@dataclass(frozen=True)
class SSLMConfig:
    encoder: EncoderConfig
    jigsaw: JigsawConfig = field(default_factory=JigsawConfig)
    pretext: PretextConfig = field(default_factory=PretextConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    downstream: DownstreamConfig = field(default_factory=DownstreamConfig)


def new_encoder(config: EncoderConfig, seed: int) -> Encoder:
    with seeded(seed, "encoder"):
        return Encoder(config)


def pretext(config: SSLMConfig, store: FrameStore, exams: torch.Tensor, tune: torch.Tensor, seed: int, progress: Progress = quiet,
            resume=None) -> Pretrained:  # fmt: skip
    """Solve jigsaws of the frames of `exams`; no label is seen."""
    task = Jigsaw(config.jigsaw, store.data.shape[-1], seed, store.data.device)
    return pretrain(task, new_encoder(config.encoder, seed), store, exams, tune, config.pretext, seed, progress, resume)


def diagnose(config: SSLMConfig, encoder: torch.nn.Module, channels: int, store: FrameStore, truth: torch.Tensor, exams: torch.Tensor,
             tune: torch.Tensor, seed: int, loss: Loss = bce, sampling: torch.Tensor | None = None, progress: Progress = quiet,
             resume=None) -> tuple[Fitted, torch.Tensor]:  # fmt: skip
    """A head on the frozen encoder's features: the fitted encoder-and-head, and its scores on `tune` [len(tune), L].

    truth: float [E, L] of the store's exams; any backbone that maps frames [B, 1, H, W] to maps [B, channels, h, w] will do.
    """
    device, down = store.data.device, config.downstream
    encoder = frozen(encoder.to(device))
    exams, tune, truth = exams.to(device), tune.to(device), truth.to(device)
    sampling = None if sampling is None else sampling.to(device)
    warp = clip_warp(config.clip, store.data.shape[-1], device)
    views = [extract(encoder, store, exams, dtype=down.dtype, progress=progress)]
    if down.standardise:
        encoder = frozen(Standardised(encoder, views[0].data))
        views = [FrameStore(encoder.scale(views[0].data).half(), views[0].offsets)]
    views += [extract(encoder, store, exams, dtype=down.dtype, warp=warp, seed=derive(seed, "view", v), progress=progress)
              for v in range(1, down.views)]  # fmt: skip
    held = extract(encoder, store, tune, dtype=down.dtype, progress=progress)
    with seeded(seed, "clip head"):
        model = ClipModel(None, clip_head(down.head, channels, down.hidden, truth.shape[1])).to(device)
    everyone = torch.arange(len(tune), device=device)
    fitted = fit(model, FeatureClips(views, config.clip), truth[exams], torch.arange(len(exams), device=device),
                 lambda m: predict(m, held, everyone, config.clip, down, seed), truth[tune], down, seed, loss, sampling,
                 progress, resume)  # fmt: skip
    scores = predict(model, held, everyone, config.clip, down, seed)
    fitted.model = ClipModel(encoder, model.head)
    return fitted, scores
