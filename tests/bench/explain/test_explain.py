"""Grad-CAM and occlusion where the answer is known; figures of maps on maps made by hand; the verb from end to end."""

import argparse
import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from bench.cli.explain import chosen
from bench.cli.main import main
from bench.config import presets
from bench.explain import maps as lookup
from bench.stats import intervals, pointing
from sslm_core.clips import ClipConfig
from sslm_core.downstream import ClipModel, DownstreamConfig
from sslm_core.encoder import Encoder, EncoderConfig, frozen
from sslm_core.errors import UserError
from sslm_core.explain import Explained, enlarged, gradcam, layer_of, occlusion, shuffled
from sslm_core.frames import store_of
from sslm_core.heads import ConvLSTMHead, LinearProbe, LSTMHead, MaxOverFrames
from tests.tools.tiny import TINY

CLIP, DOWN = ClipConfig(frames=6, edge=1), DownstreamConfig(clips=3)


class Halves(nn.Module):
    """What is brighter than gray, and what is darker, on a grid of 8 pixels."""

    def forward(self, x):
        return F.avg_pool2d(torch.cat([F.relu(x), F.relu(-x)], 1), 8)


class Flat(nn.Module):
    """No map at all."""

    def forward(self, x):
        return x.mean((2, 3), keepdim=True).expand(-1, 2, -1, -1)


def volume(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 32, 32)).astype(np.uint8)


def spot() -> np.ndarray:
    """Dark gray, but for a bright spot in frame 2 at cell (1, 3) of 4 x 4."""
    frames = np.full((6, 32, 32), 120, np.uint8)
    frames[2, 10:14, 26:30] = 255
    return frames


def reader(head: type = LinearProbe) -> ClipModel:
    """Label 0 is what is bright, label 1 what is dark."""
    model = ClipModel(Halves(), head(2, 1, 2))
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(2)), model.head.bias.zero_()
    return model


def network(head: type = ConvLSTMHead) -> ClipModel:
    torch.manual_seed(3)
    config = EncoderConfig(4, 8, (8, 8), positions=4)
    return ClipModel(frozen(Encoder(config)), head(config.channels, 4, 2))


@pytest.mark.parametrize("head", [LinearProbe, MaxOverFrames])
def test_the_one_place_that_speaks_for_a_label_has_all_the_evidence(head):
    found = next(gradcam(reader(head), store_of([spot()], 32), torch.tensor([0]), CLIP, DOWN, 0))
    assert found.evidence.shape == (2, 6, 4, 4) and found.seen.all()
    assert found.evidence[0].nonzero().tolist() == [[2, 1, 3]] and found.shares()[0].tolist() == [0, 0, 1, 0, 0, 0]
    maps = found.maps(32, 32)
    assert maps.shape == (2, 6, 32, 32) and maps.dtype == torch.float32
    where = (maps[0] == maps[0].max()).nonzero()
    assert (
        set(where[:, 0].tolist()) == {2}
        and (where[:, 1:].float().mean(0) - torch.tensor([11.5, 27.5])).abs().max() <= 0.5
    )


def test_occlusion_finds_the_place_too():
    found = next(occlusion(reader(), store_of([spot()], 32), torch.tensor([0]), CLIP, DOWN, 0, grid=4))
    assert found.evidence[0].argmax() == 2 * 16 + 1 * 4 + 3
    bright = 16 * (255 / 127.5 - 1) / 32**2 / 6  # the mean over places and frames that the spot makes
    assert found.evidence[0].max() == pytest.approx(bright, abs=1e-3) and found.scores.shape == (2,)


@pytest.mark.parametrize("layer", ["convlstm", "encoder"])
def test_several_exams_at_once_are_explained_as_one_by_one(layer):
    store = store_of([volume(t, t) for t in (4, 11, 7)], 32)
    together = list(gradcam(network(), store, torch.arange(3), CLIP, DOWN, 5, layer))
    for e, found in enumerate(together):
        alone = next(gradcam(network(), store, torch.tensor([e]), CLIP, DOWN, 5, layer))
        assert torch.allclose(found.evidence, alone.evidence, atol=1e-6) and torch.allclose(
            found.scores, alone.scores, atol=1e-6
        )
        assert (found.seen == alone.seen).all() and len(found.seen) == (4, 11, 7)[e]
        assert not found.evidence[:, ~found.seen].any() and found.evidence.max() > 0


