"""KneeMRI (Rijeka): sagittal volumes in ten folders, one label `acl` (partial or complete), and the authors' own split.

    SRC/vol01 ... vol10/EXAMID-SERIES.pck     pickled integers [T, H, W], read as data (see pickled.py)
    SRC/metadata.csv                          with the columns volumeFilename and aclDiagnosis
                                              (0 intact, 1 partial, 2 complete)

The ids are the authors' public ones. Each frame is stretched by its own range, unless --range says otherwise.
"""

import csv
import io
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from sslm_core.errors import UserError
from sslm_core.exams import check_id, read_table
from sslm_core.reading import LARGEST, listed, opened

from .pickled import Refused, read_array
from .shared import Exam, Found, Options, Volume

FORMAT, SPAN = "KneeMRI", None
TABLE = "metadata.csv"
FOLDERS = {
    "train": ("vol03", "vol04", "vol06", "vol07", "vol08", "vol09"),
    "tune": ("vol05", "vol10"),  # held out of train to choose by: the authors' validation set
    "valid": ("vol01", "vol02"),  # the authors' test set
}
AUTHORS = {"train": "training", "tune": "validation", "valid": "test"}
PLANE, LABEL = "sagittal", "acl"


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
    named = ["SRC itself" if name == "." else name for name in sorted(found)[:3]]
    return (
        "expected .pck files in vol01 to vol10 right below SRC, found some in "
        f"{', '.join(named)}{' and more' * (len(found) > 3)}; "
        "move them, as the authors' archive has them"
    )


def find(src: Path, options: Options) -> Found:
    """Raises UserError where a file or a row is missing."""
    if options.labels:
        raise UserError(f"--labels {options.labels}: KneeMRI brings its own, in {TABLE}; leave the option out")
    diagnoses, where = read_diagnoses(src / TABLE), find_volumes(src)
    extra, missing = sorted(where.keys() - diagnoses.keys()), sorted(diagnoses.keys() - where.keys())
    if missing:
        mend = elsewhere(src) or "fetch it again or take its row out"
        raise UserError(f"{src}/vol??/{missing[0]}: missing, though {TABLE} lists it ({len(missing)} such); {mend}")
    if extra:
        raise UserError(
            f"{src / where[extra[0]] / extra[0]}: no row in {TABLE} ({len(extra)} such); label it or move it"
        )
    parts = {folder: part for part, folders in FOLDERS.items() for folder in folders}
    for part, folders in FOLDERS.items():
        if not set(folders) & set(where.values()):
            raise UserError(
                f"{src}: no volume in {', '.join(folders)}, the authors' {AUTHORS[part]} set; fetch these folders too"
            )
    found, sides = Found(), defaultdict(set)
    for name, folder in sorted(where.items()):
        path, id = src / folder / name, name.removesuffix(".pck")
        knee = id.split("-")[0]
        volume = Volume(PLANE, path, (path,), id, path.stat().st_size)
        labels = {LABEL: int(diagnoses[name] > 0)}
        found.exams.append(Exam(id, id, knee, (), {PLANE: volume}, labels, parts[folder]))
        sides[knee].add(parts[folder])
    if shared := sorted(knee for knee, of in sides.items() if len(of) > 1):
        found.notices.append(
            f"warning: {len(shared)} exams have series in more than one of {', '.join(FOLDERS)}, as {shared[0]}: "
            "figures on the reported exams flatter"
        )
    grades = Counter(diagnoses.values())
    found.notices.append(f"diagnoses: {grades[0]} intact, {grades[1]} partial, {grades[2]} complete")
    return found


def read(path: Path) -> np.ndarray:
    """uint8 [T, H, W]. Raises UserError as `read_plain` does."""
    return by_own_range(read_plain(path))


def read_plain(path: Path) -> np.ndarray:
    """Integers [T, H, W] as they are stored. Raises UserError, naming the file, for anything else."""
    try:
        with opened(path, LARGEST) as file:
            volume = read_array(file.read())
    except (Refused, OSError, MemoryError) as error:
        raise UserError(f"{path}: {error or 'too large for the memory'}") from None
    if volume.ndim != 3:
        raise UserError(f"{path}: shape {str(volume.shape)[:60]}, expected three axes (frames, height, width)")
    if not volume.size:
        raise UserError(f"{path}: shape {volume.shape} holds no frame; fetch it again or take its row out")
    return volume


def by_own_range(volume: np.ndarray) -> np.ndarray:
    """Integers [T, H, W] -> uint8 [T, H, W]: each frame stretched from its own least and greatest value to 0..255."""
    scaled = np.zeros(volume.shape, np.uint8)
    for frame, out in zip(volume, scaled):
        low, high = float(frame.min()), float(frame.max())
        if high > low:
            out[:] = np.rint((frame.astype(np.float64) - low) * (255 / (high - low)))
    return scaled
