"""KneeMRI's layout: made here in small, read, run, and refused by one line where it is damaged."""

import pickle

import numpy as np
import pytest

from bench.__main__ import main
from bench.config import presets
from bench.data.dataset import open_dataset
from sslm_core import exams, kneemri
from sslm_core.errors import UserError
from sslm_core.frames import load_frames
from tests.tools.bad_kneemri import CASES, first, write_kneemri
from tests.tools.tiny import TINY


@pytest.fixture
def knees(tmp_path):
    return write_kneemri(tmp_path / "knees")


def test_reads_the_authors_split_and_diagnoses(knees):
    train, test = exams.read_exams(knees)
    assert (train.planes, train.labels, train.split, test.split) == (("sagittal",), ("acl",), "train", "test")
    assert {file.split("/")[0] for file in test.files} == {"vol01", "vol02"}
    assert {file.split("/")[0] for file, held in zip(train.files, train.held) if held} == {"vol05", "vol10"}
    assert (len(train), int(train.held.sum()), len(test)) == (24, 6, 6)
    assert train.truth.mean() == test.truth.mean() == 2 / 3  # partial and complete
    for e in range(len(train)):
        stored = pickle.loads(train.path("sagittal", e).read_bytes())
        assert stored.shape == tuple(train.shapes[0, e])
    part = train.subset([5, 2])
    assert part.path("sagittal", 0) == train.path("sagittal", 5) and part.held.tolist() == train.held[[5, 2]].tolist()


def test_each_frame_is_stretched_by_its_own_range():
    volume = np.array([[[100, 200], [300, 610]], [[7, 7], [7, 7]], [[-4096, 4095], [0, 0]]], np.int16)
    assert exams.by_own_range(volume).tolist() == [[[0, 50], [100, 255]], [[0, 0], [0, 0]], [[0, 255], [128, 128]]]
    extreme = np.array([[[np.iinfo(np.int64).min, np.iinfo(np.int64).max]]])
    assert exams.by_own_range(extreme).tolist() == [[[0, 255]]]


def test_frames_come_as_uint8_of_one_size(knees):
    train, _ = exams.read_exams(knees)
    store = load_frames(train, "sagittal", 256)
    assert store.data.shape[1:] == (256, 256) and store.data.shape[0] == train.frames("sagittal").sum()


def test_the_held_out_folders_choose(knees):
    dataset = open_dataset(knees, "knees", TINY)
    assert (len(dataset.train), len(dataset.reported)) == (16, 6)
    assert dataset.choosing.held.all() and not dataset.train.subset(dataset.fit).held.any() and len(dataset.tune) == 4


def test_a_run_on_it(knees, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)
    before = {path: path.stat().st_mtime_ns for path in [knees, *knees.rglob("*")]}
    assert (
        main(
            [
                "run",
                "--preset",
                "tiny",
                "--data",
                str(knees),
                "--methods",
                "random",
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "runs"),
                "--results",
                str(tmp_path / "results.csv"),
            ]
        )
        == 0
    )
    assert "AUC acl" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in [knees, *knees.rglob("*")]} == before


@pytest.mark.parametrize("damage", CASES, ids=lambda f: f.__name__)
def test_bad_input_is_one_line_that_names_the_file(knees, damage):
    assert kneemri.recognised(knees) and first(knees).name == "329657-2.pck"
    damage(knees)
    name, reason = CASES[damage]
    with pytest.raises(UserError) as caught:
        exams.read_exams(knees)
    line = str(caught.value)
    assert name in line and reason in line and "\n" not in line and len(line) < 400
    assert not (knees / "here").exists()


def flat(root):
    for path in root.rglob("*.pck"):
        path.rename(root / path.name)
    return "DATA itself"


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
    told = f"expected .pck files in vol01 to vol10 right below DATA, found some in {found}; move them"
    with pytest.raises(UserError) as error:
        exams.read_exams(knees)
    assert told in str(error.value) and main(["doctor", str(knees)]) == 2 and told in capsys.readouterr().out
