"""The command line from end to end on a tiny set."""

import csv
import json
import shutil
from dataclasses import replace

import pytest

from bench.cli.main import main
from bench.config import presets
from bench.run.flops import planned
from bench.store import columns
from bench.store.records import read_scores
from bench.store.results import COLUMNS, KEY, read, upsert
from sslm_core.errors import UserError
from tests.conftest import LABELS
from tests.tools.tiny import TINY


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)


def bench(folder, out, *more) -> int:
    return main(
        [
            "run",
            "--preset",
            "tiny",
            "--data",
            str(folder),
            "--device",
            "cpu",
            "--out",
            str(out / "runs"),
            "--results",
            str(out / "results.csv"),
            "--no-report",
            *more,
        ]
    )


@pytest.fixture(scope="module")
def first_run(exams_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", TINY)
        assert bench(exams_folder, out) == 0
    return out


def stored(out, name: str) -> dict:
    return {path.parent.name: path for path in (out / "runs").rglob(name)}


def test_a_run_writes_scores_records_and_figures(first_run):
    cells = {f"{m}-{p}-s0-cpu" for m in TINY.methods for p in ("axial", "sagittal")}
    assert set(stored(first_run, "run.json")) == set(stored(first_run, "scores.csv")) == cells
    rows = read(first_run / "results.csv")
    assert len(rows) == 3 * 4 * 3  # methods x (planes + ensembles) x (labels + macro)
    for row in rows:
        if row["auc_low"]:
            assert 0 <= float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"]) <= 1
        else:  # 2 of 8 exams have no meniscus
            assert "no interval of AUC: too few exams of a class" in row["reason"] and row["label"] != "acl"
        assert min(float(row[name]) for name in ("exams_per_s", "train_seconds", "peak_mb")) > 0 and row["torch"]
    record = json.loads(stored(first_run, "run.json")["sslm-axial-s0-cpu"].read_text())
    assert record["pretext"][0]["samples"] == 24 and record["fit_exams"] == 12 and record["chosen"]["lr"] == 1e-3


def test_the_table_names_every_method_and_a_verdict(first_run, exams_folder, capsys):
    assert bench(exams_folder, first_run) == 0
    out, err = capsys.readouterr()
    for word in (
        "macro AUC",
        "minority recall",
        "exams/s",
        *TINY.methods,
        "SSLM against random",
        "SSLM against supervised",
    ):
        assert word in out
    assert "6 of 6 cells are finished" in err
    assert "takes 16 of 20 train exams and 8 of 10 valid exams" in err


def test_more_exams_than_the_budget_on_request(exams_folder, tmp_path, capsys):
    more = ("--methods", "random", "--planes", "axial")
    assert bench(exams_folder, tmp_path, *more, "--set", "data.exams=20") == 0
    record = json.loads(next(tmp_path.rglob("run.json")).read_text())
    assert (
        record["fit_exams"] == 15
        and record["variant"] == "data.exams=20"
        and "takes 8 of 10 valid exams" in capsys.readouterr().err
    )
    assert bench(exams_folder, tmp_path, *more, "--set", "data.exams=21") == 2
    assert "has 20 train exams; give data.exams=20 or less, not 21" in capsys.readouterr().err
    assert bench(exams_folder, tmp_path, *more, "--set", "data.reported=11") == 2
    assert "has 10 valid exams; give data.reported=10 or less, not 11" in capsys.readouterr().err


def test_forced_again_gives_the_same_scores_to_the_bit(first_run, exams_folder, tmp_path):
    shutil.copytree(first_run, tmp_path / "again")
    path = stored(tmp_path / "again", "scores.csv")["supervised-axial-s0-cpu"]
    path.write_text(path.read_text().replace("reported", "spoiled"))
    assert (
        bench(
            exams_folder,
            tmp_path / "again",
            "--force",
            "--methods",
            "sslm,supervised",
            "--planes",
            "axial",
            "--jobs",
            "1",
        )
        == 0
    )
    for name in ("sslm-axial-s0-cpu", "supervised-axial-s0-cpu"):
        assert (
            stored(first_run, "scores.csv")[name].read_bytes()
            == stored(tmp_path / "again", "scores.csv")[name].read_bytes()
        )


def test_other_settings_are_run_anew(first_run, exams_folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(first_run, tmp_path / "again")
    monkeypatch.setitem(presets.PRESETS, "tiny", replace(TINY, frame=16))
    assert bench(exams_folder, tmp_path / "again", "--methods", "random", "--planes", "axial") == 0
    assert "finished" not in capsys.readouterr().err


def test_reported_labels_choose_nothing(exams_folder, tmp_path, monkeypatch):
    """Other reported labels: every stored choice, threshold, tune score and reported score stays, the ensemble's
    included."""
    monkeypatch.setitem(presets.PRESETS, "tiny", replace(TINY, exams=(None, None)))
    turned = tmp_path / "turned"
    shutil.copytree(exams_folder, turned)
    assert bench(exams_folder, tmp_path / "as they are") == 0
    for path in turned.glob("valid-*.csv"):
        path.write_text(
            "".join(f"{row.split(',')[0]},{1 - int(row.split(',')[1])}\n" for row in path.read_text().split())
        )
    assert bench(turned, tmp_path / "other") == 0
    outs = tmp_path / "as they are", tmp_path / "other"
    rows = [read(out / "results.csv") for out in outs]
    assert len(rows[0]) == len(rows[1]) == 36
    chosen = [{tuple(row[k] for k in ("method", "plane", "label")): row["threshold"] for row in r} for r in rows]
    assert chosen[0] == chosen[1] and any(chosen[0].values())
    assert [row["auc"] for row in rows[0]] != [row["auc"] for row in rows[1]]
    for name in stored(outs[0], "run.json"):
        before, after = (json.loads(stored(out, "run.json")[name].read_text()) for out in outs)
        for key in ("chosen", "minority", "fit_exams"):
            assert before[key] == after[key]
        before, after = (read_scores(stored(out, "scores.csv")[name], LABELS) for out in outs)
        assert (before["reported"][1] != after["reported"][1]).all()
        for split in ("tune", "reported"):
            assert before[split][0] == after[split][0] and (before[split][2] == after[split][2]).all()


def test_as_published_chooses_on_the_reported_exams(exams_folder, tmp_path, capsys):
    assert bench(exams_folder, tmp_path, "--protocol", "as-published", "--planes", "axial") == 0
    assert (
        "protocol as-published: epochs, thresholds and weights were chosen on the reported exams"
        in capsys.readouterr().out
    )
    assert {row["protocol"] for row in read(tmp_path / "results.csv")} == {"as-published"}
    for path in stored(tmp_path, "scores.csv").values():
        assert path.parent.parent.name == "tiny-as-published"
        scores = read_scores(path, LABELS)
        assert scores["tune"][0] == scores["reported"][0] and len(scores["tune"][0]) == 8
        assert abs(scores["tune"][2] - scores["reported"][2]).max() < 1e-6
    record = json.loads(stored(tmp_path, "run.json")["sslm-axial-s0-cpu"].read_text())
    assert record["fit_exams"] == 16  # all of train


def test_variants_have_rows_of_their_own_and_share_the_encoder(first_run, exams_folder, tmp_path):
    shutil.copytree(first_run, tmp_path / "again")
    encoders = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("encoders/jigsaw-*.pt")}
    assert len(encoders) == 2  # one per plane
    options = ["--methods", "sslm,random", "--planes", "axial", "--set", "downstream.head=linear"]
    assert bench(exams_folder, tmp_path / "again", *options) == 0
    rows = read(tmp_path / "again" / "results.csv")
    assert {row["variant"] for row in rows} == {"", "downstream.head=linear"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("encoders/jigsaw-*.pt")} == encoders
    records = [
        json.loads(stored(tmp_path / "again", "run.json")[name].read_text())
        for name in ("sslm-axial-s0-cpu", "sslm-downstream.head=linear-axial-s0-cpu")
    ]
    assert (
        records[0]["pretext"] == records[1]["pretext"]
        and records[0]["seconds"]["pretext"] == records[1]["seconds"]["pretext"]
    )
    assert records[1]["settings"]["downstream"]["head"] == "linear"


def test_what_a_preset_would_cost(capsys):
    assert main(["cost", "--preset", "smoke"]) == 0
    assert "computed from FLOPs, not measured" in capsys.readouterr().out
    assert main(["cost", "--exams", "2"]) == 2
    assert "--exams 2: expected 3 or more" in capsys.readouterr().err


def test_cost_grows_with_the_number_of_exams():
    some, more = (planned(replace(TINY, exams=(None, None)), 30.0, exams) for exams in (1000, 100_000))
    for (_, a), (_, b) in zip(some.items(), more.items()):
        assert 0.99 < b / a / 100 < 1.01


def test_finetuning_starts_from_the_pretext_and_moves_it(exams_folder, tmp_path):
    assert (
        bench(exams_folder, tmp_path, "--methods", "sslm", "--planes", "axial", "--set", "downstream.freeze=false") == 0
    )
    record = json.loads(stored(tmp_path, "run.json")["sslm-downstream.freeze=false-axial-s0-cpu"].read_text())
    assert record["pretext"] and record["cost"]["trainable"] == record["cost"]["parameters"]


def test_both_ensembles_are_stored_and_either_is_shown(first_run, exams_folder, capsys):
    rows = read(first_run / "results.csv")
    assert {row["plane"] for row in rows} == {"axial", "sagittal", "ensemble", "ensemble-logistic"}
    tables = []
    for name in ("ensemble", "ensemble-logistic"):
        assert bench(exams_folder, first_run, "--ensemble", name) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] != tables[1]


