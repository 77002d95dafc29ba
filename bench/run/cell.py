"""One cell (method, variant, plane, seed) -> OUT/<id>/{run.json, scores.csv, model.pt}. A finished cell has its
run.json, written last."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sslm_core import ranks
from sslm_core.cache import Cache
from sslm_core.checkpoint import Resume, load, save
from sslm_core.downstream import predict
from sslm_core.encoder import Encoder
from sslm_core.errors import UserError, memory_full
from sslm_core.exams import ExamSet
from sslm_core.features import Features
from sslm_core.files import drop_unfinished, locked, write_atomic
from sslm_core.frames import FrameStore, Progress, joined, packed_frames
from sslm_core.pretext import Pretrained, fast_dtype
from sslm_core.sslm import SSLMConfig

from ..store import explanations
from ..store.records import RECORD, write_scores
from .device import environment, prepare
from .encoders import Cell, training_flops
from .job import Job, code
from .methods import METHODS
from .models import digest, keep
from .throughput import prediction, synchronise


def run(job: Job, progress: Progress) -> float:
    """Fit one cell on the fit exams, score the reported exams once, store both. Returns its seconds.

    Of several ranks each comes here; the first one writes.
    """
    began = time.monotonic()
    prepare(job.preset, job.device)
    dataset, device = job.dataset, torch.device(job.device)
    config = resolved(job.preset.sslm, device)
    with ranks.in_turn():
        for name in ("run.json", explanations.FILE):  # what was found of the model that stood here goes with it
            (job.folder / name).unlink(missing_ok=True)
        if job.anew:
            drop_leftovers(job.folder)
    # named after the settings: what a killed run of other settings has left is not in the way
    resume = Resume(
        job.folder / f"downstream-{job.config()}.ckpt", identity(job) | {"method": job.method, "config": job.config()}
    )
    packed = job.home / "frames"
    store = joined([frames_of(packed, exams, job, progress) for exams in dataset.sets]).to(device, job.store)
    truth = torch.from_numpy(np.concatenate([exams.truth for exams in dataset.sets])).to(device, torch.float32)
    watch = Watch(progress)
    fit, tune = torch.tensor(dataset.fit), torch.tensor(dataset.tune)
    cache = Cache(job.home / "features", job.cache, job.frames())
    shown = torch.from_numpy(dataset.labelled), torch.from_numpy(dataset.judged)
    shared = partial(shared_encoder, job, config)
    cell = Cell(config, store, truth, fit, tune, job.seed, watch, resume, cache, shared, shown=shown)
    full = ""
    try:
        outcome = METHODS[job.method].fit(cell)
    except (RuntimeError, MemoryError) as error:
        if not (full := memory_full(error)):
            raise
    if full:  # only now what the error held is free
        raise UserError(f"{full} ({watch.loop}); {advice(full, job.method, config, watch.loop)}")
    synchronise(device)
    # under `clean` the reported exams are opened only now: nothing above can have chosen by them
    reported = frames_of(packed, dataset.reported, job, progress).to(device, job.store)
    everyone = torch.arange(len(reported))
    seen: FrameStore | Features = reported
    if outcome.model.frozen:  # cells that share an encoder share these maps too
        content = code(job.frames(), "reported", dataset.reported.ids)
        seen = Features(
            outcome.model.backbone, reported, everyone, config.downstream.dtype, replace(cache, content=content)
        )
    scores = predict(outcome.model, seen, everyone, config.clip, config.downstream, job.seed)
    if not ranks.first():
        return time.monotonic() - began
    fitted, losses = outcome.fitted, outcome.tune_losses
    assert fitted is not None and losses is not None  # nothing was built again
    record = job.key() | {
        "plane": job.plane,
        "planes": dataset.train.planes,
        "record": RECORD,
        "config": job.config(),
        "model": digest(outcome.model),
        "labels": dataset.train.labels,
        "minority": dataset.minority.tolist(),
        "fit_exams": len(dataset.labelled),
        "chosen": {name: fitted.best[name] for name in ("lr", "epoch")},
        "tune_losses": dict(zip(("model", "constant"), losses.tolist())),  # of each tune exam
        "history": fitted.history,
        "pretext": outcome.pretext,
        "pretext_classes": outcome.classes,
        "seconds": outcome.seconds | {"train": sum(outcome.seconds.values())},
        "cost": prediction(outcome.model, reported, config.clip, config.downstream)
        | {"train_flops": outcome.pretext_flops + training_flops(cell, outcome.model, len(fitted.history))},
        "environment": environment(device),
        "ranks": ranks.world(),
        "store": "stream" if store.streamed else "resident",
        "settings": dataclasses.asdict(config) | {"frame": job.preset.frame},
    }
    sets = (("tune", dataset.choosing, outcome.tune_scores), ("reported", dataset.reported, scores))
    keep(job.home, job.folder, outcome.model)
    write_atomic(job.folder / "scores.csv", lambda path: write_scores(path, sets))
    write_atomic(job.folder / "run.json", lambda path: path.write_text(json.dumps(record, indent=1)))
    drop_leftovers(job.folder)
    return time.monotonic() - began


class Watch:
    """A progress that knows the loop at hand."""

    loop = ""

    def __init__(self, progress: Progress):
        self.progress = progress

    def __call__(self, iterable: Iterable, what: str) -> Iterable:
        self.loop = what
        return self.progress(iterable, what)


def advice(full: str, method: str, config: SSLMConfig, loop: str) -> str:
    """What takes less memory, where a method has run out of it in its `loop`: pretext, downstream or another. full: as
    memory_full."""
    part = "finetune" if loop == "downstream" and not METHODS[method].frozen(config) else loop
    batch = f"{part}.batch (now {getattr(config, part).batch}), " if hasattr(config, part) else ""
    more = "--store stream, or another GPU" if "GPU" in full else "--jobs 1, or a machine with more memory"
    return f"set smaller {batch}clip.frames or encoder, use {more}"


def frames_of(packed: Path, exams: ExamSet, job: Job, progress: Progress) -> FrameStore:
    """Of the job's plane; the first rank packs them."""
    with ranks.in_turn():
        return packed_frames(packed, exams, job.plane, job.preset.frame, progress)