def test_a_model_is_as_it_was_after_it_was_explained():
    model, store = network(), store_of([volume(5, 0)], 32)
    model.head.second.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    list(gradcam(model, store, torch.tensor([0]), CLIP, DOWN, 0)), shuffled(model, 0)
    next(occlusion(model, store, torch.tensor([0]), CLIP, DOWN, 0, grid=2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == wanted
    assert all(p.grad is None for p in model.parameters()) and torch.is_grad_enabled()
    assert not any(module._forward_hooks for module in model.modules())


def test_layers():
    model = network()
    assert layer_of(model, 32) is layer_of(model, 32, "convlstm") is model.head.first
    assert layer_of(model, 32, "encoder") is model.backbone
    small = ClipModel(nn.Sequential(nn.Conv2d(1, 3, 3, stride=8), nn.AdaptiveMaxPool2d(1)), MaxOverFrames(3, 1, 2))
    assert layer_of(small, 32) is small.backbone[0]
    store = store_of([volume(5, 0)], 32)
    assert next(gradcam(small, store, torch.tensor([0]), CLIP, DOWN, 0)).evidence.shape == (2, 5, 4, 4)
    assert next(gradcam(network(LSTMHead), store, torch.tensor([0]), CLIP, DOWN, 0)).evidence.shape == (2, 5, 2, 2)
    with pytest.raises(UserError, match="convlstm.*MaxOverFrames"):
        layer_of(small, 32, "convlstm")
    with pytest.raises(UserError, match="Flat: no layer has maps"):
        layer_of(ClipModel(Flat(), LinearProbe(2, 1, 2)), 32)


def test_shuffled_weights_are_the_same_numbers_elsewhere():
    model = network()
    other = shuffled(model, 0)
    for of in (lambda m: next(p for p in m.backbone.parameters() if p.ndim == 4), lambda m: m.head.first.inputs.weight):
        a, b = of(model), of(other)
        assert not torch.equal(a, b) and torch.equal(a.flatten().sort().values, b.flatten().sort().values)


# --- figures ---------------------------------------------------------------------------------------------------------
def lesion() -> torch.Tensor:
    """Frames 1 and 2 of 3, the pixel (10, 10) of 27 x 27: within reach is one more pixel."""
    mask = torch.zeros(3, 27, 27, dtype=torch.bool)
    mask[1:, 10, 10] = True
    return mask


def test_figures_of_maps():
    maps = torch.zeros(4, 3, 27, 27)
    # both within reach, 3 of 8 inside, the wrong frame first
    maps[0, 1, 10, 10], maps[0, 2, 11, 9], maps[0, 0, 0, 0] = 3, 1, 4
    maps[1, 1, 10, 12], maps[1, 2, 9, 9], maps[1, 2, 0, 0] = 5, 1, 1  # frame 1 beside it, frame 2 half; frame 1 first
    maps[2, 2, 10, 10] = 1  # frame 1 is the same everywhere: 9 of its 729 places are within reach
    found = lookup.figures(maps, lesion())
    assert found["pointing"].tolist() == pytest.approx([1, 0.25, (1 + 9 / 729) / 2, 9 / 729])
    assert found["energy"].tolist() == pytest.approx([3 / 8, 0, 1, 2 / (3 * 729)])
    assert found["retrieval"].tolist() == pytest.approx([0, 1, 1, 2 / 3])


def test_the_middle_and_random_maps():
    middle = lookup.centre(3, 27, 27)
    assert middle.argmax() == 1 * 729 + 13 * 27 + 13 and middle.max() == 1
    maps = lookup.random_maps((3, 4, 4), 32, 32, 0)
    assert maps.shape == (lookup.DRAWS, 3, 32, 32) and torch.equal(maps, lookup.random_maps((3, 4, 4), 32, 32, 0))


def test_enlarged_maps_are_largest_in_the_middle_of_a_cell():
    corner = torch.zeros(1, 2, 2)
    corner[0, 0, 0] = 1
    big = enlarged(corner, 8, 8)[0]
    assert (big == big.max()).nonzero().float().mean(0).tolist() == [1.5, 1.5] and big[0, 0] < big.max()


def test_rank_correlation():
    assert lookup.rank_correlation(np.array([1, 5, 9]), np.array([0, 1, 7])) == pytest.approx(1)
    assert lookup.rank_correlation(np.array([0, 0, 1, 2]), np.array([3, 3, 2, 1])) == pytest.approx(-1)
    assert lookup.rank_correlation(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])) == pytest.approx(0.8)
    assert np.isnan(lookup.rank_correlation(np.zeros(3), np.arange(3)))


def test_summary_counts_the_exams_that_have_a_value():
    truth = np.array([[1, 1]] * 20 + [[0, 1]] * 20)
    value = np.where(truth[:, :1] == 1, np.linspace(0, 0.5, 40)[:, None], np.nan) * [[1, np.nan]]
    rows = pointing.summary(dict.fromkeys(pointing.FIGURES, value), intervals.weights(truth, 200))
    assert rows[0]["pointed_exams"] == 20 and rows[0]["energy"] == pytest.approx(value[:20, 0].mean())
    assert rows[0]["energy_low"] < rows[0]["energy"] < rows[0]["energy_high"]
    assert rows[1] == {"pointed_exams": 0} and rows[2] == {"pointed_exams": 0}


