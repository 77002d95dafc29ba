"""Has a change cost accuracy, work, memory or speed? Preset `check` against the rows that results.csv holds of it.

Each figure may differ by what the noise of those rows allows (gates.py).
"""

import csv
import io
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch

from sslm_core.errors import UserError
from sslm_core.exams import ENSEMBLES, MACRO, read_volume
from sslm_core.frames import load_frames, resize
from sslm_core.jigsaw import Jigsaw
from sslm_core.pretext import frame_of
from sslm_core.seeds import generator

from ..config.presets import Preset
from ..data.dataset import Dataset, planes_of
from ..machine import ROOT, cores
from ..run.job import Job
from ..run.sweep import sweep
from ..stats.figures import HEADLINE
from ..store import results
from ..store.scored import Scored
from . import gates
from .gates import IDENTICAL, Verdict

NOW = 4  # seeds that a check runs
KINDS = ("accuracy", "cost", "speed")
NOISY = {"pretext accuracy": "pretext_accuracy", **{f.macro: f.column for f in HEADLINE}, "skill": "skill"}
BOTH = "pretext accuracy"  # gated on both sides: a leak raises it
CEILING = {"1"}  # a figure that is 1 in every seed is not gated: nothing tells how often it is less
COSTS = {
    "FLOPs per exam": "flops_per_exam",
    "training FLOPs": "train_flops",
    "parameters": "parameters",
    "trainable": "trainable",
}
# methods without noise of training, run once: a backbone of fixed weights under the probe. The most that one of their
# scores or thresholds may differ: other instruction sets of the processor moved scores by .0003 and .0025 at most,
# thresholds by .00001 and .0001
FROZEN = {"imagenet-probe": 0.002, "random-probe": 0.01}
# what no weight enters, in gray levels of 0..1: other instruction sets moved it by 1e-6 at most
PATCHES, FRAMES = ("jigsaw batch", "means of patches"), ("resampling", "spreads of frames")
STILL = {(method, figure): limit for method, limit in FROZEN.items() for figure in ("scores", "thresholds")}
STILL |= {PATCHES: 0.002, FRAMES: 0.002}
SAMPLE = 16  # exams that PATCHES and FRAMES are of
SCORES = Path(__file__).with_name("scores.csv")  # every number of STILL, as `--update` found it
SCORE_COLUMNS = ("digest", "device", "method", "figure", "exam", "label", "value")
MEMORY = 1.5  # most that peak memory may grow by: it differs with the cells that a process has met before

Rows = list[dict[str, str]]  # of results.csv, label macro


# --- the baseline ----------------------------------------------------------------------------------------------------
def has(row: dict, key: dict) -> bool:
    return all(row[name] == value for name, value in key.items())


