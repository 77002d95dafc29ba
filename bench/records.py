"""What a cell leaves on disk to be read again: its record and its scores."""

import csv
import json
from pathlib import Path

import numpy as np

from sslm_core.errors import UserError

RECORD = 7  # goes up with every change to what run.json holds or to what scores depend on beside the settings


def read_record(path: Path) -> dict:
    """The run.json of a finished cell. Raises UserError where it is of another version, or none."""
    record = read_json(path)
    if record.get("record") != RECORD:
        raise UserError(f"{path}: stored by another version of this suite; run it again, or move its folder away")
    return record


def read_json(path: Path) -> dict:
    try:
        record = json.loads(path.read_text())
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        return record
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable run record ({error}); delete its folder and run again") from None


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
