import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sslm_core import exams
from sslm_core.errors import UserError
from tests.conftest import Evil


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
    table.write_text("".join(f'"{name}","{value}"\r\n' for name, value in (line.split(",") for line in table.read_text().split())))
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(volumes)}L, 8L, 8L)}}".encode()  # Python 2's
    volume(fresh_exams).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + volumes.tobytes())
    after = exams.read_exams(fresh_exams)[0]
    assert after.ids == before.ids and (after.truth == before.truth).all()
    assert (exams.read_volume(volume(fresh_exams)) == volumes).all()
    words = [sys.executable, "-c", f"from sslm_core.exams import *; read_volume(Path({str(volume(fresh_exams))!r}))"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    told = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert told.stderr == ""  # numpy would warn of each


def volume(root):
    return root / "train" / "sagittal" / "0002.npy"


def no_folder(root):
    shutil.rmtree(root)


def no_train(root):
    shutil.rmtree(root / "train")


def no_plane(root):
    shutil.rmtree(root / "train" / "sagittal")


def no_csv(root):
    for path in root.glob("train-*.csv"):
        path.unlink()


def no_volume(root):
    volume(root).unlink()


def no_row(root):
    volume(root).rename(volume(root).with_name("0999.npy"))
    np.save(volume(root), np.zeros((2, 8, 8), np.uint8))


def truncated(root):
    volume(root).write_bytes(volume(root).read_bytes()[:-5])


def truncated_header(root):
    volume(root).write_bytes(volume(root).read_bytes()[:40])


def empty_file(root):
    volume(root).write_bytes(b"")


def huge_header(root):
    with open(volume(root), "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 256, 256)})


def huge_count(root):
    """A header that says that it is 4 GB long, in a file that is."""
    with open(volume(root), "wb") as file:
        file.write(b"\x93NUMPY\x02\x00\xff\xff\xff\x3f")
        file.truncate((1 << 30) - 1)


def long_header(root):
    header = b"{'descr': '|u1', 'junk" + b"k" * 5000
    volume(root).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def many_fields(root):
    np.save(volume(root), np.zeros(1, [(f"field{n}", np.uint8) for n in range(200)]))


def many_axes(root):
    header = repr({"descr": "|u1", "fortran_order": False, "shape": (1,) * 500}).encode()
    volume(root).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"0")


def huge_file(root):
    with open(volume(root), "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 256, 256)})
        file.truncate(file.tell() + (1 << 36))


def huge_table(root):
    os.truncate(root / "train-acl.csv", 1 << 40)


def pipe(root):
    volume(root).unlink()
    os.mkfifo(volume(root))


def table_is_a_pipe(root):
    (root / "train-acl.csv").unlink()
    os.mkfifo(root / "train-acl.csv")


def folder_as_volume(root):
    volume(root).unlink()
    volume(root).mkdir()


def folder_as_table(root):
    (root / "train-acl.csv").unlink()
    (root / "train-acl.csv").mkdir()


def archive(root):
    shutil.rmtree(root)
    root.write_bytes(b"PK")


def volume_leads_out(root):
    volume(root).rename(root.parent / "aside.npy")
    volume(root).symlink_to(root.parent / "aside.npy")


def plane_leads_out(root):
    (root / "train" / "sagittal").rename(root.parent / "aside")
    (root / "train" / "sagittal").symlink_to(root.parent / "aside")


def table_leads_out(root):
    (root / "train-acl.csv").rename(root.parent / "aside.csv")
    (root / "train-acl.csv").symlink_to("../aside.csv")


def loop(root):
    volume(root).unlink()
    volume(root).symlink_to(volume(root).name)


def unprintable(root):
    path = root / "train-acl.csv"
    path.write_text(path.read_text() + "\x1b[2J,1\n")


def pickled(root):
    np.save(volume(root), np.array([Evil()], object))


def wrong_dtype(root):
    np.save(volume(root), np.zeros((2, 8, 8), np.float32))


def two_dimensions(root):
    np.save(volume(root), np.zeros((8, 8), np.uint8))


def no_frames(root):
    np.save(volume(root), np.zeros((0, 8, 8), np.uint8))


def no_number(root):
    (root / "train-acl.csv").write_text("0000,0\n0001,yes\n")


def header_row(root):
    path = root / "train-acl.csv"
    path.write_text("id,label\n" + path.read_text())


def no_text(root):
    (root / "train-acl.csv").write_bytes(b"\xff\xfe\x00\x80")


def empty_csv(root):
    (root / "train-acl.csv").write_text("")


def twice(root):
    with open(root / "train-acl.csv", "a") as file:
        file.write("0002,1\n")


def other_ids(root):
    path = root / "train-acl.csv"
    path.write_text(path.read_text().replace("0005,", "0050,"))


def one_class(root):
    (root / "train-acl.csv").write_text("".join(f"{e:04},1\n" for e in range(6)))


def escapes(root):
    path = root / "train-acl.csv"
    path.write_text(path.read_text() + "../../secret,1\n")


def reserved_name(root):
    (root / "train" / "sagittal").rename(root / "train" / "ensemble")


def two_exams(root):
    for split in ("train", "valid"):
        for path in (root / split / "sagittal").glob("*.npy"):
            if path.stem > "0001":
                path.unlink()
        for path in root.glob(f"{split}-*.csv"):
            path.write_text("0000,0\n0001,1\n")


def other_planes(root):
    shutil.copytree(root / "train" / "sagittal", root / "train" / "axial")


CASES = {
    no_folder: ("exams", "no such folder"),
    no_train: ("train", "no such folder"),
    no_plane: ("train", "no plane folder"),
    no_csv: ("exams", "no train-LABEL.csv"),
    no_volume: ("0002.npy", "missing"),
    no_row: ("0999.npy", "no row"),
    truncated: ("0002.npy", "truncated"),
    truncated_header: ("0002.npy", "not a readable .npy"),
    empty_file: ("0002.npy", "not a readable .npy"),
    huge_header: ("0002.npy", "truncated"),
    huge_count: ("0002.npy", "not a readable .npy"),
    long_header: ("0002.npy", "not a readable .npy"),
    many_fields: ("0002.npy", "expected uint8"),
    many_axes: ("0002.npy", "three axes"),
    huge_file: ("0002.npy", "more than"),
    huge_table: ("train-acl.csv", "more than"),
    pipe: ("0002.npy", "no regular file"),
    table_is_a_pipe: ("train-acl.csv", "no regular file"),
    folder_as_volume: ("0002.npy", "no regular file"),
    folder_as_table: ("train-acl.csv", "no regular file"),
    archive: ("exams", "unpack it"),
    volume_leads_out: ("0002.npy", "leads out of"),
    plane_leads_out: ("train/sagittal", "leads out of"),
    table_leads_out: ("train-acl.csv", "leads out of"),
    loop: ("0002.npy", "not a readable .npy"),
    unprintable: ("train-acl.csv:7", "no exam id"),
    pickled: ("0002.npy", "pickled"),
    wrong_dtype: ("0002.npy", "float32"),
    two_dimensions: ("0002.npy", "three axes"),
    no_frames: ("0002.npy", "no frame"),
    no_number: ("train-acl.csv:2", "no row `id,0`"),
    header_row: ("train-acl.csv:1", "no row `id,0`"),
    no_text: ("train-acl.csv", "UTF-8"),
    empty_csv: ("train-acl.csv", "no rows"),
    twice: ("train-acl.csv:7", "twice"),
    other_ids: ("0005", "label every exam"),
    one_class: ("train-acl.csv", "both classes"),
    escapes: ("train-acl.csv:7", "no exam id"),
    reserved_name: ("exams", "may be called ensemble"),
    other_planes: ("exams", "both need the same"),
}


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
    from bench.__main__ import main

    truncated(fresh_exams)
    assert main(["run", "--data", str(fresh_exams)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and "0002.npy" in err and not out


def test_too_few_exams_to_split(fresh_exams, capsys):
    from bench.__main__ import main

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
