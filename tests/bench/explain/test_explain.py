"""The verb from end to end: pictures, scores against lesions, comparisons."""

import argparse
import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.cli.explain import chosen
from bench.cli.main import main
from bench.config import presets
from bench.explain.comparing import Comparison
from bench.run.models import record_of, reported
from bench.stats import intervals, pointing
from tests.tools.tiny import TINY


@pytest.fixture(scope="module")
def home(exams_folder, tmp_path_factory) -> Path:
    """A tiny comparison on data with masks: of each positive the bar that says so."""
    home = tmp_path_factory.mktemp("explain")
    shutil.copytree(exams_folder, home / "exams")
    labels = ("acl", "meniscus")
    truth = {label: dict(csv.reader((home / "exams" / f"valid-{label}.csv").open())) for label in labels}
    for path in (home / "exams" / "valid").rglob("*.npy"):
        masks = {}
        for l, label in enumerate(labels):
            if truth[label][path.stem] == "1":
                masks[label] = np.zeros(np.load(path).shape, bool)
                masks[label][:, 8 + 16 * l : 14 + 16 * l, 4:40] = True
        to = home / "exams" / "masks" / "valid" / path.parent.name / f"{path.stem}.npz"
        to.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(to, **masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", TINY)
        assert (
            main(
                [
                    "run",
                    "--preset",
                    "tiny",
                    "--data",
                    str(home / "exams"),
                    "--methods",
                    "sslm,supervised-small",
                    "--device",
                    "cpu",
                    "--out",
                    str(home / "runs"),
                    "--results",
                    str(home / "results.csv"),
                ]
            )
            == 0
        )
    return home


def explain(home, *words) -> int:
    return main(["explain", *map(str, words), "--data", str(home / "exams"), "--device", "cpu"])


def cell(home, name: str = "sslm-axial-s0-cpu") -> Path:
    return next((home / "runs").rglob(name))


def test_pictures_of_an_exam(home, tmp_path, capsys):
    name = next(
        line.split(",")[1]
        for line in (cell(home) / "scores.csv").read_text().splitlines()
        if line.startswith("reported")
    )
    volume = home / "exams" / "valid" / "axial" / f"{name}.npy"
    assert explain(home, home / "runs", name, volume, "--methods", "sslm", "--planes", "axial", "--to", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all("score ." in line and "(threshold" in line for line in lines)
    assert [re.search(r"score (\.\d+)", line)[1] for line in lines[:2]] == [
        re.search(r"score (\.\d+)", line)[1] for line in lines[2:]
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"sslm-axial-s0-cpu-explain-{name}-{label}.png" for label in ("acl", "meniscus")
    }
    assert explain(home, cell(home), name, "--by", "occlusion", "--grid", "2") == 0
    assert (cell(home) / f"explain-{name}-acl.png").exists()


def test_variants_are_asked_by_name(home, tmp_path):
    shutil.copytree(home / "runs", tmp_path / "runs")
    one = cell(tmp_path)
    varied = shutil.copytree(one, one.with_name("sslm-clip.frames=4-axial-s0-cpu"))
    record = json.loads((one / "run.json").read_text())
    (varied / "run.json").write_text(json.dumps(record | {"variant": "clip.frames=4"}))
    of = argparse.Namespace(planes=None, methods="sslm", seeds=None)
    of.what = [str(tmp_path / "runs")]
    assert one in chosen(of)[0] and varied not in chosen(of)[0]
    of.what = [str(varied)]
    assert chosen(of)[0] == [varied]


def test_scores_against_lesions(home, capsys):
    assert explain(home, home / "runs", "--score") == 0
    table = capsys.readouterr().out
    assert table.count(" macro ") == 4 and "sanity" in table
    found = {path.parent.name: json.loads(path.read_text()) for path in (home / "runs").rglob("explain.json")}
    for plane in ("axial", "sagittal"):
        told = re.search(
            rf"^sslm against supervised-small, {plane}, macro: pointing (\S+) \[.*energy .*retrieval .*\.$", table, re.M
        )[1]
        each = [
            found[f"{method}-{plane}-s0-cpu"]["figures"]["macro"]["pointing"] for method in ("sslm", "supervised-small")
        ]
        assert float(told) == pytest.approx(each[0] - each[1], abs=6e-4)
    for row in (row for result in found.values() for row in result["figures"].values()):
        assert 0 <= row["pointing_low"] <= row["pointing"] <= row["pointing_high"] <= 1
        assert all(f"{name}{end}" in row for name in pointing.FIGURES for end in ("_random", "_centre"))
    one, row = (found["sslm-axial-s0-cpu"][part]["acl"] for part in ("exams", "figures"))
    assert row["energy"] == pytest.approx(np.mean(list(one["energy"].values())), abs=1e-5)
    assert len(one["energy"]) == row["pointed_exams"] > 0
    assert (cell(home) / "explain.png").stat().st_size > 10_000
    assert explain(home, cell(home), "--score") == 0  # what is kept is not scored again
    assert not capsys.readouterr().err
    # figures of another run in the same folder are not taken
    (cell(home) / "explain.json").write_text(json.dumps(found["sslm-axial-s0-cpu"] | {"config": "another"}))
    assert explain(home, cell(home), "--score") == 0
    assert json.loads((cell(home) / "explain.json").read_text()) == found["sslm-axial-s0-cpu"]


def test_a_method_that_did_not_learn_gets_no_verdict(home):
    explain(home, home / "runs", "--score")
    told = []
    for loss in (1.0, 0.5):  # of sslm on tune; a constant predictor's is 1
        compared = Comparison()
        for method, lost in (("sslm", loss), ("supervised-small", 0.5)):
            folder = cell(home, f"{method}-axial-s0-cpu")
            record, result = record_of(folder), json.loads((folder / "explain.json").read_text())
            losses = {"model": [lost] * 10, "constant": [1.0] * 10}
            for _ in range(intervals.MIN_SEEDS):
                compared.add(record | {"tune_losses": losses}, reported(folder, record, home / "exams"), result)
        told.append("\n".join(compared.lines()))
    assert told[0].count(": no verdict, sslm did not learn") == len(pointing.FIGURES)
    assert "no verdict" not in told[1]


@pytest.mark.parametrize(
    "words, told",
    [
        (["nothing", "--score"], "nothing: no such folder"),
        (["{runs}"], "no exam"),
        (["{runs}", "9999"], "9999: no folder, file or reported exam"),
        (["{runs}", "0000", "--methods", "imagenet"], "no run of these --methods"),
        (["{runs}", "missing.npy"], "missing.npy: no such volume"),
        (["{runs}", "0000", "--score"], "0000: --score"),
        (["{runs}", "--score", "--to", "."], "--to"),
        (["{runs}", "--score", "--by", "occlusion", "--exams", "0"], "--exams 0"),
        (["{runs}", "0000", "--layer", "convlstm", "--methods", "supervised-small"], "layer convlstm"),
        (["{runs}", "{id}", "--by", "occlusion", "--grid", "0"], "grid 0"),
        (["{exams}", "--score"], "holds no finished run"),
    ],
)
def test_mistakes_are_one_line(home, capsys, words, told):
    name = (cell(home) / "scores.csv").read_text().split("reported,")[1].split(",")[0]
    words = [word.format(runs=home / "runs", exams=home / "exams", id=name) for word in words]
    assert explain(home, *[name if word == "0000" and "--score" not in words else word for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and told in err


def test_a_run_that_is_made_again_is_not_scored_yet(home, tmp_path, monkeypatch):
    shutil.copytree(home / "runs", tmp_path / "runs")
    folder = next((tmp_path / "runs").rglob("supervised-small-axial-s0-cpu"))
    (folder / "explain.json").write_text("{}")
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)
    assert (
        main(
            [
                "run",
                "--preset",
                "tiny",
                "--data",
                str(home / "exams"),
                "--methods",
                "supervised-small",
                "--planes",
                "axial",
                "--force",
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
    assert (folder / "run.json").exists() and not (folder / "explain.json").exists()


def test_occlusion_is_scored_but_not_kept(home, capsys):
    before = {path: path.read_bytes() for path in home.rglob("explain.json")} | {
        home: (home / "results.csv").read_bytes()
    }
    words = (
        "--score",
        "--by",
        "occlusion",
        "--grid",
        "4",
        "--exams",
        "3",
        "--planes",
        "axial",
    )
    assert explain(home, home / "runs", *words) == 0
    table = capsys.readouterr().out
    assert table.count(" acl ") == 2 and "sslm against supervised-small, axial, macro" in table and "not these" in table
    assert all(1 <= int(n) <= 3 for n in re.findall(r"^\S+ +axial +\S+ +0 +(\d+) ", table, re.M))
    assert before == {path: path.read_bytes() for path in home.rglob("explain.json")} | {
        home: (home / "results.csv").read_bytes()
    }


def test_data_without_masks_is_not_scored(home, exams_folder, capsys):
    name = (cell(home) / "scores.csv").read_text().split("reported,")[1].split(",")[0]
    assert main(["explain", str(cell(home)), "--score", "--data", str(exams_folder), "--device", "cpu"]) == 2
    assert "holds no lesion masks" in capsys.readouterr().err
    assert main(["explain", str(cell(home)), name, "--data", str(exams_folder), "--device", "cpu"]) == 0
    assert "can be seen but not scored" in capsys.readouterr().out
    assert main(["explain", str(cell(home)), name, "--device", "cpu"]) == 2
    assert "--data" in capsys.readouterr().err


def test_masks_that_do_not_fit_are_named(home, tmp_path, capsys):
    shutil.copytree(home / "exams", tmp_path / "exams")
    for path in (tmp_path / "exams" / "masks").rglob("*.npz"):
        np.savez(path, acl=np.zeros((2, 3, 4), bool))
    words = ["explain", str(cell(home)), "--score", "--force", "--data", str(tmp_path / "exams"), "--device", "cpu"]
    assert main(words) == 2
    assert re.search(r"\(2, 3, 4\), expected bool \(\d+, 48, 48\);", capsys.readouterr().err)
    for path in (tmp_path / "exams" / "masks").rglob("*.npz"):
        path.write_bytes(b"PK\x03\x04 broken")
    assert main(words) == 2
    assert "not a readable file of masks" in capsys.readouterr().err
