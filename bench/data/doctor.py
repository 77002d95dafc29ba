"""What a folder of exams holds, and all that is wrong with it, before a run is started on it."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sslm_core.errors import UserError
from sslm_core.exams import SPLITS, TUNE, likely, plane_folders, read_exams, read_labels, read_tune
from sslm_core.reading import check_folder, listed

from ..stats.intervals import shifted
from .doctor_volumes import look, looks
from .importers.shared import MANIFEST, refuse_foreign

CLEAN, WARNINGS, UNUSABLE = range(3)  # exit codes
FEW = 10  # exams of a class below which its figures say next to nothing
FLAT = 16  # gray levels below which a volume's range is no picture
SORTED = -4.0  # standard deviations of the number of changes between neighbours
OVERALL = "abnormal"  # a label that every other finding implies


@dataclass
class Part:
    """The exams of one split: `truth` label -> exam -> 0 or 1, `volumes` plane -> exam -> file."""

    name: str
    truth: dict[str, dict[str, int]] = field(default_factory=dict)
    volumes: dict[str, dict[str, Path]] = field(default_factory=dict)

    def table(self) -> tuple[list[str], np.ndarray]:
        """Exams that every label has, sorted, and their labels [E, L]."""
        ids = sorted(set.intersection(*map(set, self.truth.values()))) if self.truth else []
        return ids, np.array([[rows[name] for rows in self.truth.values()] for name in ids], int).reshape(
            len(ids), len(self.truth)
        )


class Report:
    def __init__(self, root: Path):
        self.root = root
        self.parts: list = []
        self.looks: dict = {}
        self.found: list[dict] = []

    def add(self, level: str, kind: str, text: str) -> None:
        self.found.append({"level": level, "kind": kind, "text": text})

    def error(self, kind: str, text: str) -> None:
        self.add("error", kind, text)

    def warn(self, kind: str, text: str) -> None:
        self.add("warning", kind, text)

    @property
    def code(self) -> int:
        levels = {finding["level"] for finding in self.found}
        return UNUSABLE if "error" in levels else WARNINGS if "warning" in levels else CLEAN


def diagnose(root: Path, workers: int, quiet: bool = False) -> Report:
    """Everything that is to be said of `root`. Raises UserError where it is no folder, or one that `convert` reads."""
    check_folder(root)
    refuse_foreign(root)
    report = Report(root)
    survey(report)
    paths = [path for part in report.parts for volumes in part.volumes.values() for path in volumes.values()]
    bar = tqdm(looks(paths, workers), "volumes", len(paths), unit="file", disable=True if quiet else None)
    report.looks = {seen.path: seen for seen in bar}
    check_volumes(report)
    check_axes(report)
    check_duplicates(report)
    check_labels(report)
    check_usable(report)
    return report


# -- what is there ----------------------------------------------------------------------------------------------------


def tried(report: Report, kind: str, work, *arguments, default):
    """work(*arguments), or `default` and an error in the report."""
    try:
        return work(*arguments)
    except UserError as error:
        report.error(kind, str(error))
    except OSError as error:
        report.error(kind, f"{error.filename or report.root}: {error.strerror or error}")
    return default


def survey(report: Report) -> None:
    root, expected = report.root, {*SPLITS, TUNE, MANIFEST}
    top = tried(report, "layout", listed, root, root, default=[])
    for split in SPLITS:
        part = Part(split)
        for entry in top:
            if entry.name.startswith(f"{split}-") and entry.name.endswith(".csv"):
                expected.add(entry.name)
                if rows := tried(report, "labels", read_labels, root / entry.name, default=None):
                    part.truth[entry.name[len(split) + 1 : -4]] = rows
        known = {name for rows in part.truth.values() for name in rows}
        if (root / split).is_dir():
            planes, _ = tried(report, "layout", plane_folders, root, root / split, known, default=([], []))
            part.volumes = {plane: volumes_of(report, root / split / plane, ".npy") for plane in planes}
            inside = tried(report, "layout", listed, root, root / split, default=[])
            strays(report, [entry.name for entry in inside if entry.name not in planes], f"{split}/")
        report.parts.append(part)
        for label, rows in part.truth.items():
            if gone := sorted(known - rows.keys()):
                table = root / f"{split}-{label}.csv"
                report.error("labels", f"{table}: no row of {some(gone)}, which another label has")
        for plane, volumes in part.volumes.items():
            cause = partial(likely, folder=root / split / plane)
            compare(report, f"{root / split / plane}", known, volumes.keys(), f"{split}-*.csv", ".npy", cause)
    ids = report.parts[0].table()[0]
    held = tried(report, "labels", read_tune, root, ids, default=None) if ids else None
    if held is not None:
        report.add("note", "tune", f"{TUNE}: {held.sum()} of {len(ids)} train exams are held out to choose by")
    strays(report, [entry.name for entry in top if entry.name not in expected], "")


def volumes_of(report: Report, folder: Path, suffix: str) -> dict[str, Path]:
    entries = tried(report, "layout", listed, report.root, folder, default=[])
    others = [entry.name for entry in entries if not entry.name.endswith(suffix)]
    strays(report, others, f"{folder.relative_to(report.root)}/")
    return {entry.name[: -len(suffix)]: folder / entry.name for entry in entries if entry.name.endswith(suffix)}


def compare(report: Report, where: str, listed_ids, found, table: str, suffix: str, cause: Callable) -> None:
    """Exams that only the table or only the folder has; cause(missing, extra): why."""
    if not listed_ids:
        return  # there is no table; another check reports that
    missing, extra = sorted(set(listed_ids) - set(found)), sorted(set(found) - set(listed_ids))
    why = f"; {mend}" if (missing or extra) and (mend := cause(missing, extra)) else ""
    if missing:
        report.error("missing", f"{where}/{missing[0]}{suffix}: missing, though {table} lists it: {some(missing)}{why}")
    if extra:
        report.error("extra", f"{where}/{extra[0]}{suffix}: no row in {table}: {some(extra)}{why}")


def strays(report: Report, names: list[str], where: str) -> None:
    if names:
        report.add("note", "strays", f"ignored: {where}{some(names)}")


def some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


# -- what is wrong ----------------------------------------------------------------------------------------------------


def check_volumes(report: Report) -> None:
    for path, seen in sorted(report.looks.items()):
        if seen.error:
            report.error("unreadable", seen.error)
        elif seen.low == seen.high:
            report.warn("constant", f"{path}: every voxel is {seen.low}: an empty export?")
        elif seen.high - seen.low < FLAT:
            text = f"{path}: values {seen.low} to {seen.high} only"
            report.warn("range", f"{text}: scaled to 0..1 before it was saved as integers?")


def check_axes(report: Report) -> None:
    for part in report.parts:
        for plane, volumes in part.volumes.items():
            shapes = [report.looks[path].shape for path in volumes.values() if not report.looks[path].error]
            odd = [(t, h, w) for t, h, w in shapes if t > min(h, w)]
            if 2 * len(odd) > len(shapes):
                (t, h, w), sizes = odd[0], len({shape[1:] for shape in shapes})
                differ = f", in {sizes} sizes" if sizes > 1 else ""
                report.warn(
                    "axes",
                    f"{part.name}/{plane}: more frames than rows or columns, as {t} frames of {h} x {w}{differ}: axes "
                    "in the order [H, W, T]? save np.moveaxis(volume, -1, 0)",
                )


def check_duplicates(report: Report) -> None:
    """The same voxels twice; across parts that is leakage. Files without any contrast are reported as constant."""
    same = defaultdict(list)
    for part in report.parts:
        for volumes in part.volumes.values():
            for path in volumes.values():
                seen = report.looks[path]
                if seen.digest and seen.low < seen.high:
                    same[seen.digest].append((part.name, str(path.relative_to(report.root))))
    for group in same.values():
        if len(group) > 1:
            parts = sorted({part for part, _ in group})
            text = f"{report.root / group[0][1]}: the same voxels as {some([path for _, path in group[1:]])}"
            if len(parts) > 1:
                report.warn("leakage", f"{text}: in {' and '.join(parts)}, so figures on the reported exams flatter")
            else:
                report.warn("duplicate", text)


def check_labels(report: Report) -> None:
    for part in report.parts:
        ids, truth = part.table()
        labels = list(part.truth)
        if OVERALL in labels:
            overall = truth[:, labels.index(OVERALL)]
            for l, label in enumerate(labels):
                if odd := [ids[e] for e in np.flatnonzero((overall == 0) & (truth[:, l] == 1))]:
                    text = f"{len(odd)} exams with {label} 1 and {OVERALL} 0: {some(odd)}"
                    report.warn("contradiction", f"{part.name}: {text}")
        for l, label in enumerate(labels):
            least = min(counts := np.bincount(truth[:, l], minlength=2))
            if 0 < least < FEW:
                text = f"{least} of {len(ids)} exams are {counts.argmin()} in {label}: too few for a firm figure"
                report.warn("few", f"{part.name}: {text}")
            if in_order(truth[:, l]):
                report.warn(
                    "sorted",
                    f"{part.name}: exams are sorted by {label}, so the first of them are no sample "
                    "(a preset that takes fewer draws them by joint label)",
                )
    *fitted, last = report.parts
    tables, (_, reported) = [part.table()[1] for part in fitted if part.truth], last.table()
    train = np.concatenate(tables) if tables else np.empty((0, 0))
    if len(train) and len(reported) and train.shape[1] == reported.shape[1]:
        for l in np.flatnonzero(shifted(train, reported)).tolist():
            before, now = train[:, l].mean(), reported[:, l].mean()
            text = f"shifts from {before:.2f} in training to {now:.2f} in {last.name}"
            report.warn("shift", f"prevalence of {[*last.truth][l]} {text}")


def in_order(values: np.ndarray) -> bool:
    """Whether 0 and 1 change far more seldom along the exams than chance would have it (the test of runs by Wald and
    Wolfowitz)."""
    n, ones = len(values), int(values.sum())
    between = 2 * ones * (n - ones) / n if n else 0
    spread = math.sqrt(between * max(0, between - 1) / max(1, n - 1))
    return bool(spread) and (int(np.count_nonzero(np.diff(values))) - between) / spread < SORTED


def check_usable(report: Report) -> None:
    """What a run would say: its reader has the last word."""

    def shape(path: Path) -> tuple[int, int, int]:
        seen = report.looks.get(path) or look(path)
        if seen.error:
            raise UserError(seen.error)
        return seen.shape

    try:
        read_exams(report.root, shape)
    except UserError as error:
        if report.code != UNUSABLE:  # else its reason, or an earlier one, is reported
            report.error("unusable", str(error))
