"""Other ways to an encoder than the jigsaw. Here: random weights, the control."""

import torch
import torch.nn as nn

from sslm_core.encoder import Encoder
from sslm_core.frames import FrameStore, Progress, quiet
from sslm_core.pretext import PretextTask, frame_of
from sslm_core.seeds import generator
from sslm_core.sslm import SSLMConfig, new_encoder


@torch.no_grad()
def random_weights(config: SSLMConfig, task: PretextTask, store: FrameStore, exams: torch.Tensor, seed: int,
                   progress: Progress = quiet) -> Encoder:  # fmt: skip
    """SSLM's encoder as initialised, its batch-norm statistics the mean over label-free batches.

    As many as in one epoch of SSLM's pretext, of the same patches of the same exams.
    """
    device, pretext = store.data.device, config.pretext
    encoder = new_encoder(config.encoder, seed).to(device).train()
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    steps = max(1, len(exams) * pretext.draws // pretext.batch)
    for step in progress(range(steps), "batch-norm statistics"):
        for norm in norms:
            norm.momentum = 1 / (step + 1)  # a plain mean over batches
        draw = generator(device, seed, "statistics", step)
        some = exams.to(device)[torch.randint(len(exams), (pretext.batch,), generator=draw, device=device)]
        encoder(task.batch(store, frame_of(store, some, draw), draw, train=True)[0])
    return encoder
