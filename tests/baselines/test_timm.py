"""Networks of timm as backbones: maps, weights, and errors. Weights are random ones, stored as a user's file."""

import builtins
import re
from dataclasses import replace

import pytest
import torch

from baselines.timm_backbone import FOLDER, timm_backbone
from bench.cli.main import main
from bench.config.presets import SMOKE
from bench.config.variants import varied
from bench.run import methods
from bench.run.encoders import Cell
from sslm_core.encoder import stages
from sslm_core.errors import UserError
from sslm_core.exams import read_exams
from sslm_core.frames import load_frames, quiet
from sslm_core.sslm import BackboneConfig
from tests.tools.tiny import TINY

timm = pytest.importorskip("timm")
NAMES = ("test_resnet", "test_vit")
# maps in NHWC; weights of two dimensions that start as ones
MAPPED = (*NAMES, "test_mambaout", "test_nfnet", "test_convnext")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of files NAME.pth."""
    folder = tmp_path_factory.mktemp("weights")
    for name in MAPPED:
        torch.manual_seed(1)
        torch.save(timm.create_model(name).state_dict(), folder / f"{name}.pth")
    return folder


@pytest.fixture(autouse=True)
def named(monkeypatch, weights):
    monkeypatch.setenv(FOLDER, str(weights))


def of(name: str) -> BackboneConfig:
    return BackboneConfig(name, f"{name}.pth")


@pytest.mark.parametrize("name", MAPPED)
def test_frames_become_maps(name):
    backbone = timm_backbone(of(name)).eval()
    torch.manual_seed(1)
    assert all(
        torch.equal(v, backbone.net.state_dict().get(k, v)) for k, v in timm.create_model(name).state_dict().items()
    )
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
    cell = Cell(config, store, truth, *exams, 0, quiet, None, None, lambda _, train: (train(None), 0.0))
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


@pytest.mark.parametrize("name, mean", [("resnet18", 0.485), ("test_vit", 0.5)])
def test_frames_are_normalised_as_the_network_was_trained(name, mean):
    backbone = timm_backbone(BackboneConfig(name), trained=False)
    gray = torch.rand(1, 1, *(backbone.fixed or (64, 64)), generator=torch.Generator().manual_seed(0))
    settings = timm.data.resolve_data_config({}, model=backbone.net)
    assert settings["mean"][0] == mean
    expected = (gray - torch.tensor(settings["mean"])[:, None, None]) / torch.tensor(settings["std"])[:, None, None]
    assert torch.allclose(backbone._colour(gray * 2 - 1), expected, atol=1e-5)


def test_published_weights_come_from_the_cache(tmp_path, monkeypatch):
    """As the hub lays it out; nothing is fetched."""
    from huggingface_hub import constants
    from safetensors.torch import save_file

    torch.manual_seed(2)
    state = timm.create_model("test_resnet").state_dict()
    home = tmp_path / f"models--{timm.models.get_pretrained_cfg('test_resnet').hf_hub_id.replace('/', '--')}"
    (home / "snapshots" / "abc").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    save_file(state, home / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert torch.equal(timm_backbone(BackboneConfig("test_resnet")).net.conv1[0].weight, state["conv1.0.weight"])


def test_what_comes_after_the_maps_is_not_trained():
    """Several ranks wait for the gradient of whatever is."""
    backbone = timm_backbone(of("test_convnext"))
    still = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    assert still == {"net.head.norm.weight", "net.head.norm.bias"}
    backbone.train()(torch.rand(2, 1, 64, 64)).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in backbone.parameters())


class Harmful:
    def __reduce__(self):
        return print, ("this ran",)


def test_what_is_missing_or_wrong_is_one_line(weights, tmp_path, monkeypatch, capfd):
    from huggingface_hub import constants

    def refused(message: str, name: str, file: str = "") -> None:
        with pytest.raises(UserError, match=message) as found:
            timm_backbone(BackboneConfig(name, file))
        assert "\n" not in str(found.value) and len(str(found.value)) < 400

    refused("backbone.name = test_resnt: timm has no such network; the nearest: test_resnet", "test_resnt")
    refused("backbone.name = resnet18.a9_in1k: .* resnet18.a1_in1k", "resnet18.a9_in1k")
    refused(f"nowhere.pth: no such file; set {FOLDER}", "test_resnet", "nowhere.pth")
    refused("test_vit.pth: no weights of test_resnet", "test_resnet", "test_vit.pth")
    (weights / "cut.pth").write_bytes((weights / "test_resnet.pth").read_bytes()[:1000])
    (weights / "cut.safetensors").write_bytes(b"no weights")
    state = torch.load(weights / "test_resnet.pth")
    torch.save({key: value for key, value in state.items() if key != "conv1.0.weight"}, weights / "less.pth")
    torch.save({"state_dict": state, "more": Harmful()}, weights / "harmful.pth")
    torch.save(list(state.values()), weights / "listed.pth")
    for file in ("cut.pth", "cut.safetensors", "harmful.pth", "listed.pth"):
        refused(f"{file}: no weights of test_resnet", "test_resnet", file)
    refused("less.pth: no weights of test_resnet .it lacks conv1.0.weight", "test_resnet", "less.pth")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    refused("weights timm/resnet18.a1_in1k are not in timm's cache; fetch them once by .*, or name a file", "resnet18")
    refused("botnet50ts_256: timm has no weights of it; name a file", "botnet50ts_256")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UserError, match="weights = a/b.pth: expected a name without a folder"):
        varied(SMOKE.sslm, "backbone.weights=a/b.pth")
    assert varied(SMOKE.sslm, "backbone=resnet50")[0].backbone.name == "resnet50"


def test_networks_without_maps_are_refused_before_any_work(weights):
    torch.save(timm.create_model("pit_ti_224").state_dict(), weights / "pit.pth")  # hands on one token
    with pytest.raises(UserError, match="pit_ti_224: its features are neither maps nor a square grid of tokens"):
        timm_backbone(BackboneConfig("pit_ti_224", "pit.pth"))
    with pytest.raises(UserError, match="test_resnet: it takes no frames of 0 x 0"):
        timm_backbone(of("test_resnet"), frame=0)


@pytest.mark.parametrize(
    "error, message",
    [
        (ModuleNotFoundError("No module named 'timm'", name="timm"), "timm is not installed; get it by `pip install"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "timm cannot be imported (No module named 'x')"),
        (RuntimeError("operator torchvision::nms does not exist"), "install the torchvision made for torch"),
    ],
)
def test_without_timm_one_line_says_how_to_get_it(error, message, monkeypatch):
    plain = builtins.__import__

    def no_timm(name, *more, **named):
        if name == "timm":
            raise error
        return plain(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", no_timm)
    with pytest.raises(UserError, match=re.escape(message)):
        timm_backbone(of("test_resnet"))
