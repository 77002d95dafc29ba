"""NIfTI: .nii and .nii.gz files -> one volume a plane of each exam. Needs nibabel (the extra `import`).

A file right below SRC is an exam; in a folder, the folder right below SRC names the exam. BIDS' sub-X and ses-Y name
patient and session wherever they stand. A volume is brought to the nearest axes of the patient and sliced along the
thickest one, or along the one that --planes names; its frames come out as a scanner would store them.
"""

import gzip
import re
import warnings
from collections import defaultdict
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from sslm_core.errors import UserError, printable
from sslm_core.reading import LARGEST, opened

from .shared import (
    PLANES,
    ROBUST,
    Exam,
    Found,
    Options,
    Volume,
    check_voxels,
    files_below,
    hashed,
    largest,
    looked,
    told_several,
)

try:
    from nibabel import orientations
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
except ModuleNotFoundError:
    raise UserError("--from nifti needs nibabel; install it: pip install 'sslm-bench[import]'") from None

FORMAT, SPAN = "NIfTI", ROBUST
SUFFIXES = (".nii", ".nii.gz")
HEADERS = {348: Nifti1Header, 540: Nifti2Header}  # by their length in bytes, which each file begins with
AHEAD = 1 << 24  # bytes before the voxels that are skipped
EVEN = 1.01  # voxels whose edges differ by less are cubes
BEGINNING = 1 << 16  # bytes of an exam's first file that its id is made of, beside the name


def content(path: Path) -> BinaryIO:
    """The bytes of a file, inflated as they are read."""
    file = opened(path, LARGEST)
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if path.name.endswith(".gz") else file


def header(file: BinaryIO, path: Path) -> Nifti1Header:
    """The header, without its extensions. Raises UserError for what is no 3-D volume of numbers."""
    start = file.read(4)
    kind = next((HEADERS[n] for order in ("little", "big") if (n := int.from_bytes(start, order)) in HEADERS), None)
    if kind is None:
        raise UserError(f"{path}: no NIfTI header; export it again as .nii or .nii.gz, or move it")
    head = kind(start + file.read(kind.sizeof_hdr - 4), check=False)
    if not head.is_single or bytes(head["magic"]).rstrip(b"\0")[:2] != b"n+":
        raise UserError(f"{path}: its voxels lie in another file; save both as one .nii")
    shape = tuple(int(n) for n in head.get_data_shape())
    if len(shape) > 3 and max(shape[3:]) > 1:
        raise UserError(
            f"{path}: {len(shape)} axes {printable(str(shape))}, expected a 3-D volume; save the one you want "
            "(nibabel: `nib.save(image.slicer[..., 0], FILE)`), or choose files with --series REGEX"
        )
    if len(shape) < 3:
        raise UserError(f"{path}: {len(shape)} axes, expected a 3-D volume; export it again or choose with --series")
    dtype = head.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UserError(f"{path}: voxels of type {dtype}, expected integers or floats of 64 bits or less; save it so")
    check_voxels(shape[:3], dtype.itemsize, path)
    return head


def axes(head: Nifti1Header, path: Path) -> tuple[np.ndarray, tuple[float, ...], tuple[int, ...]]:
    """(nibabel's orientation [3, 2]; edges of a voxel in mm and shape along the patient's x, y, z)."""
    affine = head.get_best_affine()
    if not np.isfinite(affine).all():
        raise UserError(f"{path}: an affine that is not finite; export it again")
    turned = orientations.io_orientation(affine)
    if np.isnan(turned).any():
        raise UserError(f"{path}: an affine that drops an axis; export it again")
    edges, shape = np.linalg.norm(affine[:3, :3], axis=0), head.get_data_shape()
    order = [int(np.flatnonzero(turned[:, 0] == axis)[0]) for axis in range(3)]
    return turned, tuple(float(edges[i]) for i in order), tuple(int(shape[i]) for i in order)


