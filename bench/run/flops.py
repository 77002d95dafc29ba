"""What training costs in floating-point operations, counted on shapes alone: for the record of a run, and before one is
started."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from sslm_core.downstream import DownstreamConfig
from sslm_core.encoder import Encoder
from sslm_core.heads import clip_head
from sslm_core.jigsaw import patch_size
from sslm_core.pretext import PretextConfig
from sslm_core.sslm import SSLMConfig

from ..config.presets import Preset

TRAINING = 3  # a training pass costs three forward passes: backward is counted as two
EXAMS, FRAMES, LABELS = 1130, (34.3, 29.8, 30.4), 3  # MRNet: train, mean frames of each plane


def _attention(query: tuple, key: tuple, value: tuple, *_, **__) -> int:
    """Of shapes [B, heads, tokens, width]."""
    return sdpa_flop_count(query, key, value)


# torch counts a GPU's attention; it does not know that of a CPU
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of one call (a multiply-add counts two), backward included where it runs one."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        work()
    return counter.get_total_flops()


def encoding(config: SSLMConfig, positions: int, size: int) -> int:
    """FLOPs of the encoder on one input [positions, size, size], forward."""
    with torch.device("meta"), torch.no_grad():
        encoder, one = Encoder(config.encoder).eval(), torch.empty(1, positions, size, size)
        return flops(lambda: encoder(one))


def patches(config: SSLMConfig, frame: int) -> int:
    """FLOPs of the encoder on the patches of one frame, forward."""
    return encoding(config, config.encoder.positions, patch_size(frame, config.jigsaw.grid))


def equal(config: PretextConfig, sample: float, reference: float) -> PretextConfig:
    """`config` for a task whose sample costs `sample`, to spend what it spends on samples of cost `reference`: fewer
    draws of each exam, then fewer epochs."""
    share = config.draws * reference / sample
    draws = max(1, round(share))
    return replace(config, draws=draws, epochs=max(1, round(config.epochs * share / draws)))


def pretext(sample: float, config: PretextConfig, fit: int, tune: int) -> float:
    """FLOPs of the encoder in the whole pretext, its looks at tune included; `sample` as patches() counts. Its small
    head is left out."""
    return sample * config.epochs * config.draws * (TRAINING * fit + tune)


def downstream(
    config: SSLMConfig,
    frame: float,
    clip: float,
    epochs: int,
    fit: torch.Tensor,
    tune: torch.Tensor,
    frozen: bool,
    cached: bool = True,
) -> float:
    """FLOPs of `epochs` epochs, all learning rates and looks at tune included. frame: of the backbone on one frame;
    clip: of the head on one clip; fit, tune: T of each exam."""
    down, length = config.downstream, config.clip.frames

    def looks(clips: int) -> int:  # at most: two clips may hold the same frame
        return int(tune.clamp(max=clips * length).sum())

    if frozen and cached:
        frames = down.views * int(fit.sum()) + int(tune.sum())
    else:
        frames = epochs * (
            (1 if frozen else TRAINING) * int(fit.clamp(max=length).sum()) + looks(down.tune_clips)
        ) + looks(down.clips)
    return frame * frames + clip * (
        epochs * (TRAINING * len(fit) + down.tune_clips * len(tune)) + down.clips * len(tune)
    )


def epochs(config: DownstreamConfig) -> int:
    """Of all learning rates together."""
    trial = min(config.trial, config.epochs)
    return len(config.lrs) * trial + config.epochs - trial


def passes(chosen: Preset, labels: int) -> tuple[int, int, int]:
    """FLOPs of the encoder on one frame and of the head on one clip, forward, and the numbers in a frame's maps."""
    config = chosen.sslm
    with torch.device("meta"), torch.no_grad():
        encoder, gray = Encoder(config.encoder).eval(), torch.empty(1, 1, chosen.frame, chosen.frame)
        frame, maps = flops(lambda: encoder(gray)), encoder(gray)
        head = clip_head(config.downstream.head, config.encoder.channels, config.downstream.hidden, labels)
        clip = maps[:, None].repeat(1, config.clip.frames, 1, 1, 1)
        return frame, flops(lambda: head(clip, torch.full((1,), config.clip.frames))), maps.numel()


def planned(chosen: Preset, frames: float, exams: int = EXAMS) -> dict[str, float]:
    """FLOPs of each part of training for a train set of `exams` exams with `frames` frames each: one plane, one
    seed."""
    config = chosen.sslm
    count = min(exams, chosen.exams[0] or exams)
    tune = round(chosen.tune * count)
    fit, held = torch.full((count - tune,), frames), torch.full((tune,), frames)
    frame, clip, numbers = passes(chosen, LABELS)
    size = 2 * numbers * (config.downstream.views * float(fit.sum()) + float(held.sum())) / 2**30
    terms = (config, frame, clip, epochs(config.downstream), fit, held)
    return {
        "pretext": pretext(patches(config, chosen.frame), config.pretext, len(fit), tune),
        f"head, features cached ({size:,.3g} GB)": downstream(*terms, frozen=True),
        "head, features computed anew": downstream(*terms, frozen=True, cached=False),
        "encoder and head end to end": downstream(
            config, frame, clip, epochs(config.finetune), fit, held, frozen=False
        ),
    }
