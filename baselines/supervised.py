"""The supervised baseline: the pretext's encoder and head, trained end to end from scratch on the same clips and labels."""

import torch

from sslm_core.clips import clip_warp
from sslm_core.downstream import ClipModel, Fitted, FrameClips, Loss, bce, fit, predict
from sslm_core.frames import FrameStore, Progress, quiet
from sslm_core.heads import clip_head
from sslm_core.seeds import seeded
from sslm_core.sslm import SSLMConfig, new_encoder


def supervised(config: SSLMConfig, store: FrameStore, truth: torch.Tensor, exams: torch.Tensor, tune: torch.Tensor, seed: int,
               loss: Loss = bce, sampling: torch.Tensor | None = None, progress: Progress = quiet,
               resume=None) -> tuple[Fitted, torch.Tensor]:  # fmt: skip
    """The fitted encoder-and-head, and its scores on `tune` [len(tune), L]. Arguments as those of sslm_core.sslm.diagnose."""
    device, down = store.data.device, config.downstream
    exams, tune, truth = exams.to(device), tune.to(device), truth.to(device)
    sampling = None if sampling is None else sampling.to(device)
    encoder = new_encoder(config.encoder, seed)
    with seeded(seed, "clip head"):
        head = clip_head(down.head, config.encoder.channels, down.hidden, truth.shape[1])
    model = ClipModel(encoder, head).to(device)
    clips = FrameClips(store, config.clip, clip_warp(config.clip, store.data.shape[-1], device))
    fitted = fit(model, clips, truth, exams, lambda m: predict(m, store, tune, config.clip, down, seed), truth[tune], down, seed,
                 loss, sampling, progress, resume)  # fmt: skip
    return fitted, predict(fitted.model, store, tune, config.clip, down, seed)
