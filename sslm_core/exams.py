"""Exams on disk -> ExamSet. The only place that knows MRNet's layout, and the only one that opens volumes.

DATA/{train,valid}/PLANE/ID.npy     uint8 [T, H, W]; the folders are the planes
DATA/{train,valid}-LABEL.csv        rows `ID,0|1`, no header; the file names are the labels
DATA/tune.csv                       optional: ids of train exams that are held out to choose by, one a line
"""

import hashlib
import io
import math
import tokenize
import warnings
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from .errors import UserError
from .reading import LARGEST, LARGEST_TABLE, check_folder, inside, listed, opened

SPLITS = ("train", "valid")
TUNE = "tune.csv"
# names of rows over all planes: how these are weighted
ENSEMBLES = {"ensemble": "log-odds", "ensemble-logistic": "logistic"}
MACRO = "macro"  # over all labels
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    IndexError,
    KeyError,
)
# Python 2's files are as good
warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional header")


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
    held: np.ndarray | None = None  # bool [E]: train exams that the data set itself holds out to choose by
    strays: tuple[str, ...] = ()  # folders that were taken for no plane

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, plane: str, exam: int) -> Path:
        return self.root / self.split / plane / f"{self.ids[exam]}.npy"

    def frames(self, plane: str) -> np.ndarray:
        """T of each exam's volume in `plane`: int64 [E]."""
        return self.shapes[self.planes.index(plane), :, 0]

    def subset(self, exams: Sequence[int] | np.ndarray) -> "ExamSet":
        exams = np.asarray(exams)
        return replace(
            self,
            ids=tuple(self.ids[e] for e in exams),
            truth=self.truth[exams],
            shapes=self.shapes[:, exams],
            held=None if self.held is None else self.held[exams],
        )


# -- volumes ----------------------------------------------------------------------------------------------------------


def volume_shape(path: Path) -> tuple[int, int, int]:
    """T, H, W of one volume, from the header of its .npy file, checked against the file's size.

    Raises UserError, naming the file, for whatever is not a whole uint8 [T >= 1, H, W].
    """
    return _header(path)[0]


def _header(path: Path) -> tuple[tuple[int, int, int], Literal["C", "F"], int]:
    """T, H, W as volume_shape() has them; the order of the axes in the file; the byte at which the voxels begin."""
    try:
        with opened(path, LARGEST) as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = io.BytesIO(file.read(1 << 14))  # numpy would allocate what the file says
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(head)
        data = head.tell()
    except FileNotFoundError:
        raise _missing(path) from None
    except UNREADABLE as error:
        # numpy quotes the whole header
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a readable .npy file ({reason}); fetch or export it again") from None
    if dtype.hasobject:
        raise UserError(f"{path}: holds pickled objects, which are never loaded; save it again as a plain uint8 array")
    if dtype != np.uint8:
        raise UserError(
            f"{path}: dtype {str(dtype)[:60]}, expected uint8; scale the volume to 0..255 and save it as uint8"
        )
    _check_axes(path, shape)
    frames, height, width = shape
    expected = data + frames * height * width  # Python integers: a hostile header cannot overflow them
    if size != expected:
        raise UserError(
            f"{path}: {size} bytes, but its header {shape} asks for {expected}: truncated or damaged; fetch it again"
        )
    return (frames, height, width), "F" if columns_first else "C", data


def read_volume(path: Path) -> np.ndarray:
    """One volume, uint8 [T, H, W]. Raises UserError as `volume_shape` does."""
    shape, order, data = _header(path)
    try:
        # np.load would parse the header again: a third of the time that a small volume takes
        with open(path, "rb") as file:
            return np.fromfile(file, np.uint8, math.prod(shape), offset=data).reshape(shape, order=order)
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch or export it again") from None


def _missing(path: Path) -> UserError:
    return UserError(f"{path}: no such volume; add the file or take the exam out of the csv files")


def _check_axes(path: Path, shape: tuple) -> None:
    if len(shape) != 3:
        raise UserError(f"{path}: shape {str(shape)[:60]}, expected three axes (frames, height, width)")
    if min(shape) < 1:
        raise UserError(f"{path}: shape {shape} holds no frame; export it again or take the exam out of the csv files")


# -- labels -----------------------------------------------------------------------------------------------------------


def read_table(path: Path) -> str:
    """The text of a csv file, a byte order mark dropped. Raises UserError where it is none."""
    try:
        with opened(path, LARGEST_TABLE) as file:
            return file.read().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the labels belong there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text file ({error}); save it as UTF-8 csv") from None


