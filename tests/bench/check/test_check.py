"""The verb `check` on a preset of seconds: its verdicts, and what it refuses."""

import math
import re
import shutil

import numpy as np
import pytest

from bench.check import speed
from bench.cli import check as verb
from bench.cli.main import main
from bench.machine import ROOT
from bench.run import probe
from bench.store import results
from sslm_core.errors import UserError
from tests.tools.checking import TIMED, checked, steady, worktrees


def test_unchanged_code_is_identical(tiny, baseline, capsys):
    assert len(results.read(baseline)) == 5 * 3  # seeds x (labels and macro)
    assert checked(baseline) == 0
    out = capsys.readouterr().out
    assert "Scores are identical to the stored ones" in out and out.endswith("check passed\n")
    assert (
        sum("identical" in line for line in out.splitlines()) == 6 + 4 + 4 + 1
    )  # without noise, noisy, work, the sentence


def test_other_seeds_are_within_noise(tiny, baseline, capsys):
    assert checked(baseline, "--seeds", "7", "--gates", "accuracy", "--markdown") == 0
    out = capsys.readouterr().out
    assert (
        out.startswith("| figure | baseline | now |")
        and "| within noise |" in out
        and out.count("identical") == 6  # those without noise of training
        and "FLOPs" not in out
    )


def test_features_of_the_wrong_layer_change_frozen_scores(tiny, baseline, monkeypatch, capsys):
    monkeypatch.setattr(probe, "least_loss", lambda history: max(history, key=lambda record: record["tune_loss"]))
    assert checked(baseline, "--gates", "accuracy") == 1
    failed = capsys.readouterr().out.splitlines()[-1]
    assert failed.count("scores, the largest change: changed") == 2


def test_scores_of_another_data_set_are_refused(tiny, baseline, tmp_path, capsys):
    assert checked(baseline, "--gates", "accuracy", "--scores", str(tmp_path / "none.csv")) == 2
    error = capsys.readouterr().err
    assert "none.csv: no scores of data" in error and "--update" in error and error.count("\n") == 1
    (tmp_path / "none.csv").write_text(verb.SCORES.read_text().replace(",0.", ",x", 1))
    assert checked(baseline, "--gates", "accuracy", "--scores", str(tmp_path / "none.csv")) == 2
    error = capsys.readouterr().err
    assert "none.csv: not a table of scores" in error and error.count("\n") == 1


def test_a_loss_fails(tiny, baseline, tmp_path, capsys):
    rows = [row | {"auc": str(0.9 + int(row["seed"]) / 1000)} for row in results.read(baseline)]
    results.upsert(tmp_path / "better.csv", rows)
    assert checked(tmp_path / "better.csv", "--gates", "accuracy") == 1
    out = capsys.readouterr().out
    assert "WORSE" in out and out.endswith("check failed: sslm: macro AUC: worse\n")
    assert "Same machine and torch, yet scores differ" in out


def test_work_that_differs_between_seeds_is_not_gated(tiny, baseline, tmp_path, capsys):
    rows = [row | {"parameters": "1" if row["seed"] == "4" else "2"} for row in results.read(baseline)]
    results.upsert(tmp_path / "stages.csv", rows)
    assert checked(tmp_path / "stages.csv", "--gates", "cost") == 0
    out = capsys.readouterr().out
    assert "parameters" not in out and "trainable" in out


def test_another_machine_is_judged_by_the_spread_and_its_speed_is_not(tiny, baseline, tmp_path, capsys):
    results.upsert(
        tmp_path / "other.csv", [row | {"machine": "another", "commit": ""} for row in results.read(baseline)]
    )
    assert checked(tmp_path / "other.csv", "--seeds", "7") == 0
    out = capsys.readouterr().out
    assert "Another machine or torch" in out and "not judged: commit unknown" in out and "peak memory" not in out


def test_slower_parts_fail(tiny, baseline, monkeypatch, capsys):
    monkeypatch.setattr(
        speed, "process", steady(lambda root, part: 1.4 if (root, part) == (ROOT, "jigsaw_batch") else 1.0)
    )
    assert checked(baseline, "--gates", "speed") == 1
    assert capsys.readouterr().out.endswith("check failed: time of jigsaw batch: slower\n")
    assert checked(baseline, "--gates", "speed", "--limit", "1.5") == 0


