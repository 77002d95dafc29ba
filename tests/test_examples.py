"""The scripts of examples/, run as a reader would run them."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(folder: Path, name: str, *words) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, EXAMPLES / name, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_own_data_from_a_folder_to_a_table_and_a_plot(exams_folder, tmp_path):
    done = run(tmp_path, "own_data.py", exams_folder, "sagittal", "1")
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["AUC", "acl", "meniscus"] and [row.split()[0] for row in rows] == ["jigsaw", "random"]
    assert (tmp_path / "own_data.png").read_bytes().startswith(b"\x89PNG")


def test_results_become_a_figure_with_pandas(tmp_path):
    pytest.importorskip("pandas")
    done = run(tmp_path, "compare_with_pandas.py", EXAMPLES.parent / "results.csv")
    assert "sslm-probe" in done.stdout and (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
