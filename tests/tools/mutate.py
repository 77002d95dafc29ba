"""Damaged files by the thousand through the readers: `python tests/tools/mutate.py --count 100000`.

Each is a good .npy, csv, metadata.csv, table of labels, pickle, DICOM or NIfTI file, its bytes changed, cut, doubled,
moved, or an opcode put in. A reader may return what the format promises or raise UserError, in one line; anything else
is a finding. Nothing may be run (an audit hook watches for imports, calls of the system, files opened for writing) and
memory is bounded (an address limit, under which an allocation on a damaged header's word fails).
"""

import argparse
import collections
import contextlib
import gzip
import pickle
import random
import resource
import sys
import tempfile
import time
import traceback
import unicodedata  # noqa: F401 - Python loads it when it first parses a letter outside of ASCII
from importlib import import_module
from pathlib import Path

import numpy as np

from bench.data.importers.kneemri import read, read_diagnoses
from bench.data.importers.shared import Options
from bench.data.importers.tables import read_label_table
from bench.data.importers.writing import found_in
from sslm_core.errors import UserError
from sslm_core.exams import read_labels, read_volume, volume_shape

ROOM = 1 << 30  # bytes that the readers may take beside what the process has: no input is larger than 64 kB
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "exec",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "ctypes.dlopen",
    "shutil.rmtree",
)
OPCODES = b"cRoibtd]})(\x93\x81\x82\x92Pq\x94\x85\x86\x87\x8d\x8e\x96\x95\x97\x98h.N"
NAMES = (
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"cnumpy\nload\n",
    b"\x8c\x02os\x8c\x06system\x93",
    b"cnumpy\nmemmap\n",
    b"iposix\nsystem\n",
    b"X\x0a\x00\x00\x00touch here\x85R",
    b"(S'touch here'\ntR",
)
NUMBERS = (
    b"0",
    b"1",
    b"-1",
    b"255",
    b"99999999999999999999",
    b"0x7f",
    b"1e9",
    b"nan",
    b"True",
    b"'|O'",
    b"'<f8'",
    b"(((",
    b"\x00",
    b",",
    b"\n",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"../../etc/passwd",
)


def good(draw: random.Random) -> dict[str, list[bytes]]:
    """Suffix -> files that their reader accepts."""
    volume = np.random.default_rng(draw.getrandbits(32)).integers(0, 256, (3, 5, 4)).astype(np.uint8)
    arrays = []
    for version in ((1, 0), (2, 0), (3, 0)):
        with tempfile.TemporaryFile() as file:
            np.lib.format.write_array(file, volume if version != (2, 0) else np.asfortranarray(volume), version=version)
            file.seek(0)
            arrays.append(file.read())
    pickles = [pickle.dumps(array, p) for array in (volume, volume.astype(">i2"), volume[:, ::2]) for p in range(6)]
    pickles += [content.replace(b"numpy._core", b"numpy.core") for content in pickles[:4]]
    labels = [b"".join(b"%04d,%d\n" % (e, e % 2) for e in range(12)), b"\xef\xbb\xbf0001,1\r\n0002,0\r\n"]
    wide = [b"name,acl,patient\n" + b"".join(b"%04d,%d,p%d\n" % (e, e % 2, e) for e in range(9)), b"a;0;1\nb;1;0\n"]
    head = b"examId,seriesNo,aclDiagnosis,kneeLR,volumeFilename\n"
    tables = [head + b"".join(b'%d,%d,%d,1,"%d-%d.pck"\n' % (e, 4, e % 3, e, 4) for e in range(9))]
    return {".npy": arrays, ".pck": pickles, ".csv": labels, ".table": tables, ".labels": wide, **scanned()}


def scanned() -> dict[str, list[bytes]]:
    """DICOM and NIfTI files, as far as their readers are installed."""
    files = {}
    with contextlib.suppress(ModuleNotFoundError):
        import pydicom

        real = Path(pydicom.__file__).parent / "data" / "test_files"
        names = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm", "dicomdirtests/77654033/CT2/17106")
        files[".dcm"] = [(real / name).read_bytes() for name in names]
    with contextlib.suppress(ModuleNotFoundError):
        import nibabel

        volume = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
        kinds = nibabel.Nifti1Image, nibabel.Nifti2Image
        files[".nii"] = [kind(volume, np.diag([3.0, 1, 1, 1])).to_bytes() for kind in kinds]
        files[".nii.gz"] = [gzip.compress(content) for content in files[".nii"]]
    return files