@pytest.mark.parametrize("limit", ["0", "0.00001"])
def test_a_small_cache_changes_no_score(first_run, exams_folder, tmp_path, limit):
    assert bench(exams_folder, tmp_path, "--methods", "sslm", "--planes", "axial", "--cache-limit", limit) == 0
    a, b = (
        read_scores(stored(out, "scores.csv")["sslm-axial-s0-cpu"], LABELS)["reported"][2]
        for out in (first_run, tmp_path)
    )
    assert abs(a - b).max() < 1e-4


def test_where_frames_lie_changes_no_score(first_run, exams_folder, tmp_path):
    assert bench(exams_folder, tmp_path, "--methods", "sslm", "--planes", "axial", "--store", "stream") == 0
    a, b = (stored(out, "scores.csv")["sslm-axial-s0-cpu"].read_bytes() for out in (first_run, tmp_path))
    placed = [
        json.loads(stored(out, "run.json")["sslm-axial-s0-cpu"].read_text())["store"] for out in (first_run, tmp_path)
    ]
    assert a == b and placed == ["resident", "stream"]


def test_rows_of_others_are_kept(first_run, tmp_path):
    path = tmp_path / "results.csv"
    shutil.copy(first_run / "results.csv", path)
    before = read(path)
    fresh = before[0] | {"method": "another", "auc": 0.123456789, "ap": float("nan")}
    upsert(path, [fresh, before[1] | {"auc": 0.25}])
    after = read(path)
    assert len(after) == len(before) + 1
    mine = next(row for row in after if row["method"] == "another")
    assert mine["auc"] == "0.123457" and mine["ap"] == ""
    assert sum(a != b for a, b in zip([r for r in after if r["method"] != "another"], before)) == 1
    assert [tuple(r[k] for k in KEY) for r in after] == sorted(tuple(r[k] for k in KEY) for r in after)


