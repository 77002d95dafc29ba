"""KneeMRI's layout (Rijeka): sagittal volumes in ten folders, one label `acl` (partial or complete), and the authors'
own split.

    DATA/vol01 ... vol10/EXAMID-SERIES.pck     pickled integers [T, H, W], read as data (see pickled.py)
    DATA/metadata.csv                          with the columns volumeFilename and aclDiagnosis (0 intact, 1 partial, 2
    complete)
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .errors import UserError
from .exams import ExamSet, check_id, read_table
from .reading import listed

TABLE = "metadata.csv"
FOLDERS = {
    "train": ("vol03", "vol04", "vol06", "vol07", "vol08", "vol09"),
    "tune": ("vol05", "vol10"),  # held out of train to choose by: the authors' validation set
    "test": ("vol01", "vol02"),
}
PLANE, LABEL = "sagittal", "acl"


def recognised(root: Path) -> bool:
    """Whether `root` is meant to be in this layout."""
    return not (root / "train").exists() and (
        (root / TABLE).exists() or any((root / name).is_dir() for name in sum(FOLDERS.values(), ()))
    )


def read_diagnoses(path: Path) -> dict[str, int]:
    """Volume's file name -> 0, 1 or 2. Raises UserError with the file and line of the first bad row."""
    table = csv.DictReader(io.StringIO(read_table(path)), skipinitialspace=True)
    rows: dict[str, int] = {}
    try:
        for column in ("volumeFilename", "aclDiagnosis"):
            if column not in (table.fieldnames or ()):
                raise UserError(f"{path}: no column {column}; KneeMRI's own table has it")
        for row in table:
            where = f"{path}:{table.line_num}"
            name, diagnosis = ((row[column] or "").strip() for column in ("volumeFilename", "aclDiagnosis"))
            if diagnosis not in ("0", "1", "2"):
                raise UserError(f"{where}: aclDiagnosis {diagnosis[:20]!r}, expected 0, 1 or 2")
            check_id(name.removesuffix(".pck"), where)
            if name in rows:
                raise UserError(f"{where}: {name} stands here twice; keep one row")
            rows[name] = int(diagnosis)
    except csv.Error as error:
        raise UserError(f"{path}:{table.line_num}: not a readable csv file ({error})") from None
    if not rows:
        raise UserError(f"{path}: no rows; expected one per volume")
    return rows


def find_volumes(root: Path) -> dict[str, str]:
    """Name of each .pck file in the ten folders -> the folder that holds it. Raises UserError for a name in two of
    them."""
    top = {entry.name for entry in listed(root, root) if entry.is_dir()}
    found: dict[str, str] = {}
    for folder in sorted(top & set(sum(FOLDERS.values(), ()))):
        for entry in listed(root, root / folder):
            if entry.name.endswith(".pck"):
                if entry.name in found:
                    raise UserError(f"{entry.path}: stands in {found[entry.name]} too; keep one of them")
                found[entry.name] = folder
    return found


def elsewhere(root: Path) -> str:
    """Where .pck files lie that are not where they should be: the mend, empty where there are none."""
    found = {str(path.parent.relative_to(root)) for path in root.rglob("*.pck")} - set(sum(FOLDERS.values(), ()))
    if not found:
        return ""
    named = ["DATA itself" if name == "." else name for name in sorted(found)[:3]]
    return (
        f"expected .pck files in vol01 to vol10 right below DATA, found some in "
        f"{', '.join(named)}{' and more' * (len(found) > 3)}; "
        "move them, as the authors' archive has them"
    )


def read_folders(root: Path, shape: Callable[[Path], tuple[int, int, int]]) -> tuple[ExamSet, ExamSet]:
    """(train with the authors' validation exams held out, test). Raises UserError where a file or a row is missing."""
    diagnoses, found = read_diagnoses(root / TABLE), find_volumes(root)
    extra, missing = sorted(found.keys() - diagnoses.keys()), sorted(diagnoses.keys() - found.keys())
    if missing:
        mend = elsewhere(root) or "fetch it again or take its row out"
        raise UserError(f"{root}/vol??/{missing[0]}: missing, though {TABLE} lists it ({len(missing)} such); {mend}")
    if extra:
        raise UserError(
            f"{root / found[extra[0]] / extra[0]}: no row in {TABLE} ({len(extra)} such); label it or move it"
        )
    sets = []
    for split, parts in (("train", ("train", "tune")), ("test", ("test",))):
        where = {folder: part for part in parts for folder in FOLDERS[part]}
        names = sorted(name for name, folder in found.items() if folder in where)
        for part in parts:
            if not any(where[found[name]] == part for name in names):
                raise UserError(
                    f"{root}: no volume in {', '.join(FOLDERS[part])}, the authors' {part} set; fetch these folders too"
                )
        files = tuple(f"{found[name]}/{name}" for name in names)
        shapes = np.array([shape(root / file) for file in files], np.int64)[None]
        truth = np.array([[diagnoses[name] > 0] for name in names], np.uint8)
        held = np.array([where[found[name]] == "tune" for name in names]) if "tune" in parts else None
        sets.append(
            ExamSet(root, split, tuple(name[:-4] for name in names), (PLANE,), (LABEL,), truth, shapes, files, held)
        )
    return sets[0], sets[1]
