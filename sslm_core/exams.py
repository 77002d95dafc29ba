"""Exams on disk -> ExamSet. The only place that knows MRNet's layout, and the only one that opens volumes.

    DATA/{train,valid}/PLANE/ID.npy     uint8 [T, H, W]; the folders are the planes
    DATA/{train,valid}-LABEL.csv        rows `ID,0|1`, no header; the file names are the labels
"""

import hashlib
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import UserError

SPLITS = ("train", "valid")
ENSEMBLES = {"ensemble": "log-odds", "ensemble-logistic": "logistic"}  # names of rows over all planes: how these are weighted
MACRO = "macro"  # over all labels
UNREADABLE = (OSError, ValueError, TypeError, SyntaxError, EOFError, tokenize.TokenError, RecursionError, MemoryError, IndexError, KeyError)


@dataclass(frozen=True, eq=False)
class ExamSet:
    """The exams of one split. `truth` is uint8 [E, L]; `shapes` is int64 [planes, E, 3]: T, H, W of each volume."""

    root: Path
    split: str
    ids: tuple[str, ...]
    planes: tuple[str, ...]
    labels: tuple[str, ...]
    truth: np.ndarray
    shapes: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, plane: str, exam: int) -> Path:
        return self.root / self.split / plane / f"{self.ids[exam]}.npy"

    def frames(self, plane: str) -> np.ndarray:
        """T of each exam's volume in `plane`: int64 [E]."""
        return self.shapes[self.planes.index(plane), :, 0]

    def subset(self, exams: Sequence[int]) -> "ExamSet":
        exams = np.asarray(exams)
        return replace(self, ids=tuple(self.ids[e] for e in exams), truth=self.truth[exams], shapes=self.shapes[:, exams])


# -- volumes ----------------------------------------------------------------------------------------------------------


def volume_shape(path: Path) -> tuple[int, int, int]:
    """T, H, W from the header of one .npy file, checked against the file's size: nothing is allocated on a header's word.

    Raises UserError, naming the file, for whatever is not a whole uint8 [T >= 1, H, W].
    """
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            data = file.tell()
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such volume; add the file or take the exam out of the csv files") from None
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a readable .npy file ({reason}); fetch or export it again") from None
    if dtype.hasobject:
        raise UserError(f"{path}: holds pickled objects, which are never loaded; save it again as a plain uint8 array")
    if dtype != np.uint8:
        raise UserError(f"{path}: dtype {dtype}, expected uint8; scale the volume to 0..255 and save it as uint8")
    if len(shape) != 3:
        raise UserError(f"{path}: shape {shape}, expected three axes (frames, height, width)")
    if min(shape) < 1:
        raise UserError(f"{path}: shape {shape} holds no frame; export it again or take the exam out of the csv files")
    expected = data + shape[0] * shape[1] * shape[2]  # Python integers: a hostile header cannot overflow them
    if size != expected:
        raise UserError(f"{path}: {size} bytes, but its header {shape} asks for {expected}: truncated or damaged; fetch it again")
    return shape


def read_volume(path: Path) -> np.ndarray:
    """One volume, uint8 [T, H, W]. Raises UserError as `volume_shape` does."""
    volume_shape(path)
    try:
        return np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch or export it again") from None


# -- labels -----------------------------------------------------------------------------------------------------------