def mutated(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(content) + 1)
        end = min(len(content), at + draw.choice((1, 1, 2, 4, 8, 40)))
        match draw.randrange(9):
            case 0:
                content[at:end] = draw.randbytes(end - at)
            case 1:
                if at < len(content):
                    content[at] ^= 1 << draw.randrange(8)
            case 2:
                del content[at:]
            case 3:
                del content[at:end]
            case 4:
                content[at:at] = content[at:end] * draw.choice((1, 2, 100))
            case 5:
                content[at:end] = draw.choice(NUMBERS)
            case 6:
                content[at : at + draw.choice((0, 1))] = bytes([draw.choice(OPCODES)])
            case 7:
                content[at:at] = draw.choice(NAMES)
            case 8:
                other = draw.choice(others)
                content[at:] = other[draw.randrange(len(other) + 1) :]
    return bytes(content[: 1 << 16])


FORMATS = {".dcm": "dicom", ".nii": "nifti", ".gz": "nifti"}


def promised(path: Path) -> None:
    """Read `path` and check what its reader promises."""
    if path.suffix in FORMATS:
        importer = import_module(f"bench.data.importers.{FORMATS[path.suffix]}")
        for exam in found_in(importer, path.parent, Options(derived=True)).exams:
            for one in exam.volumes.values():
                volume = importer.read(one.source)
                assert volume.dtype == np.float32 and volume.ndim == 3 and volume.size == one.voxels
    elif path.suffix == ".labels":
        labels, rows = read_label_table(path)
        assert rows and all(len(values) == len(labels) and set(values) <= {0, 1} for values, _ in rows.values())
    elif path.suffix == ".csv":
        rows = read_labels(path)
        assert rows and all(
            value in (0, 1) and name and "/" not in name and name.isprintable() for name, value in rows.items()
        )
    elif path.suffix == ".table":
        rows = read_diagnoses(path)
        assert rows and all(
            value in (0, 1, 2) and "/" not in name and name.isprintable() for name, value in rows.items()
        )
    elif path.suffix == ".pck":
        volume = read(path)
        assert volume.dtype == np.uint8 and volume.ndim == 3 and volume.size
    else:
        volume = read_volume(path)
        assert volume.dtype == np.uint8 and volume.ndim == 3 and volume.size and volume.shape == volume_shape(path)


def watch(events: list[str]) -> None:
    known = set(sys.modules)

    def hook(event: str, arguments: tuple) -> None:
        if not armed:  # a hook stays for good
            return
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        # a DICOM file names its letters' encoding, which Python looks up among its own
        loads = event == "import" and arguments[0] not in known and not arguments[0].startswith("encodings.")
        if event in FORBIDDEN or writes or loads:
            events.append(f"{event} {arguments}"[:200])

    armed = events.armed = []
    sys.addaudithook(hook)


class Events(list):
    """What the hook has seen while it was armed."""


def mutate(count: int, seed: int, suffixes: tuple[str, ...] = ()) -> tuple[dict, list[str]]:
    """(suffix -> how often accepted and refused, findings) of `count` inputs, evenly over the suffixes."""
    draw, events = random.Random(seed), Events()
    files = good(draw)
    suffixes = suffixes or tuple(files)
    outcome = {suffix: collections.Counter() for suffix in suffixes}
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in suffixes:
            # first the good ones, which must be accepted; what is imported late is imported now
            home = Path(folder) / suffix.strip(".")
            home.mkdir()
            for content in files[suffix]:
                (home / f"input{suffix}").write_bytes(content)
                promised(home / f"input{suffix}")
        watch(events)
        for number in range(count):
            suffix = suffixes[number % len(suffixes)]
            if suffix == ".nii.gz" and draw.random() < 0.5:  # what is inside, for a checksum finds most other damage
                content = gzip.compress(mutated(draw.choice(files[".nii"]), draw, files[".nii"]))
            else:
                content = mutated(draw.choice(files[suffix]), draw, files[suffix])
            path = Path(folder) / suffix.strip(".") / f"input{suffix}"
            path.write_bytes(content)
            events.armed.append(True)
            try:
                promised(path)
                outcome[suffix]["accepted"] += 1
            except UserError as error:
                outcome[suffix]["refused"] += 1
                line = str(error)
                if len(line) > 600 or "\n" in line or str(path) not in line:
                    findings.append(f"{suffix} {content!r}: not one line that names the file: {line[:200]!r}")
            except BaseException:
                findings.append(f"{suffix} {content!r}: {traceback.format_exc(limit=-2)}")
            finally:
                events.armed.clear()
            findings += [f"{suffix} {content!r}: did {event}" for event in events]
            events.clear()
    return outcome, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    outcome, findings = mutate(args.count, args.seed)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    for suffix, counts in outcome.items():
        print(
            f"{suffix:7} {sum(counts.values()):>8} inputs: {counts['accepted']:>7} accepted, {counts['refused']:>7} "
            "refused in one line"
        )
    print(f"{len(findings)} findings; {time.monotonic() - began:.0f} s; peak memory grew by {grown / 1024:.0f} MB")
    for finding in findings[:20]:
        print(finding)
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
