"""NIfTI made in small, and the files that nibabel ships."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.cli.main import main
from sslm_core.exams import read_exams

nibabel = pytest.importorskip("nibabel")
REAL = Path(nibabel.__file__).parent / "tests" / "data"


def convert(src: Path, *options) -> int:
    call = ["convert", src, src.parent / "dst", "--from", "nifti", "--workers", "1", *options]
    return main(list(map(str, call)))


def save(path: Path, volume: np.ndarray, affine: np.ndarray, kind=nibabel.Nifti1Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(kind(volume, affine), path)


def labels_of(src: Path, names) -> Path:
    path = src.parent / "acl.csv"
    path.write_text("".join(f"{name},{i % 2}\n" for i, name in enumerate(names)))
    return path


def made(root: Path) -> np.ndarray:
    return np.load(next((root / "dst").rglob("*.npy")))


LPS = np.random.default_rng(0).integers(0, 256, (4, 6, 8)).astype(np.int16)  # x to the left, y to the back, z up
VIEWS = {
    "sagittal": LPS.transpose(0, 2, 1)[:, ::-1],
    "coronal": LPS.transpose(1, 2, 0)[:, ::-1],
    "axial": LPS.transpose(2, 1, 0),
}


@pytest.mark.parametrize("plane", VIEWS)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_however_it_is_stored_frames_come_as_a_scanner_stores_them(tmp_path, plane, kind):
    for name, volume, affine in [
        ("a.nii", LPS, np.diag([-1.0, -1, 1, 1])),
        ("b.nii.gz", LPS[::-1, ::-1], np.diag([1.0, 1, 1, 1])),
        ("c.nii", LPS.transpose(2, 0, 1), np.array([[0, -1.0, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])),
        ("d.nii", LPS[:, :, ::-1], np.diag([-1.0, -1, -1, 1])),
    ]:
        save(tmp_path / "src" / name, volume, affine, kind)
    labels = labels_of(tmp_path / "src", "abcd")
    convert(tmp_path / "src", "--labels", labels, "--valid", 0.5, "--planes", plane, "--range", "0,255")
    volumes = [np.load(path) for path in (tmp_path / "dst").rglob("*.npy")]
    assert len(volumes) == 4 and all((volume == VIEWS[plane]).all() for volume in volumes)


def test_the_thickest_axis_is_sliced_and_folders_are_exams(tmp_path, capsys):
    src = tmp_path / "src"
    for s in range(4):
        for ses in (1, 2):
            save(src / f"sub-{s}" / f"ses-{ses}" / "anat" / "pd.nii.gz", LPS, np.diag([3.0, 1, 1, 1]))
            save(src / f"sub-{s}" / f"ses-{ses}" / "anat" / "t2.nii.gz", LPS, np.diag([1.0, 1, 3, 1]))
    names = [f"sub-{s}/ses-{ses}" for ses in (1, 2) for s in range(4)]
    assert convert(src, "--labels", labels_of(src, names), "--valid", 0.5, "--key", tmp_path / "key.csv") == 1
    train, valid = read_exams(tmp_path / "dst")
    assert train.planes == ("axial", "sagittal") and len(train) == len(valid) == 4
    ids = dict(line.split(",")[::-1] for line in (tmp_path / "key.csv").read_text().splitlines()[1:])
    patients = [{ids[id].split("/")[0] for id in exams.ids} for exams in (train, valid)]
    assert not patients[0] & patients[1]


def test_names_of_files_never_reach_dst(tmp_path):
    src = tmp_path / "src"
    for s in range(4):
        save(src / f"DoeJane{s}.nii.gz", LPS, np.diag([3.0, 1, 1, 1]))
    assert convert(src, "--labels", labels_of(src, [f"DoeJane{s}" for s in range(4)]), "--valid", 0.5) == 1
    for path in (tmp_path / "dst").rglob("*"):
        assert "Doe" not in path.name and (path.is_dir() or b"DoeJane" not in path.read_bytes())


def test_slopes_and_values_that_are_not_finite(tmp_path):
    image = nibabel.Nifti1Image(LPS, np.diag([3.0, 1, 1, 1]))
    image.header.set_slope_inter(2, 10)
    (tmp_path / "src").mkdir()
    for s in range(4):
        nibabel.save(image, tmp_path / "src" / f"{s}.nii")
    labels = labels_of(tmp_path / "src", range(4))
    convert(tmp_path / "src", "--labels", labels, "--valid", 0.5, "--range", "10,520")
    assert abs(made(tmp_path).astype(int) - np.sort(LPS.ravel()).mean()).mean() < 128
    values = np.where(LPS < 9, np.nan, LPS).astype(np.float32)
    for s in range(4):
        save(tmp_path / "src" / f"{s}.nii", values, np.diag([3.0, 1, 1, 1]))
    convert(tmp_path / "src", "--labels", labels, "--valid", 0.5)
    volume = made(tmp_path)
    assert volume.min() == 0 and volume.max() == 255


REFUSED = {
    "example4d.nii.gz": "expected a 3-D volume; save the one you want",
    "example_nifti2.nii.gz": "expected a 3-D volume",
    "functional.nii": "4 axes",
    "anatomical.nii": "no thickest axis; name the plane",
}


@pytest.mark.parametrize("name", REFUSED)
def test_real_files_that_need_a_word_of_the_user(tmp_path, capsys, name):
    (tmp_path / "src").mkdir()
    shutil.copy(REAL / name, tmp_path / "src" / name)
    assert convert(tmp_path / "src") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert name in error and REFUSED[name] in error


def test_real_files(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    names = ["anatomical", "reoriented_anat_moved", "resampled_anat_moved", "standard"]
    for name in names:
        shutil.copy(next(REAL.glob(f"{name}.nii*")), src)
    assert convert(src, "--labels", labels_of(src, names), "--valid", 0.5, "--planes", "axial") == 1
    train, valid = read_exams(tmp_path / "dst")
    assert sorted(np.concatenate([train.shapes[0], valid.shapes[0]])[:, 0]) == [3, 7, 22, 25]


def damaged(path: Path, change) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c.__delitem__(slice(200, None)), "not a readable NIfTI"),
        (lambda c: c.__delitem__(slice(400, None)), "truncated"),
        (lambda c: c.__setitem__(slice(42, 48), b"\xff\x7f" * 3), "expected 1 to"),
        (lambda c: c.__setitem__(slice(0, 4), b"junk"), "no NIfTI header"),
        (lambda c: c.__setitem__(slice(70, 72), b"\x80\x00"), "of type"),
        (lambda c: c.__setitem__(slice(344, 348), b"ni1\0"), "in another file"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, capsys, change, word):
    src = tmp_path / "src"
    for s in range(4):
        save(src / f"{s}.nii", LPS, np.diag([3.0, 1, 1, 1]))
    damaged(src / "2.nii", change)
    assert convert(src, "--labels", labels_of(src, range(4)), "--valid", 0.5) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1 and "2.nii" in errors[0] and word in errors[0]
