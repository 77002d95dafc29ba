"""Fitted models come back from disk as they were: the same scores, from any method."""

import pytest
import torch

from bench.cli.main import main
from bench.config import presets
from bench.run.models import stored
from bench.store.records import read_scores
from sslm_core.downstream import predict
from sslm_core.errors import UserError
from sslm_core.exams import read_split
from sslm_core.explain import gradcam
from sslm_core.frames import load_frames
from tests.conftest import LABELS
from tests.tools.tiny import TINY

METHODS = (
    "sslm",
    "sslm-probe",
    "random",
    "supervised",
    "supervised-small",
    "imagenet-probe",
    "imagenet-finetuned",
    "sslm-effective",
)


@pytest.fixture(scope="module")
def cells(exams_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("models")
    words = [
        "--data",
        str(exams_folder),
        "--methods",
        ",".join(METHODS),
        "--planes",
        "axial",
        "--device",
        "cpu",
        "--jobs",
        "2",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", TINY)
        assert main(["run", "--preset", "tiny", "--out", str(out), "--results", str(out / "r.csv"), *words]) == 0
    return {path.parent.name.removesuffix("-axial-s0-cpu"): path.parent for path in out.rglob("run.json")}


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_model_scores_as_it_did(cells, exams_folder, method):
    torch.set_num_threads(1)
    found = stored(cells[method])
    ids, _, score = read_scores(cells[method] / "scores.csv", LABELS)["reported"]
    exams = read_split(exams_folder, "valid")
    numbers = torch.tensor([exams.ids.index(name) for name in ids])
    frames = load_frames(exams, "axial", found.frame)
    again = predict(found.model, frames, numbers, found.config.clip, found.config.downstream, found.record["seed"])
    assert torch.allclose(again, torch.tensor(score, dtype=torch.float32), atol=1e-5)
    assert found.model.frozen == (method not in ("supervised", "supervised-small", "imagenet-finetuned"))


@pytest.mark.parametrize("method", METHODS)
def test_where_any_method_looks_can_be_asked(cells, exams_folder, method):
    found, exams = stored(cells[method]), read_split(exams_folder, "valid")
    terms = (
        load_frames(exams, "axial", found.frame),
        torch.arange(3),
        found.config.clip,
        found.config.downstream,
        found.record["seed"],
    )
    scores = predict(found.model, *terms)
    for layer in ("auto", "encoder"):
        looks = list(gradcam(found.model, *terms, layer))
        assert all(look.evidence[0, 0].numel() > 1 for look in looks) and any(look.evidence.max() > 0 for look in looks)
        # predict's maps are rounded
        assert torch.allclose(torch.stack([look.scores for look in looks]), scores, atol=2e-3)


def test_cells_with_one_frozen_backbone_share_its_file(cells):
    states = {method: torch.load(folder / "model.pt", weights_only=True) for method, folder in cells.items()}
    assert states["sslm"]["backbone"] == states["sslm-effective"]["backbone"] != states["random"]["backbone"]
    assert isinstance(states["supervised"]["backbone"], dict)


def test_a_model_that_is_not_whole_is_named(cells, tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        stored(tmp_path)
    model = cells["supervised-small"] / "model.pt"
    whole = model.read_bytes()
    try:
        model.write_bytes((cells["imagenet-finetuned"] / "model.pt").read_bytes())
        with pytest.raises(UserError, match="not the model that run.json tells of"):
            stored(model.parent)
        model.write_bytes(whole[:1000])
        with pytest.raises(UserError, match="not a readable checkpoint"):
            stored(model.parent)
        model.unlink()
        with pytest.raises(UserError, match="--force"):
            stored(model.parent)
    finally:
        model.write_bytes(whole)
