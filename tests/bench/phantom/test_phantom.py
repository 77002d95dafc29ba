"""The phantom: the same exam whatever is made around it, MRNet's layout and frequencies, masks that tell the truth."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from bench.config import presets
from bench.phantom import exam as exams
from bench.phantom import folder, limits
from bench.phantom.exam import LABELS, SPLITS, exam, labels_of
from bench.phantom.folder import PhantomConfig, digest, make
from bench.phantom.imaging import PLANES, draw_frames
from bench.phantom.limits import ceiling, floor, interval, look_at, trained
from bench.processes import in_processes
from sslm_core.errors import UserError

SIZE = 64
CONFIG = PhantomConfig(train=3, valid=1, size=SIZE, seed=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("phantom") / "data", CONFIG, workers=1)


def first(joint, seed=5, split="train"):
    return next(i for i in range(1000) if tuple(labels_of(seed, split, i).values()) == joint)


@pytest.fixture(scope="module")
def torn():
    return exam(5, "train", first((1, 1, 1)), SIZE)


def test_layout_and_ranges(made):
    for split in SPLITS:
        count = getattr(CONFIG, split)
        for plane, how in PLANES.items():
            files = sorted((made / split / plane).iterdir())
            assert [f.name for f in files] == [f"{i:04d}.npy" for i in range(count)]
            for f in files:
                volume = np.load(f)
                assert volume.dtype == np.uint8 and volume.shape[1:] == (SIZE, SIZE)
                assert how["frames"][0] <= len(volume) <= how["frames"][2]
                assert volume.max() == 255 and volume.mean() > 15
        for label in LABELS:
            rows = (made / f"{split}-{label}.csv").read_text().split()
            assert rows == [f"{i:04d},{labels_of(5, split, i)[label]}" for i in range(count)]


def test_same_exam_whatever_is_made_around_it(made):
    volumes, _, masks, _ = exam(5, "train", 2, SIZE)
    for plane in PLANES:
        assert np.array_equal(np.load(made / "train" / plane / "0002.npy"), volumes[plane])
        stored = np.load(made / "masks" / "train" / plane / "0002.npz")
        assert set(stored.files) == set(masks[plane])
        assert all(np.array_equal(stored[k], masks[plane][k]) for k in stored.files)


def test_seed_split_and_number_matter(made):
    one = np.load(made / "train" / "axial" / "0000.npy")
    for other in (made / "train" / "axial" / "0001.npy", made / "valid" / "axial" / "0000.npy"):
        other = np.load(other)
        assert one.shape != other.shape or (one != other).mean() > 0.5


def test_labels_follow_mrnets_frequencies_in_any_prefix():
    for split, counts in exams.COUNTS.items():
        share = np.array(counts) / sum(counts)
        for n in (60, 240, 1000):
            joint = [tuple(labels_of(3, split, i).values()) for i in range(n)]
            assert all(row[0] >= max(row[1:]) for row in joint)  # a tear implies abnormal
            found = np.array([sum(row == j for row in joint) for j in exams.JOINT]) / n
            assert np.abs(found - share).max() < 3 / n + 0.01
        assert len(set(joint[:12])) > 2  # not sorted by label


def test_frames_have_mrnets_range_and_mean():
    rng = np.random.default_rng(0)
    for how in PLANES.values():
        least, mean, most = how["frames"]
        drawn = [draw_frames(rng, least, mean, most) for _ in range(2000)]
        assert least <= min(drawn) and max(drawn) <= most and abs(np.mean(drawn) - mean) < 1


def test_masks_only_where_labelled(torn):
    volumes, labels, masks, _ = torn
    assert labels == {"abnormal": 1, "acl": 1, "meniscus": 1}
    for plane, volume in volumes.items():
        assert set(masks[plane]) == set(LABELS)
        for mask in masks[plane].values():
            assert mask.dtype == bool and mask.shape == volume.shape
        assert not (masks[plane]["acl"] & ~masks[plane]["abnormal"]).any()
    assert all(any(masks[p][k].any() for p in PLANES) for k in LABELS)


def test_a_normal_knee_has_no_mask():
    _, labels, masks, _ = exam(5, "train", first((0, 0, 0)), 32)
    assert not any(labels.values()) and all(not m for m in masks.values())


def test_torn_ligament_lies_in_the_notch(torn):
    _, _, masks, boxes = torn
    for plane in PLANES:
        where = np.argwhere(masks[plane]["acl"])
        (low, high) = zip(*boxes[plane]["notch"])
        inside = np.all((where >= np.array(low) - 2) & (where < np.array(high) + 2), axis=1)
        assert len(where) and inside.mean() > 0.7


def test_boxes_are_inside_the_frame_and_left_and_right_knees_occur():
    sides = set()
    for number in range(8):
        volumes, _, _, boxes = exam(5, "valid", number, 16)
        for plane, volume in volumes.items():
            for ends in boxes[plane].values():
                assert all(0 <= a < b <= n for (a, b), n in zip(ends, volume.shape))
        (a, b), (c, d) = boxes["coronal"]["medial_meniscus"][2], boxes["coronal"]["lateral_meniscus"][2]
        sides.add(a + b < c + d)
    assert sides == {True, False}


def test_smaller_frames_show_the_same_anatomy():
    large, small = (exam(5, "train", 1, s)[0]["coronal"].astype(float) for s in (128, 32))
    large = large.reshape(len(large), 32, 4, 32, 4).mean((2, 4))
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.95


def test_made_once_and_made_again(tmp_path, monkeypatch):
    calls = []
    real = exams.exam
    monkeypatch.setattr(folder, "exam", lambda *a: calls.append(a) or real(*a))
    out, small = tmp_path / "data", PhantomConfig(2, 0, 16)
    make(out, small, workers=1)
    make(out, small, workers=1)
    assert len(calls) == 2  # the second call found it done
    stamp = json.loads((out / "phantom.json").read_text())
    assert stamp["digest"] == digest(small) and stamp["version"] == folder.VERSION
    make(out, PhantomConfig(1, 0, 16, seed=1), workers=1)
    assert len(calls) == 3 and len(list(out.glob("train/axial/*.npy"))) == 1
    assert not list(out.rglob(".*"))  # no temporary file is left


def test_a_killed_generation_is_continued(tmp_path, monkeypatch):
    out, small, real, calls = tmp_path / "data", PhantomConfig(2, 0, 16), exams.exam, []

    def killed(*a):
        calls.append(a)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*a)

    monkeypatch.setattr(folder, "exam", killed)
    with pytest.raises(KeyboardInterrupt):
        make(out, small, workers=1)
    assert not (out / "phantom.json").exists()
    make(out, small, workers=1)
    assert [c[2] for c in calls] == [0, 1, 1]


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not empty"):
        make(tmp_path, CONFIG)
    assert (tmp_path / "train" / "mine.txt").read_text() == "keep"
    other = tmp_path / "other"
    other.mkdir()
    (other / "phantom.json").write_text("{}")
    with pytest.raises(UserError, match="phantom.json"):
        make(other, CONFIG)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        make(tmp_path / "file", CONFIG)


def test_digest_names_version_and_parameters(monkeypatch):
    one = digest(CONFIG)
    assert len(one) == 12 and one == digest(PhantomConfig(3, 1, SIZE, 5)) != digest(PhantomConfig(3, 1, SIZE, 6))
    monkeypatch.setattr(folder, "VERSION", "other")
    assert digest(CONFIG) != one


def _double(x):
    return 2 * x


def _end_own_process(x):
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_give_every_result_and_a_dead_one_is_named():
    assert sorted(in_processes(_double, range(9), 2)) == list(range(0, 18, 2))
    with pytest.raises(UserError, match="a worker process was killed"):
        list(in_processes(_end_own_process, range(3), 2))


def test_few_tasks_are_in_flight():
    taken = []
    results = in_processes(_double, (taken.append(i) or i for i in range(1000)), 2)
    next(results)
    assert len(taken) < 20
    results.close()


def test_processes_make_what_one_makes(made, tmp_path):
    more = make(tmp_path / "data", PhantomConfig(train=5, valid=1, size=SIZE, seed=5), workers=2)
    for path in (made / "train").rglob("*.npy"):
        assert np.array_equal(np.load(path), np.load(more / path.relative_to(made)))


def test_an_interval_is_that_of_the_labels_mean():
    truth = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 1]] * 6)
    assert interval(truth, truth + 0.0) == (1, 1, 1)
    half = truth * np.array([1.0, 1.0, 0.0])  # one label of three at chance
    assert interval(truth, half) == pytest.approx((5 / 6,) * 3)


def test_a_trained_net_is_scored_on_exams_it_has_not_seen(monkeypatch):
    monkeypatch.setattr(limits, "FIT", 8)
    monkeypatch.setattr(limits, "TUNE", 4)
    short = replace(presets.CPU.sslm, finetune=replace(presets.CPU.sslm.finetune, epochs=1, trial=1))
    monkeypatch.setitem(presets.PRESETS, "cpu", replace(presets.CPU, sslm=short))
    rng, joint = np.random.default_rng(0), [dict(zip(LABELS, j)) for j in exams.JOINT * 5]
    seen = [(None, None, labels, None, {"axial": rng.integers(0, 256, (9, 32, 32), np.uint8)}) for labels in joint]
    found = trained(seen, "axial", 1)
    assert set(found) == {*LABELS, "macro"} and all(0 <= lo <= a <= hi <= 1 for a, lo, hi in found.values())
    with pytest.raises(SystemExit):
        limits.main(["--exams", "20", "--trained"])


@pytest.mark.slow
def test_interrupted_it_ends_at_once_and_goes_on(tmp_path):
    command = [
        sys.executable,
        "-m",
        "bench",
        "phantom",
        "--out",
        str(tmp_path / "data"),
        "--train",
        "40",
        "--valid",
        "2",
        "--size",
        "128",
    ]
    running = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob("data/train/sagittal/*.npy"))) < 3:
        assert running.poll() is None
        time.sleep(0.1)
    began = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    said = running.communicate(timeout=20)[1]
    assert running.returncode == 130 and time.monotonic() - began < 2
    assert "Traceback" not in said and "interrupted" in said
    assert len(list(tmp_path.glob("data/train/sagittal/*.npy"))) >= 3


@pytest.mark.slow
def test_brightness_does_not_tell_but_the_right_place_does():
    """A light version of `python -m bench.phantom.limits`: fewer exams, so wider margins."""
    seen = look_at(0, 120, 48, 2)
    assert all(auc < 0.75 for auc, _, _ in ceiling(seen).values())
    read = floor(seen, ("acl", "meniscus"))
    assert read["acl"][0] > 0.85 and read["meniscus"][0] > 0.65
