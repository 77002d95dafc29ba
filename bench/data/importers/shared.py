"""What every importer shares: exams found in any format -> a folder in MRNet's layout.

An importer has FORMAT, SPAN (its usual range), find(src, options) -> Found and read(source) -> numbers [T, H, W]. Here
is all else: ids, labels, the split, intensities, writing. No name in the source is written: ids are hashes, or the
user's.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from tqdm import tqdm

from sslm_core.errors import UserError, printable
from sslm_core.exams import SPLITS, TUNE, check_id, digest, read_exams, read_table, stratified
from sslm_core.files import drop_unfinished, held, write_atomic
from sslm_core.reading import LARGEST, check_folder, inside

from ...processes import in_processes

PLANES = ("sagittal", "coronal", "axial")  # the plane of slices along x, y and z of the patient
MANIFEST, JOURNAL, LOCK = "manifest.json", ".convert.jsonl", ".convert.lock"
VERSION = "1"  # of what is written; another one writes every volume anew
FORMATS = ("dicom", "nifti", "kneemri")
PATIENT = "patient"  # a column of the labels' table that is no label
TRIES = 100  # splits that are tried until both sides have both classes of every label
FEW = 6  # volumes for which starting processes would cost more
SHOWN = 5
CHUNK = 64  # files that a process looks at in one go


@dataclass(frozen=True)
class Span:
    """The values that become 0 and 255: percentiles of the volume, or intensities of the source."""

    low: float
    high: float
    percent: bool

    def __post_init__(self):
        if not (self.low < self.high and np.isfinite([self.low, self.high]).all()):
            raise UserError(f"--range {self.low:g},{self.high:g}: expected two numbers, the lower one first")
        if self.percent and not 0 <= self.low < self.high <= 100:
            raise UserError(f"--range {self.low:g}%,{self.high:g}%: expected percentiles from 0% to 100%")


ROBUST = Span(0, 99, True)


@dataclass(frozen=True)
class Options:
    """`span` None: the importer's own. `series` and `planes` choose among the volumes of an exam."""

    series: re.Pattern | None = None
    planes: tuple[str, ...] = ()
    derived: bool = False
    span: Span | None = None
    labels: Path | None = None
    ids: Path | None = None
    valid: float = 0.2
    workers: int = 1


@dataclass(frozen=True)
class Volume:
    """`source` is what the importer's `read` takes, `files` are those that it opens, `about` is for the screen."""

    plane: str
    source: object
    files: tuple[Path, ...]
    about: str
    voxels: int


@dataclass
class Exam:
    """`name` is the exam's in the source, `known` are others that a table may use; `part` is train, tune or valid where
    the source has a split of its own."""

    name: str
    id: str
    patient: str
    known: tuple[str, ...]
    volumes: dict[str, Volume] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    part: str = ""


class Found:
    """What an importer found: exams, what it left out and why, and lines for the screen."""

    def __init__(self):
        self.exams: list[Exam] = []
        self.out: Counter = Counter()
        self.first: dict[str, str] = {}
        self.notices: list[str] = []

    def leave_out(self, why: str, what: object, count: int = 1) -> None:
        self.out[why] += count
        self.first.setdefault(why, str(what))

    def told(self) -> str:
        return ", ".join(f"{n} {why} (as {self.first[why]})" for why, n in self.out.items())


def hashed(*parts: object) -> str:
    """An id that tells nothing: a letter, which keeps spreadsheets from taking it for a number, and 12 hex digits."""
    return "x" + hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()[:12]


# -- finding ----------------------------------------------------------------------------------------------------------


def files_below(root: Path) -> Iterator[Path]:
    """Every file below `root`, sorted, less hidden ones. Raises UserError for a link that leads out."""
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:  # a link to a folder is not followed
            if os.path.islink(os.path.join(folder, name)):
                inside(root, Path(folder, name))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(folder, name)
            if path.is_symlink():
                inside(root, path)
            yield path


def _raise(error: OSError) -> None:
    raise error


def looked(look: Callable[[list[Path]], list], paths: list[Path], workers: int) -> list:
    """look(chunk) of all `paths`, with a bar: in processes where there are many."""
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    results: list = []
    alone = workers == 1 or len(chunks) < 8
    found = map(look, chunks) if alone else in_processes(look, chunks, workers)
    with tqdm(total=len(paths), desc="headers", unit="file", file=sys.stderr, disable=None) as bar:
        with contextlib.nullcontext() if alone else contextlib.closing(found):
            for some in found:
                results += some
                bar.update(len(some))
    return results


