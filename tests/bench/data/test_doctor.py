"""The doctor: clean data are called clean, each kind of damage is told of, and whatever a run would refuse is called
unusable."""

import json

import numpy as np
import pytest

from bench.cli.main import main
from bench.data.dataset import open_dataset
from bench.data.doctor import in_order
from sslm_core.errors import UserError
from sslm_core.exams import read_exams
from tests.conftest import write_exams
from tests.tools.bad_exams import CASES, archive, no_folder, volume
from tests.tools.tiny import TINY


@pytest.fixture
def exams(tmp_path):
    return write_exams(tmp_path / "exams", train=80, valid=60, size=12)


def doctor(root, capsys, *options) -> tuple[int, str]:
    code = main(["doctor", str(root), *options])
    out, err = capsys.readouterr()
    return code, out + err


def findings(root, capsys) -> tuple[int, list[tuple[str, str]]]:
    code, out = doctor(root, capsys, "--json")
    report = json.loads(out)
    assert report["exit"] == code
    return code, [(f["level"], f["kind"]) for f in report["findings"]]


def test_clean_data_are_clean_and_left_alone(exams, capsys):
    before = {path: path.stat().st_mtime_ns for path in [exams, *exams.rglob("*")]}
    code, out = doctor(exams, capsys)
    assert code == 0 and out.endswith(f"{exams}: clean\n")
    for word in ("axial", "sagittal", "acl", "meniscus", "80", "60", "12x12"):
        assert word in out
    assert {path: path.stat().st_mtime_ns for path in [exams, *exams.rglob("*")]} == before


def test_json_is_json_without_a_folder_too(tmp_path, capsys):
    assert findings(tmp_path / "nothing", capsys) == (2, [("error", "layout")])
    assert doctor(tmp_path / "nothing", capsys) == (2, f"error: {tmp_path / 'nothing'}: no such folder\n")


def test_figures_are_those_of_the_data(exams, capsys):
    np.save(exams / "train" / "axial" / "0000.npy", np.arange(5 * 9 * 7, dtype=np.uint8).reshape(5, 9, 7))
    _, out = doctor(exams, capsys, "--json")
    report = json.loads(out)
    volumes = [np.load(path) for path in sorted((exams / "train" / "axial").glob("*.npy"))]
    row = next(r for r in report["planes"] if (r["part"], r["plane"]) == ("train", "axial"))
    assert row["volumes"] == 80 and row["sizes"] == {"12x12": 79, "9x7": 1}
    assert row["frames"] == [min(map(len, volumes)), round(np.mean(list(map(len, volumes))), 1), max(map(len, volumes))]
    assert row["range"] == [min(v.min() for v in volumes), max(v.max() for v in volumes)]
    rows = [line.split(",")[1] for line in (exams / "train-acl.csv").read_text().split()]
    assert report["labels"]["train"]["acl"] == [80, rows.count("1")]
    assert sum(counts["train"] for counts in report["joint"].values()) == 80


