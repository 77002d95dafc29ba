"""Exams found in any format -> a folder in MRNet's layout: the split, intensities, volumes, labels.

No name in the source is written: ids are hashes, or the user's.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from sslm_core.errors import UserError, printable
from sslm_core.exams import SPLITS, TUNE, digest, read_exams, stratified
from sslm_core.files import drop_unfinished, held, write_atomic
from sslm_core.reading import check_folder

from ...processes import in_processes
from .shared import MANIFEST, Exam, Found, Options, Span, Volume
from .tables import add_labels, rename

JOURNAL, LOCK = ".convert.jsonl", ".convert.lock"
VERSION = "1"  # of what is written; another one writes every volume anew
TRIES = 100  # splits that are tried until both sides have both classes of every label
FEW = 6  # volumes for which starting processes would cost more
SHOWN = 5


# -- which exams, which side ------------------------------------------------------------------------------------------


def take_planes(found: Found, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The planes that are written: those asked for, else those that more than half of the exams have, else the
    commonest one. Exams that lack one of them are left out and counted."""
    counts = Counter(plane for exam in found.exams for plane in exam.volumes)
    planes = asked or tuple(sorted(plane for plane, n in counts.items() if 2 * n > len(found.exams)))
    planes = planes or tuple(plane for plane, _ in counts.most_common(1))
    if gone := [plane for plane in planes if not counts[plane]]:
        raise UserError(f"--planes {gone[0]}: no exam has it; there are {', '.join(sorted(counts)) or 'none'}")
    for plane in sorted(counts.keys() - set(planes)):
        found.leave_out(f"{plane} volumes, a plane that is not written", "--planes names planes", counts[plane])
    for exam in found.exams:
        if lacking := [plane for plane in planes if plane not in exam.volumes]:
            found.leave_out(f"exams without a {lacking[0]} volume", exam.name)
    found.exams = [exam for exam in found.exams if set(planes) <= exam.volumes.keys()]
    return planes


def split(exams: list[Exam], share: float) -> dict[str, str]:
    """id -> train or valid: `share` of the patients, drawn in proportion to their joint labels, all exams of a patient
    on one side."""
    patients: dict[str, list[Exam]] = defaultdict(list)
    for exam in sorted(exams, key=lambda e: e.id):
        patients[exam.patient].append(exam)
    groups = list(patients.values())
    truth = np.array([[max(exam.labels[name] for exam in group) for name in group[0].labels] for group in groups])
    count = round(share * len(groups))
    if not 0 < count < len(groups):
        raise UserError(
            f"--valid {share:g}: puts {count} of {len(groups)} patients into valid; both sides need some: bring "
            "more, or another share"
        )
    sides = []
    for seed in range(TRIES):
        chosen = set(stratified(truth, count, seed)[0].tolist())
        sides.append({exam.id: SPLITS[g in chosen] for g, group in enumerate(groups) for exam in group})
        if all(
            len({exam.labels[name] for exam in exams if sides[-1][exam.id] == side}) == 2
            for side in SPLITS
            for name in exams[0].labels
        ):
            return sides[-1]
    return sides[0]  # the doctor says what is wrong with it


# -- writing ----------------------------------------------------------------------------------------------------------


def scaled(volume: np.ndarray, span: Span) -> np.ndarray:
    """Numbers [T, H, W] -> uint8 [T, H, W]: `span` stretched to 0..255, what lies outside clipped. A volume whose upper
    percentile is its lowest value (nearly all background) is stretched to its greatest."""
    values = np.asarray(volume, np.float32)
    finite = np.isfinite(values)
    known = values if (whole := bool(finite.all())) else values[finite]
    if not known.size:
        return np.zeros(volume.shape, np.uint8)
    low, high = np.percentile(known, (span.low, span.high)) if span.percent else (span.low, span.high)
    if not low < high:
        low, high = float(known.min()), float(known.max())
    if not low < high:
        return np.zeros(volume.shape, np.uint8)
    values = values if whole else np.where(finite, values, np.float32(low))
    return np.rint(np.clip((values - low) * (255.0 / (float(high) - float(low))), 0, 255)).astype(np.uint8)


@dataclass(frozen=True)
class Task:
    read: Callable[[object], np.ndarray]
    source: object
    span: Span | None
    path: Path
    stamp: str


