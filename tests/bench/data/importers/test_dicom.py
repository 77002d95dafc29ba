"""DICOM made in small, and the files that pydicom ships."""

import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from bench.cli.main import main
from bench.config import presets
from sslm_core.exams import read_exams
from tests.tools import scans
from tests.tools.tiny import TINY

pydicom = pytest.importorskip("pydicom")
REAL = Path(pydicom.__file__).parent / "data" / "test_files"


def convert(src, *options) -> int:
    dst = Path(src).parent / "dst"
    return main(["convert", str(src), str(dst), "--from", "dicom", "--workers", "1", *map(str, options)])


def write_labels(path: Path, rows, head: str = "") -> Path:
    path.write_text(head + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.fixture
def studies(tmp_path):
    """(source, table of labels) of 12 studies; the last two are of patients that have one already."""
    rows = scans.write_studies(tmp_path / "src", 12)
    return tmp_path / "src", write_labels(tmp_path / "labels.csv", rows, "accession,acl,meniscus\n")


def test_a_tree_is_converted_and_run(studies, tmp_path, monkeypatch, capsys):
    src, labels = studies
    before = {path: path.stat().st_mtime_ns for path in [src, *src.rglob("*")]}
    assert convert(src, "--labels", labels) == 1
    assert {path: path.stat().st_mtime_ns for path in [src, *src.rglob("*")]} == before
    train, valid = read_exams(tmp_path / "dst")
    assert train.planes == ("axial", "coronal", "sagittal") and train.labels == ("acl", "meniscus")
    assert (len(train) + len(valid), set(train.ids) & set(valid.ids)) == (12, set())
    assert set(np.concatenate([train.shapes, valid.shapes], 1)[:, :, 1:].ravel()) == {32}
    manifest = json.loads((tmp_path / "dst" / "manifest.json").read_text())
    assert len(manifest["files"]) == 36 and re.fullmatch("[0-9a-f]{12}", manifest["digest"])
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)
    options = [
        "--methods",
        "random",
        "--planes",
        "axial",
        "--device",
        "cpu",
        "--out",
        tmp_path / "runs",
        "--results",
        tmp_path / "r.csv",
    ]
    capsys.readouterr()
    assert main(["run", "--preset", "tiny", "--data", str(tmp_path / "dst"), *map(str, options)]) == 0
    assert "AUC acl" in (told := capsys.readouterr().out + Path(tmp_path / "r.csv").read_text())
    assert manifest["digest"] in told


def test_nothing_that_tells_of_a_person_reaches_dst(studies, tmp_path):
    src, labels = studies
    convert(src, "--labels", labels, "--key", tmp_path / "key.csv")
    assert len((tmp_path / "key.csv").read_text().splitlines()) == 13
    words = [*scans.SECRET, "19700101", "Secret", "1.2.826.0.1", "study", str(src)]
    for path in [tmp_path / "dst", *(tmp_path / "dst").rglob("*")]:
        content = str(path.relative_to(tmp_path)).encode() + (path.read_bytes() if path.is_file() else b"")
        assert not [word for word in words if word.encode() in content], path
    assert main(["convert", str(src), str(tmp_path / "dst"), "--from", "dicom", "--key", f"{tmp_path}/dst/k.csv"]) == 2


def test_no_patient_is_on_both_sides(studies, tmp_path):
    src, labels = studies
    for share in (0.2, 0.4, 0.5):
        convert(src, "--labels", labels, "--key", tmp_path / "key.csv", "--valid", share)
        ids = dict(line.split(",") for line in (tmp_path / "key.csv").read_text().splitlines()[1:])
        side = {id: split for split, exams in zip(("train", "valid"), read_exams(tmp_path / "dst")) for id in exams.ids}
        for s in (10, 11):
            assert len({side[ids[f"1.2.826.0.1.3680043.8.498.{7000 + n}"]] for n in (s, s - 10)}) == 1
        assert sum(part == "valid" for part in side.values()) >= round(share * 10)


def one_series(root: Path, volume: np.ndarray, plane: str, s: int, k: int = 1, **values) -> None:
    study = f"1.2.3.{s}"
    values = {"SeriesDescription": "PD", **values, **scans.who(s, s)}
    scans.write_series(root / f"s{s}" / f"k{k}", volume, plane, study, f"{study}.{k}", **values)


def four(root: Path, volume: np.ndarray, plane: str = "sagittal", **values) -> Path:
    for s in range(4):
        one_series(root, volume, plane, s, **values)
    return write_labels(root.parent / "acl.csv", [(f"{scans.SECRET[1]}{s}", s % 2) for s in range(4)])


@pytest.mark.parametrize("plane", scans.AXES)
def test_slices_are_sorted_and_scaled(tmp_path, plane):
    volume = np.arange(6 * 4 * 5).reshape(6, 4, 5) ** 2
    labels = four(tmp_path / "src", volume, plane, RescaleSlope="0.5", RescaleIntercept="-10")
    convert(tmp_path / "src", "--labels", labels, "--valid", 0.5, "--range=-10,6990")
    made = np.load(next((tmp_path / "dst" / "train" / plane).glob("*.npy")))
    expected = np.rint(np.clip(volume * 0.5 * 255 / 7000, 0, 255))
    assert made.dtype == np.uint8 and made.shape == volume.shape and abs(made - expected).max() <= 1


