import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sslm_core import exams
from sslm_core.errors import UserError
from tests.tools.bad_exams import CASES, huge_count, pickled, truncated, volume


def test_reads_planes_labels_and_shapes(exams_folder):
    train, valid = exams.read_exams(exams_folder)
    assert train.planes == ("axial", "sagittal") and train.labels == ("acl", "meniscus")
    assert len(train) == 20 and len(valid) == 10
    volume = exams.read_volume(train.path("axial", 3))
    assert volume.shape == tuple(train.shapes[0, 3]) and volume.dtype == np.uint8
    assert train.frames("axial")[3] == len(volume)


def test_reads_real_data(real_data):
    train, valid = exams.read_exams(real_data)
    assert (len(train), len(valid)) == (291, 109)
    assert train.planes == ("series",) and train.labels == ("glioma", "meningioma", "pituitary")
    assert (train.truth.sum(1) == 1).all()


def test_strays_are_ignored(fresh_exams):
    (fresh_exams / "train" / ".DS_Store").write_bytes(b"\0")
    (fresh_exams / "train" / "sagittal" / ".DS_Store").write_bytes(b"\0")
    (fresh_exams / "train" / "sagittal" / "._0000.npy").write_bytes(b"\0")
    (fresh_exams / "train" / "sagittal" / "notes.txt").write_text("hello")
    (fresh_exams / "readme.csv").write_text("hello")
    assert len(exams.read_exams(fresh_exams)[0]) == 6


@pytest.mark.filterwarnings("ignore:Reading")  # pytest drops the filters of modules
def test_files_of_old_programs_are_as_good(fresh_exams):
    before, volumes = exams.read_exams(fresh_exams)[0], np.load(volume(fresh_exams))
    table = fresh_exams / "train-acl.csv"
    table.write_text(
        "".join(f'"{name}","{value}"\r\n' for name, value in (line.split(",") for line in table.read_text().split()))
    )
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(volumes)}L, 8L, 8L)}}".encode()  # Python 2's
    volume(fresh_exams).write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + volumes.tobytes()
    )
    after = exams.read_exams(fresh_exams)[0]
    assert after.ids == before.ids and (after.truth == before.truth).all()
    assert (exams.read_volume(volume(fresh_exams)) == volumes).all()
    words = [sys.executable, "-c", f"from sslm_core.exams import *; read_volume(Path({str(volume(fresh_exams))!r}))"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    told = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert told.stderr == ""  # numpy would warn of each


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_volume_is_what_numpy_reads(tmp_path, order, version):
    path, voxels = tmp_path / "0000.npy", np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    with open(path, "wb") as file:
        np.lib.format.write_array(file, np.asarray(voxels, order=order), version)
    volume = exams.read_volume(path)
    assert (volume == voxels).all() and (volume == np.load(path)).all() and volume.flags.writeable
    assert exams.volume_shape(path) == volume.shape == (2, 3, 4)


def two_exams(root):
    for split in ("train", "valid"):
        for path in (root / split / "sagittal").glob("*.npy"):
            if path.stem > "0001":
                path.unlink()
        for path in root.glob(f"{split}-*.csv"):
            path.write_text("0000,0\n0001,1\n")


def test_a_link_within_the_folder_is_followed(fresh_exams):
    first = exams.digest(exams.read_exams(fresh_exams))
    volume(fresh_exams).rename(fresh_exams / "aside.npy")
    volume(fresh_exams).symlink_to(fresh_exams / "aside.npy")
    assert exams.digest(exams.read_exams(fresh_exams)) == first
    linked = fresh_exams.with_name("linked")
    linked.symlink_to(fresh_exams)
    assert exams.digest(exams.read_exams(linked)) == first


def test_a_pickled_volume_executes_nothing(fresh_exams, capsys):
    pickled(fresh_exams)
    for read in (exams.volume_shape, exams.read_volume):
        with pytest.raises(UserError, match="pickled"):
            read(volume(fresh_exams))
    assert "executed" not in capsys.readouterr().out
    np.load(volume(fresh_exams), allow_pickle=True)
    assert "executed" in capsys.readouterr().out  # what trusting it would have done


def test_a_damaged_header_allocates_little(fresh_exams):
    huge_count(fresh_exams)
    tracemalloc.start()
    with pytest.raises(UserError):
        exams.volume_shape(volume(fresh_exams))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("damage", CASES, ids=lambda f: f.__name__)
def test_bad_input_is_one_line_that_names_the_file(fresh_exams, damage):
    damage(fresh_exams)
    name, reason = CASES[damage]
    with pytest.raises(UserError) as caught:
        exams.read_exams(fresh_exams)
    line = str(caught.value)
    assert name in line and reason in line and "\n" not in line and len(line) < 400


def test_bad_input_exits_with_two(fresh_exams, capsys):
    from bench.cli.main import main

    truncated(fresh_exams)
    assert main(["run", "--data", str(fresh_exams)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and "0002.npy" in err and not out


def test_too_few_exams_to_split(fresh_exams, capsys):
    from bench.cli.main import main

    two_exams(fresh_exams)
    assert main(["run", "--data", str(fresh_exams)]) == 2
    assert "too few" in capsys.readouterr().err


def test_digest_follows_content_not_place(fresh_exams, tmp_path):
    first = exams.digest(exams.read_exams(fresh_exams))
    moved = fresh_exams.rename(tmp_path / "moved")
    assert exams.digest(exams.read_exams(moved)) == first
    np.save(volume(moved), np.full((2, 8, 8), 3, np.uint8))
    assert exams.digest(exams.read_exams(moved)) != first


def test_minority_is_the_rarer_class():
    truth = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]], np.uint8)
    assert exams.minority(truth).tolist() == [0, 1, 1]


def test_stratified_takes_each_joint_label_in_proportion():
    truth = np.repeat([[0, 0], [1, 0], [1, 1]], [50, 30, 20], axis=0).astype(np.uint8)
    for seed in range(20):
        taken, rest = exams.stratified(truth, 20, seed)
        assert sorted([*taken, *rest]) == list(range(100)) and len(taken) == 20
        counts = np.unique(truth[taken], axis=0, return_counts=True)[1]
        assert (abs(counts - [10, 6, 4]) <= 1).all()
    assert (exams.stratified(truth, 20, 0)[0] != exams.stratified(truth, 20, 1)[0]).any()
