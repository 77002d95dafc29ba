"""Figures of maps, on maps made by hand."""

import numpy as np
import pytest
import torch

from bench.explain import maps as lookup
from bench.stats import intervals, pointing
from sslm_core.explain import Explained, enlarged


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
