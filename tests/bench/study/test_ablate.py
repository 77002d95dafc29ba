"""Ablation studies from end to end on a tiny set, and their declarations."""

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.config import presets
from bench.config.presets import spelled
from bench.data.dataset import open_dataset
from bench.report import study_table
from bench.report.plots import COLOURS, png
from bench.report.study_table import COLUMNS
from bench.run.cell import RECORD
from bench.run.job import Job, changed, code
from bench.run.sweep import claimed
from bench.store.records import read_json, read_scores
from bench.store.results import read
from bench.study import plot
from bench.study.file import read_study
from bench.study.studies import STUDIES, Level, Study
from sslm_core.errors import UserError
from tests.conftest import LABELS, write_exams
from tests.tools.tiny import TINY

PAGE = Path(__file__).parents[3] / "docs" / "studies.md"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", replace(TINY, exams=(None, None)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_exams(tmp_path_factory.mktemp("more") / "exams", train=60, valid=12, planes=("axial",), size=32)


def ablate(study, folder, out, *more) -> int:
    return main(
        [
            "ablate",
            str(study),
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
            *more,
        ]
    )


def example() -> str:
    return re.search(r"^```toml\n(.*?)^```", PAGE.read_text(), re.M | re.S)[1]


@pytest.fixture(scope="module")
def study_run(folder, tmp_path_factory):
    """The page's study, with a level that nothing can be fitted to, run to its end."""
    out = tmp_path_factory.mktemp("study")
    (out / "probe.toml").write_text(
        example().rstrip().removesuffix("]") + ', { name = "1 %", set = "data.labels=0.01" }]\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", replace(TINY, exams=(None, None)))
        assert ablate(out / "probe.toml", folder, out) == 0
    return out


def table_of(out: Path, name: str) -> list[dict]:
    path = next(out.rglob(f"studies/{name}-tiny.csv"))
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    return rows


# -- declarations -----------------------------------------------------------------------------------------------------


def test_studies_are_those_asked_for():
    levels = {name: [level.name for level in study.levels] for name, study in STUDIES.items()}
    assert levels["labels"] == ["5 %", "10 %", "25 %", "50 %", "100 %"] and levels["frames"] == ["4", "8", "16"]
    assert levels["permutations"] == ["10", "100", "500", "1000", "500, Hamming"] and levels["grid"] == [
        "2 x 2",
        "3 x 3",
        "4 x 4",
    ]
    assert (
        " ".join(levels)
        == "labels permutations grid branches augment frames head layer layer-imagenet freeze pretext loss imbalance"
    )
    assert [level.draws for level in STUDIES["labels"].levels] == [5, 5, 5, 5, 1]


@pytest.mark.parametrize("name", ["cpu", "full", "smoke"])
def test_every_level_is_a_variant_of_every_preset_and_one_is_its_own(name):
    for study in STUDIES.values():
        variants = [(spelled(name, level.set), level.methods) for level in study.levels]
        assert len(set(variants)) == len(variants)
        if study.name not in ("imbalance", "permutations", "frames"):
            assert ("", ()) in variants


def test_a_variant_is_spelled_without_what_the_preset_has_anyway():
    assert spelled("cpu", "jigsaw.grid=3,downstream.head=linear") == "downstream.head=linear"
    assert spelled("cpu", "recipe=original,pretext.epochs=12") == "recipe=original,pretext.epochs=12"
    assert (
        spelled("cpu", "data.labels=0.1", 2) == "data.draw=2,data.labels=0.1" and spelled("cpu", "data.labels=1") == ""
    )


def test_axes_are_crossed():
    axes = (
        (Level("a"), Level("b", "clip.frames=4")),
        (Level("x", "data.labels=0.5", draws=3, at=0.5), Level("y", methods=("random",))),
    )
    crossed = Study("s", "", ("sslm",), axes).levels
    assert [level.name for level in crossed] == ["a, x", "a, y", "b, x", "b, y"]
    assert crossed[2] == Level("b, x", "clip.frames=4,data.labels=0.5", (), 3) and crossed[3].methods == ("random",)


@pytest.mark.parametrize(
    "text, word",
    [
        ("about = 1", "about: expected a text"),
        ('methods = ["magic"]', "methods: magic"),
        ('colour = "red"', "colour: no such key"),
        ('compare = "seeds"', "compare: expected levels or methods"),
        ('preset = "huge"', "preset: expected one of"),
        ("seeds = [1.5]", "seeds: expected a whole number"),
        ('levels = [{ set = "" }]', "levels[0]: name: is missing"),
        ('levels = [{ name = "a", set = "head=x" }]', "level a: set head=x"),
        ('levels = [{ name = "a", draws = 0 }]', "draws of 1 or more"),
        ('levels = [{ name = "a" }, { name = "a" }]', "a name of its own"),
        ('levels = ["a"]', "levels[0]: expected a table"),
        ('levels = [{ name = "a", methods = ["sslm", "random"] }]', "expected 1, one in the place"),
        ("levels = []", "axes[0].levels"),
        ("axes = 1", "axes: expected one or more tables"),
        ("about = ", "not a readable TOML file"),
    ],
)
def test_what_is_no_study_is_one_line(tmp_path, text, word):
    path, key = tmp_path / "mine.toml", text.split(" =")[0]
    lines = {"about": 'about = "x"', "methods": 'methods = ["sslm"]', "levels": 'levels = [{ name = "a" }]'}
    own = {"levels": lines["levels"]} | ({key: text} if key == "levels" else {})
    head = [line for name, line in lines.items() if name not in ("levels", key)] + [text] * (key != "levels")
    path.write_text("\n".join(head if key == "axes" else [*head, "[[axes]]", own["levels"]]))
    with pytest.raises(UserError, match=re.escape(word)) as error:
        read_study(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "more, word",
    [
        (["magic"], "ablate magic: expected one of labels"),
        (["nowhere.toml"], "nowhere.toml: not a readable"),
        (["labels", "--shard", "3/2"], "--shard 3/2"),
        (["labels", "--shard", "x"], "--shard x"),
        (["labels", "--draws", "0"], "--draws 0"),
        (["loss", "--methods", "imagenet"], "--methods imagenet"),
        (["head", "--set", "downstream.head=max"], "twice"),
        (["head", "--shard", "1/2", "--force"], "--force --shard"),
    ],
)
def test_bad_options_are_one_line(folder, tmp_path, capsys, more, word):
    assert ablate(more[0], folder, tmp_path, *more[1:]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and word in err


def test_a_study_is_of_one_number_of_exams(folder, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('about = "x"\nmethods = ["random"]\n[[axes]]\nlevels = [{ name = "few", set = "data.exams=30" }]\n')
    assert ablate(path, folder, tmp_path) == 2
    assert "few: data.exams is one for a whole study" in capsys.readouterr().err
    assert ablate(path, folder, tmp_path, "--set", "data.exams=40") == 2
    path.write_text(path.read_text().replace("exams=30", "labels=0.5"))
    assert ablate(path, folder, tmp_path, "--set", "data.exams=40", "--dry-run") == 0


# -- cells ------------------------------------------------------------------------------------------------------------


def test_digests_of_cells_with_all_labels_are_what_they_were_and_pretexts_are_shared(folder, tmp_path):
    plain = presets.PRESETS["tiny"]
    dataset = open_dataset(folder, "exams", plain)

    def job(variant: str) -> Job:
        chosen = presets.preset("tiny", variant)
        return Job(dataset.showing(chosen.data), chosen, "sslm", "axial", 0, "cpu", tmp_path, variant)

    all_labels = job("")
    assert all_labels.config() == code(
        all_labels.frames(), changed(plain.sslm), plain.threads, dataset.reported.ids, RECORD
    )
    assert job("data.labels=1").config() == all_labels.config()
    fewer = [
        job(v) for v in ("data.labels=0.5", "data.draw=1,data.labels=0.5", "data.labels=0.25", "data.thin=natural")
    ]
    assert len({j.config() for j in (all_labels, *fewer)}) == 5
    assert {j.pretext() for j in fewer} == {all_labels.pretext()} and {j.frames() for j in fewer} == {
        all_labels.frames()
    }
    assert all((j.dataset.minority == dataset.minority).all() for j in fewer)


def test_as_published_judges_by_a_part_of_the_reported_exams(folder):
    dataset = open_dataset(folder, "exams", presets.preset("tiny", "data.labels=0.5"), protocol="as-published")
    assert (
        len(dataset.labelled) == 30
        and len(dataset.choosing) == 6
        and set(dataset.choosing.ids) < set(dataset.reported.ids)
    )
    assert len(dataset.reported) == 12 and len(dataset.fit) == 60


def test_a_study_ends_with_its_table_and_plot(study_run, folder, capsys):
    rows = table_of(study_run, "probe")
    assert len(rows) == 2 * 3 * 2 * 3  # heads x shares x methods x (labels + macro)
    macro = {(row["level"], row["method"]): row for row in rows if row["label"] == "macro"}
    for (level, method), row in macro.items():
        if "1 %" in level:
            assert row["auc"] == "" and row["draws"] == "0" and "leaves 0 exams to fit" in row["reason"]
        else:
            assert float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"])
            assert row["draws"] == ("2" if "25 %" in level else "1")
        assert row["against"] == ("sslm" if method == "random" else "")
    verdicts = {row["auc_verdict"] for row in macro.values() if row["against"]}
    assert verdicts <= {"too few exams of a class", "too few seeds", "undefined", "no verdict"}
    assert ablate(study_run / "probe.toml", folder, study_run, "--markdown") == 0
    told = capsys.readouterr()
    assert "12 of 12 cells are finished" in told.err and "| ConvLSTM, 25 % | random |" in told.out
    assert "left out: data.labels=0.01" in told.err


def test_methods_see_the_same_exams_and_share_encoders_and_maps(study_run):
    cells = {path.parent.name: path.parent for path in study_run.rglob("run.json")}
    assert len(cells) == 12
    assert len(list(study_run.rglob("encoders/*.pt"))) == 2  # sslm's and random's, for both heads and all shares
    assert len(list(study_run.rglob("features/*.npy"))) == 6  # of each: fit, tune, reported
    for draw in ("", "data.draw=1,"):
        both = [cells[f"{method}-{draw}data.labels=0.25-axial-s0-cpu"] for method in ("sslm", "random")]
        tune = [read_scores(cell / "scores.csv", LABELS)["tune"][0] for cell in both]
        assert tune[0] == tune[1] and len(tune[0]) == 4 and read_json(both[0] / "run.json")["fit_exams"] == 11
    whole, half = (read_json(cells[f"sslm-{v}axial-s0-cpu"] / "run.json") for v in ("", "data.labels=0.25-"))
    assert whole["fit_exams"] == 45 and half["pretext"] == whole["pretext"] and half["minority"] == whole["minority"]
    assert half["cost"]["train_flops"] < whole["cost"]["train_flops"]
    rows = read(study_run / "results.csv")
    assert {row["variant"] for row in rows} == {
        "",
        "data.labels=0.25",
        "data.draw=1,data.labels=0.25",
        "downstream.head=linear",
        "data.labels=0.25,downstream.head=linear",
        "data.draw=1,data.labels=0.25,downstream.head=linear",
    }


def test_cells_of_run_are_those_of_a_study(study_run, folder, tmp_path, capsys):
    shutil.copytree(study_run, tmp_path / "again")
    out = tmp_path / "again"
    assert (
        main(
            [
                "run",
                "--preset",
                "tiny",
                "--data",
                str(folder),
                "--device",
                "cpu",
                "--methods",
                "sslm,random",
                "--out",
                str(out / "runs"),
                "--results",
                str(out / "results.csv"),
                "--set",
                "data.labels=0.25",
            ]
        )
        == 0
    )
    told = capsys.readouterr()
    assert "2 of 2 cells are finished" in told.err and "11 exams to fit, 4 to tune" in told.err
    assert read(out / "results.csv") == read(study_run / "results.csv")


def test_shards_are_a_partition_of_the_cells(folder, tmp_path, capsys):
    told = []
    for shard in ("1/1", "1/3", "2/3", "3/3"):
        assert ablate("head", folder, tmp_path, "--dry-run", "--shard", shard) == 0
        told.append(re.findall(r"^(.* seed 0): about", capsys.readouterr().out, re.M))
    assert sorted(told[1] + told[2] + told[3]) == sorted(told[0]) and len(set(told[0])) == len(told[0]) == 18
    assert [len(cells) for cells in told[1:]] == [6, 6, 6]


@pytest.mark.slow
def test_shards_share_the_cells_and_the_last_tells(study_run, folder, tmp_path, capsys):
    ran = []
    for shard in ("1/2", "2/2"):
        assert ablate(study_run / "probe.toml", folder, tmp_path, "--shard", shard, "--jobs", "1") == 0
        told = capsys.readouterr()
        ran.append(set(re.findall(r"\] (.*): \d+ s", told.err)))
        assert ("cells are left to other shards" in told.err) == (shard == "1/2") == ("Table: " not in told.out)
    assert len(ran[0]) == len(ran[1]) == 6 and not ran[0] & ran[1]
    assert table_of(tmp_path, "probe") == table_of(study_run, "probe")


def test_a_dry_run_runs_nothing_and_tells_what_it_would(study_run, folder, tmp_path, capsys):
    assert ablate(study_run / "probe.toml", folder, tmp_path, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "12 cells, 0 of them finished; encoders that they share: 2." in out and "12 from FLOPs" in out
    assert out.count("ConvLSTM, 1 %: left out: data.labels=0.01") == 1
    assert not (tmp_path / "runs").exists()
    assert ablate("head", folder, study_run, "--dry-run", "--methods", "sslm,random") == 0
    out = capsys.readouterr().out
    assert (
        "12 cells, 4 of them finished; encoders that they share: 2." in out
        and "(8 from FLOPs at the speed of a pretext step here)" in out
    )
    assert ablate("augment", folder, study_run, "--dry-run", "--methods", "sslm") == 0
    assert "(5 cells after finished ones of their kind)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_thinned_label_is_the_one_shown(folder, tmp_path, capsys):
    assert ablate("imbalance", folder, tmp_path, "--methods", "sslm", "--draws", "1") == 0
    told = capsys.readouterr()
    shown = re.search(r"(\w+) AUC", told.out)[1]
    assert shown in ("acl", "meniscus")
    rows = [row for row in table_of(tmp_path, "imbalance") if row["label"] == shown]
    assert [row["level"] for row in rows] == ["natural", "2 %", "5 %", "10 %", "20 %"]
    assert all(row["auc"] or "takes 0 of" in row["reason"] for row in rows) and rows[-1]["against"] == "natural"
    sizes = {read_json(path)["fit_exams"] for path in tmp_path.rglob("run.json")}
    assert len(sizes) == 1


def test_studies_are_listed(capsys):
    with pytest.raises(SystemExit) as left:
        main(["ablate", "--list"])
    assert left.value.code == 0 and [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(STUDIES)


def test_shards_work_side_by_side_and_others_are_told(folder, tmp_path):
    dataset = open_dataset(folder, "exams", presets.PRESETS["tiny"])
    with claimed(tmp_path, dataset, "labels-1"), claimed(tmp_path, dataset, "labels-2"):
        for shard in ("", "labels-2"):
            with pytest.raises(UserError, match=r"process \d+ .*is at work there"), claimed(tmp_path, dataset, shard):
                pass
    with (
        claimed(tmp_path, dataset),
        pytest.raises(UserError, match="is at work there"),
        claimed(tmp_path, dataset, "labels-1"),
    ):
        pass


def test_a_plot_leaves_no_method_out(tmp_path, monkeypatch):
    """More of them than there are colours."""
    drawn = []
    monkeypatch.setattr(plot, "png", lambda figure: drawn.append(figure) or png(figure))
    names = [f"m{k}" for k in range(len(COLOURS) + 2)]
    figures = {f"{figure}{bound}": 0.6 for figure in study_table.FIGURES for bound in study_table.BOUNDS}
    table = [
        {"level": level, "at": None, "family": name, "label": "macro", **figures} for level in "ab" for name in names
    ]
    plot.draw(tmp_path / "plot.png", table, "macro", "title")
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == names
