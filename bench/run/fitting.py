"""A memory that is full: which batch would have fitted."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from sslm_core import ranks
from sslm_core.frames import Progress

from .methods import METHODS, Cell, frozen_by

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


def advice(full: str, name: str, cell: Cell, loop: str) -> str:
    """One line for method `name` whose `loop` (pretext, downstream or another) has run out of memory on `cell`. full:
    as memory_full."""
    part = "finetune" if loop == "downstream" and not frozen_by(name, cell.config) else loop
    gpu, full = "GPU" in full, f"{full} ({loop})"
    if not gpu:  # trying batches could have the system kill this process
        batch = f"{part}.batch (now {getattr(cell.config, part).batch}), " if hasattr(cell.config, part) else ""
        return f"{full}; set smaller {batch}clip.frames or encoder, use --jobs 1, or a machine with more memory"
    if ranks.world() > 1:
        return f"{full}, of rank {ranks.rank()}; use a smaller batch, or more GPUs"
    if loop not in ("pretext", "downstream"):
        return f"{full}; use --store stream, a smaller preset or another GPU"
    batch = getattr(cell.config, part).batch
    while batch := batch // 2:
        torch.cuda.empty_cache()
        if fits(METHODS[name], cell, loop, part, batch):
            return f"{full}; a batch of {batch} fits: --set {part}.batch={batch}"
    return f"{full}, with a batch of 1 too; use a smaller encoder (--set encoder=...) or another GPU"


def fits(method: Callable, cell: Cell, loop: str, part: str, batch: int) -> bool:
    config = replace(cell.config, **{part: replace(getattr(cell.config, part), batch=batch)})
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
