"""Stored runs of any size, without training, by the writers of bench.run: `python tests/tools/synthetic.py --out
FOLDER` makes those of a `cpu` run of every method, for `python -m bench report --out FOLDER`."""

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from bench.config.presets import CPU
from bench.run.cell import RECORD, write_scores
from bench.run.device import environment
from bench.run.job import Job
from bench.run.methods import METHODS
from sslm_core.exams import minority

PREVALENCE = {"abnormal": 0.8, "acl": 0.3, "meniscus": 0.4}
PLANES = ("axial", "coronal", "sagittal")


def exam_set(labels: Iterable[str], exams: int, first: int, draw: np.random.Generator) -> SimpleNamespace:
    """What write_scores reads of an ExamSet; every label has both classes."""
    labels = tuple(labels)
    truth = (draw.random((exams, len(labels))) < [PREVALENCE.get(label, 0.4) for label in labels]).astype(np.uint8)
    truth[:4] = [[0] * len(labels), [1] * len(labels)] * 2
    return SimpleNamespace(ids=tuple(f"{e:04}" for e in range(first, first + exams)), labels=labels, truth=truth)


def store(
    out: Path,
    gains: dict[str, float],
    name: str = "made",
    labels: Iterable[str] = PREVALENCE,
    planes: Iterable[str] = PLANES,
    seeds: Iterable[int] = (0, 1),
    exams: int = 120,
    tune: int = 48,
    digest: str = "0" * 12,
) -> Path:
    """A run.json and a scores.csv for every cell. gains: method -> how far its scores' logits tell the classes apart; 0
    is chance."""
    draw = np.random.default_rng(0)
    sets = {"tune": exam_set(labels, tune, 0, draw), "reported": exam_set(labels, exams, tune, draw)}
    dataset = SimpleNamespace(name=name, digest=digest, protocol="clean")
    rare, planes = minority(sets["tune"].truth).tolist(), tuple(planes)
    for number, (method, gain) in enumerate(gains.items()):
        for seed in seeds:
            for p, plane in enumerate(planes):
                noise = np.random.default_rng((number, seed, p))
                job = Job(dataset, CPU, method, plane, seed, "cpu", out)
                scored = [(split, one, torch.from_numpy(scores(one.truth, gain, noise))) for split, one in sets.items()]
                job.folder.mkdir(parents=True)
                write_scores(job.folder / "scores.csv", scored)
                (job.folder / "run.json").write_text(
                    json.dumps(record(job, planes, labels, rare, tune, 10 * (number + 1)))
                )
    return out


def scores(truth: np.ndarray, gain: float, draw: np.random.Generator) -> np.ndarray:
    """Probabilities [E, L], sharper than they should be."""
    return 1 / (1 + np.exp(-2 * (gain * (2.0 * truth - 1) + draw.normal(size=truth.shape)))).astype(np.float32)


def record(
    job: Job, planes: tuple[str, ...], labels: Iterable[str], rare: list[int], tune: int, seconds: float
) -> dict:
    pretext = (
        [
            {
                "epoch": e + 1,
                "seconds": seconds * (e + 1),
                "tune_accuracy": 1 - math.exp(-0.1 * e),
                "tune_loss": 6 - e / 4,
            }
            for e in range(12)
        ]
        if job.method.startswith("sslm")
        else []
    )
    cost = {
        "exams_per_s": 300 / seconds,
        "flops_per_exam": 1e8 * seconds,
        "parameters": 470043,
        "trainable": 258403,
        "peak_mb": 800.0,
        "train_flops": 1e11 * seconds,
    }
    return job.key() | {
        "plane": job.plane,
        "planes": planes,
        "record": RECORD,
        "config": "made",
        "labels": tuple(labels),
        "minority": rare,
        "tune_losses": {"model": [0.4] * tune, "constant": [0.5] * tune},
        "fit_exams": 4 * tune,
        "chosen": {"lr": 1e-3, "epoch": 6},
        "history": [],
        "pretext": pretext,
        "pretext_classes": 500 if pretext else 0,
        "seconds": {"downstream": seconds, "train": seconds},
        "cost": cost,
        "environment": environment(torch.device("cpu")),
        "store": "resident",
        "settings": asdict(CPU.sslm) | {"frame": CPU.frame},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    gains = {method: 0.1 + 0.05 * number for number, method in enumerate(METHODS)}
    store(parser.parse_args().out, gains)


if __name__ == "__main__":
    main()