def identity(job: Job) -> dict:
    """What every checkpoint of a cell depends on."""
    return {"data": job.dataset.digest, "plane": job.plane, "seed": job.seed, "device": job.device}


def shared_encoder(
    job: Job, config: SSLMConfig, name: str, train: Callable[[Resume], Pretrained]
) -> tuple[Pretrained, float]:
    """The encoder of pretext `name`, and the seconds of its training: by whichever cell wants it first; the others wait
    and load it."""
    path = job.home / "encoders" / f"{name}-{job.plane}-s{job.seed}-{job.device}-{job.pretext()}.pt"
    resume = Resume(path.with_suffix(".ckpt"), identity(job) | {"pretext": job.pretext()})
    with locked(path.with_suffix(".lock")) if ranks.first() else contextlib.nullcontext():
        if ranks.agreed(path.exists()):
            state = load(path)
            encoder = Encoder(config.encoder)
            encoder.load_state_dict(state["encoder"])
            return Pretrained(encoder.to(job.device), state["history"]), state["seconds"]
        began = time.monotonic()
        result = train(resume)
        seconds = time.monotonic() - began + result.spent
        if ranks.first():
            state = {"encoder": result.encoder.state_dict(), "history": result.history, "seconds": seconds}
            save(path, state | {"task": result.task, "config": json.dumps(dataclasses.asdict(config))})
            resume.path.unlink(missing_ok=True)
        return result, seconds


def resolved(config: SSLMConfig, device: torch.device) -> SSLMConfig:
    """`config` with number types `auto` replaced by the one that is fastest on this device."""
    fast = fast_dtype(device)
    auto = [part for part in ("pretext", "downstream") if getattr(config, part).dtype == "auto"]
    return replace(config, **{part: replace(getattr(config, part), dtype=fast) for part in auto})


def drop_leftovers(folder: Path) -> None:
    """Checkpoints, and half-written files of killed runs."""
    drop_unfinished(folder)
    for path in folder.glob("*.ckpt"):
        path.unlink(missing_ok=True)