def read_labels(path: Path) -> dict[str, int]:
    """id -> 0 or 1 from one headerless csv file. Raises UserError with the file and line of the first bad row."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text file ({error}); save it as UTF-8 csv") from None
    rows: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 2 or not cells[0] or cells[1] not in ("0", "1"):
            raise UserError(f"{path}:{number}: {line[:60]!r} is no row `id,0` or `id,1` (no header line)")
        if cells[0] in (".", "..") or "/" in cells[0] or "\\" in cells[0] or "\0" in cells[0]:
            raise UserError(f"{path}:{number}: {cells[0]!r} is no exam id; an id is the name of a file without .npy")
        if cells[0] in rows:
            raise UserError(f"{path}:{number}: exam {cells[0]} stands here twice; keep one row")
        rows[cells[0]] = int(cells[1])
    if not rows:
        raise UserError(f"{path}: no rows; expected one `id,0|1` per exam")
    return rows


# -- a data set -------------------------------------------------------------------------------------------------------


def read_split(root: Path, split: str) -> ExamSet:
    """The exams of `root`/`split`, every volume's header checked. Strays (hidden files, other suffixes) are ignored."""
    folder = root / split
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; DATA needs train/PLANE/ID.npy and valid/PLANE/ID.npy")
    planes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not planes:
        raise UserError(f"{folder}: holds no plane folder; volumes belong into {folder}/PLANE/ID.npy")
    tables = {p.stem[len(split) + 1 :]: p for p in sorted(root.glob(f"{split}-*.csv"))}
    if not tables:
        raise UserError(f"{root}: no {split}-LABEL.csv; one csv of `id,0|1` rows per label is needed")
    columns = {label: read_labels(path) for label, path in tables.items()}
    labels = tuple(tables)
    for names, what in ((ENSEMBLES, planes), ((MACRO,), labels)):
        for name in set(names) & set(what):
            raise UserError(f"{root}: no plane or label may be called {name}, which names a row of the results; rename it")
    ids = tuple(sorted(columns[labels[0]]))
    for label in labels[1:]:
        odd = sorted(set(ids) ^ set(columns[label]))
        if odd:
            raise UserError(f"{tables[label]}: exam {odd[0]} is not in both it and {tables[labels[0]].name}; label every exam in each")
    shapes = np.empty((len(planes), len(ids), 3), np.int64)
    for p, plane in enumerate(planes):
        volumes = {v.stem for v in (folder / plane).glob("*.npy") if not v.name.startswith(".")}
        extra, missing = sorted(volumes - set(ids)), sorted(set(ids) - volumes)
        if extra:
            raise UserError(f"{folder / plane / extra[0]}.npy: no row in {tables[labels[0]].name} ({len(extra)} such); label it or move it")
        if missing:
            raise UserError(f"{folder / plane / missing[0]}.npy: missing, though {tables[labels[0]].name} lists it ({len(missing)} such)")
        for e, name in enumerate(ids):
            shapes[p, e] = volume_shape(folder / plane / f"{name}.npy")
    truth = np.array([[columns[label][name] for label in labels] for name in ids], np.uint8)
    return ExamSet(root, split, ids, tuple(planes), labels, truth, shapes)


def read_exams(root: Path | str) -> tuple[ExamSet, ExamSet]:
    """(train, valid) of a folder in MRNet's layout. Raises UserError for whatever could not be trained or scored on."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    train, valid = (read_split(root, split) for split in SPLITS)
    for what, a, b in (("planes", train.planes, valid.planes), ("labels", train.labels, valid.labels)):
        if a != b:
            raise UserError(f"{root}: train has the {what} {', '.join(a)}, valid has {', '.join(b)}; both need the same")
    for exams in (train, valid):
        for label, positives in zip(exams.labels, exams.truth.sum(0)):
            if positives in (0, len(exams)):
                csv = root / f"{exams.split}-{label}.csv"
                raise UserError(f"{csv}: every exam is {int(positives > 0)}; a label needs exams of both classes, or take the file out")
    return train, valid


def digest(sets: Sequence[ExamSet]) -> str:
    """12 hex digits over ids, labels and the bytes of every volume: the same data has the same digest in any folder."""
    total = hashlib.sha256()
    for exams in sets:
        total.update(repr((exams.split, exams.planes, exams.labels, exams.ids)).encode() + exams.truth.tobytes())
        for plane in exams.planes:
            for e in range(len(exams)):
                with open(exams.path(plane, e), "rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


# -- splits -----------------------------------------------------------------------------------------------------------


def minority(truth: np.ndarray) -> np.ndarray:
    """Per label the class (0 or 1) rarer in `truth` [E, L]; 1 where both are as frequent: int64 [L]."""
    return (2 * truth.sum(0, dtype=np.int64) <= len(truth)).astype(np.int64)


def joint(truth: np.ndarray) -> np.ndarray:
    """The joint label of each exam as one integer: [E, L] -> int64 [E]."""
    return np.unique(truth, axis=0, return_inverse=True)[1].reshape(-1)


def stratified(truth: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sorted index arrays: `count` exams drawn in proportion to the joint labels of `truth` [E, L], and the rest."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(truth))
    order = order[np.argsort(joint(truth)[order], kind="stable")]  # shuffled within each joint label
    # an even comb over exams sorted by joint label takes from each its share, to within one exam
    comb = np.floor((np.arange(count) + random.random()) * len(truth) / count).astype(np.int64)
    taken = np.zeros(len(truth), bool)
    taken[order[comb]] = True
    return np.flatnonzero(taken), np.flatnonzero(~taken)
