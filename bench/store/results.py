"""results.csv: its schema, and upserts of rows derived from stored runs. Rows of others are kept."""

import csv
import io
import itertools
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from sslm_core.errors import UserError
from sslm_core.files import drop_unfinished, locked, write_atomic

from ..config.options import check_writable
from ..stats.figures import FIGURES, HEADLINE

KEY = ("dataset", "digest", "preset", "protocol", "method", "variant", "plane", "label", "seed", "device")
SKILL = ("skill", "skill_low", "skill_high")
COSTS = ("train_flops", "exams_per_s", "flops_per_exam", "parameters", "trainable", "peak_mb")
COLUMNS = (
    *KEY,
    *("fit_exams", "tune_exams", "reported_exams", "positives", "minority"),
    *(figure.column for figure in FIGURES),
    *(bound for figure in HEADLINE for bound in figure.bounds),
    *SKILL,
    *("pretext_accuracy", "pretext_classes", "epoch", "train_seconds", *COSTS),
    *("machine", "torch", "commit", "reason"),
)
# of versions before 0.2: they are passed over where a file has them
RETIRED = frozenset(
    ("lr", "python", "sanity", "pointed_exams", "sensitivity", "specificity", "threshold_bal")
    + tuple(f"{who}_recall_{at}" for who in ("minority", "majority") for at in ("bal", "em"))
    + tuple(f"rel_{part}" for part in ("pretext_step", "jigsaw_batch", "head_epoch", "prediction"))
    + tuple(
        f"{figure}{end}"
        for figure in ("pointing", "energy", "retrieval")
        for end in ("", "_low", "_high", "_random", "_centre")
    )
)
UNLEARNT = "did not learn"  # no better on tune than a constant predictor: see intervals.Skill


GROUP = ("dataset", "digest", "preset", "protocol", "device")  # what runs must share to be compared


def text(value) -> str:
    """A cell of results.csv: raw, six significant digits, empty where undefined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def cells(row: dict) -> dict[str, str]:
    """A row as the file spells it."""
    return {name: text(row.get(name)) for name in COLUMNS}


def read(path: Path) -> list[dict]:
    """The rows as they stand; none where there is no file. Raises UserError for a file of another schema."""
    if not path.exists():
        return []
    try:
        return parsed(path.read_bytes().decode("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable csv file ({error}); move it away to start a new one") from None


def parsed(content: str, path: str) -> list[dict]:
    """The rows of a file's `content`; cells of columns that it does not have are empty, and RETIRED ones are
    passed over, as in a file of an earlier version.

    Raises UserError that names `path`.
    """
    table = csv.DictReader(io.StringIO(content, newline=""))
    try:
        rows = list(table)
    except csv.Error as error:
        raise UserError(f"{path}: not a readable csv file ({error}); move it away to start a new one") from None
    if not table.fieldnames:
        raise UserError(f"{path}: is empty; delete it to start a new one")
    names = set(table.fieldnames) - RETIRED
    odd = sorted((names - set(COLUMNS)) | (set(KEY) - names))
    if not odd and any(None in row or None in row.values() for row in rows):
        raise UserError(f"{path}: a row has more or fewer cells than the header; move the file away to start a new one")
    if odd:
        raise UserError(
            f"{path}: column {odd[0]!r} is not in both it and this version's schema; move the file away to start a "
            "new one"
        )
    return [{name: row.get(name, "") for name in COLUMNS} for row in rows]


def check(path: Path) -> None:
    """Raises UserError where rows cannot be added to the file: named before the run, not after it."""
    check_writable("--results", path.parent)
    read(path)


def upsert(path: Path, rows: list[dict], instead: Callable[[dict], bool] = lambda row: False) -> None:
    """Put `rows` into the file, each in place of the one with its key; sorted by key, every other row kept as it was,
    save those that `instead` names: they go.

    Runs of several folders may share the file: what one reads, no other changes before it is written.
    """
    with locked(path.with_name(f".{path.name}.lock")):
        drop_unfinished(path.parent, path.name)
        _upsert(path, rows, instead)


def _upsert(path: Path, rows: list[dict], instead: Callable[[dict], bool]) -> None:
    _keep_retired(path)
    table = {tuple(row[name] for name in KEY): row for row in read(path) if not instead(row)}
    for row in map(cells, rows):
        table[tuple(row[name] for name in KEY)] = row

    write_rows(path, COLUMNS, [table[key] for key in sorted(table)])


def _keep_retired(path: Path) -> None:
    """A copy beside a file with figures in RETIRED columns, which are not written again."""
    if not path.exists():
        return
    with open(path, newline="", encoding="utf-8-sig") as file:
        if not any(row.get(name) for row in csv.DictReader(file) for name in RETIRED):
            return
    number = next(n for n in itertools.count(1) if not path.with_name(f"{path.stem}.old{n}{path.suffix}").exists())
    old = path.with_name(f"{path.stem}.old{number}{path.suffix}")
    shutil.copy(path, old)
    print(f"{path}: has columns of an earlier version, which go; the file as it was is {old}", file=sys.stderr)


def write_rows(path: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> None:
    """A csv file, whole or not at all."""

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, columns, lineterminator="\n")
            out.writeheader()
            out.writerows(rows)

    write_atomic(path, write)
