"""The supervised baseline: the pretext's encoder and head, trained end to end from scratch on the same clips and labels."""

import torch

from sslm_core.downstream import Fitted
from sslm_core.frames import FrameStore
from sslm_core.sslm import SSLMConfig, finetune, new_encoder


def supervised(config: SSLMConfig, store: FrameStore, truth: torch.Tensor, exams: torch.Tensor, tune: torch.Tensor, seed: int,
               **more) -> tuple[Fitted, torch.Tensor]:  # fmt: skip
    """The fitted encoder-and-head, and its scores on `tune` [len(tune), L]. Arguments as those of sslm_core.sslm.finetune."""
    return finetune(config, new_encoder(config.encoder, seed), config.encoder.channels, store, truth, exams, tune, seed, **more)
