"""One cell (method, variant, plane, seed) -> OUT/<id>/{run.json, scores.csv}. A finished cell has its run.json, written last."""

import csv
import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sslm_core.checkpoint import Resume, load, write_atomic
from sslm_core.downstream import predict
from sslm_core.errors import UserError
from sslm_core.frames import Progress, load_frames

from .data import Dataset
from .methods import METHODS, Cell, training_flops
from .presets import Preset
from .throughput import prediction, synchronise

PROTOCOL = "clean"
RECORD = 1  # goes up with every change to what run.json holds or to what scores depend on beside the settings


@dataclass(frozen=True, eq=False)
class Job:
    """A cell to run: everything that its scores depend on is `config()`."""

    dataset: Dataset
    preset: Preset
    method: str
    plane: str
    seed: int
    device: str
    out: Path
    variant: str = ""
    anew: bool = False  # start from nothing, whatever a killed run has left

    @property
    def folder(self) -> Path:
        data = f"{self.dataset.name}-{self.dataset.digest}"
        cell = "-".join(filter(None, (self.method, self.variant, self.plane, f"s{self.seed}", self.device)))
        return self.out / data / f"{self.preset.name}-{PROTOCOL}" / cell

    def __str__(self) -> str:
        return " ".join(filter(None, (self.method, self.variant, self.plane, f"seed {self.seed}")))

    def key(self) -> dict:
        """The key columns of results.csv, less plane and label."""
        return {"dataset": self.dataset.name, "digest": self.dataset.digest, "preset": self.preset.name, "protocol": PROTOCOL,
                "method": self.method, "variant": self.variant, "seed": self.seed, "device": self.device}  # fmt: skip

    def config(self) -> str:
        """A digest of the numbers behind the cell; a stored run of another digest is run again."""
        numbers = dataclasses.asdict(self.preset.sslm)
        numbers |= {"frame": self.preset.frame, "threads": self.preset.threads, "record": RECORD}
        exams = [self.dataset.train.ids, self.dataset.reported.ids, self.dataset.fit.tolist()]
        return hashlib.sha256(json.dumps([numbers, exams], sort_keys=True).encode()).hexdigest()[:12]

    def finished(self) -> bool:
        path = self.folder / "run.json"
        return path.exists() and read_json(path).get("config") == self.config()


def read_json(path: Path) -> dict:
    try:
        record = json.loads(path.read_text())
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        return record
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable run record ({error}); delete its folder and run again") from None


def run(job: Job, progress: Progress) -> float:
    """Fit one cell on the fit exams, score the reported exams once, store both. Returns its seconds."""
    began = time.monotonic()
    prepare(job)
    dataset, config, device = job.dataset, job.preset.sslm, torch.device(job.device)
    identity = {"data": dataset.digest, "config": job.config(), "method": job.method, "seed": job.seed, "plane": job.plane}
    (job.folder / "run.json").unlink(missing_ok=True)
    if job.anew:
        drop_leftovers(job.folder)
    # named after the settings: what a killed run of other settings has left is not in the way
    checkpoints = {part: job.folder / f"{part}-{job.config()}.ckpt" for part in ("pretext", "downstream")}
    store = load_frames(dataset.train, job.plane, job.preset.frame, progress).to(device)
    cell = Cell(config, store, torch.tensor(dataset.train.truth, dtype=torch.float32, device=device), torch.tensor(dataset.fit),
                torch.tensor(dataset.tune), job.seed, progress,
                lambda part: Resume(checkpoints[part], identity | {"part": part}))  # fmt: skip
    spent = sum(load(path)["seconds"] for path in checkpoints.values() if path.exists())  # by a run that was killed
    outcome = METHODS[job.method](cell)
    synchronise(device)
    trained = spent + time.monotonic() - began
    # the reported exams are opened only now: nothing above can have chosen by them
    reported = load_frames(dataset.reported, job.plane, job.preset.frame, progress).to(device)
    scores = predict(outcome.model, reported, torch.arange(len(reported)), config.clip, config.downstream, job.seed)
    record = job.key() | {
        "plane": job.plane,
        "config": job.config(),
        "labels": dataset.train.labels,
        "minority": dataset.minority.tolist(),
        "fit_exams": len(dataset.fit),
        "chosen": {name: outcome.fitted.best[name] for name in ("lr", "epoch")},
        "lrs": config.downstream.lrs,
        "history": outcome.fitted.history,
        "pretext": outcome.pretext,
        "pretext_classes": outcome.classes,
        "seconds": outcome.seconds | {"train": trained},
        "cost": prediction(outcome.model, reported, config.clip, config.downstream) | {"train_flops": training_flops(cell, outcome)},
        "environment": environment(device),
        "settings": dataclasses.asdict(job.preset.sslm) | {"frame": job.preset.frame},
    }
    sets = (("tune", dataset.train.subset(dataset.tune), outcome.tune_scores), ("reported", dataset.reported, scores))
    write_atomic(job.folder / "scores.csv", lambda path: write_scores(path, sets))
    write_atomic(job.folder / "run.json", lambda path: path.write_text(json.dumps(record, indent=1)))
    drop_leftovers(job.folder)
    return time.monotonic() - began


def prepare(job: Job) -> None:
    """What a cell's scores and memory figure may depend on in this process."""
    if job.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    elif job.preset.threads:
        torch.set_num_threads(job.preset.threads)


def drop_leftovers(folder: Path) -> None:
    """Checkpoints, and half-written files of killed runs."""
    for path in [*folder.glob("*.ckpt"), *folder.glob(".*.tmp")]:
        path.unlink(missing_ok=True)


def write_scores(path: Path, sets) -> None:
    """Rows split, exam, label, truth, score; nine digits tell every float32 apart."""
    with open(path, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["split", "exam", "label", "truth", "score"])
        for split, exams, scores in sets:
            for name, truth, score in zip(exams.ids, exams.truth, scores.tolist()):
                rows.writerows([split, name, label, t, f"{s:.9g}"] for label, t, s in zip(exams.labels, truth, score))


def read_scores(path: Path) -> dict[str, tuple[list[str], np.ndarray, np.ndarray]]:
    """split -> (exam ids [E], truth [E, L], score [E, L]), labels in the order of the file."""
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        sets = {}
        for split in ("tune", "reported"):
            mine = [r for r in rows if r["split"] == split]
            labels = list(dict.fromkeys(r["label"] for r in mine))
            ids = [r["exam"] for r in mine[:: len(labels)]]
            truth, score = (np.array([kind(r[name]) for r in mine]).reshape(len(ids), len(labels))
                            for name, kind in (("truth", int), ("score", float)))  # fmt: skip
            sets[split] = (ids, truth, score)
        return sets
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a readable scores file ({error!r}); delete its folder and run again") from None


def environment(device: torch.device) -> dict[str, str]:
    """What a figure was measured on and with."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"machine": f"{name}, {cores()} cores", "torch": torch.__version__, "python": platform.python_version(), "commit": commit()}


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str:
    """The suite's own commit, with + where the working tree differs from it; empty outside a git checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