def largest(exam: str, plane: str, volumes: list[Volume], several: dict[str, list[str]]) -> Volume:
    """The largest of an exam's volumes in one plane; `several` keeps what was chosen among, for one line."""
    best = max(volumes, key=lambda v: (v.voxels, v.about))
    if len(volumes) > 1:
        others = ", ".join(sorted({v.about for v in volumes if v is not best}))
        several.setdefault(plane, []).append(f"{best.about!r}, not {others!r}")
    return best


def told_several(several: dict[str, list[str]]) -> list[str]:
    return [
        f"{len(chosen)} exams have several {plane} series; the largest of each is taken, as {chosen[0]} "
        f"(--series REGEX chooses)"
        for plane, chosen in several.items()
    ]


def recognised(root: Path) -> str:
    """dicom, nifti or kneemri where `root` holds such files and no train folder, else empty."""
    if not root.is_dir() or (root / "train").exists():
        return ""
    for number, path in enumerate(files_below(root)):
        if path.suffix == ".pck" or (path.name == "metadata.csv" and any(root.rglob("*.pck"))):
            return "kneemri"
        if path.name.endswith((".nii", ".nii.gz")):
            return "nifti"
        if path.suffix == ".dcm" or _has_preamble(path):
            return "dicom"
        if number > 1000:
            break
    return ""


def _has_preamble(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"


def refuse_foreign(root: Path) -> None:
    """Raises UserError, with the command that converts it, where `root` holds another format than MRNet's layout."""
    if form := recognised(root):
        labels = "" if form == "kneemri" else " --labels FILE.csv"
        raise UserError(
            f"{root}: is not in MRNet's layout; convert it first: python -m bench convert {root} DST --from {form}"
            f"{labels}"
        )


# -- tables -----------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of a csv file with commas or semicolons. Raises UserError."""
    text = read_table(path)
    first = text.lstrip().split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if ";" in first and "," not in first else ",")
    rows = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((reader.line_num, [cell.strip() for cell in row]))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a readable csv file ({error})") from None
    if not rows:
        raise UserError(f"{path}: no rows; expected the name of an exam and its values on each line")
    for line, cells in rows:
        if len(cells) != len(rows[0][1]) or len(cells) < 2:
            raise UserError(
                f"{path}:{line}: {len(cells)} cells, expected {max(2, len(rows[0][1]))} on every line: the name of an "
                f"exam and its values"
            )
    return rows


def read_label_table(path: Path) -> tuple[tuple[str, ...], dict[str, tuple[list[int], str]]]:
    """(labels, name -> (0 or 1 a label, patient)) of a table: a column of names, and one a label; a header line or
    none; a column `patient` is told by its header. Raises UserError with file and line."""
    rows = read_rows(path)
    head = rows[0][1][1:]
    if all(cell in ("0", "1") for cell in head):
        names = [path.stem] if len(head) == 1 else [f"label{i + 1}" for i in range(len(head))]
    else:
        names, rows = head, rows[1:]
    patient = names.index(PATIENT) if PATIENT in names else None
    labels = tuple(name for name in names if name != PATIENT)
    if not labels or len(set(names)) != len(names):
        raise UserError(f"{path}: the header names {', '.join(names)[:80]!r}; expected one column a label, each once")
    for name in labels:
        check_id(name, str(path))
    found: dict[str, tuple[list[int], str]] = {}
    for line, (name, *cells) in rows:
        values = [cell for i, cell in enumerate(cells) if i != patient]
        if odd := [cell for cell in values if cell not in ("0", "1")]:
            raise UserError(f"{path}:{line}: {odd[0][:40]!r} is no label; expected 0 or 1")
        if not name or name in found:
            raise UserError(
                f"{path}:{line}: {'no name' if not name else 'a name that stands here twice'}; mend the row"
            )
        found[name] = [int(value) for value in values], "" if patient is None else cells[patient]
    if not found:
        raise UserError(f"{path}: a header and no rows; expected one row an exam")
    return labels, found


