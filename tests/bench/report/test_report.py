"""The report: made by a run, made again from stored runs, true to results.csv, safe with any name, and its curves by
hand."""

import argparse
import math
import re
import shlex
import shutil
import time
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import auc

from bench.cli import report
from bench.cli.main import main
from bench.config import presets
from bench.phantom import folder
from bench.report import plots, plots_curves, plots_methods, repeat, study_table, table, verdict
from bench.report.differences import HEAD, Difference, differences, drawn
from bench.run.methods import METHODS
from bench.stats import intervals
from bench.stats.figures import AUC, RECALL
from bench.store.results import read
from bench.store.scored import stored
from tests.tools.synthetic import store
from tests.tools.tiny import TINY


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)


class Page(HTMLParser):
    """What stands in a page: tables as rows of texts, paragraphs, addresses. Raises AssertionError where tags do not
    match."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tables, self.text, self.addresses, self.tags = [], [], {}, [], set()
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "srcset", "data")]
        if tag not in ("meta", "img", "!doctype"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append([])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1].append(data)


@pytest.fixture(scope="module")
def made(exams_folder, tmp_path_factory):
    """A run as a user starts it: its folder, and the page that it ended with."""
    out = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", TINY)
        assert main(words(exams_folder, out)) == 0
    (page,) = out.rglob("report.html")
    return out, page


def words(folder, out) -> list[str]:
    return [
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
    ]


def test_a_run_ends_with_its_report(made, exams_folder, capsys):
    out, path = made
    assert path.parent.name == "report-tiny" and path.parent.parent.name.startswith("exams")
    assert main(words(exams_folder, out)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {path}"
    page = Page(path)
    assert all(address.startswith(("#s", "data:image/png;base64,")) for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & page.tags and not re.search(
        r"@import|url\(", page.text["style"][0]
    )
    pictures = {p.stem for p in path.parent.glob("*.png")}
    assert pictures >= {
        "roc-1",
        "pr-2",
        "forest-auc",
        "forest-minority-recall",
        "recall",
        "auc-train-seconds",
        "auc-exams-per-s",
        "pretext-1",
        "pretext-2",
        "calibration-2",
        "jigsaw",
        "frames",
    }
    assert all((path.parent / f"{p}.png").read_bytes().startswith(b"\x89PNG") for p in pictures)
    assert sum(a.startswith("data:") for a in page.addresses) == len(pictures)
    for name in ("Methods", "Label efficiency and ablations", "The data", "To repeat it"):
        assert name in page.text["h2"]
    assert "jigsaw.permutations = 4" in "".join(page.text["pre"])


def test_its_table_is_that_of_results(made):
    out, path = made
    head, *rows = Page(path).tables[0]
    assert [row[0][0] for row in rows] == list(TINY.methods)
    figures = {(r["method"], r["label"]): r for r in read(out / "results.csv") if r["plane"] == "ensemble"}
    columns = {
        "macro AUC": ("auc", "macro", 1),
        "AUC acl": ("auc", "acl", 1),
        "AUC meniscus": ("auc", "meniscus", 1),
        "minority recall": ("minority_recall", "macro", 1),
        "majority recall": ("majority_recall", "macro", 1),
        "training s": ("train_seconds", "macro", 1),
        "training TFLOP": ("train_flops", "macro", 1e12),
        "exams/s": ("exams_per_s", "macro", 1),
        "skill on tune": ("skill", "macro", 1),
        "parameters": ("parameters", "macro", 1),
    }
    assert {cell[0] for cell in head} == {"method", "seeds", *columns}
    for row in rows:
        for name, cell in zip(head, row):
            if name[0] in columns:
                column, label, unit = columns[name[0]]
                expected = figures[row[0][0], label][column]
                shown = math.nan if cell[0] == "-" else float(cell[0])
                digits = 0.5 if name[0] == "training s" else 0.006 * float(expected or 0) / unit + 0.00051
                assert shown == pytest.approx(float(expected or "nan") / unit, abs=digits, nan_ok=True), name


def test_its_commands_make_the_same_cells(made, exams_folder, tmp_path, capsys, monkeypatch):
    out, path = made
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DATA").symlink_to(exams_folder)
    shutil.copytree(out / "runs", tmp_path / "runs")
    lines = "\n".join(Page(path).text["pre"]).splitlines()
    run, again = (shlex.split(line)[3:] for line in lines if line.startswith(".venv/bin/python -m bench"))
    assert main([*run, "--no-report"]) == 0
    assert "6 of 6 cells are finished" in capsys.readouterr().err
    (page,) = (tmp_path / "runs").rglob("report.html")
    before = page.read_bytes()
    page.unlink()
    assert main(again) == 0 and page.read_bytes() == before


def test_other_data_is_refused_and_none_is_told(made, fresh_exams, tmp_path, monkeypatch, capsys):
    out, _ = made
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--out", str(out / "runs"), "--to", "here", "--data", str(fresh_exams)]) == 2
    err = capsys.readouterr().err
    assert "not the exams, planes and labels of" in err and err.count("\n") == 1
    assert main(["report", "--out", str(out / "runs"), "--to", "here"]) == 0
    assert any(
        "the data's folder was not at hand" in text for text in Page(tmp_path / "here" / "report.html").text["p"]
    )
    assert not (tmp_path / "here" / "frames.png").exists()
    assert main(["report", "magic", "--out", str(out / "runs")]) == 2
    assert "magic: no stored run" in capsys.readouterr().err


# ---- made runs -----------------------------------------------------------------------------------


def told(out) -> str:
    """The verdict on the only group below `out`."""
    (methods,) = stored(out).values()
    draws = drawn(methods, "ensemble")
    return verdict.two_sentences(
        table.summaries(draws), differences(draws, "sslm", ("macro",)) if len(draws) > 1 else []
    )


@pytest.mark.parametrize(
    "gains, words",
    [
        ({"sslm": 1.5, "random": 0.1}, "is better than random"),
        ({"sslm": 0.1, "random": 1.5}, "is worse than random"),
        ({"sslm": 0.5, "random": 0.5}, "is not significantly different from random"),
        (
            {"sslm": 0.6, "random": 0.05, "supervised": 0.6, "imagenet": 1.8},
            "is better than random, worse than imagenet, and not significantly different from supervised",
        ),
        ({"sslm": 2.0} | dict.fromkeys(list(METHODS)[1:8], 0.1), "is better than each of the 7 others"),
    ],
)
def test_the_verdict_says_what_was_decided(tmp_path, gains, words):
    text = told(store(tmp_path, gains, planes=["sagittal"], seeds=range(5), exams=240, tune=240))
    first, second = text.split(". In minority recall ")
    assert first.startswith("In macro AUC SSLM (.") and first.endswith(words)
    assert re.search(rf"{words}; its thresholds keep \.\d+ of the majority, the others' \.\d+( to \.\d+)?\.$", second)


def test_few_seeds_give_intervals_and_no_verdict(tmp_path, capsys):
    out = store(tmp_path, {"sslm": 1.5, "random": 0.1}, planes=["sagittal"], seeds=range(4))
    assert re.fullmatch(
        r"SSLM has a macro AUC of \.\d+ \[.*\] and .* Too few seeds for a verdict on the methods\.", told(out)
    )
    assert main(["compare", "--out", str(out), "sslm", "random"]) == 0
    text = capsys.readouterr().out + table.table(drawn(next(iter(stored(out).values())), "ensemble"))
    assert not re.search("better|worse|undecided", text.replace(HEAD[-1], ""))
    assert text.count("Too few seeds for a verdict: 5 of each method are needed") == 2
    assert re.search(r"SSLM against random: macro AUC \+\.?\d*\.\d+ \[\+.*\]; minority recall", text)


def test_the_verdict_where_nothing_is_compared(tmp_path):
    assert "nothing is compared" in told(store(tmp_path, {"sslm": 1.0}, planes=["sagittal"], seeds=[0]))
    e = intervals.Estimate(0.7, 0.6, 0.8, 0.05, 0.05, intervals.MODELS)
    skill = intervals.Skill(0.2, 0.1, 0.3)
    one = table.Summary(1, {AUC: (e, e), RECALL: (e, e)}, 0.9, skill)
    assert verdict.two_sentences({"random": one}, []).endswith("random has the highest macro AUC, .700 [.600, .800].")
    nothing = intervals.Estimate(*[math.nan] * 5, intervals.MODELS)
    found = [
        Difference("sslm", "random", f, "macro", (math.nan, 0.7), nothing, math.nan, math.nan, math.nan)
        for f in (AUC, RECALL)
    ]
    text = verdict.two_sentences(
        {"sslm": table.Summary(1, dict.fromkeys((AUC, RECALL), (nothing, nothing)), 0.9, skill), "random": one}, found
    )
    assert text.startswith("In macro AUC SSLM (undefined on these exams) is not comparable with random.")


def test_any_name_is_safe_and_all_that_is_stored_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = store(
        tmp_path / "runs",
        {"sslm": 0.5, "random": 0.2},
        "<b>&",
        labels=["<i>", "$x_{$"],
        planes=["<u>"],
        seeds=[0],
        exams=30,
    )
    (home,) = (tmp_path / "runs").iterdir()
    (home / "studies").mkdir()
    figure, _ = plots.new_figure(1, 1)
    (home / "studies" / "labels.png").write_bytes(plots.png(figure))
    row = {
        "level": "5 %",
        "method": "<s>",
        "label": "macro",
        "seeds": 1,
        "draws": 1,
        "auc": 0.61,
        "against": "sslm",
        "reason": "few <i>",
    }
    study_table.write(home / "studies" / "labels.csv", [row])
    (next(home.glob("*/sslm*")) / "explain-acl.png").write_bytes(plots.png(figure))
    (home / "report-cpu").mkdir()
    (home / "report-cpu" / ".report.html.1.tmp").write_text("half")  # by a process that was killed
    assert main(["report", "--out", str(out)]) == 0
    assert not list(home.rglob(".*.tmp"))
    page_path = home / "report-cpu" / "report.html"
    page = Page(page_path)
    assert not {"b", "i", "u", "s"} & page.tags and "SSLM compared on <b>&" in page.text["h1"]
    assert [cell for (cell,) in page.tables[2][1][:5]] == [
        "5 %",
        "<s>",
        "1",
        "1",
        ".610",
    ] and "5 %: few <i>" in page.text["p"]
    assert "Study labels" in page.text["figcaption"] and any("explain-acl" in text for text in page.text["figcaption"])
    (home / "studies" / "labels.csv").write_text("level,<s>\n5 %,.61\n")
    assert main(["report", "--out", str(out)]) == 0
    assert any("labels.csv: not a study's table (another header)" in text for text in Page(page_path).text["p"])


def test_variants_and_other_planes_are_named_not_mixed_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = store(tmp_path / "runs", {"sslm": 0.5, "random": 0.2}, planes=["a", "b"], seeds=[0], exams=30)
    store(out, {"imagenet": 0.4}, planes=["a"], seeds=[0], exams=30)
    store(out, {"random": 0.4}, planes=["a"], seeds=[1], exams=30)
    assert main(["report", "--out", str(out)]) == 0
    page = Page(next(out.rglob("report.html")))
    assert [row[0][0] for row in page.tables[0][1:]] == ["sslm", "random"]
    assert any(
        "not shown here (variants, or other planes): random seed 1 and imagenet seed 0." in text
        for text in page.text["p"]
    )


@pytest.mark.parametrize(
    "name, variant, exams, wanted",
    [
        ("cpu", "", 288, False),
        ("cpu", "data.exams=600", 600, False),
        ("cpu", "data.exams=600", 288, True),
        ("cpu", "gone.field=1", 288, True),
        ("gone", "", 288, True),
    ],
)
def test_repeating_a_run_wants_data_unless_the_suite_brings_them(name, variant, exams, wanted):
    brought = folder.digest(folder.PhantomConfig(exams, 160, size=64))
    assert repeat.wants_data(SimpleNamespace(key={"preset": name, "variant": variant, "digest": brought})) == wanted


def test_plots_of_undefined_figures():
    nothing = intervals.Estimate(*[math.nan] * 5, intervals.MODELS)
    some = intervals.Estimate(0.7, 0.6, 0.8, 0.05, 0.05, intervals.MODELS)
    found = [
        Difference("sslm", n, AUC, "macro", (0.5, 0.5), e, 1.0, math.nan, math.nan)
        for n, e in (("a", nothing), ("b", some))
    ]
    truth, score = np.array([0, 1, 1, 0]), np.array([[0.2, 0.9, 0.4, 0.5]])
    weights, spoiled = intervals.weights(truth[:, None], 20), np.where(score > 0.8, np.nan, score)
    figures = [
        plots_methods.forest(found, "AUC"),
        plots_methods.forest(found[:1], "AUC"),
        plots_methods.recalls({"a": nothing, "b": some}, {"a": math.nan, "b": 0.9}, 0.9),
        plots_methods.against({"a": nothing, "b": some}, {"a": 3.0, "b": 4.0}, "s", lambda n: n == "b"),
        plots_methods.against({"a": nothing}, {"a": 3.0}, "s", lambda n: False),
        plots_curves.reliability("acl", truth, spoiled, score),
        plots_curves.reliability("acl", truth * 0, score, score * np.nan),
    ]
    for kind in ("ROC", "PR"):
        figures.append(
            plots_curves.curves(kind, "acl", truth, {"a": spoiled, "b": score}, {"a": math.nan, "b": 0.75}, weights)
        )
        figures.append(plots_curves.curves(kind, "acl", truth * 0, {"a": score}, {"a": math.nan}, weights))
    assert all(plots.png(figure).startswith(b"\x89PNG") for figure in figures)


# ---- curves --------------------------------------------------------------------------------------


def test_curves_by_hand():
    # from the highest score down: +, then a tie of + and -, then -: (0, 1/2), (1/2, 1), (1, 1); precision 1 to recall
    # 1/2, then 2/3
    truth, score, whole = np.array([1, 1, 0, 0]), np.array([0.9, 0.5, 0.5, 0.1]), np.ones((1, 4), int)
    at = {x: int(np.flatnonzero(plots_curves.GRID == x)[0]) for x in (0, 0.25, 0.5, 1)}
    roc, precision = plots_curves.roc(truth, score, whole)[0], plots_curves.precision(truth, score, whole)[0]
    assert [roc[at[x]] for x in (0, 0.25, 0.5, 1)] == pytest.approx([0.5, 0.75, 1, 1])
    assert [precision[at[x]] for x in (0.25, 0.5, 1)] == pytest.approx([1, 1, 2 / 3])
    assert np.isnan(precision[0])


def test_the_area_under_a_band_is_the_auc_of_its_resample():
    random = np.random.default_rng(0)
    truth = (random.random((90, 1)) < 0.4).astype(int)
    score = np.round(random.random((2, 90)) + 0.3 * truth[:, 0], 1) / 2
    weights = intervals.weights(truth, 30)
    areas = np.mean(
        [[auc(plots_curves.GRID, curve) for curve in plots_curves.roc(truth[:, 0], s, weights)] for s in score], axis=0
    )
    draws = intervals.auc_draws(truth, score[:, :, None], weights)[1:, :, 0].mean(axis=1)
    assert areas == pytest.approx(draws, abs=0.01)
    value, low, high = plots_curves.band(plots_curves.roc, truth[:, 0], score, weights)
    assert (low <= value).all() and (value <= high).all()


@pytest.mark.slow
def test_the_table_of_every_method_takes_seconds(tmp_path):
    """Every method, 2 seeds, 3 planes, 120 exams, 3 labels: from stored scores to the table and its verdicts."""
    store(tmp_path, {method: 0.05 * number for number, method in enumerate(METHODS)})
    began = time.process_time()  # other work on the machine does not count
    (methods,) = stored(tmp_path).values()
    assert len(methods) == len(METHODS) and table.table(drawn(methods, "ensemble")).count("\n") > 40
    seconds = time.process_time() - began
    print(f"{seconds:.1f} s")
    assert seconds < 60  # no measure of speed: far more would be another algorithm


def test_options_of_the_verb_are_those_of_compare():
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    args = parser.parse_args(["sslm", "--of", "cpu", "--ensemble", "ensemble-logistic", "--to", "here"])
    assert (args.methods, args.of, args.ensemble, str(args.to)) == (["sslm"], "cpu", "ensemble-logistic", "here")
