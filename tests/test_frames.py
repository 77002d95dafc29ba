import numpy as np
import pytest
import torch

from sslm_core.errors import UserError
from sslm_core.exams import read_exams, read_volume
from sslm_core.frames import FrameStore, load_frames, offsets_of, resize


def test_a_store_holds_each_exam_s_frames(exams_folder):
    train, _ = read_exams(exams_folder)
    store = load_frames(train, "axial", 48)
    assert store.data.dtype == torch.uint8 and len(store) == 20
    for e in (0, 7, 19):
        own = store.data[store.offsets[e] : store.offsets[e + 1]]
        assert torch.equal(own, torch.from_numpy(read_volume(train.path("axial", e))))


def test_rows_are_those_of_the_exams_in_their_order():
    store = FrameStore(torch.zeros(9), offsets_of([2, 4, 3]))
    assert store.rows(torch.tensor([2, 0])).tolist() == [6, 7, 8, 0, 1]
    assert store.lengths.tolist() == [2, 4, 3]


@pytest.mark.parametrize("shape", [(3, 100, 60), (2, 17, 17), (1, 64, 64)])
def test_frames_of_any_size_are_resampled(shape):
    frames = np.full(shape, 77, np.uint8)
    small = resize(frames, 32)
    assert small.shape == (shape[0], 32, 32) and small.dtype == torch.uint8 and (small == 77).all()


def test_resampling_averages_instead_of_skipping():
    frames = np.zeros((1, 64, 64), np.uint8)
    frames[:, ::2] = 200
    assert (resize(frames, 16)[0, 2:-2].float() - 100).abs().max() <= 1


def test_a_volume_damaged_after_the_check_is_named(fresh_exams):
    train, _ = read_exams(fresh_exams)
    path = train.path("sagittal", 2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="0002.npy"):
        load_frames(train, "sagittal", 8)
