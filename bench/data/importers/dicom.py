"""DICOM: a tree of files -> one volume a plane of each study. Needs pydicom (the extra `import`).

A series is sorted by position along the normal of its slices, and its plane is named by that normal. Frames of
multi-frame objects count as slices.
"""

import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

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
    import pydicom
    from pydicom.pixels import get_decoder
    from pydicom.uid import DeflatedExplicitVRLittleEndian
except ModuleNotFoundError:
    raise UserError("--from dicom needs pydicom; install it: pip install 'sslm-bench[import]'") from None

FORMAT, SPAN = "DICOM", ROBUST
TAGS = [
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SeriesDescription", "SeriesNumber", "ImageType"),
    *("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "Rows", "Columns", "SamplesPerPixel"),
    *("NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient", "InstanceNumber", "EchoNumbers"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "RescaleSlope", "RescaleIntercept", "BitsAllocated"),
    *("PhotometricInterpretation", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
SCOUT = re.compile(r"scout|localizer|localiser|survey|\bloc\b|topogram", re.IGNORECASE)
DAMAGED = "damaged files"
NO_UID = "images without the UIDs of a study and series"
NO_PLACE = "images without position and orientation"


@dataclass(frozen=True)
class Slice:
    """One frame of one file: `normal` is the unit vector across it, `place` its position along that in mm, `turn` what
    comes first of two at one place."""

    path: Path
    number: int
    normal: tuple[float, ...]
    place: float
    turn: tuple[int, ...]
    slope: float
    intercept: float


@dataclass(frozen=True)
class Header:
    """What is needed of one file; `why` is the reason to leave it out."""

    path: Path
    why: str = ""
    study: str = ""
    series: str = ""
    about: str = ""
    patient: str = ""
    known: tuple[str, ...] = ()
    syntax: str = ""
    size: tuple[int, int] = (0, 0)
    slices: tuple[Slice, ...] = ()
    derived: bool = False


def headers(paths: list[Path]) -> list[Header]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks on values
        return [header(path) for path in paths]


def header(path: Path) -> Header:
    try:
        with opened(path, LARGEST) as file:
            if file.read(132)[128:] != b"DICM":
                return Header(path, "other files")
        syntax = str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))
        if syntax == DeflatedExplicitVRLittleEndian:  # pydicom would inflate it whole, whatever its size
            return Header(path, "deflated files (inflate them with `dcmconv +te`)")
        with opened(path, LARGEST) as file:
            return described(path, syntax, pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS))
    except UserError:
        return Header(path, "files that are no regular ones or too large")
    except Exception:  # whatever a damaged file leads pydicom into
        return Header(path, DAMAGED)


def described(path: Path, syntax: str, data: "pydicom.Dataset") -> Header:
    if not data.get("Rows") or not data.get("Columns"):
        return Header(path, "objects without an image")
    study, series = str(data.get("StudyInstanceUID") or ""), str(data.get("SeriesInstanceUID") or "")
    if not study or not series:
        return Header(path, NO_UID)
    kinds = [str(kind).strip().upper() for kind in _several(data.get("ImageType"))]
    about = " ".join(str(data.get("SeriesDescription") or f"series {data.get('SeriesNumber') or '?'}").split())
    if "LOCALIZER" in kinds or SCOUT.search(about):
        return Header(path, "localizers")
    if "MOSAIC" in kinds:
        return Header(path, "mosaics (slices tiled into one image)")
    if int(data.get("SamplesPerPixel") or 1) != 1:
        return Header(path, "colour images")
    name = str(data.get("PatientID") or "").strip()
    patient = name or f"{data.get('PatientName', '')}|{data.get('PatientBirthDate', '')}".strip("|") or study
    known = tuple(filter(None, (name, str(data.get("AccessionNumber") or "").strip())))
    size = int(data.Rows), int(data.Columns)
    derived = kinds[:1] == ["DERIVED"]
    slices, why = slices_of(path, data)
    return Header(path, why, study, series, about, patient, known, syntax, size, slices, derived)