def matched(names: list[str], exams: list[Exam], path: Path) -> dict[str, Exam]:
    """Name of a table's row -> exam, for the names that are known. Raises UserError where a name fits two exams, or two
    names fit one."""
    by_name: dict[str, list[Exam]] = defaultdict(list)
    for exam in exams:
        for name in {exam.name, exam.id, *exam.known}:
            by_name[name].append(exam)
    found: dict[str, Exam] = {}
    taken: dict[str, str] = {}
    for name in names:
        fits = by_name.get(name, [])
        if len(fits) > 1:
            raise UserError(
                f"{path}: {name[:60]!r} fits {len(fits)} exams (a patient with several studies?); name each exam as "
                f"--key writes it"
            )
        if fits:
            if fits[0].id in taken:
                raise UserError(f"{path}: {taken[fits[0].id][:60]!r} and {name[:60]!r} are one exam; keep one row")
            found[name], taken[fits[0].id] = fits[0], name
    return found


def rename(exams: list[Exam], path: Path) -> None:
    """Give exams the ids of the table `name,id`. Raises UserError where an exam has none or two have the same."""
    rows = {}
    for line, cells in read_rows(path):
        check_id(cells[1], f"{path}:{line}")
        if cells[0] in rows:
            raise UserError(f"{path}:{line}: a name that stands here twice; keep one row")
        rows[cells[0]] = cells[1]
    found = matched(list(rows), exams, path)
    ids = {exam.id: rows[name] for name, exam in found.items()}
    missing = [exam for exam in exams if exam.id not in ids]
    if missing:
        raise UserError(
            f"{path}: no id for {len(missing)} of {len(exams)} exams, as {missing[0].name[:80]!r}; add a row `name,id`"
        )
    if twice := [name for name, n in Counter(ids.values()).items() if n > 1]:
        raise UserError(f"{path}: the id {twice[0]} is given to two exams; ids must differ")
    for exam in exams:
        exam.known, exam.id = (*exam.known, exam.id), ids[exam.id]


def add_labels(found: Found, path: Path) -> None:
    """Labels of the table for the exams found; those without a row are left out and counted."""
    labels, rows = read_label_table(path)
    pairs = matched(list(rows), found.exams, path)
    if not pairs:
        raise UserError(
            f"{path}: none of its {len(rows)} names, as {next(iter(rows))[:60]!r}, is an exam's; --key FILE.csv lists "
            f"the {len(found.exams)} that were found"
        )
    for name, exam in pairs.items():
        exam.labels = dict(zip(labels, rows[name][0]))
        exam.patient = rows[name][1] or exam.patient
    if extra := sorted(rows.keys() - pairs.keys()):
        found.notices.append(f"{path}: {len(extra)} rows of exams that were not found, as {extra[0][:60]!r}")
    for exam in found.exams:
        if not exam.labels:
            found.leave_out("exams without a row in the labels", exam.name)
    found.exams = [exam for exam in found.exams if exam.labels]


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
            f"more, or another share"
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


def check_voxels(shape: tuple[int, ...], item: int, where: object) -> None:
    """Raises UserError for a volume that no reader would take: asked before anything is allocated."""
    size = item
    for n in shape:
        size *= int(n)
    if size <= 0 or size > LARGEST:
        raise UserError(
            f"{where}: a volume of {' x '.join(map(str, shape))} voxels, {size} bytes; expected 1 to {LARGEST}"
        )


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
            f"--labels FILE.csv is needed: a name of an exam and one column a label, 0 or 1, on each line; --key "
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
    results = map(write_one, tasks) if alone else in_processes(write_one, tasks, workers)
    for folder in {task.path.parent for task in tasks}:
        if folder.is_dir():
            drop_unfinished(folder)
    failed = []
    with (
        open(dst / JOURNAL, "a") as file,
        tqdm(total=len(tasks), desc="volumes", unit="file", file=sys.stderr, disable=None) as bar,
        contextlib.nullcontext() if alone else contextlib.closing(results),
    ):
        for task, sha, why in results:
            if why:
                failed.append(why)
            else:
                row = {"file": str(task.path.relative_to(dst)), "stamp": task.stamp, "sha256": sha}
                file.write(json.dumps(row) + "\n")
                file.flush()
            bar.update()
    for path in dst.glob("*.csv"):
        if path.name == TUNE or path.name.startswith(tuple(f"{side}-" for side in SPLITS)):
            path.unlink()
    if failed:
        for why in sorted(failed)[1:SHOWN]:
            say(f"not read: {printable(why)}")
        raise UserError(
            f"{sorted(failed)[0]} ({len(failed)} of {len(tasks)} volumes could not be read, the others are written; "
            f"mend them or take their exams out of the labels, and give the same command again)"
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