def test_every_column_is_explained_on_the_page(capsys):
    assert set(columns.EXPLAINED) == set(COLUMNS) == set(dict.fromkeys(COLUMNS))
    assert main(["results", "--columns"]) == 0
    assert capsys.readouterr().out == columns.page()


def test_a_results_file_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(",".join([*COLUMNS[1:], "colour"]) + "\n")
    with pytest.raises(UserError, match="results.csv: column 'colour'"):
        upsert(path, [])
    assert "colour" in path.read_text()


@pytest.mark.parametrize(
    "options, word",
    [
        (["--preset", "huge"], "smoke"),
        (["--methods", "sslm,magic"], "--methods magic"),
        (["--planes", "oblique"], "--planes oblique"),
        (["--seeds", "1,x"], "--seeds x"),
        (["--device", "tpu"], "--device tpu"),
        (["--jobs", "0"], "--jobs 0"),
        (["--cache-limit", "-1"], "--cache-limit -1"),
        (["--set", "head=linear"], "downstream.head"),
        (["--results", "."], "."),
        (["--out", __file__, "--methods", "random", "--planes", "axial"], "test_bench.py"),
    ],
)
def test_bad_options_are_one_line(exams_folder, tmp_path, capsys, options, word):
    assert bench(exams_folder, tmp_path, *options) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and word in err


