"""The README's way to add a baseline, and CONTRIBUTING's to add a figure and a pretext: taken word for word, in a copy
of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store.results import read

ROOT = Path(__file__).resolve().parents[1]


def section(document: str, title: str) -> tuple[str, list[str]]:
    """Its text, and its blocks of Python."""
    text = re.search(rf"^## {title}\n(.*?)(?=^## )", (ROOT / document).read_text(), re.M | re.S)[1]
    return text, re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def new_file(tree: Path, text: str, module: str) -> None:
    path = tree / re.search(r"`(baselines/\w+\.py)`", text)[1]
    assert not path.exists()
    path.write_text(module)


def put(path: Path, place: str, before: str = "", after: str = "") -> None:
    """Lines before and after a place in a file."""
    text = path.read_text()
    assert text.count(place) == 1
    path.write_text(text.replace(place, before + place + after))


@pytest.fixture(scope="module")
def grown(exams_folder, tmp_path_factory) -> tuple[Path, str]:
    """The tree with all three, and what a run of the new methods printed."""
    tree = tmp_path_factory.mktemp("tree")
    for floor in ("baselines", "bench", "sslm_core"):
        shutil.copytree(ROOT / floor, tree / floor, ignore=shutil.ignore_patterns("__pycache__"))
    run, figures = tree / "bench" / "run", tree / "bench" / "stats" / "figures.py"
    for document, title, place, opening in (
        ("README.md", "Add a baseline", run / "methods.py", "METHODS: dict[str, Method] = {\n"),
        ("CONTRIBUTING.md", "Add a pretext", run / "encoders.py", "PRETEXTS: dict[str, From] = {\n"),
    ):
        text, (module, lines) = section(document, title)
        new_file(tree, text, module)
        load, entry = lines.splitlines(keepends=True)
        put(place, "import torch\n", load)
        put(place, opening, after=entry)
    _, (function, entry) = section("CONTRIBUTING.md", "Add a metric")
    put(figures, "# In the order of results.csv", f"{function}\n\n")
    put(figures, "FIGURES = (\n", after=entry)
    words = ["run", "--preset", "smoke", "--data", str(exams_folder), "--methods", "sslm,edges,rotation"]
    return tree, bench(tree, *words, "--device", "cpu")


def bench(tree: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_baseline_and_a_pretext_are_one_file_and_one_entry(grown):
    tree, said = grown
    with pytest.raises(Exception, match="specificity_90"):  # a column that this tree does not know
        read(tree / "results.csv")
    lines = (tree / "results.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","))) for line in lines[1:]]
    assert {row["method"] for row in rows} == {"sslm", "edges", "rotation"}
    assert all(float(row["trainable"]) > 0 and float(row["exams_per_s"]) > 0 for row in rows)
    assert {row["pretext_classes"] for row in rows if row["method"] == "rotation"} == {"4"}
    assert "Pretext of rotation" in said


def test_a_figure_is_one_entry(grown):
    tree, said = grown
    head = re.split(r" {2,}", next(line for line in said.splitlines() if line.startswith("method ")))
    assert head[2:4] == ["specificity", "95 %"] and "SSLM against edges: specificity" in said
    assert "| `specificity_90_low` | lower end of the 95 % interval of `specificity_90` |" in bench(
        tree, "results", "--columns"
    )
    assert next(tree.rglob("forest-specificity-90.png"))
    compared = bench(tree, "compare", "sslm", "edges", "--csv")
    assert "sslm,edges,specificity,macro," in compared
