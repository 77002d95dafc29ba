"""The data set of the regression checks: what it promises them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

from bench.config.presets import CHECK, PRESETS
from bench.data.dataset import embedded
from bench.phantom import marks
from bench.report import repeat
from bench.run import models
from sslm_core.frames import FrameStore
from sslm_core.jigsaw import Jigsaw


def test_it_is_a_data_set_of_both_minorities(tmp_path):
    dataset = embedded(CHECK, home=tmp_path)
    assert dataset.name == "marks" and (len(dataset.train), len(dataset.reported)) == CHECK.phantom
    assert dict(zip(dataset.train.labels, dataset.minority)) == {"common": 0, "rare": 1}
    for exams in (dataset.train, dataset.reported):
        assert abs(exams.truth.mean(0) - [*marks.PREVALENCE.values()]).max() < 0.1
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    embedded(CHECK, home=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    assert (np.load(min(written)) == marks.exam("train", 0)[0]).all()


def test_runs_on_it_find_their_exams_and_commands_again(tmp_path, monkeypatch):
    small = replace(CHECK, phantom=(24, 16))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "check", small)
    dataset = embedded(small)
    assert models.embedded({"dataset": dataset.name, "digest": dataset.digest}).samefile(dataset.train.root)
    assert not repeat.wants_data(SimpleNamespace(key={"preset": "check", "variant": "", "digest": dataset.digest}))


def test_no_sound_patch_sees_a_landmark():
    frame = 255 * sum(marks.spot(*place, 1.3) for place in marks.LANDMARKS)
    store = FrameStore(torch.from_numpy(frame).byte()[None], torch.tensor([0, 1]))
    assert frame.max() > 200
    task, draw = Jigsaw(CHECK.sslm.jigsaw, marks.SIZE, 0), torch.Generator().manual_seed(0)
    patches, _ = task.batch(store, torch.zeros(200, dtype=torch.long), draw, train=False)
    assert (patches == -1).all()