def write_one(task: Task) -> tuple[Task, str, str]:
    """(task, sha256 of the file, why the volume could not be read): one of the two is empty."""
    try:
        volume = task.read(task.source)
        volume = volume if task.span is None else scaled(volume, task.span)
    except UserError as error:
        return task, "", str(error)
    except MemoryError:
        return task, "", f"{task.path.name}: its volume does not fit into the memory; give fewer --workers"
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(volume))
    write_atomic(task.path, lambda temporary: temporary.write_bytes(content.getbuffer()))
    return task, hashlib.sha256(content.getbuffer()).hexdigest(), ""


def stamp_of(volume: Volume, span: Span | None, form: str) -> str:
    """Of what a written file follows from: where it is the same, the file need not be written again."""
    code = hashlib.sha256(repr((VERSION, form, span, volume.plane, volume.source)).encode(errors="surrogateescape"))
    for path in volume.files:
        info = os.stat(path)
        code.update(repr((info.st_size, info.st_mtime_ns)).encode())
    return code.hexdigest()


def read_journal(path: Path) -> dict[str, dict]:
    """file -> its line; a line that was cut short is one whose file is written again."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                found[str(row["file"])] = {"stamp": str(row["stamp"]), "sha256": str(row["sha256"])}
    return found


def check_destination(src: Path, dst: Path) -> None:
    check_folder(src)
    if dst.exists() and not dst.is_dir():
        raise UserError(f"{dst}: is a file; name a new folder for the converted exams")
    ends = src.resolve(), dst.resolve()
    if ends[1].is_relative_to(ends[0]) or ends[0].is_relative_to(ends[1]):
        raise UserError(f"{dst}: lies in the source or holds it; choose a folder aside from {src}")
    if dst.is_dir() and not (dst / JOURNAL).exists() and any(not p.name.startswith(".") for p in dst.iterdir()):
        raise UserError(f"{dst}: is not empty, and no conversion was begun there; choose an empty or new folder")


def found_in(importer: ModuleType, src: Path, options: Options) -> Found:
    """The exams of `src`, with their ids. Raises UserError where there are none."""
    check_folder(src)
    found = importer.find(src, options)
    if not found.exams:
        out = f"; left out: {found.told()}" if found.out else ""
        raise UserError(f"{src}: holds no {importer.FORMAT} exam that can be used{out}")
    if options.ids:
        rename(found.exams, options.ids)
    return found


def write_key(found: Found, path: Path, dst: Path) -> None:
    """The table `name,id` of all exams; it names patients, so it must lie outside of DST. Raises UserError."""
    if path.resolve().is_relative_to(dst.resolve()):
        raise UserError(f"--key {path}: names the exams of the source, which DST must not; choose a file outside of it")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("name", "id"), *((exam.name, exam.id) for exam in found.exams)])
    write_atomic(path, lambda temporary: temporary.write_text(text.getvalue(), errors="surrogateescape"))


def convert(importer: ModuleType, src: Path, found: Found, dst: Path, options: Options, say: Callable[[str], None]):
    """Write `found` into `dst`. What an earlier call has written, and still follows from the source, is kept. Raises
    UserError."""
    if options.labels:
        add_labels(found, options.labels)
    elif not all(exam.labels for exam in found.exams):
        raise UserError(
            "--labels FILE.csv is needed: a name of an exam and one column a label, 0 or 1, on each line; --key "
            f"FILE.csv lists the {len(found.exams)} exams that were found"
        )
    planes = take_planes(found, options.planes)
    if not found.exams:
        raise UserError(f"{src}: no exam is left; left out: {found.told()}")
    own = all(exam.part for exam in found.exams)
    sides = {e.id: e.part for e in found.exams} if own else split(found.exams, options.valid)
    for line in found.notices:
        say(line)
    if found.out:
        say(f"left out: {found.told()}")
    check_destination(src, dst)
    with held(dst / LOCK):
        write(importer, found.exams, sides, planes, dst, options, say)
        manifest = {
            "made by": f"bench convert, version {VERSION}",
            "from": importer.FORMAT,
            "exams": {side: sum(part == side for part in sides.values()) for side in ("train", "tune", "valid")},
            "planes": planes,
            "labels": list(found.exams[0].labels),
            "left out": dict(found.out),
            "valid": None if own else options.valid,
            "range": None if span_of(importer, options) is None else repr(span_of(importer, options)),
        }
        seal(dst, manifest)


def span_of(importer: ModuleType, options: Options) -> Span | None:
    return options.span or importer.SPAN


def write(importer, exams, sides, planes, dst: Path, options: Options, say: Callable[[str], None]) -> None:
    """Volumes, then labels. Raises UserError at the end where volumes could not be read."""
    journal = read_journal(dst / JOURNAL)
    (dst / JOURNAL).touch()
    (dst / MANIFEST).unlink(missing_ok=True)
    span = span_of(importer, options)
    read = importer.read if options.span is None else getattr(importer, "read_plain", importer.read)
    tasks, wanted = [], set()
    for exam in exams:
        folder = SPLITS[sides[exam.id] == SPLITS[1]]
        for plane in planes:
            volume, file = exam.volumes[plane], f"{folder}/{plane}/{exam.id}.npy"
            stamp = stamp_of(volume, span, importer.FORMAT)
            wanted.add(file)
            if journal.get(file, {}).get("stamp") != stamp or not (dst / file).is_file():
                tasks.append(Task(read, volume.source, span, dst / file, stamp))
    for file in journal.keys() - wanted:  # of an earlier call with other options
        path = dst / file
        if re.fullmatch(r"(train|valid)/[^/]+/[^/]+\.npy", file) and path.resolve().is_relative_to(dst.resolve()):
            path.unlink(missing_ok=True)
    if len(tasks) < len(wanted):
        say(f"{len(wanted) - len(tasks)} of {len(wanted)} volumes are there already and kept")
    workers = max(1, min(options.workers, len(tasks)))
    alone = workers == 1 or len(tasks) < FEW
    results: Any = map(write_one, tasks) if alone else in_processes(write_one, tasks, workers)
    for home in {task.path.parent for task in tasks}:
        if home.is_dir():
            drop_unfinished(home)
    failed = []
    with (
        open(dst / JOURNAL, "a") as lines,
        tqdm(total=len(tasks), desc="volumes", unit="file", file=sys.stderr, disable=None) as bar,
        contextlib.nullcontext() if alone else contextlib.closing(results),
    ):
        for task, sha, why in results:
            if why:
                failed.append(why)
            else:
                row = {"file": str(task.path.relative_to(dst)), "stamp": task.stamp, "sha256": sha}
                lines.write(json.dumps(row) + "\n")
                lines.flush()
            bar.update()
    for path in dst.glob("*.csv"):
        if path.name == TUNE or path.name.startswith(tuple(f"{side}-" for side in SPLITS)):
            path.unlink()
    if failed:
        for why in sorted(failed)[1:SHOWN]:
            say(f"not read: {printable(why)}")
        raise UserError(
            f"{sorted(failed)[0]} ({len(failed)} of {len(tasks)} volumes could not be read, the others are written; "
            "mend them or take their exams out of the labels, and give the same command again)"
        )
    exams = sorted(exams, key=lambda e: e.id)
    for side in SPLITS:
        for label in exams[0].labels:
            rows = [f"{e.id},{e.labels[label]}\n" for e in exams if (sides[e.id] == SPLITS[1]) == (side == SPLITS[1])]
            _text(dst / f"{side}-{label}.csv", "".join(rows))
    if tune := [f"{exam.id}\n" for exam in exams if sides[exam.id] == "tune"]:
        _text(dst / TUNE, "".join(tune))


def _text(path: Path, text: str) -> None:
    write_atomic(path, lambda temporary: temporary.write_text(text))


def seal(dst: Path, manifest: dict) -> None:
    """Write the manifest, with the digest by which `run` knows the data set; none where no run would take it."""
    files = {file: row["sha256"] for file, row in read_journal(dst / JOURNAL).items() if (dst / file).is_file()}
    try:
        manifest["digest"] = digest(read_exams(dst), files)
    except UserError:
        manifest["digest"] = None  # the doctor says why
    _text(dst / MANIFEST, json.dumps({**manifest, "files": dict(sorted(files.items()))}, indent=1) + "\n")
