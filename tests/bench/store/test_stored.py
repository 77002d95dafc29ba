"""What is stored and then changed, copied or damaged: read as it was, or refused by one line whose advice works."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.config import presets
from bench.run.job import changed, code
from bench.store.results import COLUMNS, KEY, read, upsert
from sslm_core.checkpoint import load, save
from sslm_core.downstream import DownstreamConfig
from sslm_core.settings import restored
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
            "--methods",
            "random,supervised",
            "--planes",
            "axial",
            "--device",
            "cpu",
            "--jobs",
            "1",
            "--out",
            str(out / "runs"),
            "--results",
            str(out / "results.csv"),
            "--no-report",
            *more,
        ]
    )


@pytest.fixture(scope="module")
def whole(exams_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", TINY)
        assert bench(exams_folder, out) == 0
    return out


@pytest.fixture
def runs(whole, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def cell(out: Path, method: str = "supervised") -> Path:
    return next(out.rglob(f"{method}-axial-s0-cpu"))


def refused(capsys) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error", "Traceback"))]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def figures(out: Path) -> list[dict]:
    assert main(["results", "--out", str(out / "runs"), "--results", str(out / "again.csv")]) == 0
    return read(out / "again.csv")


def predicted(out: Path, exams_folder: Path, method: str = "supervised") -> int:
    return main(
        ["predict", str(cell(out, method)), str(exams_folder / "valid" / "axial" / "0001.npy"), "--device", "cpu"]
    )


def test_the_order_of_rows_in_scores_csv_changes_no_figure(runs):
    before = figures(runs)
    for path in runs.rglob("scores.csv"):
        head, *rows = csv.reader(path.read_text().splitlines())
        rows.sort(key=lambda row: (row[0], row[2], row[1]))
        path.write_text("\ufeff" + "".join(",".join(row) + "\r\n" for row in [head, *rows]))
    assert figures(runs) == before


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda rows: rows[1].__setitem__(4, "1.5"), ":2: 'tune,"),
        (lambda rows: rows[1].__setitem__(4, "nan"), ":2: 'tune,"),
        (lambda rows: rows[3].__setitem__(3, "2"), ":4: 'tune,"),
        (lambda rows: rows[1].__setitem__(2, "other"), ":2: 'tune,"),
        (lambda rows: rows.append(rows[1]), "stands there twice"),
        (lambda rows: rows.pop(), "not every reported exam has a row of acl, meniscus"),
        (lambda rows: rows.__delitem__(slice(1, None)), "not every tune exam"),
    ],
)
def test_a_bad_row_of_scores_csv_is_one_line(runs, capsys, spoil, told):
    path = cell(runs) / "scores.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    spoil(rows)
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    assert main(["results", "--out", str(runs / "runs"), "--results", str(runs / "r.csv")]) == 2
    line = refused(capsys)
    assert str(path) in line and told in line and "delete its folder and run again" in line


@pytest.mark.parametrize("verb", ["results", "report", "compare", "predict"])
@pytest.mark.parametrize("part, told", [("labels", "labels"), ("cost", "cost"), ("tune_losses", "tune_losses")])
def test_a_record_without_a_part_is_one_line(runs, exams_folder, capsys, verb, part, told):
    path = cell(runs) / "run.json"
    record = json.loads(path.read_text())
    del record[part]
    path.write_text(json.dumps(record))
    more = {"results": ["--results", str(runs / "r.csv")], "compare": ["random", "supervised"]}.get(verb, [])
    if verb == "predict":
        assert predicted(runs, exams_folder) == 2
    else:
        assert main([verb, *more, "--out", str(runs / "runs")]) == 2
    assert f"{path}: {told}: missing" in refused(capsys)


def test_another_model_in_its_place_is_refused(runs, exams_folder, capsys):
    """Also where it fits: weights that have changed would answer with other scores."""
    path = cell(runs) / "model.pt"
    state = load(path)
    state["head"] = {name: value + 0.01 for name, value in state["head"].items()}
    save(path, state)
    assert predicted(runs, exams_folder) == 2
    assert f"{path}: changed since the run" in refused(capsys)
    record = json.loads((cell(runs) / "run.json").read_text())
    del record["model"]  # as earlier versions stored it
    (cell(runs) / "run.json").write_text(json.dumps(record))
    assert predicted(runs, exams_folder) == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    "method, damaged", [("supervised", "model.pt"), ("random", "model.pt"), ("random", "../../backbones/*.pt")]
)
@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_the_advice_on_a_damaged_model_works(runs, exams_folder, capsys, method, damaged, damage):
    path = next(cell(runs, method).glob(damaged))
    damage(path)
    assert predicted(runs, exams_folder, method) == 2
    line = refused(capsys)
    assert path.name in line and "run the cell again with --force" in line and "delete it" not in line
    assert bench(exams_folder, runs, "--force") == 0
    assert predicted(runs, exams_folder, method) == 0


@pytest.mark.parametrize("name", ["run.json", "scores.csv"])
def test_the_advice_on_a_damaged_record_works(runs, exams_folder, capsys, name):
    cut(cell(runs) / name)
    assert bench(exams_folder, runs) == 2
    assert "delete its folder and run again" in refused(capsys)
    shutil.rmtree(cell(runs))
    assert bench(exams_folder, runs) == 0


def test_a_copied_cell_says_what_to_copy_too(runs, exams_folder, tmp_path, capsys):
    shutil.copytree(cell(runs, "random"), tmp_path / "a" / "b" / "random-axial-s0-cpu")
    assert predicted(tmp_path / "a", exams_folder, "random") == 2
    line = refused(capsys)
    assert f"copy the folder backbones of the runs that it comes from to {tmp_path / 'a' / 'backbones'}" in line
    shutil.copytree(cell(runs, "random").parents[1] / "backbones", tmp_path / "a" / "backbones")
    assert predicted(tmp_path / "a", exams_folder, "random") == 0


def test_a_report_is_written_inside_of_out(runs):
    before = set(runs.rglob("*"))
    assert main(["report", "--out", str(cell(runs))]) == 0
    new = set(runs.rglob("*")) - before
    assert new and all(path.is_relative_to(cell(runs)) for path in new)


def test_results_csv_as_a_spreadsheet_saves_it(runs, exams_folder, capsys):
    path = runs / "results.csv"
    before = read(path)
    path.write_text("\ufeff" + path.read_text().replace("\n", "\r\n"), encoding="utf-8")
    assert read(path) == before and set(before[0]) == set(COLUMNS)
    assert bench(exams_folder, runs) == 0
    path.write_text("")
    assert bench(exams_folder, runs) == 2
    assert f"{path}: is empty; delete it" in refused(capsys)


# -- growth: fields and columns that come later -----------------------------------------------------------------------


def test_a_field_that_comes_later_with_a_default_changes_no_digest():
    old = presets.CPU.sslm.downstream
    grown = dataclasses.make_dataclass("Grown", [("fresh", int, 3)], bases=(type(old),), frozen=True)
    now = grown(**{f.name: getattr(old, f.name) for f in dataclasses.fields(old)})
    assert code(changed(now)) == code(changed(old)) != code(changed(dataclasses.replace(now, fresh=4)))
    assert code(changed(now)) != code(changed(dataclasses.replace(now, epochs=old.epochs + 1)))
    whole = [code(changed(preset.sslm)) for preset in presets.PRESETS.values()]
    assert len(set(whole)) == len(whole)


def test_settings_stored_before_a_field_came_have_its_default():
    settings = dataclasses.asdict(presets.CPU.sslm)
    del settings["backbone"], settings["downstream"]["views"]
    found = restored(type(presets.CPU.sslm), settings)
    assert found.backbone == presets.CPU.sslm.backbone and found.downstream.views == DownstreamConfig().views
    del settings["encoder"]
    with pytest.raises(KeyError, match="encoder"):  # it has no default
        restored(type(presets.CPU.sslm), settings)


def test_files_of_earlier_versions_are_read_and_one_without_a_key_is_not(whole, tmp_path, capsys):
    rows = read(whole / "results.csv")
    path = tmp_path / "old.csv"

    def written(left_out: set) -> None:
        with open(path, "w", newline="") as file:
            out = csv.DictWriter(
                file, [name for name in COLUMNS if name not in left_out], extrasaction="ignore", lineterminator="\n"
            )
            out.writeheader()
            out.writerows(rows)

    path.write_text("".join(line + ",x\n" for line in (whole / "results.csv").read_text().splitlines()))
    path.write_text(path.read_text().replace(",x", ",rel_prediction", 1))  # a column of an earlier version
    assert read(path) == rows
    before = path.read_text()
    upsert(path, [])  # what is not written again is kept beside
    assert (tmp_path / "old.old1.csv").read_text() == before and "old.old1.csv" in capsys.readouterr().err
    upsert(path, [])
    assert read(path) == rows and not list(tmp_path.glob("*.old2.csv"))
    gone = {"skill", "ece", "machine"}
    written(gone)
    assert read(path) == [row | dict.fromkeys(gone, "") for row in rows]
    written({KEY[5]})
    assert main(["results", "--out", str(whole / "runs"), "--results", str(path)]) == 2
    assert f"column '{KEY[5]}'" in refused(capsys)