def test_one_plane_leaves_the_ensemble_of_all_alone(first_run, exams_folder, tmp_path):
    shutil.copytree(first_run, tmp_path / "again")
    assert bench(exams_folder, tmp_path / "again", "--planes", "axial", "--methods", "random") == 0
    assert read(tmp_path / "again" / "results.csv") == read(first_run / "results.csv")


def test_what_a_killed_run_left_is_gone_on_with(first_run, exams_folder, tmp_path):
    """A cell with no record starts from its checkpoints; leftovers of other settings are not in the way and go."""
    shutil.copytree(first_run, tmp_path / "again")
    record = stored(tmp_path / "again", "run.json")["sslm-axial-s0-cpu"]
    record.unlink()
    (record.parent / "pretext-000000000000.ckpt").write_bytes(b"of other settings")
    (record.parent / ".run.json.1.tmp").write_text("{")
    assert bench(exams_folder, tmp_path / "again") == 0
    assert sorted(p.name for p in record.parent.iterdir()) == ["model.pt", "run.json", "scores.csv"]
    before, after = (
        stored(out, "scores.csv")["sslm-axial-s0-cpu"].read_bytes() for out in (first_run, tmp_path / "again")
    )
    assert before == after


@pytest.mark.parametrize(
    "damage", [lambda text: text[:200], lambda text: "", lambda text: text.replace("score", "points", 1)]
)
def test_damaged_scores_are_named(first_run, exams_folder, tmp_path, capsys, damage):
    shutil.copytree(first_run, tmp_path / "again")
    path = stored(tmp_path / "again", "scores.csv")["random-axial-s0-cpu"]
    path.write_text(damage(path.read_text()))
    assert bench(exams_folder, tmp_path / "again") == 2
    assert "scores.csv" in capsys.readouterr().err


def test_scores_have_the_documented_columns(first_run):
    with open(stored(first_run, "scores.csv")["sslm-axial-s0-cpu"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["split", "exam", "label", "truth", "score"]
    assert {r["split"] for r in rows} == {"tune", "reported"} and {r["label"] for r in rows} == {"acl", "meniscus"}
    assert len(rows) == (4 + 8) * 2


def test_stored_runs_give_the_same_rows_again(first_run, tmp_path):
    assert main(["results", "--out", str(first_run / "runs"), "--results", str(tmp_path / "again.csv")]) == 0
    assert (tmp_path / "again.csv").read_bytes() == (first_run / "results.csv").read_bytes()


def test_compare_agrees_with_the_table(first_run, exams_folder, capsys):
    assert bench(exams_folder, first_run) == 0
    table = capsys.readouterr().out
    assert main(["compare", "sslm", "random", "supervised", "--out", str(first_run / "runs"), "--csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 2 * 2 * 3  # opponents x figures x (labels + macro)
    for row in rows:
        if row["label"] == "macro" and row["difference"] != "-":
            figure = "macro AUC" if row["figure"] == "AUC" else row["figure"]
            bounds = f" [{row['low']}, {row['high']}]" if row["low"] != "-" else ""
            assert f"{figure} {row['difference']}{bounds}: " in table
        assert row["p"] == row["p DeLong"] == "-"  # one seed
    assert main(["compare", "random", "sslm", "--out", str(first_run / "runs"), "--markdown"]) == 0
    assert "| random | sslm | AUC | acl |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, told",
    [
        (["compare", "sslm", "magic"], "magic: no stored run"),
        (["compare", "sslm"], "name another method"),
        (["compare", "sslm", "random", "--of", "full"], "nothing fits"),
        (["results", "--out", "nowhere"], "holds no finished run"),
    ],
)
def test_what_cannot_be_compared_is_one_line(first_run, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    runs = [] if "--out" in words else ["--out", str(first_run / "runs")]
    assert main([*words, *runs]) == 2
    err = capsys.readouterr().err
    assert told in err and len(err.splitlines()) == 1


def test_runs_of_another_version_are_named(first_run, tmp_path, capsys):
    shutil.copytree(first_run, tmp_path / "old")
    path = stored(tmp_path / "old", "run.json")["random-axial-s0-cpu"]
    path.write_text(path.read_text().replace('"record": ', '"record": 9'))
    assert main(["results", "--out", str(tmp_path / "old" / "runs"), "--results", str(tmp_path / "r.csv")]) == 2
    assert "another version" in capsys.readouterr().err and not (tmp_path / "r.csv").exists()
