import os

import numpy as np
import pytest
import torch

from sslm_core.errors import UserError
from sslm_core.exams import read_exams, read_volume
from sslm_core.frames import FrameStore, load_frames, offsets_of, packed_frames, resize


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


# -- packed -----------------------------------------------------------------------------------------------------------


def packing(folder, exams, size: int = 8):
    """The frames of a packed file, and how many volumes were read for them."""
    read = []

    def progress(volumes, _):
        return (read.append(volume) or volume for volume in volumes)

    return packed_frames(folder, exams, "sagittal", size, progress), len(read)


@pytest.mark.parametrize("size", [8, 5])
def test_packed_frames_are_those_loaded(fresh_exams, tmp_path, size):
    for exams in read_exams(fresh_exams):
        expected = load_frames(exams, "sagittal", size)
        for reads in (len(exams), 0):  # packed once, then mapped
            store, read = packing(tmp_path / "out" / "frames", exams, size)
            assert (
                read == reads
                and torch.equal(store.data, expected.data)
                and torch.equal(store.offsets, expected.offsets)
            )
    assert len(list(tmp_path.rglob("*.u8"))) == 2


def test_a_packed_file_is_made_again_where_a_volume_changes(fresh_exams, tmp_path):
    train, _ = read_exams(fresh_exams)
    before, _ = packing(tmp_path, train)
    kept = before.data.clone()
    volume = read_volume(train.path("sagittal", 1))
    np.save(train.path("sagittal", 1), 255 - volume)
    os.utime(train.path("sagittal", 1), ns=(0, 0))
    after, read = packing(tmp_path, train)
    assert read == len(train) and torch.equal(after.data, load_frames(train, "sagittal", 8).data)
    assert torch.equal(before.data, kept)  # who has mapped the old file keeps it


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: bytes([raw[0] ^ 1]) + raw[1:], lambda raw: b""])
def test_a_damaged_packed_file_is_made_again(fresh_exams, tmp_path, damage):
    train, _ = read_exams(fresh_exams)
    packing(tmp_path, train)
    (path,) = tmp_path.glob("*.u8")
    path.write_bytes(damage(path.read_bytes()))
    store, read = packing(tmp_path, train)
    assert read == len(train) and torch.equal(store.data, load_frames(train, "sagittal", 8).data)


def test_other_exams_have_another_packed_file(fresh_exams, tmp_path):
    train, _ = read_exams(fresh_exams)
    packing(tmp_path, train)
    store, read = packing(tmp_path, train.subset([4, 2]))
    assert read == 2 and len(store) == 2 and packing(tmp_path, train)[1] == 0


def test_what_is_done_to_mapped_frames_stays_in_memory(fresh_exams, tmp_path):
    train, _ = read_exams(fresh_exams)
    packing(tmp_path, train)[0].data.zero_()
    assert packing(tmp_path, train)[1] == 0 and packing(tmp_path, train)[0].data.any()


def test_a_volume_damaged_while_packing_is_named_and_nothing_is_left(fresh_exams, tmp_path):
    train, _ = read_exams(fresh_exams)
    path = train.path("sagittal", 2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="0002.npy"):
        packing(tmp_path / "frames", train)
    assert [p.suffix for p in (tmp_path / "frames").iterdir()] == [".lock"]
