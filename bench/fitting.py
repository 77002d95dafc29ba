"""A GPU whose memory is full: which batch would have fitted."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from sslm_core import ranks
from sslm_core.frames import Progress
from sslm_core.sslm import SSLMConfig

STEPS = 3  # that a batch must take to count as fitting: the optimiser's own memory is there from the second on


class Fits(Exception):
    pass


class Watch:
    """A progress that knows the loop at hand; `enough`: a loop that is broken off with Fits after STEPS."""

    def __init__(self, progress: Progress, enough: str = ""):
        self.progress, self.enough, self.loop = progress, enough, ""

    def __call__(self, iterable: Iterable, what: str) -> Iterable:
        self.loop = what
        for step, item in enumerate(self.progress(iterable, what)):
            if what == self.enough and step == STEPS:
                raise Fits
            yield item


def advice(method: Callable, cell, loop: str) -> str:
    """One line for a `method` whose `loop` (pretext, downstream or another) has run out of the GPU's memory on `cell`, a Cell."""
    full = f"the GPU's memory is full ({loop})"
    if ranks.world() > 1:
        return f"{full}, of rank {ranks.rank()}; use a smaller batch, or more GPUs"
    if loop not in ("pretext", "downstream"):
        return f"{full}; use --store stream, a smaller preset or another GPU"
    batch = getattr(cell.config, loop).batch
    while batch := batch // 2:
        torch.cuda.empty_cache()
        if fits(method, cell, loop, batch):
            return f"{full}; a batch of {batch} fits: --set {loop}.batch={batch}"
    return f"{full}, with a batch of 1 too; use a smaller encoder (--set encoder=...) or another GPU"


def fits(method: Callable, cell, loop: str, batch: int) -> bool:
    config: SSLMConfig = replace(cell.config, **{loop: replace(getattr(cell.config, loop), batch=batch)})
    trial = replace(cell, config=config, progress=Watch(cell.progress, loop), resume=None)  # leaves no checkpoint
    if loop == "pretext":
        trial = replace(trial, shared=lambda name, train: (train(None), 0.0))
    try:
        method(trial)
    except torch.cuda.OutOfMemoryError:
        return False
    except Fits:
        pass
    return True
