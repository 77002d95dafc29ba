"""From files to answers: what is stored comes out again; planes that are missing, and files that cannot be read, are
named."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.cli.main import main
from bench.config import presets
from bench.stats import metrics
from bench.store.records import read_scores
from bench.store.scored import Scored
from tests.conftest import LABELS
from tests.tools.tiny import TINY

PLANES = ("axial", "sagittal")


@pytest.fixture(scope="module")
def runs(exams_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", TINY)
        assert (
            main(
                [
                    "run",
                    "--preset",
                    "tiny",
                    "--data",
                    str(exams_folder),
                    "--methods",
                    "supervised-small",
                    "--device",
                    "cpu",
                    "--out",
                    str(out),
                    "--results",
                    str(out / "results.csv"),
                ]
            )
            == 0
        )
    return next(out.rglob("supervised-small-axial-s0-cpu")).parent


def cell(runs: Path, plane: str = "axial") -> Path:
    return runs / f"supervised-small-{plane}-s0-cpu"


def predict(runs: Path, *words) -> int:
    return main(["predict", str(cell(runs)), *map(str, words), "--device", "cpu"])


@pytest.fixture
def exam(runs, exams_folder, tmp_path) -> tuple[str, Path]:
    """A reported exam, and a folder with one volume per plane."""
    name = read_scores(cell(runs) / "scores.csv", LABELS)["reported"][0][0]
    (tmp_path / name).mkdir()
    for plane in PLANES:
        shutil.copy(exams_folder / "valid" / plane / f"{name}.npy", tmp_path / name / f"{plane}.npy")
    return name, tmp_path / name


def test_a_reported_exam_scores_as_it_did(runs, exam, capsys):
    name, folder = exam
    assert predict(runs, folder, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    scored = Scored([cell(runs, plane) for plane in PLANES])
    assert (
        answer["exam"] == name
        and answer["missing"] == {}
        and "No medical device" in answer["note"]
        and answer["seconds"] > 0
    )
    for plane in (*PLANES, "ensemble"):
        operating = scored.operating[plane]
        for l, label in enumerate(scored.labels):
            told, score = answer["labels"][label][plane], scored.scores[plane][0, l]
            assert told["score"] == pytest.approx(score, abs=1e-5)
            assert told["threshold"] == pytest.approx(operating.threshold[l], abs=1e-12)
            assert told["positive"] == (told["score"] >= operating.threshold[l])
            assert told["probability"] == pytest.approx(metrics.calibrated(score, operating, l), abs=1e-4)


def test_a_plane_without_a_volume_is_named_and_left_out(runs, exam, capsys, tmp_path):
    name, folder = exam
    (folder / "sagittal.npy").unlink()
    assert predict(runs, folder, "--overlay", tmp_path / "pictures") == 0
    text = capsys.readouterr().out
    assert "sagittal: no volume, left out" in text and "ensemble" not in text
    assert "No medical device" in text and re.search(r"\d\.\d\d s from file to answer", text)
    assert len(list((tmp_path / "pictures").glob(f"explain-{name}-axial-*.png"))) == 2
    assert predict(runs, folder / "axial.npy", "--plane", "sagittal", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["missing"] == {"axial": "no volume"} and set(answer["labels"]["acl"]) == {"sagittal"}


def test_a_plane_without_a_run_is_named_and_left_out(runs, exam, capsys, tmp_path):
    alone = tmp_path / "out" / "data" / "preset"
    shutil.copytree(cell(runs), alone / cell(runs).name)
    assert predict(alone, exam[1], "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["missing"] == {"sagittal": "no stored run"} and set(answer["labels"]["acl"]) == {"axial"}


def test_a_folder_of_exams(runs, exams_folder, capsys):
    assert predict(runs, exams_folder / "valid", "--json") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [a["exam"] for a in answers] == [f"{e:04}" for e in range(10)] and all(not a["missing"] for a in answers)
    ids, _, score = read_scores(cell(runs) / "scores.csv", LABELS)["reported"]
    for name, stored in zip(ids, score):
        assert answers[int(name)]["labels"]["acl"]["axial"]["score"] == pytest.approx(stored[0], abs=1e-5)


def test_one_bad_volume_among_many_is_named_and_the_others_are_answered(runs, exams_folder, tmp_path, capsys):
    shutil.copytree(exams_folder / "valid", tmp_path / "valid")
    (tmp_path / "valid" / "axial" / "0003.npy").write_bytes(b"no array")
    assert predict(runs, tmp_path / "valid", "--json") == 2
    out, err = capsys.readouterr()
    assert [json.loads(line)["exam"] for line in out.splitlines()] == [f"{e:04}" for e in range(10) if e != 3]
    assert err.startswith("error: ") and err.count("\n") == 1 and "0003.npy" in err


def write(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda folder: folder / "axial", "axial: no such file or folder"),
        (lambda folder: write(folder / "axial.npy", np.zeros((3, 8, 8))), "dtype float64, expected uint8"),
        (lambda folder: write(folder / "axial.npy", np.zeros((8, 8), np.uint8)), "expected three axes"),
        (
            lambda folder: (folder / "axial.npy").write_bytes(b"no array") and folder / "axial.npy",
            "not a readable .npy file",
        ),
        (lambda folder: (folder / "empty").mkdir() or folder / "empty", "holds no volume of axial, sagittal"),
    ],
)
def test_bad_files_are_one_line(runs, exam, capsys, spoil, told):
    assert predict(runs, spoil(exam[1])) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and told in err


def test_bad_options_are_one_line(runs, exam, capsys):
    assert predict(runs, exam[1] / "axial.npy", "--plane", "oblique") == 2
    assert "--plane oblique: expected one of axial, sagittal" in capsys.readouterr().err
    assert predict(runs, exam[1], exam[1]) == 2
    assert "a second axial volume" in capsys.readouterr().err
    assert main(["predict", str(exam[1]), str(exam[1])]) == 2
    assert "no finished run" in capsys.readouterr().err