def check_id(name: str, where: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise UserError(f"{where}: {name[:60]!r} is no exam id; an id is the name of a file without its suffix")


def read_labels(path: Path) -> dict[str, int]:
    """id -> 0 or 1 from one headerless csv file. Raises UserError with the file and line of the first bad row."""
    lines = read_table(path).splitlines()
    rows: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = [cell.strip().removeprefix('"').removesuffix('"') for cell in line.split(",")]  # a spreadsheet's quotes
        if len(cells) != 2 or not cells[0] or cells[1] not in ("0", "1"):
            raise UserError(f"{path}:{number}: {line[:60]!r} is no row `id,0` or `id,1` (no header line)")
        check_id(cells[0], f"{path}:{number}")
        if cells[0] in rows:
            raise UserError(f"{path}:{number}: exam {cells[0]} stands here twice; keep one row")
        rows[cells[0]] = int(cells[1])
    if not rows:
        raise UserError(f"{path}: no rows; expected one `id,0|1` per exam")
    return rows


# -- a data set -------------------------------------------------------------------------------------------------------


def plane_folders(root: Path, folder: Path, ids: Container[str]) -> tuple[list[str], list[str]]:
    """(planes, strays) in the folder of a split: a folder without a volume is a stray, as file servers leave some."""
    planes: list[str] = []
    strays: list[str] = []
    for entry in listed(root, folder):
        if entry.is_dir():
            files = [file.name for file in listed(root, Path(entry.path)) if not Path(file.path).is_dir()]
            # named as an exam, but .npz: meant as a plane
            held = any(name.endswith(".npy") or name.split(".")[0] in ids for name in files)
            (planes if held else strays).append(entry.name)
    return planes, strays


def likely(missing: Sequence[str], extra: Sequence[str], folder: Path) -> str:
    """Why exams have no volume in `folder`, and volumes no row: the mend, empty where the cause is not known."""
    short = {name.lstrip("0"): name for name in extra}
    named = {path.name.split(".")[0]: path.name for path in folder.iterdir() if not path.name.endswith(".npy")}
    for name in missing:
        if name.lstrip("0") in short:
            there = short[name.lstrip("0")]
            return (
                f"the csv has {name}, the file is {there}.npy (spreadsheets drop leading zeros); write the ids as "
                "the files are named"
            )
        if name in named:
            return f"there is {named[name]}; save it as {name}.npy"
    return ""


def read_split(root: Path, split: str, shape: Callable[[Path], tuple[int, int, int]] = volume_shape) -> ExamSet:
    """The exams of `root`/`split`, every volume's header checked. Strays (hidden files, other suffixes) are ignored."""
    folder = root / split
    top = listed(root, root)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; DATA needs train/PLANE/ID.npy and valid/PLANE/ID.npy")
    tables = {
        t.name[len(split) + 1 : -4]: root / t.name
        for t in top
        if t.name.startswith(f"{split}-") and t.name.endswith(".csv")
    }
    if not tables:
        raise UserError(f"{root}: no {split}-LABEL.csv; one csv of `id,0|1` rows per label is needed")
    columns = {label: read_labels(path) for label, path in tables.items()}
    labels = tuple(tables)
    ids = tuple(sorted(columns[labels[0]]))
    planes, strays = plane_folders(root, folder, ids)
    if not planes:
        raise UserError(f"{folder}: holds no plane folder; volumes belong into {folder}/PLANE/ID.npy")
    for names, what in ((ENSEMBLES, planes), ((MACRO,), labels)):
        for name in what:
            if name in names:
                raise UserError(
                    f"{root}: no plane or label may be called {name}, which names a row of the results; rename it"
                )
            if not name.isprintable():
                raise UserError(f"{root}: the name {name!r} of a plane or label cannot be printed; rename it")
    for label in labels[1:]:
        odd = sorted(set(ids) ^ set(columns[label]))
        if odd:
            raise UserError(
                f"{tables[label]}: exam {odd[0]} is not in both it and {tables[labels[0]].name}; label every exam in "
                "each"
            )
    shapes = np.empty((len(planes), len(ids), 3), np.int64)
    for p, plane in enumerate(planes):
        volumes = {entry.name[:-4] for entry in listed(root, folder / plane) if entry.name.endswith(".npy")}
        extra, missing = sorted(volumes - set(ids)), sorted(set(ids) - volumes)
        if extra or missing:
            where, mend = folder / plane / (extra or missing)[0], likely(missing, extra, folder / plane)
            if extra:
                raise UserError(
                    f"{where}.npy: no row in {tables[labels[0]].name} ({len(extra)} such); "
                    f"{mend or 'label it or move it'}"
                )
            raise UserError(
                f"{where}.npy: missing, though {tables[labels[0]].name} lists it ({len(missing)} such); "
                f"{mend or 'add the file or take the exam out of the csv files'}"
            )
        for e, name in enumerate(ids):
            shapes[p, e] = shape(folder / plane / f"{name}.npy")
    truth = np.array([[columns[label][name] for label in labels] for name in ids], np.uint8)
    return ExamSet(
        root, split, ids, tuple(planes), labels, truth, shapes, strays=tuple(f"{split}/{name}" for name in strays)
    )


def read_tune(root: Path, ids: Sequence[str]) -> np.ndarray | None:
    """Which of the train exams `ids` DATA/tune.csv holds out to choose by: bool [E]; None where there is no such file.
    Raises UserError."""
    path = root / TUNE
    if not path.exists() and not path.is_symlink():
        return None
    if path.is_symlink():
        inside(root, path)
    known, held = set(ids), set()
    for number, line in enumerate(read_table(path).splitlines(), 1):
        name = line.strip().rstrip(",").removeprefix('"').removesuffix('"')
        if not name:
            continue
        if name not in known:
            raise UserError(f"{path}:{number}: {name[:60]!r} is no exam of train; write one id of train on each line")
        held.add(name)
    if not 0 < len(held) < len(ids):
        raise UserError(
            f"{path}: holds out {len(held)} of {len(ids)} train exams; name some of them, or remove the file"
        )
    return np.array([name in held for name in ids])


def read_exams(
    root: Path | str, shape: Callable[[Path], tuple[int, int, int]] = volume_shape
) -> tuple[ExamSet, ExamSet]:
    """(train, reported) of a folder in MRNet's layout. Raises UserError for whatever could not be trained or scored on.

    shape: for who has looked at the volumes before.
    """
    root = Path(root)
    check_folder(root)
    if not (root / "train").exists():
        for entry in listed(root, root):
            if entry.is_dir() and (Path(entry.path) / "train").is_dir():
                raise UserError(f"{root}: the data set lies one folder deeper; name {entry.path}")
    train, reported = (read_split(root, split, shape) for split in SPLITS)
    train = replace(train, held=read_tune(root, train.ids))
    for what, a, b in (("planes", train.planes, reported.planes), ("labels", train.labels, reported.labels)):
        if a != b:
            raise UserError(
                f"{root}: train has the {what} {', '.join(a)}, valid has {', '.join(b)}; both need the same"
            )
    for exams in (train, reported):
        for label, positives in zip(exams.labels, exams.truth.sum(0)):
            if positives in (0, len(exams)):
                csv = root / f"{exams.split}-{label}.csv"
                raise UserError(
                    f"{csv}: every {exams.split} exam is {int(positives > 0)} in {label}; "
                    "a label needs exams of both classes, or take it out"
                )
    return train, reported


def file_digests(sets: Sequence[ExamSet]) -> dict[str, str]:
    """File of each volume, below root -> sha256 of its bytes."""
    found = {}
    for exams in sets:
        for plane in exams.planes:
            for e in range(len(exams)):
                path = exams.path(plane, e)
                with open(path, "rb") as file:
                    found[str(path.relative_to(exams.root))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def digest(sets: Sequence[ExamSet], files: dict[str, str] | None = None) -> str:
    """12 hex digits over ids, labels and the bytes of every volume: the same data has the same digest in any folder."""
    files = file_digests(sets) if files is None else files
    total = hashlib.sha256()
    for exams in sets:
        total.update(repr((exams.split, exams.planes, exams.labels, exams.ids)).encode() + exams.truth.tobytes())
        if exams.held is not None:
            total.update(exams.held.tobytes())
        for plane in exams.planes:
            for e in range(len(exams)):
                total.update(bytes.fromhex(files[str(exams.path(plane, e).relative_to(exams.root))]))
    return total.hexdigest()[:12]


# -- splits -----------------------------------------------------------------------------------------------------------


def minority(truth: np.ndarray) -> np.ndarray:
    """Per label the class (0 or 1) rarer in `truth` [E, L]; 1 where both are as frequent: int64 [L]."""
    return (2 * truth.sum(0, dtype=np.int64) <= len(truth)).astype(np.int64)


def joint(truth: np.ndarray) -> np.ndarray:
    """The joint label of each exam as one integer: [E, L] -> int64 [E]."""
    return np.unique(truth, axis=0, return_inverse=True)[1].reshape(-1)


def stratified(truth: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sorted index arrays: `count` exams drawn in proportion to the joint labels of `truth` [E, L], and the
    rest."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(truth))
    order = order[np.argsort(joint(truth)[order], kind="stable")]  # shuffled within each joint label
    # an even comb over exams sorted by joint label takes from each its share, to within one exam
    comb = np.floor((np.arange(count) + random.random()) * len(truth) / count).astype(np.int64)
    taken = np.zeros(len(truth), bool)
    taken[order[comb]] = True
    return np.flatnonzero(taken), np.flatnonzero(~taken)
