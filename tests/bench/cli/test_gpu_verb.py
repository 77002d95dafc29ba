"""`bench gpu` without a GPU: that its parts run, and that one which fails leaves the others."""

import shutil
from pathlib import Path

import pytest

from bench.cli import gpu
from bench.cli.main import main
from bench.machine import ROOT


@pytest.fixture
def page(tmp_path):
    return Path(shutil.copy(ROOT / "docs" / "speed.md", tmp_path))


def between(page) -> str:
    return page.read_text().split(gpu.BEGIN)[1].split(gpu.END)[0]


def test_a_part_that_fails_leaves_the_others(page, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        gpu,
        "parts",
        lambda *_: {
            "broken": ["nothing_of_this_name"],
            "slow": ["timeit", "-n1", "-r1", "while True: pass"],
            "fine": ["this"],
        },
    )
    monkeypatch.setattr(gpu, "PART", 5)
    before = page.read_text()
    assert main(["gpu", "--device", "cpu", "--page", str(page), "--out", str(tmp_path / "out")]) == 1
    broken, slow, fine = [line.split(maxsplit=2) for line in between(page).splitlines()[2:5]]
    assert broken[:2] == ["broken", "failed"] and "No module named nothing_of_this_name" in broken[2]
    assert slow[:2] == ["slow", "failed"] and "stopped after 5 s" in slow[2] and fine[:2] == ["fine", "passed"]
    assert page.read_text().replace(between(page), "") == before.replace(
        before.split(gpu.BEGIN)[1].split(gpu.END)[0], ""
    )
    assert main(["gpu", "--device", "cpu", "--page", str(tmp_path / "out" / "fine.log")]) == 2
    assert "marks" in capsys.readouterr().err


@pytest.mark.slow
def test_every_kind_of_part_runs(page, tmp_path):
    assert main(["gpu", "--device", "cpu", "--quick", "--page", str(page), "--out", str(tmp_path / "out")]) == 0, (
        between(page)
    )
    said = between(page)
    assert said.count("passed") >= 3 and "exams/s" in said and "torch.compile" in said
