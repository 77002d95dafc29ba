"""Whether each method can learn at all: it must overfit 16 exams whose labels were drawn at random. A head that
forgets, a learning rate of another scale or a path that loses its gradient fails here, whatever the data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines import imagenet
from bench.config.presets import CPU
from bench.phantom.marks import exam
from bench.run import methods
from bench.run.encoders import Cell
from sslm_core.frames import quiet, store_of
from sslm_core.jigsaw import Jigsaw, JigsawConfig
from sslm_core.pretext import PretextConfig, pretrain
from sslm_core.sslm import new_encoder

EPOCHS = {"imagenet": 150, "imagenet-mrnet": 800}  # of four steps each; the others need 60
LEFT_OUT = {"imagenet-finetuned", *(name for name in methods.METHODS if name.startswith("timm"))}  # minutes; weights


@pytest.fixture(scope="module")
def sixteen():
    """Frames 32 x 32 of 16 exams, and three labels that mean nothing, each of both classes."""
    volumes = [exam("train", e)[0][:3] for e in range(16)]
    truth = torch.from_numpy(
        np.random.default_rng(3).permuted(np.repeat([[0] * 8 + [1] * 8], 3, 0), axis=1).T.copy()
    ).float()
    return store_of(volumes, 32), truth


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in methods.METHODS if name not in LEFT_OUT])
def test_every_method_overfits_sixteen_exams(sixteen, name, monkeypatch):
    monkeypatch.setattr(imagenet, "SIDE", 32)
    store, truth = sixteen
    preset, epochs = CPU.sslm, EPOCHS.get(name, 60)
    down, finetune = (
        replace(part, epochs=epochs, trial=epochs, lrs=part.lrs[-1:], warmup=0.05)
        for part in (preset.downstream, preset.finetune)
    )
    config = replace(
        preset,
        clip=replace(preset.clip, frames=3, edge=0),
        downstream=down,
        finetune=finetune,
        pretext=replace(preset.pretext, epochs=2, batch=16),
    )
    everyone = torch.arange(16)
    cell = Cell(config, store, truth, everyone, everyone, 0, quiet, None, None, lambda _, train: (train(None), 0.0))
    outcome = methods.METHODS[name].fit(cell)
    scores = outcome.tune_scores
    apart = all(scores[truth[:, k] == 1, k].min() > scores[truth[:, k] == 0, k].max() for k in range(3))  # AUC 1
    best = outcome.fitted.best
    assert apart or min(best["fit_loss"], best["tune_loss"]) < 0.1, [
        round(epoch["fit_loss"], 3) for epoch in outcome.fitted.history
    ]


@pytest.mark.slow
def test_the_jigsaw_overfits_32_frames():
    store = store_of([exam("train", e)[0][:1] for e in range(100) if exam("train", e)[0].std() > 25][:32], 64)
    task = Jigsaw(JigsawConfig(permutations=100), 64, 0)
    config, everyone = PretextConfig("fast", epochs=40, draws=16, batch=32, lr=2e-3), torch.arange(32)
    assert len(store) == 32
    done = pretrain(task, new_encoder(CPU.sslm.encoder, 0), store, everyone, everyone, config, 0)
    assert done.best["tune_accuracy"] >= 0.95
