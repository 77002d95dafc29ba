"""KneeMRI made in small: converted, run, and refused by one line where it is damaged."""

import pickle

import numpy as np
import pytest

from bench.cli.main import main
from bench.data.dataset import open_dataset
from bench.data.importers.kneemri import by_own_range
from sslm_core.exams import read_exams
from tests.tools.bad_kneemri import CASES, first, write_kneemri
from tests.tools.tiny import TINY


@pytest.fixture
def knees(tmp_path):
    return write_kneemri(tmp_path / "knees")


def converted(knees, *options) -> int:
    return main(["convert", str(knees), str(knees.parent / "dst"), "--from", "kneemri", "--workers", "1", *options])


def test_the_authors_split_and_diagnoses_hold(knees):
    before = {path: path.stat().st_mtime_ns for path in [knees, *knees.rglob("*")]}
    assert converted(knees) == 1  # few exams of a class
    assert {path: path.stat().st_mtime_ns for path in [knees, *knees.rglob("*")]} == before
    train, valid = read_exams(knees.parent / "dst")
    assert (train.planes, train.labels) == (("sagittal",), ("acl",))
    folders = {path.stem: path.parent.name for path in knees.rglob("*.pck")}
    assert {folders[id] for id in valid.ids} == {"vol01", "vol02"}
    assert {folders[id] for id, held in zip(train.ids, train.held) if held} == {"vol05", "vol10"}
    assert (len(train), int(train.held.sum()), len(valid)) == (24, 6, 6)
    assert train.truth.mean() == valid.truth.mean() == 2 / 3  # partial and complete
    for e in range(len(train)):
        stored = pickle.loads(next(knees.rglob(f"{train.ids[e]}.pck")).read_bytes())
        assert (np.load(train.path("sagittal", e)) == by_own_range(stored)).all()


def test_each_frame_is_stretched_by_its_own_range():
    volume = np.array([[[100, 200], [300, 610]], [[7, 7], [7, 7]], [[-4096, 4095], [0, 0]]], np.int16)
    assert by_own_range(volume).tolist() == [[[0, 50], [100, 255]], [[0, 0], [0, 0]], [[0, 255], [128, 128]]]
    extreme = np.array([[[np.iinfo(np.int64).min, np.iinfo(np.int64).max]]])
    assert by_own_range(extreme).tolist() == [[[0, 255]]]


def test_a_range_that_is_asked_for_is_that_of_the_volume(knees):
    converted(knees, "--range", "0,1000")
    stored = pickle.loads(first(knees).read_bytes())
    made = np.load(next((knees.parent / "dst").rglob(f"{first(knees).stem}.npy")))
    assert (made == np.rint(np.clip(stored * 0.255, 0, 255))).mean() > 0.99


def test_the_held_out_folders_choose(knees):
    converted(knees)
    dataset = open_dataset(knees.parent / "dst", "knees", TINY)
    assert (len(dataset.train), len(dataset.reported)) == (16, 6)
    assert dataset.choosing.held.all() and not dataset.train.subset(dataset.fit).held.any() and len(dataset.tune) == 4


def test_a_run_names_the_command_that_converts(knees, capsys):
    for verb in ("run", "doctor"):
        assert main([verb, *["--data"] * (verb == "run"), str(knees)]) == 2
        assert f"python -m bench convert {knees} DST --from kneemri" in capsys.readouterr().err


@pytest.mark.parametrize("damage", CASES, ids=lambda f: f.__name__)
def test_bad_input_is_one_line_that_names_the_file(knees, damage, capsys):
    assert first(knees).name == "329657-2.pck"
    damage(knees)
    name, reason = CASES[damage]
    assert converted(knees) == 2
    out, err = capsys.readouterr()
    lines = [line for line in (out + err).splitlines() if "error: " in line]
    assert len(lines) == 1 and name in lines[0] and reason in lines[0] and len(lines[0]) < 500
    assert not (knees / "here").exists()


def test_a_volume_that_is_mended_is_all_that_is_read_again(knees, capsys):
    whole = first(knees).read_bytes()
    first(knees).write_bytes(whole[:-20])
    assert converted(knees) == 2 and not (knees.parent / "dst" / "train-acl.csv").exists()
    first(knees).write_bytes(whole)
    assert converted(knees) == 1 and "29 of 30 volumes are there already and kept" in capsys.readouterr().err


def test_one_exam_in_two_parts_is_told_of(knees, capsys):
    other = min((knees / "vol01").glob("*.pck"))
    moved = other.with_name(f"{first(knees).stem.split('-')[0]}-99.pck")
    other.rename(moved)
    path = knees / "metadata.csv"
    path.write_text(path.read_text().replace(other.name, moved.name))
    converted(knees)
    assert "warning: 1 exams have series in more than one of train, tune, valid" in capsys.readouterr().err


def flat(root):
    for path in root.rglob("*.pck"):
        path.rename(root / path.name)
    return "SRC itself"


def unpadded(root):
    for k in range(1, 10):
        (root / f"vol0{k}").rename(root / f"vol{k}")
    return "vol1, vol2, vol3 and more"


def deeper(root):
    (root / "volumes").mkdir()
    for k in range(1, 11):
        (root / f"vol{k:02}").rename(root / "volumes" / f"vol{k:02}")
    return "volumes/vol01, volumes/vol02, volumes/vol03 and more"


@pytest.mark.parametrize("spoil", [flat, unpadded, deeper])
def test_another_layout_is_told_with_the_one_that_is_expected(knees, capsys, spoil):
    found = spoil(knees)
    assert converted(knees) == 2
    told = f"expected .pck files in vol01 to vol10 right below SRC, found some in {found}; move them"
    assert told in capsys.readouterr().err