def test_inverted_grays_are_turned(tmp_path):
    volume = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    labels = four(tmp_path / "src", volume, PhotometricInterpretation="MONOCHROME1")
    convert(tmp_path / "src", "--labels", labels, "--valid", 0.5)
    made = np.load(next((tmp_path / "dst" / "train" / "sagittal").glob("*.npy")))
    assert (np.diff(made[0].ravel().astype(int)) <= 0).all()


def test_what_is_no_part_of_an_exam_is_counted(tmp_path, capsys):
    volume = np.random.default_rng(0).integers(0, 900, (5, 8, 8))
    src = tmp_path / "src"
    labels = four(src, volume)
    one_series(src, volume[:1], "axial", 0, 2, SeriesDescription="3-plane localizer")
    one_series(src, volume[:2], "axial", 0, 3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    one_series(src, volume[:3], "axial", 0, 4, ImageType=["DERIVED", "SECONDARY", "MPR"])
    one_series(src, volume[:1], "axial", 0, 5, NumberOfFrames=1, ImageOrientationPatient=None)
    one_series(src, volume[:4], "sagittal", 0, 6, SeriesDescription="T2 short")
    (src / "note.txt").write_text("by hand")
    (src / "cut").write_bytes(bytes(128) + b"DICM" + b"\x02\x00")
    assert convert(src, "--labels", labels, "--valid", 0.5) == 1
    told = capsys.readouterr().err
    for words in (
        "3 localizers",
        "3 derived images",
        "1 images without position",
        "1 other files",
        "1 objects without",
    ):
        assert words in told
    assert "1 exams have several sagittal series" in told
    assert "'PD', not 'T2 short'" in told
    assert next((tmp_path / "dst").rglob("*.npy")).parent.name == "sagittal"


def test_a_series_is_chosen_by_its_description(tmp_path):
    src = tmp_path / "src"
    labels = four(src, np.arange(5 * 64).reshape(5, 8, 8), SeriesDescription="T1")
    for s in range(4):
        one_series(src, np.arange(3 * 64).reshape(3, 8, 8), "sagittal", s, 2, SeriesDescription="T2 fs")
    for regex, frames in (("T1", 5), ("t2.*FS", 3)):
        convert(src, "--labels", labels, "--valid", 0.5, "--series", regex)
        assert set(read_exams(tmp_path / "dst")[0].shapes[0, :, 0]) == {frames}


def enhanced(root: Path, volume: np.ndarray, s: int) -> None:
    """One object that holds all frames, in no order, with a slope of its own for each."""
    from pydicom.dataset import Dataset

    study, frames = f"1.2.3.{s}", []
    order = np.random.default_rng(2).permutation(len(volume))
    for t in order.tolist():
        frame, place, scale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [4.0 * t, 0, 0]
        scale.RescaleSlope, scale.RescaleIntercept = str(t + 1), "0"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [scale]
        frames.append(frame)
    shared, ways = Dataset(), Dataset()
    ways.ImageOrientationPatient = list(scans.WAYS["sagittal"])
    shared.PlaneOrientationSequence = [ways]
    values = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    data = scans.dataset(volume[order], study, f"{study}.1", 1, NumberOfFrames=len(volume), **values, **scans.who(s, s))
    scans.save(data, root / f"e{s}.dcm")


def test_frames_of_one_object_are_slices(tmp_path):
    volume = np.random.default_rng(0).integers(0, 50, (5, 8, 8))
    for s in range(4):
        enhanced(tmp_path / "src", volume, s)
    labels = write_labels(tmp_path / "acl.csv", [(f"{scans.SECRET[2]}{s}", s % 2) for s in range(4)])
    convert(tmp_path / "src", "--labels", labels, "--valid", 0.5, "--range", "0,255")
    made = np.load(next((tmp_path / "dst").rglob("*.npy")))
    assert (made == volume * np.arange(1, 6)[:, None, None]).all()


def test_an_interrupted_conversion_goes_on(studies, tmp_path, capsys):
    src, labels = studies
    convert(src, "--labels", labels)
    files = {p: p.read_bytes() for p in (tmp_path / "dst").rglob("*") if p.is_file() and not p.name.startswith(".")}
    kept = sorted(p for p in files if p.suffix == ".npy")
    (tmp_path / "dst" / "manifest.json").unlink()
    kept[0].unlink()
    journal = tmp_path / "dst" / ".convert.jsonl"
    journal.write_text(journal.read_text()[:-30])  # killed while it wrote
    stood = {p: p.stat().st_mtime_ns for p in kept[1:]}
    capsys.readouterr()
    assert convert(src, "--labels", labels) == 1
    assert re.search(r"3[45] of 36 volumes are there already", capsys.readouterr().err)
    assert sum(p.stat().st_mtime_ns != then for p, then in stood.items()) <= 1
    assert {p: p.read_bytes() for p in files} == files


def test_options_and_folders_that_cannot_be(studies, tmp_path, capsys):
    src, labels = studies
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    odd = write_labels(tmp_path / "odd.csv", [("name", 1)])
    wrong = write_labels(tmp_path / "wrong.csv", [(f"{scans.SECRET[2]}0", 2)], "id,acl\n")
    twice = write_labels(tmp_path / "twice.csv", [(f"{scans.SECRET[1]}0", 1)])
    ids = write_labels(tmp_path / "ids.csv", [(f"{scans.SECRET[2]}0", "a")])
    for dst, options, word in (
        ("full", ["--labels", labels], "not empty"),
        ("src/inner", ["--labels", labels], "lies in the source"),
        ("dst", [], "--labels FILE.csv is needed"),
        ("dst", ["--labels", odd], "none of its 1 names"),
        ("dst", ["--labels", wrong], "wrong.csv:2: '2' is no label"),
        ("dst", ["--labels", twice], "fits 2 exams"),
        ("dst", ["--labels", tmp_path / "no.csv"], "no such file"),
        ("dst", ["--labels", labels, "--ids", ids], "no id for 11 of 12 exams"),
        ("dst", ["--labels", labels, "--valid", "2"], "--valid"),
        ("dst", ["--labels", labels, "--valid", "0.01"], "0 of 10 patients"),
        ("dst", ["--labels", labels, "--series", "("], "regular expression"),
        ("dst", ["--labels", labels, "--range", "9,3"], "lower one first"),
        ("dst", ["--labels", labels, "--planes", "axail"], "did you mean axial"),
    ):
        call = ["convert", src, tmp_path / dst, "--from", "dicom", "--workers", "1", *options]
        assert main(list(map(str, call))) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert len(errors) == 1 and word in errors[0]
    assert main(["run", "--data", str(src)]) == 2
    assert "bench convert" in capsys.readouterr().err


def test_the_users_own_ids(studies, tmp_path):
    src, labels = studies
    ids = write_labels(tmp_path / "ids.csv", [(f"{scans.SECRET[2]}{s}", f"knee{s:02}") for s in range(12)])
    convert(src, "--labels", labels, "--ids", ids)
    train, valid = read_exams(tmp_path / "dst")
    assert sorted([*train.ids, *valid.ids]) == [f"knee{s:02}" for s in range(12)]


# -- pydicom's own files ----------------------------------------------------------------------------------------------


def test_real_files(tmp_path, capsys):
    """Computed and magnetic resonance tomography, with localizers and projections."""
    src, options = REAL / "dicomdirtests", ["--from", "dicom", "--workers", "1", "--planes", "axial", "--valid", "0.5"]
    call = ["convert", str(src), str(tmp_path / "dst"), *options]
    assert main([*call, "--key", str(tmp_path / "key.csv")]) == 0
    names = [line.split(",")[0] for line in (tmp_path / "key.csv").read_text().splitlines()[1:]]
    rows = [(name, i % 2, i) for i, name in enumerate(names)]
    labels = write_labels(tmp_path / "acl.csv", rows, "id,acl,patient\n")
    assert main([*call, "--labels", str(labels)]) == 1
    told = capsys.readouterr().err
    assert "6 localizers" in told and "7 derived images" in told
    assert [np.load(path).shape[1:] for path in (tmp_path / "dst").rglob("*.npy")].count((16, 16)) == 4


def test_a_link_that_leads_out_is_refused(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "exams").symlink_to(REAL)
    assert convert(tmp_path / "src") == 2 and "leads out of" in capsys.readouterr().err


UNREADABLE = {
    "MR_small_jpeg_ls_lossless.dcm": "JPEG-LS",
    "image_dfl.dcm": "deflated",
    "rtplan.dcm": "without an image",
    "MR_truncated.dcm": "cannot be read",
    "examples_rgb_color.dcm": "colour",
    "rtdose.dcm": "multi-frame images without",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_cannot_be_read_say_why(tmp_path, capsys, name):
    src = tmp_path / "src"
    labels = four(src, np.arange(64).reshape(1, 8, 8), "axial")
    (src / "real").write_bytes((REAL / name).read_bytes())
    with open(labels, "a") as file:
        file.write("4MR1,1\n")  # the patient of both that are images
    convert(src, "--labels", labels, "--derived", "--valid", 0.4)
    assert UNREADABLE[name] in capsys.readouterr().err


@pytest.mark.parametrize("way", ["_RLE", "_bigendian", "_implicit"])
def test_every_encoding_gives_the_same_voxels(way):
    dicom = import_module("bench.data.importers.dicom")
    (one,) = dicom.header(REAL / f"MR_small{way}.dcm").slices
    (plain,) = dicom.header(REAL / "MR_small.dcm").slices
    assert (dicom.read((one,)) == dicom.read((plain,))).all() and dicom.read((one,)).shape == (1, 64, 64)
