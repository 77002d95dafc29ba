"""The README's way to add a baseline, taken word for word: its file and its line, in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.store.results import read

ROOT = Path(__file__).resolve().parents[2]


def test_a_baseline_is_one_file_and_one_line(exams_folder, tmp_path):
    section = re.search(r"^## Add a baseline\n(.*?)(?=^## )", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    path = re.search(r"`(baselines/\w+\.py)`", section)[1]
    module, (load, entry) = [
        block.rstrip().splitlines() for block in re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
    ]
    assert len(module) + len([load, entry]) <= 10
    method = re.search(r'"(\w+)"', entry)[1]
    for floor in ("baselines", "bench", "sslm_core"):
        shutil.copytree(ROOT / floor, tmp_path / floor, ignore=shutil.ignore_patterns("__pycache__"))
    assert not (tmp_path / path).exists()
    (tmp_path / path).write_text("\n".join(module) + "\n")
    methods = tmp_path / "bench" / "run" / "methods.py"
    text, opening = methods.read_text(), "METHODS: dict[str, Callable[[Cell], Outcome]] = {\n"
    methods.write_text(load + "\n" + text.replace(opening, opening + entry + "\n"))
    words = ["run", "--preset", "smoke", "--data", str(exams_folder), "--methods", method, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path / "results.csv")
    assert {row["method"] for row in rows} == {method} and {row["label"] for row in rows} == {
        "acl",
        "meniscus",
        "macro",
    }
    assert all(float(row["trainable"]) > 0 and float(row["exams_per_s"]) > 0 for row in rows)