def slices_of(path: Path, data: "pydicom.Dataset") -> tuple[tuple[Slice, ...], str]:
    """(the slices of one file, why there are none)."""
    turn = tuple(_whole(data.get(tag)) for tag in TURNS)
    groups = data.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        if _whole(data.get("NumberOfFrames") or 1) > 1:
            return (), "multi-frame images without the position of each frame"
        one = placed(path, 0, [data], turn)
        return ((one,), "") if one else ((), NO_PLACE)
    shared = (data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    found = []
    for number, own in enumerate(groups):
        parts = [part for group in (own, shared) for tag in PARTS if (part := (group.get(tag) or [None])[0])]
        if not (one := placed(path, number, [*parts, data], (*turn, number))):
            return (), NO_PLACE
        found.append(one)
    return tuple(found), ""


TURNS = ("TemporalPositionIdentifier", "EchoNumbers", "AcquisitionNumber", "InstanceNumber")
PARTS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence")


def placed(path: Path, number: int, sources: list, turn: tuple[int, ...]) -> Slice | None:
    """The slice that the first of `sources` with a value describes; None without a position and orientation."""

    def first(tag: str):
        return next((value for source in sources if (value := source.get(tag)) not in (None, "")), None)

    ways = np.array([float(x) for x in _several(first("ImageOrientationPatient"))])
    place = np.array([float(x) for x in _several(first("ImagePositionPatient"))])
    if ways.shape != (6,) or place.shape != (3,) or not np.isfinite([*ways, *place]).all():
        return None
    normal = np.cross(ways[:3], ways[3:])
    if not 0.9 < np.linalg.norm(normal) < 1.1:
        return None
    normal /= np.linalg.norm(normal)
    normal *= np.sign(normal[np.abs(normal).argmax()])  # the same way along the patient in every exam
    slope, intercept = first("RescaleSlope"), first("RescaleIntercept")
    scale = float(1 if slope is None else slope), float(0 if intercept is None else intercept)
    if not np.isfinite(scale).all():
        return None
    return Slice(path, number, tuple(normal.tolist()), float(place @ normal), turn, *scale)


def _several(value) -> list:
    return (
        []
        if value is None
        else list(value)
        if isinstance(value, (list, tuple, pydicom.multival.MultiValue))
        else [value]
    )


def _whole(value) -> int:
    values = _several(value)
    return int(values[0]) if values and str(values[0]).strip() else 0


# -- studies ----------------------------------------------------------------------------------------------------------


def find(src: Path, options: Options) -> Found:
    found, stacks = Found(), defaultdict(list)
    of_study: dict = {}
    for head in sorted(looked(headers, list(files_below(src)), options.workers), key=lambda h: str(h.path)):
        if head.why or (head.derived and not options.derived):
            found.leave_out(head.why or "derived images (--derived takes them)", head.path)
        elif options.series and not options.series.search(head.about):
            found.leave_out("images of series that --series leaves out", head.about)
        else:
            of_study.setdefault(head.study, head)
            for one in head.slices:
                # a series may hold stacks of several orientations or sizes
                normal = tuple(round(x, 1) + 0.0 for x in one.normal)
                stacks[head.study, head.series, normal, head.size].append((one, head))
    volumes: dict = defaultdict(lambda: defaultdict(list))
    gaps = []
    for (study, _, normal, size), members in stacks.items():
        volume, uneven = stacked(found, members, size)
        volumes[study][PLANES[int(np.abs(normal).argmax())]].append(volume)
        gaps += [volume.about] * uneven
    several: dict[str, list[str]] = {}
    for study, planes in sorted(volumes.items()):
        head = of_study[study]
        folders = {str(path.relative_to(src).parent) for all_ in planes.values() for v in all_ for path in v.files}
        exam = Exam(study, hashed(study), head.patient, (*head.known, *_common(folders)))
        exam.volumes = {plane: largest(study, plane, all_, several) for plane, all_ in planes.items()}
        found.exams.append(exam)
    found.notices += told_several(several)
    if gaps:
        found.notices.append(f"{len(gaps)} series have gaps between slices, as {gaps[0]!r}: images missing?")
    _check_decoders(found, of_study, stacks)
    return found


def _common(folders: set[str]) -> list[str]:
    """The folders, by path and by name, that hold all files of a study."""
    parts = [Path(folder).parts for folder in folders]
    shared = [names[0] for names in zip(*parts) if len(set(names)) == 1]
    return [*shared, *("/".join(shared[: i + 1]) for i in range(1, len(shared)))]


def stacked(found: Found, members: list[tuple[Slice, Header]], size: tuple[int, int]) -> tuple[Volume, bool]:
    """(one volume of the slices of a series, whether there are gaps). Of several at one place the first is taken."""
    ordered = sorted((one for one, _ in members), key=lambda s: (round(s.place, 2), s.turn, str(s.path), s.number))
    taken = [one for i, one in enumerate(ordered) if not i or round(one.place - ordered[i - 1].place, 2) > 0]
    head = members[0][1]
    if more := len(ordered) - len(taken):
        found.leave_out("images where their series has one already (echoes, time points, copies)", head.about, more)
    check_voxels((len(taken), *size), 4, head.path)
    steps = np.diff([one.place for one in taken])
    files = tuple(dict.fromkeys(one.path for one in taken))
    volume = Volume(
        PLANES[int(np.abs(taken[0].normal).argmax())], tuple(taken), files, head.about, len(taken) * size[0] * size[1]
    )
    return volume, bool(len(steps) > 1 and steps.max() > 1.5 * np.median(steps))


def _check_decoders(found: Found, of_study: dict, stacks: dict) -> None:
    """Raises UserError where a compressed file that is taken cannot be decoded here."""
    syntax = {head.path: head.syntax for members in stacks.values() for _, head in members}
    taken = [path for exam in found.exams for volume in exam.volumes.values() for path in volume.files]
    refused = [path for path in taken if not readable(syntax[path])]
    if refused:
        name = pydicom.uid.UID(syntax[refused[0]]).name
        raise UserError(
            f"{refused[0]}: compressed as {printable(name)}, and no decoder is installed ({len(refused)} such files); "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress with `gdcmconv --raw IN OUT`"
        )


def readable(syntax: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        uid = pydicom.uid.UID(syntax)
    if not uid.is_transfer_syntax or not uid.is_compressed:
        return True
    try:
        return get_decoder(uid).is_available
    except NotImplementedError:
        return False


# -- voxels -----------------------------------------------------------------------------------------------------------


def read(source: tuple[Slice, ...]) -> np.ndarray:
    """float32 [T, H, W] after the rescale slope. Raises UserError, naming the file, where pixels cannot be read."""
    frames, path, content = [], None, np.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in source:
            if one.path != path:
                path, content = one.path, pixels(one.path)
            if one.number >= len(content):
                raise UserError(f"{path}: has {len(content)} frames, its header tells of more; fetch it again")
            frames.append(content[one.number].astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept))
    if len({frame.shape for frame in frames}) > 1:
        raise UserError(f"{source[0].path}: its series has images of several sizes; fetch it again")
    return np.stack(frames)


def pixels(path: Path) -> np.ndarray:
    """[frames, H, W] as they are stored, dark where there is no signal."""
    try:
        with opened(path, LARGEST) as file:
            data = pydicom.dcmread(file)
        frames = _whole(data.get("NumberOfFrames") or 1)
        shape = max(1, frames), int(data.Rows), int(data.Columns)
        check_voxels(shape, max(1, int(data.BitsAllocated) // 8), path)
        array = data.pixel_array.reshape(shape)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: its pixels do not fit into the memory; give fewer --workers") from None
    except Exception as error:  # whatever a damaged file leads pydicom into
        reason = printable((str(error).splitlines() or [type(error).__name__])[0][:200])
        raise UserError(f"{path}: its pixels cannot be read ({reason}); fetch it again or take it out") from None
    return array.max() - array if data.get("PhotometricInterpretation") == "MONOCHROME1" else array
