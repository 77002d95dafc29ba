import math

import pytest
import torch

from sslm_core.errors import UserError
from sslm_core.frames import FrameStore
from sslm_core.jigsaw import Jigsaw, JigsawConfig, patch_size, permutation_set


def store(frame: int = 256, frames: int = 6) -> FrameStore:
    data = torch.randint(0, 256, (frames, frame, frame), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return FrameStore(data, torch.tensor([0, frames]))


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("choice", ["random", "hamming"])
def test_permutations_are_distinct_with_the_identity(choice):
    rows = permutation_set(9, 200, 3, choice)
    assert rows.shape == (200, 9) and rows[0].tolist() == list(range(9))
    assert len(torch.unique(rows, dim=0)) == 200 and (rows.sort(1).values == torch.arange(9)).all()
    assert torch.equal(rows, permutation_set(9, 200, 3, choice)) and not torch.equal(
        rows, permutation_set(9, 200, 4, choice)
    )


def test_no_more_permutations_than_there_are():
    rows = permutation_set(4, 1000, 0)
    assert len(rows) == math.factorial(4) == len(torch.unique(rows, dim=0))


def test_hamming_sets_are_further_apart():
    def least(rows):
        distance = (rows[:, None] != rows[None]).sum(-1)
        return int(distance[~torch.eye(len(rows), dtype=torch.bool)].min())

    assert least(permutation_set(9, 50, 0, "hamming")) > least(permutation_set(9, 50, 0))


def test_patches_too_small_are_refused():
    with pytest.raises(UserError, match="4 or more"):
        Jigsaw(JigsawConfig(grid=16), 64, seed=0)


@pytest.mark.parametrize("frame, grid, patch", [(256, 3, 64), (64, 3, 16), (128, 3, 32), (256, 2, 96), (256, 4, 48)])
def test_patches_are_three_quarters_of_their_cell(frame, grid, patch):
    assert patch_size(frame, grid) == patch
    task = Jigsaw(JigsawConfig(grid=grid, permutations=10), frame, 0)
    x, y = task.batch(store(frame), torch.tensor([0, 3]), draw(), train=True)
    assert x.shape == (2, grid**2, patch, patch) and y.shape == (2,) and x.min() >= -1 and x.max() <= 1


def test_unpermuting_restores_the_frame():
    """Frames whose pixels tell where they are: undoing the permutation puts each patch back into its own cell."""
    row, column = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    cell = (row // 85).clamp(max=2) * 3 + (column // 85).clamp(max=2)  # [256, 256]
    frames = FrameStore((cell * 25).to(torch.uint8)[None], torch.tensor([0, 1]))
    task = Jigsaw(JigsawConfig(), 256, 0)
    x, y = task.batch(frames, torch.zeros(40, dtype=torch.long), draw(), train=False)
    assert len(y.unique()) > 30
    for patches, target in zip(x, y):
        restored = torch.empty_like(patches)
        restored[task.permutations[target]] = patches
        assert torch.allclose(
            (restored + 1) * 127.5, torch.arange(9)[:, None, None] * 25.0 + torch.zeros(64, 64), atol=1e-3
        )


def test_crops_start_at_the_ten_published_offsets():
    row = torch.arange(256, dtype=torch.uint8)[None, :, None].expand(1, 256, 256).contiguous()
    task = Jigsaw(JigsawConfig(), 256, 0)
    at = task.cut(FrameStore(row, torch.tensor([0, 1])), torch.zeros(300, dtype=torch.long), task.corners(300, draw()))[
        :, :, 0, 0
    ].long()
    offsets = at - torch.arange(3).repeat_interleave(3) * 85
    assert sorted(offsets.unique().tolist()) == list(range(10))


@pytest.mark.parametrize("frame", [64, 256])
def test_a_batch_is_what_its_parts_give_one_after_another(frame):
    """Cut, permute, sample, scale, each on its own: the batch, which does them together, has the same bits."""
    task, frames, together, apart = (
        Jigsaw(JigsawConfig(permutations=30), frame, 0),
        torch.tensor([5, 0, 3, 3]),
        draw(),
        draw(),
    )
    data = store(frame).data[:, :, : frame - 3]  # rows that do not follow one another in memory
    x, y = task.batch(FrameStore(data, torch.tensor([0, 6])), frames, together, train=True)
    at = task.corners(4, apart)
    windows = data.unfold(1, task.patch, 1).unfold(2, task.patch, 1)[frames[:, None], at[..., 0], at[..., 1]]
    target = torch.randint(30, (4,), generator=apart)
    windows = torch.stack([patches[order] for patches, order in zip(windows, task.permutations[target])]).flatten(0, 1)
    index, gain = torch.randint(54, (36,), generator=apart), task.gains[torch.randint(5, (36,), generator=apart)]
    gain = torch.where(torch.rand(36, generator=apart) < 0.5, gain, torch.ones(()))
    assert torch.equal(y, target) and torch.equal(x.flatten(0, 1), task.warp(windows, index, gain) / 127.5 - 1)


def test_a_bright_neighbour_never_enters_a_patch():
    frame = torch.full((1, 256, 256), 255, dtype=torch.uint8)
    frame[:, 85:170, 85:170] = 20
    task = Jigsaw(JigsawConfig(gains=(1.0,)), 256, 0)
    x, y = task.batch(FrameStore(frame, torch.tensor([0, 1])), torch.zeros(200, dtype=torch.long), draw(), train=True)
    where = (task.permutations[y] == 4).long().argmax(1)
    middle = (x[torch.arange(200), where] + 1) * 127.5
    assert middle.max() < 20.01 and middle.min() >= -0.01


def test_evaluation_does_not_augment_and_a_seed_repeats():
    task, frames = Jigsaw(JigsawConfig(permutations=5), 256, 0), torch.arange(4)
    for train in (True, False):
        a, b = (task.batch(store(), frames, draw(), train) for _ in range(2))
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    levels = ((task.batch(store(), frames, draw(), False)[0] + 1) * 127.5).round()
    assert torch.isin(levels, torch.arange(256.0)).all()
