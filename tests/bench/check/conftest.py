import pytest

from bench.cli import check as verb
from bench.cli.main import main
from bench.config import presets
from tests.tools.checking import TINY, empty, in_this_process


@pytest.fixture(autouse=True)
def here(monkeypatch):
    in_this_process(monkeypatch)


@pytest.fixture
def tiny(monkeypatch, baseline):
    monkeypatch.setitem(presets.PRESETS, "check", TINY)
    monkeypatch.setattr(verb, "SCORES", baseline.with_name("scores.csv"))


@pytest.fixture(scope="session")
def baseline(tmp_path_factory):
    path = tmp_path_factory.mktemp("check") / "results.csv"
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        patch.setitem(presets.PRESETS, "check", TINY)
        patch.setattr(verb, "SCORES", path.with_name("scores.csv"))
        words = ["check", "--update", "--device", "cpu", "--results", str(path), "--baseline", str(empty(path))]
        assert main(words) == 0
    return path
