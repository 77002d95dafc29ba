"""What every importer shares: what it finds, and how files are looked through.

An importer has FORMAT, SPAN (its usual range), find(src, options) -> Found and read(source) -> numbers [T, H, W].
tables.py gives the exams found their labels, writing.py writes them.
"""

import contextlib
import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sslm_core.errors import UserError
from sslm_core.reading import LARGEST, inside

from ...processes import in_processes

PLANES = ("sagittal", "coronal", "axial")  # the plane of slices along x, y and z of the patient
MANIFEST = "manifest.json"
FORMATS = ("dicom", "nifti", "kneemri")
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
    found: Any = map(look, chunks) if alone else in_processes(look, chunks, workers)
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
        "(--series REGEX chooses)"
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


def check_voxels(shape: tuple[int, ...], item: int, where: object) -> None:
    """Raises UserError for a volume that no reader would take: asked before anything is allocated."""
    size = item
    for n in shape:
        size *= int(n)
    if size <= 0 or size > LARGEST:
        raise UserError(
            f"{where}: a volume of {' x '.join(map(str, shape))} voxels, {size} bytes; expected 1 to {LARGEST}"
        )