@pytest.mark.parametrize(
    "noise, factor, pairs, verdict",
    [
        (0.05, 1.0, 2, "within noise"),
        (0.05, 1.4, 2, "slower"),
        (0.5, 4.0, 2, "slower"),
        (0.5, 1.0, 5, "too busy to tell"),
    ],
)
def test_another_commit_is_timed_in_turns_until_intervals_tell(noise, factor, pairs, verdict, monkeypatch):
    draw, asked = np.random.default_rng(0), []

    def seconds(root, part):
        assert (root / "sslm_core" / "jigsaw.py").exists()
        if part != "jigsaw_batch":
            return 1.0
        asked.append(root)
        return (factor if root == ROOT else 1.0) * math.exp(noise * draw.normal())

    monkeypatch.setattr(speed, "process", steady(seconds))
    before = worktrees()
    found = {v.figure: v.verdict for v in speed.against("HEAD", "cpu", 1.15)}
    assert found.pop("time of jigsaw batch") == verdict and set(found.values()) == {"within noise"}
    rounds = pairs * speed.ROUNDS
    assert len(asked) == 2 * rounds and asked.count(ROOT) == asked[::2].count(ROOT) * 2 == rounds
    assert all({*asked[k : k + 2]} == {*asked[:2]} for k in range(0, len(asked), 2))
    assert worktrees() == before


def test_code_that_cannot_be_timed_is_told_in_a_line(tmp_path, monkeypatch):
    """A side that fails at once, one that ends in a round, and one whose sslm_core is another's."""
    script, package = tmp_path / "timing.py", tmp_path / "sslm_core"
    monkeypatch.setattr(speed, "SCRIPT", script)
    monkeypatch.setattr(speed, "process", TIMED)
    for text, why in (
        ("raise RuntimeError('no such layer')", "do not run on that code (RuntimeError: no such layer)"),
        (f"input(); print({str(package)!r}, flush=True); input(); exit(3)", "do not run on that code (killed)"),
        ("input(); print('/elsewhere/sslm_core', flush=True); input()", "was taken from /elsewhere/sslm_core"),
    ):
        script.write_text(text)
        with pytest.raises(UserError, match=re.escape(why)):
            speed.in_turns(tmp_path, tmp_path, "cpu", 1.15)


def test_an_update_replaces_the_rows_and_says_what_changed(tiny, baseline, tmp_path, capsys):
    path = tmp_path / "results.csv"
    shutil.copy(baseline, path)
    old, foreign = results.read(path)[0], results.read(path)[1]
    results.upsert(path, [old | {"digest": "older"}, foreign | {"preset": "cpu"}])
    assert checked(baseline, "--update", "--seeds", "0,1,2,3,4,5", "--results", str(path)) == 0
    rows = results.read(path)
    assert {row["digest"] for row in rows} == {old["digest"]} and len(rows) == 6 * 3 + 1
    out = capsys.readouterr().out
    assert "identical" not in out.split("macro AUC")[1].splitlines()[0]  # seed 5 is new
    assert "rows of 6 seeds are the baseline" in out


@pytest.mark.parametrize(
    "words, told",
    [
        (["--baseline", "nothing.csv"], "nothing.csv: no such file"),
        (["--baseline", __file__], "test_check.py"),
        (["--gates", "soul"], "--gates soul"),
        (["--limit", "1"], "--limit 1"),
        (["--jobs", "0"], "--jobs 0"),
        (["--seeds", "x"], "--seeds x"),
        (["--update", "--seeds", "0,1"], "--update"),
        (["--against", "no-such-commit", "--gates", "speed"], "--against no-such-commit"),
    ],
)
def test_unusable_input_is_one_line(tiny, words, told, capsys):
    assert main(["check", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and told in error


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda row: row | {"digest": "another"}, "0 seeds of sslm are stored"),
        (lambda row: row | {"seed": str(int(row["seed"]) % 4)}, "4 seeds of sslm are stored"),
        (lambda row: row | {"auc": ""}, "macro AUC of sslm is empty"),
        (lambda row: row | {"auc": "0.9"}, "macro AUC of sslm is the same in all seeds"),
    ],
)
def test_a_baseline_without_noise_is_refused(tiny, baseline, tmp_path, capsys, spoil, told):
    results.upsert(tmp_path / "spoilt.csv", list(map(spoil, results.read(baseline))))
    assert checked(tmp_path / "spoilt.csv") == 2
    error = capsys.readouterr().err
    assert told in error and "spoilt.csv" in error and "--update" in error and error.count("\n") == 1