def test_explained_shares_of_nothing_are_nothing():
    found = Explained(torch.zeros(1), torch.zeros(1, 3, 2, 2), torch.ones(3, dtype=torch.bool))
    assert not found.shares().any() and not found.maps(8, 8).any()


# --- the verb --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def home(exams_folder, tmp_path_factory) -> Path:
    """A tiny comparison on data with masks: of each positive the bar that says so."""
    home = tmp_path_factory.mktemp("explain")
    shutil.copytree(exams_folder, home / "exams")
    labels = ("acl", "meniscus")
    truth = {label: dict(csv.reader((home / "exams" / f"valid-{label}.csv").open())) for label in labels}
    for path in (home / "exams" / "valid").rglob("*.npy"):
        masks = {}
        for l, label in enumerate(labels):
            if truth[label][path.stem] == "1":
                masks[label] = np.zeros(np.load(path).shape, bool)
                masks[label][:, 8 + 16 * l : 14 + 16 * l, 4:40] = True
        to = home / "exams" / "masks" / "valid" / path.parent.name / f"{path.stem}.npz"
        to.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(to, **masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", TINY)
        assert (
            main(
                [
                    "run",
                    "--preset",
                    "tiny",
                    "--data",
                    str(home / "exams"),
                    "--methods",
                    "sslm,supervised-small",
                    "--device",
                    "cpu",
                    "--out",
                    str(home / "runs"),
                    "--results",
                    str(home / "results.csv"),
                ]
            )
            == 0
        )
    return home


def explain(home, *words) -> int:
    return main(["explain", *map(str, words), "--data", str(home / "exams"), "--device", "cpu"])


def cell(home, name: str = "sslm-axial-s0-cpu") -> Path:
    return next((home / "runs").rglob(name))


def test_pictures_of_an_exam(home, tmp_path, capsys):
    name = next(
        line.split(",")[1]
        for line in (cell(home) / "scores.csv").read_text().splitlines()
        if line.startswith("reported")
    )
    volume = home / "exams" / "valid" / "axial" / f"{name}.npy"
    assert explain(home, home / "runs", name, volume, "--methods", "sslm", "--planes", "axial", "--to", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all("score ." in line and "(threshold" in line for line in lines)
    assert [re.search(r"score (\.\d+)", line)[1] for line in lines[:2]] == [
        re.search(r"score (\.\d+)", line)[1] for line in lines[2:]
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"sslm-axial-s0-cpu-explain-{name}-{label}.png" for label in ("acl", "meniscus")
    }
    assert explain(home, cell(home), name, "--by", "occlusion", "--grid", "2") == 0
    assert (cell(home) / f"explain-{name}-acl.png").exists()


def test_variants_are_asked_by_name(home, tmp_path):
    shutil.copytree(home / "runs", tmp_path / "runs")
    one = cell(tmp_path)
    varied = shutil.copytree(one, one.with_name("sslm-clip.frames=4-axial-s0-cpu"))
    record = json.loads((one / "run.json").read_text())
    (varied / "run.json").write_text(json.dumps(record | {"variant": "clip.frames=4"}))
    of = argparse.Namespace(planes=None, methods="sslm", seeds=None)
    of.what = [str(tmp_path / "runs")]
    assert one in chosen(of)[0] and varied not in chosen(of)[0]
    of.what = [str(varied)]
    assert chosen(of)[0] == [varied]


def test_scores_against_lesions(home, capsys):
    assert explain(home, home / "runs", "--score") == 0
    table = capsys.readouterr().out
    assert table.count(" macro ") == 4 and "sanity" in table
    found = {path.parent.name: json.loads(path.read_text()) for path in (home / "runs").rglob("explain.json")}
    for plane in ("axial", "sagittal"):
        told = re.search(
            rf"^sslm against supervised-small, {plane}, macro: pointing (\S+) \[.*energy .*retrieval .*\.$", table, re.M
        )[1]
        each = [
            found[f"{method}-{plane}-s0-cpu"]["figures"]["macro"]["pointing"] for method in ("sslm", "supervised-small")
        ]
        assert float(told) == pytest.approx(each[0] - each[1], abs=6e-4)
    for row in (row for result in found.values() for row in result["figures"].values()):
        assert 0 <= row["pointing_low"] <= row["pointing"] <= row["pointing_high"] <= 1
        assert all(f"{name}{end}" in row for name in pointing.FIGURES for end in ("_random", "_centre"))
    one, row = (found["sslm-axial-s0-cpu"][part]["acl"] for part in ("exams", "figures"))
    assert row["energy"] == pytest.approx(np.mean(list(one["energy"].values())), abs=1e-5)
    assert len(one["energy"]) == row["pointed_exams"] > 0
    assert (cell(home) / "explain.png").stat().st_size > 10_000
    assert explain(home, cell(home), "--score") == 0  # what is kept is not scored again
    assert not capsys.readouterr().err
    # figures of another run in the same folder are not taken
    (cell(home) / "explain.json").write_text(json.dumps(found["sslm-axial-s0-cpu"] | {"config": "another"}))
    assert explain(home, cell(home), "--score") == 0
    assert json.loads((cell(home) / "explain.json").read_text()) == found["sslm-axial-s0-cpu"]


@pytest.mark.parametrize(
    "words, told",
    [
        (["nothing", "--score"], "nothing: no such folder"),
        (["{runs}"], "no exam"),
        (["{runs}", "9999"], "9999: no folder, file or reported exam"),
        (["{runs}", "0000", "--methods", "imagenet"], "no run of these --methods"),
        (["{runs}", "missing.npy"], "missing.npy: no such volume"),
        (["{runs}", "0000", "--score"], "0000: --score"),
        (["{runs}", "--score", "--to", "."], "--to"),
        (["{runs}", "--score", "--by", "occlusion", "--exams", "0"], "--exams 0"),
        (["{runs}", "0000", "--layer", "convlstm", "--methods", "supervised-small"], "layer convlstm"),
        (["{runs}", "{id}", "--by", "occlusion", "--grid", "0"], "grid 0"),
        (["{exams}", "--score"], "holds no finished run"),
    ],
)
def test_mistakes_are_one_line(home, capsys, words, told):
    name = (cell(home) / "scores.csv").read_text().split("reported,")[1].split(",")[0]
    words = [word.format(runs=home / "runs", exams=home / "exams", id=name) for word in words]
    assert explain(home, *[name if word == "0000" and "--score" not in words else word for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and told in err


def test_a_run_that_is_made_again_is_not_scored_yet(home, tmp_path, monkeypatch):
    shutil.copytree(home / "runs", tmp_path / "runs")
    folder = next((tmp_path / "runs").rglob("supervised-small-axial-s0-cpu"))
    (folder / "explain.json").write_text("{}")
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)
    assert (
        main(
            [
                "run",
                "--preset",
                "tiny",
                "--data",
                str(home / "exams"),
                "--methods",
                "supervised-small",
                "--planes",
                "axial",
                "--force",
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "runs"),
                "--results",
                str(tmp_path / "results.csv"),
            ]
        )
        == 0
    )
    assert (folder / "run.json").exists() and not (folder / "explain.json").exists()


def test_occlusion_is_scored_but_not_kept(home, capsys):
    before = {path: path.read_bytes() for path in home.rglob("explain.json")} | {
        home: (home / "results.csv").read_bytes()
    }
    words = (
        "--score",
        "--by",
        "occlusion",
        "--grid",
        "4",
        "--exams",
        "3",
        "--planes",
        "axial",
    )
    assert explain(home, home / "runs", *words) == 0
    table = capsys.readouterr().out
    assert table.count(" acl ") == 2 and "sslm against supervised-small, axial, macro" in table and "not these" in table
    assert all(1 <= int(n) <= 3 for n in re.findall(r"^\S+ +axial +\S+ +0 +(\d+) ", table, re.M))
    assert before == {path: path.read_bytes() for path in home.rglob("explain.json")} | {
        home: (home / "results.csv").read_bytes()
    }


def test_data_without_masks_is_not_scored(home, exams_folder, capsys):
    name = (cell(home) / "scores.csv").read_text().split("reported,")[1].split(",")[0]
    assert main(["explain", str(cell(home)), "--score", "--data", str(exams_folder), "--device", "cpu"]) == 2
    assert "holds no lesion masks" in capsys.readouterr().err
    assert main(["explain", str(cell(home)), name, "--data", str(exams_folder), "--device", "cpu"]) == 0
    assert "can be seen but not scored" in capsys.readouterr().out
    assert main(["explain", str(cell(home)), name, "--device", "cpu"]) == 2
    assert "--data" in capsys.readouterr().err


def test_masks_that_do_not_fit_are_named(home, tmp_path, capsys):
    shutil.copytree(home / "exams", tmp_path / "exams")
    for path in (tmp_path / "exams" / "masks").rglob("*.npz"):
        np.savez(path, acl=np.zeros((2, 3, 4), bool))
    words = ["explain", str(cell(home)), "--score", "--force", "--data", str(tmp_path / "exams"), "--device", "cpu"]
    assert main(words) == 2
    assert re.search(r"\(2, 3, 4\), expected bool \(\d+, 48, 48\);", capsys.readouterr().err)
    for path in (tmp_path / "exams" / "masks").rglob("*.npz"):
        path.write_bytes(b"PK\x03\x04 broken")
    assert main(words) == 2
    assert "not a readable file of masks" in capsys.readouterr().err