def guarded(work, path: Path):
    """work(), whatever a damaged file leads nibabel into told in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: does not fit into the memory; give fewer --workers") from None
    except Exception as error:
        reason = printable((str(error).splitlines() or [""])[0][:200] or type(error).__name__)
        raise UserError(f"{path}: not a readable NIfTI file ({reason}); export it again or take it out") from None


def described(path: Path) -> tuple[Path, tuple[float, ...], tuple[int, ...], bytes]:
    """(path, edges, shape, its beginning)."""

    def work():
        with content(path) as file:
            head = header(file, path)
            beginning = file.read(BEGINNING)
        return path, *axes(head, path)[1:], beginning

    return guarded(work, path)


def headers(paths: list[Path]) -> list[tuple]:
    return [described(path) for path in paths]


def find(src: Path, options: Options) -> Found:
    found, paths = Found(), []
    for path in files_below(src):
        if not path.name.endswith(SUFFIXES):
            found.leave_out("other files", path)
        elif options.series and not options.series.search(str(path.relative_to(src))):
            found.leave_out("files that --series leaves out", path)
        else:
            paths.append(path)
    _check_tree(src, paths)
    exams: dict[str, list[tuple]] = defaultdict(list)
    patients = {}
    for seen in sorted(looked(headers, paths, options.workers)):
        name, patient = named(seen[0].relative_to(src))
        exams[name].append(seen)
        patients[name] = patient
    several: dict[str, list[str]] = {}
    for name, files in sorted(exams.items()):
        volumes = defaultdict(list)
        for path, edges, shape, _ in files:
            axis = sliced(path, edges, options.planes)
            about = str(path.relative_to(src))
            volumes[PLANES[axis]].append(Volume(PLANES[axis], (path, axis), (path,), about, int(np.prod(shape))))
        # a name alone could be guessed from its hash, the voxels cannot
        id = hashed(name, files[0][3].hex())
        known = tuple({f[0].name.removesuffix(".gz").removesuffix(".nii") for f in files} if len(files) == 1 else ())
        exam = Exam(name, id, patients[name], known)
        exam.volumes = {plane: largest(name, plane, all_, several) for plane, all_ in volumes.items()}
        found.exams.append(exam)
    found.notices += told_several(several)
    return found


def _check_tree(src: Path, paths: list[Path]) -> None:
    below = {path.relative_to(src).parts[:-1][:1] for path in paths}
    if len(below) == 1 and len(paths) > 3 and (folder := next(iter(below))):
        if not re.match("sub-", folder[0]):
            raise UserError(f"{src}: all {len(paths)} NIfTI files lie in one folder of it; name {src / folder[0]}")


def named(path: Path) -> tuple[str, str]:
    """(exam, patient) of a file, by its path below SRC."""
    subject, session = (re.search(rf"(?:^|[/_])({word}-[A-Za-z0-9]+)", str(path)) for word in ("sub", "ses"))
    if subject:
        return "/".join(found[1] for found in (subject, session) if found), subject[1]
    name = path.parts[0].removesuffix(".gz").removesuffix(".nii") if len(path.parts) == 1 else path.parts[0]
    return name, name


def sliced(path: Path, edges: tuple[float, ...], planes: tuple[str, ...]) -> int:
    """The axis of the patient along which a volume is sliced: the one that is named, else the thickest. Raises
    UserError where no axis is."""
    if len(planes) == 1:
        return PLANES.index(planes[0])
    ordered = sorted(edges)
    if ordered[2] < EVEN * ordered[1]:
        raise UserError(
            f"{path}: voxels of {' x '.join(f'{edge:g}' for edge in edges)} mm have no thickest axis; name the plane: "
            "--planes sagittal, coronal or axial"
        )
    return edges.index(ordered[2])


def read(source: tuple[Path, int]) -> np.ndarray:
    """float32 [T, H, W], scaled as the header says. Raises UserError, naming the file."""
    path, axis = source
    return guarded(lambda: frames(path, axis), path)


def frames(path: Path, axis: int) -> np.ndarray:
    with content(path) as file:
        head = header(file, path)
        turned = axes(head, path)[0]
        skip = int(head["vox_offset"]) - head.sizeof_hdr
        if not 0 <= skip <= AHEAD:
            raise UserError(f"{path}: voxels at byte {skip + head.sizeof_hdr}: damaged; export it again")
        file.read(skip)
        shape, dtype = tuple(head.get_data_shape()[:3]), head.get_data_dtype()
        size = int(np.prod([int(n) for n in shape])) * dtype.itemsize
        data = file.read(size)
    if len(data) < size:
        raise UserError(f"{path}: {len(data)} bytes of voxels, its header asks for {size}: truncated; fetch it again")
    slope, intercept = head.get_slope_inter()
    volume = np.frombuffer(data, dtype).reshape(shape, order="F").astype(np.float32)
    if slope is not None:
        volume = volume * np.float32(slope) + np.float32(intercept or 0)
    volume = orientations.apply_orientation(volume, turned)[::-1, ::-1]  # x to the left, y to the back, z up: as DICOM
    if axis == 2:
        return volume.transpose(2, 1, 0)
    # rows from head to foot
    return volume.transpose(0, 2, 1)[:, ::-1] if axis == 0 else volume.transpose(1, 2, 0)[:, ::-1]