def change(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def across(root):
    (root / "valid" / "axial" / "0007.npy").write_bytes((root / "train" / "axial" / "0003.npy").read_bytes())


def within(root):
    (root / "train" / "axial" / "0007.npy").write_bytes((root / "train" / "axial" / "0003.npy").read_bytes())


def black(root):
    np.save(root / "train" / "axial" / "0007.npy", np.zeros((5, 12, 12), np.uint8))


def unscaled(root):
    np.save(
        root / "train" / "axial" / "0007.npy", np.random.default_rng(0).integers(0, 2, (5, 12, 12)).astype(np.uint8)
    )


def contradicts(root):
    for split in ("train", "valid"):
        (root / f"{split}-abnormal.csv").write_text((root / f"{split}-acl.csv").read_text())
    change(root / "train-abnormal.csv", "0001,1", "0001,0")


def few(root):
    (root / "train-acl.csv").write_text("".join(f"{e:04},{int(e in (5, 30, 60))}\n" for e in range(80)))
    (root / "valid-acl.csv").write_text("".join(f"{e:04},{int(e in (5, 30))}\n" for e in range(60)))


def ordered(root):
    (root / "valid-acl.csv").write_text("".join(f"{e:04},{int(e >= 30)}\n" for e in range(60)))


def shifts(root):
    random = np.random.default_rng(0)
    (root / "valid-acl.csv").write_text("".join(f"{e:04},{int(random.random() < 0.8)}\n" for e in range(60)))


def stray(root):
    (root / "train" / "axial" / "notes.txt").write_text("hello")


WARNED = {
    across: (1, ("warning", "leakage")),
    within: (1, ("warning", "duplicate")),
    black: (1, ("warning", "constant")),
    unscaled: (1, ("warning", "range")),
    contradicts: (1, ("warning", "contradiction")),
    few: (1, ("warning", "few")),
    ordered: (1, ("warning", "sorted")),
    shifts: (1, ("warning", "shift")),
    stray: (0, ("note", "strays")),
}


@pytest.mark.parametrize("damage", WARNED, ids=lambda f: f.__name__)
def test_what_a_run_would_accept_but_a_user_should_know(exams, capsys, damage):
    damage(exams)
    code, found = findings(exams, capsys)
    assert code == WARNED[damage][0] and set(found) == {WARNED[damage][1]}


@pytest.mark.parametrize("damage", CASES, ids=lambda f: f.__name__)
def test_what_a_run_refuses_is_unusable(fresh_exams, capsys, damage):
    damage(fresh_exams)
    code, out = doctor(fresh_exams, capsys)
    assert code == 2 and "error: " in out and CASES[damage][0] in out
    assert ("unusable" in out) == (damage not in (no_folder, archive))


def test_every_error_is_told_of_not_the_first_alone(fresh_exams, capsys):
    for exam in ("0001", "0004"):
        volume(fresh_exams).with_stem(exam).write_bytes(b"junk")
    (fresh_exams / "valid" / "sagittal" / "0000.npy").unlink()
    change(fresh_exams / "train-acl.csv", "0003,", "0030,")
    code, out = doctor(fresh_exams, capsys)
    assert code == 2
    for word in ("0001.npy: not a readable", "0004.npy: not a readable", "valid/sagittal/0000.npy: missing", "0030"):
        assert word in out


def test_a_hostile_name_is_written_out(fresh_exams, capsys):
    (fresh_exams / "train" / "sagittal" / "\x1b[2J\nok\udcff.npy").write_bytes(b"")
    code, out = doctor(fresh_exams, capsys)
    assert code == 2 and "\x1b" not in out and "\\x1b[2J\\nok\\udcff.npy" in out
    assert main(["run", "--data", str(fresh_exams)]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err and err.count("\n") == 1


def test_exams_held_out_to_choose_by_are_told_of(exams, capsys):
    (exams / "tune.csv").write_text("0001\n0002\n")
    assert "note: tune.csv: 2 of 80 train exams" in doctor(exams, capsys)[1]
    (exams / "tune.csv").write_text("0001\nelse\n")
    code, out = doctor(exams, capsys)
    assert code == 2 and "tune.csv:2: 'else' is no exam of train" in out


def test_order_is_told_from_chance():
    random = np.random.default_rng(0)
    assert not any(in_order(random.integers(0, 2, 100)) for _ in range(1000))
    assert in_order(np.arange(100) >= 50) and in_order(np.arange(100) >= 80)
    assert not in_order(np.zeros(100, int)) and not in_order(np.arange(0)) and not in_order(np.arange(4) >= 2)


def test_a_folder_without_a_volume_is_a_stray(exams, capsys):
    (exams / "train" / "@eaDir" / "0001.npy").mkdir(parents=True)  # a file server's, with a folder for each file
    (exams / "valid" / "axial" / "@eaDir").mkdir()
    code, out = doctor(exams, capsys)
    assert code == 0 and "note: ignored: train/@eaDir" in out and "note: ignored: valid/axial/@eaDir" in out
    assert read_exams(exams)[0].planes == ("axial", "sagittal")
    assert "folders without a volume, ignored: 1, as train/@eaDir" in open_dataset(exams, "exams", TINY).notice


def test_axes_in_another_order_are_a_warning(tmp_path, capsys):
    root = write_exams(tmp_path / "exams", train=80, valid=60, size=12, planes=("axial",))
    for path in root.rglob("*.npy"):
        np.save(path, np.moveaxis(np.load(path), 0, -1))
    code, out = doctor(root, capsys)
    assert (
        code == 1
        and "axes in the order [H, W, T]? save np.moveaxis" in out
        and "12 frames of 12 x" in out
        and "sizes: axes" in out
    )


def short(root):
    """As a spreadsheet saves them."""
    for path in root.glob("*.csv"):
        path.write_text(
            "".join(f"{int(line.split(',')[0])},{line.split(',')[1]}\n" for line in path.read_text().split())
        )


def zipped(root):
    for path in (root / "train" / "axial").glob("*.npy"):
        path.rename(path.with_suffix(".npz"))


@pytest.mark.parametrize(
    "spoil, told",
    [
        (
            short,
            "the csv has 0, the file is 0000.npy (spreadsheets drop leading zeros); write the ids as the files are "
            "named",
        ),
        (zipped, "there is 0000.npz; save it as 0000.npy"),
    ],
)
def test_the_likely_cause_is_named(exams, capsys, spoil, told):
    spoil(exams)
    code, out = doctor(exams, capsys)
    assert code == 2 and told in out
    with pytest.raises(UserError) as error:
        read_exams(exams)
    assert told in str(error.value)


def test_a_data_set_one_folder_deeper_is_named(exams, capsys):
    code, out = doctor(exams.parent, capsys)
    assert code == 2 and f"the data set lies one folder deeper; name {exams}" in out
