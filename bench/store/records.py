"""What a cell leaves on disk to be read again: its record and its scores."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sslm_core.errors import UserError

HEAD = ("split", "exam", "label", "truth", "score")
AGAIN = "delete its folder and run again"
SHAPE = {  # what every run.json holds, and of what type; a list has any number of its one element
    **dict.fromkeys(("dataset", "digest", "preset", "protocol", "method", "variant", "device", "plane", "config"), str),
    **{"seed": int, "planes": [str], "labels": [str], "minority": [int], "fit_exams": int, "pretext_classes": int},
    "chosen": {},
    "tune_losses": {"model": [float], "constant": [float]},
    "history": [{"seconds": float}],
    "pretext": [{"seconds": float, "tune_accuracy": float, "tune_loss": float}],
    "seconds": {"downstream": float, "train": float},
    "cost": dict.fromkeys(
        ("exams_per_s", "flops_per_exam", "parameters", "trainable", "peak_mb", "train_flops"), float
    ),
    "environment": dict.fromkeys(("machine", "torch", "python", "commit"), str),
    "settings": {"frame": int, "jigsaw": {}},
}
RECORD = 7  # goes up with every change to what run.json holds or to what scores depend on beside the settings


def read_record(path: Path) -> dict:
    """The run.json of a finished cell. Raises UserError where it is of another version, or none."""
    record = read_json(path)
    if record.get("record") != RECORD:
        raise UserError(f"{path}: stored by another version of this suite; run it again, or move its folder away")
    if odd := misfit(record, SHAPE):
        raise UserError(f"{path}: {odd}: missing, or of another type; {AGAIN}")
    if not len(record["labels"]) == len(record["minority"]) > 0:
        raise UserError(f"{path}: minority: expected one class for each of the labels; {AGAIN}")
    return record


def misfit(value: object, shape: Any, name: str = "") -> str:
    """Name of the first part of `value` that is not of `shape`; empty where all are."""
    if isinstance(shape, dict):
        parts = (
            [(value.get(key), kind, f"{name}.{key}".lstrip(".")) for key, kind in shape.items()]
            if isinstance(value, dict)
            else None
        )
    elif isinstance(shape, list):
        parts = [(each, shape[0], f"{name}[{k}]") for k, each in enumerate(value)] if isinstance(value, list) else None
    else:
        good = isinstance(value, (int, float) if shape is float else shape) and not isinstance(value, bool)
        return "" if good else name
    return name if parts is None else next(filter(None, (misfit(*part) for part in parts)), "")


def read_json(path: Path, mend: str = AGAIN) -> dict:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        return record
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable JSON file ({error}); {mend}") from None


def write_scores(path: Path, sets) -> None:
    """Rows split, exam, label, truth, score; nine digits tell every float32 apart."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(HEAD)
        for split, exams, scores in sets:
            for name, truth, score in zip(exams.ids, exams.truth, scores.tolist()):
                rows.writerows([split, name, label, t, f"{s:.9g}"] for label, t, s in zip(exams.labels, truth, score))


def read_scores(path: Path, labels: Sequence[str]) -> dict[str, tuple[list[str], np.ndarray, np.ndarray]]:
    """split -> (exam ids [E], sorted; truth [E, L], score [E, L] in the order of `labels`), in whatever order the rows
    stand."""
    sets: dict[str, dict[tuple[str, str], tuple[int, float]]] = {"tune": {}, "reported": {}}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            for row in table:
                split, exam, label, truth, score = (row.get(name) or "" for name in HEAD)
                if split not in sets or label not in labels or truth not in ("0", "1") or not is_score(score):
                    shown = ",".join((split, exam, label, truth, score))[:80]
                    raise UserError(
                        f"{path}:{table.line_num}: {shown!r} is no row of {','.join(HEAD)} with truth 0 or 1 and a "
                        f"score from 0 to 1; {AGAIN}"
                    )
                if (exam, label) in sets[split]:
                    raise UserError(f"{path}:{table.line_num}: exam {exam}, {label} stands there twice; {AGAIN}")
                sets[split][exam, label] = int(truth), float(score)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable scores file ({error}); {AGAIN}") from None
    found = {}
    for split, cells in sets.items():
        ids = sorted({exam for exam, _ in cells})
        if len(cells) < max(1, len(ids)) * len(labels):
            raise UserError(f"{path}: not every {split} exam has a row of {', '.join(labels)}; {AGAIN}")
        both = np.array([[cells[exam, label] for label in labels] for exam in ids])
        found[split] = ids, both[..., 0].astype(int), both[..., 1]
    return found


def is_score(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
