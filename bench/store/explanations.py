"""explain.json beside a run's run.json: what was found of where its model looks."""

import json
import math
from pathlib import Path

import numpy as np

from sslm_core.files import write_atomic

from .records import read_json

FILE = "explain.json"
VERSION = 1  # goes up with every change to what FILE holds


def values(result: dict, labels: tuple[str, ...], name: str) -> np.ndarray:
    """The exams' own figures, of those that were asked about: [E, L], NaN for exams that could not be scored."""
    return np.array([[result["exams"][label][name].get(i, math.nan) for label in labels] for i in result["asked"]])


def keep(folder: Path, result: dict) -> None:
    write_atomic(folder / FILE, lambda path: path.write_text(json.dumps(result, indent=1)))


def read(folder: Path, record: dict) -> dict | None:
    """What is kept for this run; None where it was not scored so, or another run has since taken its place."""
    path = folder / FILE
    found = read_json(path, "delete it and explain again") if path.exists() else None
    return found if found and (found.get("version"), found.get("config")) == (VERSION, record["config"]) else None
