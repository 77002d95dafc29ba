"""How fast and how costly: exams per second from frames to scores, FLOPs, parameters, peak memory."""

import statistics
import time
from collections.abc import Callable

import torch

from sslm_core.clips import ClipConfig
from sslm_core.downstream import ClipModel, DownstreamConfig, scores_of
from sslm_core.frames import FrameStore
from sslm_core.memory import peak_megabytes

from .flops import flops


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median wall time of `work` after one warm-up call."""
    work()
    times = []
    for _ in range(3):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def prediction(model: ClipModel, store: FrameStore, clip: ClipConfig, config: DownstreamConfig) -> dict[str, float]:
    """Cost of predicting exams of `store` as `predict` does, on up to 4 exams evenly taken from it."""
    device = store.device
    some = torch.linspace(0, len(store) - 1, min(4, len(store)), device=device).long()
    count = len(some)

    def work():
        scores_of(model, store, some, clip, config, seed=0)

    return {
        "exams_per_s": count / median_seconds(work, device),
        "flops_per_exam": flops(work) / count,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "peak_mb": peak_megabytes(device),
    }