def stored(path: Path | None) -> tuple[str, Rows]:
    """The name of the baseline's file, and its rows. Raises UserError where it cannot be read."""
    if path:
        if not path.is_file():
            raise UserError(f"--baseline {path}: no such file")
        return str(path), results.read(path)
    try:
        shown = subprocess.run(
            ["git", "-C", str(ROOT), "show", "HEAD:results.csv"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        raise UserError(
            f"HEAD:results.csv: git does not show it ({why}); name the baseline by --baseline FILE"
        ) from None
    return "HEAD:results.csv", results.parsed(shown.stdout.removeprefix("\ufeff"), "HEAD:results.csv")


def usable(baseline: Rows, methods: tuple[str, ...], what: str) -> None:
    """Raises UserError unless each method has LEAST seeds, every gated figure, and its spread or CEILING."""
    mend = "make it by python -m bench check --update"
    for method in methods:
        mine = [row for row in baseline if row["method"] == method]
        if len(mine) < gates.LEAST:
            raise UserError(f"{what}: {len(mine)} seeds of {method} are stored, expected {gates.LEAST} or more; {mend}")
        for figure, column in NOISY.items():
            values = {row[column] for row in mine}
            if "" in values and (len(values) > 1 or figure != BOTH):
                raise UserError(f"{what}: {figure} of {method} is empty in some seeds; {mend}")
            if len(values) == 1 and values not in ({""}, CEILING):
                raise UserError(f"{what}: {figure} of {method} is the same in all seeds, which tells no noise; {mend}")


# --- what is there now -----------------------------------------------------------------------------------------------
def run(
    dataset: Dataset, chosen: Preset, seeds: list[int], device: str, jobs: int | None, folder: Path, exact: bool = True
) -> tuple[list[dict], list[dict[str, str]]]:
    """Rows of results.csv of every method and seed, run anew; if `exact` also rows of SCORES."""
    (plane,) = planes_of(chosen, dataset)
    noisy = [Job(dataset, chosen, method, plane, seed, device, folder) for method in chosen.methods for seed in seeds]
    frozen = [Job(dataset, chosen, method, plane, chosen.seeds[0], device, folder) for method in FROZEN if exact]
    sweep(noisy + frozen, jobs or (cores() if device == "cpu" else 1), lambda job: None)
    rows = [row for job in noisy for row in Scored([job.folder]).rows() if row["plane"] not in ENSEMBLES]
    return rows, still(dataset, chosen, plane, device, frozen) if exact else []


def still(dataset: Dataset, chosen: Preset, plane: str, device: str, frozen: list[Job]) -> Rows:
    """Rows of SCORES: of the finished jobs `frozen` scores on reported exams and thresholds as results.csv has them;
    patches of a jigsaw batch; resampled frames."""
    found = [*patches(dataset, chosen, plane, device), *resampled(dataset, chosen, plane)]
    for job in frozen:
        scored = Scored([job.folder])
        for exam, of_labels in zip(scored.ids, scored.scores[plane]):
            found += [(job.method, "scores", exam, label, score) for label, score in zip(scored.labels, of_labels)]
        rows = [row for row in scored.rows() if row["plane"] == plane and row["label"] != MACRO]
        found += [(job.method, "thresholds", "", row["label"], row["threshold"]) for row in rows]
    return [dict(zip(SCORE_COLUMNS, (dataset.digest, device, *names, f"{v:.6f}"))) for *names, v in found]


def patches(dataset: Dataset, chosen: Preset, plane: str, device: str) -> Iterator[tuple]:
    """(*PATCHES, exam, label, value) of an augmented batch, a frame of each exam: the mean of each patch, and the share
    of the classes that lie below the batch's.

    A change of augmentation may cost less accuracy than seeds differ by; here it shows without their noise.
    """
    exams, seed = dataset.train.subset(dataset.fit[:SAMPLE]), chosen.seeds[0]
    store = load_frames(exams, plane, chosen.frame).to(device)
    task, draw = Jigsaw(chosen.sslm.jigsaw, chosen.frame, seed, device), generator(device, seed, "check")
    frames = frame_of(store, torch.arange(len(exams), device=device), draw)
    batch, target = task.batch(store, frames, draw, train=True)
    for exam, means, share in zip(exams.ids, (batch.mean((2, 3)) + 1) / 2, target / task.classes):
        yield from ((*PATCHES, exam, f"patch {k}", float(mean)) for k, mean in enumerate(means))
        yield *PATCHES, exam, "class", float(share)


def resampled(dataset: Dataset, chosen: Preset, plane: str) -> Iterator[tuple]:
    """(*FRAMES, exam, label, value): the spread of each exam's middle frame at a third of the preset's size. Frames
    that have this size already, as those of `marks`, pass resampling as they are."""
    exams = dataset.train.subset(dataset.fit[:SAMPLE])
    for e, exam in enumerate(exams.ids):
        frames = resize(read_volume(exams.path(plane, e)), chosen.frame // 3)
        yield *FRAMES, exam, "middle", float(frames[len(frames) // 2].float().std()) / 255


# --- the gates -------------------------------------------------------------------------------------------------------
def judged(baseline: Rows, now: Rows, kinds: list[str], here: dict[str, str]) -> list[Verdict]:
    """Every gate of accuracy and cost in `kinds`: rows of now against the baseline's. here: the environment of now."""
    everyone, methods = ([*dict.fromkeys(row["method"] for row in rows)] for rows in (baseline, now))
    before, after = ({m: [row for row in rows if row["method"] == m] for m in everyone} for rows in (baseline, now))
    distinct = {
        (figure, *(row[column] for row in before[m])): (m, figure)
        for m in reversed(everyone)
        for figure, column in NOISY.items()
        if before[m][0][column] and {row[column] for row in before[m]} != CEILING
    }
    gated = list(reversed(distinct.values()))  # what methods share, a pretext, is gated once
    alarms = gates.ALARMS / sum(2 if figure == BOTH else 1 for _, figure in gated)
    verdicts = []
    if "accuracy" in kinds:
        for method, figure in (pair for pair in gated if pair[0] in methods):
            column = NOISY[figure]
            known = {row["seed"]: row[column] for row in before[method]}
            same = all(known.get(row["seed"]) == row[column] for row in after[method])
            verdicts.append(
                gates.noisy(
                    f"{method}: {figure}",
                    numbers(before[method], column),
                    numbers(after[method], column),
                    alarms,
                    same,
                    figure == BOTH,
                )
            )
    if "cost" in kinds:
        for method in methods:
            for figure, column in COSTS.items():
                was, found = ({row[column] for row in rows[method]} for rows in (before, after))
                if len(was) == 1:  # a probe's differ with the stage that tune chooses
                    verdicts.append(gates.exact(f"{method}: {figure}", was, found))
            if alike(baseline, here):
                old, new = (statistics.fmean(numbers(rows[method], "peak_mb")) for rows in (before, after))
                verdicts.append(gates.at_most(f"{method}: peak memory, MB", old, new, MEMORY))
    return verdicts


def moved(baseline: Rows, now: Rows) -> list[Verdict]:
    """The gates of STILL: number by number, rows of SCORES of now against those of the baseline."""
    verdicts = []
    for (method, figure), limit in STILL.items():
        before, after = (
            {
                (row["exam"], row["label"]): float(row["value"])
                for row in rows
                if (row["method"], row["figure"]) == (method, figure)
            }
            for rows in (baseline, now)
        )
        verdicts.append(gates.alike(f"{method}: {figure}, the largest change", before, after, limit))
    return verdicts


def read_scores(path: Path) -> Rows:
    """The rows of SCORES or another such file; none where there is no file. Raises UserError for another table."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text() if path.is_file() else "")))
        if rows and set(rows[0]) != set(SCORE_COLUMNS):
            raise ValueError(f"expected the columns {', '.join(SCORE_COLUMNS)}")
        for row in rows:
            float(row["value"])
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(
            f"{path}: not a table of scores ({error}); restore it, or name another file with --scores"
        ) from None
    return rows


def stored_scores(path: Path, digest: str, device: str) -> Rows:
    """Every number of STILL. Raises UserError where the file has none of this data set and device."""
    mine = [row for row in read_scores(path) if (row["digest"], row["device"]) == (digest, device)]
    if not mine:
        raise UserError(
            f"{path}: no scores of data {digest}, device {device}; make them by python -m bench check --update"
        )
    return mine


def numbers(rows: Rows, column: str) -> list[float]:
    return [float(row[column] or "nan") for row in rows]


def alike(baseline: Rows, here: dict[str, str]) -> bool:
    return all(row[name] == here[name] for row in baseline for name in ("machine", "torch"))


def told(baseline: Rows, now: Rows, verdicts: list[Verdict], where: str, here: dict[str, str]) -> str:
    """What the table rests on, in words."""
    one, seeds, known = baseline[0], sorted({int(row["seed"]) for row in now}), {row["seed"] for row in baseline}
    lines = [
        f"Baseline: {where}, {len(known)} seeds, {one['machine']}, torch {one['torch']}, "
        f"commit {one['commit'] or 'unknown'}. Now: seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}."
    ]
    scored = [v for v in verdicts if v.found]
    if scored:
        if all(v.verdict == IDENTICAL for v in scored):
            lines.append("Scores are identical to the stored ones: nothing that they depend on has changed.")
        elif not alike(baseline, here):
            lines.append(
                f"Another machine or torch ({here['machine']}, torch {here['torch']}): scores differ by rounding "
                "alone, and are judged by the spread of the baseline's seeds."
            )
        elif {str(seed) for seed in seeds} <= known:
            lines.append(
                "Same machine and torch, yet scores differ: something that they depend on has changed since the "
                "baseline."
            )
        lines.append(
            f"Unchanged code fails any of the {len(scored)} gates of noisy figures with a chance of "
            f"{gates.ALARMS:.1%} or less."
        )
    return "\n".join(lines)
