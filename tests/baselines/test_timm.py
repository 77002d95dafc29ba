"""Networks of timm as backbones: maps, weights, and errors. Weights are random ones, stored as a user's file."""

from dataclasses import replace

import pytest
import torch

from baselines.timm_backbone import FOLDER, timm_backbone
from bench.__main__ import main
from bench.config.presets import SMOKE
from bench.config.variants import varied
from bench.run import methods
from sslm_core.encoder import stages
from sslm_core.errors import UserError
from sslm_core.exams import read_exams
from sslm_core.frames import load_frames, quiet
from sslm_core.sslm import BackboneConfig
from tests.tools.tiny import TINY

timm = pytest.importorskip("timm")
NAMES = ("test_resnet", "test_vit")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of files NAME.pth."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        torch.manual_seed(1)
        torch.save(timm.create_model(name).state_dict(), folder / f"{name}.pth")
    return folder


@pytest.fixture(autouse=True)
def named(monkeypatch, weights):
    monkeypatch.setenv(FOLDER, str(weights))


def of(name: str) -> BackboneConfig:
    return BackboneConfig(name, f"{name}.pth")


@pytest.mark.parametrize("name", NAMES)
def test_frames_become_maps(name):
    backbone = timm_backbone(of(name)).eval()
    x = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        maps, parts = backbone(x), list(stages(backbone, x))
    assert maps.ndim == 4 and maps.shape[:2] == (3, backbone.channels)
    assert len(parts) > 2 and parts[-1][0] == "last" and torch.equal(parts[-1][1], maps)
    assert all(part.ndim == 4 for _, part in parts)
    if name == "test_vit":  # the tokens' grid is that of the frame: a bright corner stays in its corner
        still, bright = torch.zeros(1, 1, 160, 160), torch.zeros(1, 1, 160, 160)
        bright[..., :40, 120:] = 1
        with torch.no_grad():
            first = next(stages(backbone, bright))[1] - next(stages(backbone, still))[1]
        row, column = divmod(int(first[0].norm(dim=0).argmax()), first.shape[-1])
        assert row < first.shape[-2] / 2 <= column


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["timm", "timm-probe", "timm-finetuned", "timm-mrnet"])
def test_methods_fit(name, method, exams_folder):
    train, _ = read_exams(exams_folder)
    store, truth = load_frames(train, "sagittal", 32), torch.tensor(train.truth, dtype=torch.float32)
    config = replace(TINY.sslm, backbone=of(name))
    exams = torch.arange(4, 12), torch.arange(4)
    cell = methods.Cell(config, store, truth, *exams, 0, quiet, None, None, lambda _, train: (train(None), 0.0))
    before = timm_backbone(of(name)).state_dict()
    outcome = methods.METHODS[method].fit(cell)
    after = outcome.model.backbone.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after.get(key, value))}
    frozen = method in ("timm", "timm-probe")
    assert outcome.model.frozen == frozen and bool(moved) != frozen and not any("running" in key for key in moved)
    assert outcome.tune_scores.shape == (4, 2)


def test_a_run_and_what_is_built_again_from_it(exams_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    variant = "backbone=test_resnet,backbone.weights=test_resnet.pth"
    words = ["--preset", "smoke", "--data", str(exams_folder), "--planes", "axial", "--device", "cpu", "--jobs", "1"]
    assert main(["run", *words, "--methods", "timm-probe", "--set", variant, "--no-report"]) == 0
    assert "timm-probe" in capsys.readouterr().out
    monkeypatch.setenv(FOLDER, str(tmp_path / "gone"))  # the run holds all that it needs
    (folder,) = (path.parent for path in tmp_path.rglob("run.json"))
    exam = next((exams_folder / "valid" / "axial").glob("*.npy"))
    assert main(["predict", str(folder), str(exam), "--device", "cpu"]) == 0


def test_what_is_missing_or_wrong_is_one_line(weights, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="backbone.name = test_resnt: .*test_resnet"):
        timm_backbone(BackboneConfig("test_resnt"))
    with pytest.raises(UserError, match=f"nowhere.pth: no such file; set {FOLDER}"):
        timm_backbone(BackboneConfig("test_resnet", "nowhere.pth"))
    with pytest.raises(UserError, match="test_vit.pth: no weights of test_resnet"):
        timm_backbone(BackboneConfig("test_resnet", "test_vit.pth"))
    (weights / "cut.pth").write_bytes((weights / "test_resnet.pth").read_bytes()[:1000])
    with pytest.raises(UserError, match="cut.pth: no weights of test_resnet"):
        timm_backbone(BackboneConfig("test_resnet", "cut.pth"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="not in timm's cache; fetch them once by .*, or name a file of your own"):
        timm_backbone(BackboneConfig("resnet18"))
    with pytest.raises(UserError, match="weights = a/b.pth: expected a name without a folder"):
        varied(SMOKE.sslm, "backbone.weights=a/b.pth")
    assert varied(SMOKE.sslm, "backbone=resnet50")[0].backbone.name == "resnet50"
