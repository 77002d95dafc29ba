"""The declared figures: what each says of itself, and its resamples."""

from dataclasses import replace

import numpy as np
import pytest

from bench.stats import figures, intervals, metrics
from bench.stats.figures import FIGURES, HEADLINE, Sample
from bench.store.results import COLUMNS


@pytest.fixture
def sample() -> Sample:
    rng, minority = np.random.default_rng(0), np.array([0, 1])
    truth, tune_truth = (rng.random((exams, 2)) < (0.7, 0.3) for exams in (40, 30))
    score, tune_score = (np.clip(0.3 * t + 0.5 * rng.random((2, *t.shape)), 0, 1).round(2) for t in (truth, tune_truth))
    resamples = intervals.weights(truth, 15), intervals.tune_weights(tune_truth, map(str, range(30)), 15)
    return Sample(truth.astype(int), score, resamples[0], minority, tune_truth.astype(int), tune_score, resamples[1])


@pytest.mark.parametrize("figure", HEADLINE, ids=lambda figure: figure.column)
def test_fast_resamples_are_those_of_the_value(figure, sample):
    slow = figures.draws(replace(figure, draws=None), sample)
    assert slow.shape == (16, 2, 3) and slow[1:].std() > 0
    np.testing.assert_allclose(figures.draws(figure, sample), slow, atol=1e-12)
    lost = replace(sample, score=np.where(np.arange(2) == 1, np.nan, sample.score))
    assert (
        np.isnan(figures.draws(figure, lost)[:, :, 1:]).all()
        and np.isfinite(figures.draws(figure, lost)[0, :, 0]).all()
    )


def test_the_first_row_of_the_resamples_is_the_figure(sample):
    for s in range(2):
        operating = metrics.choose(sample.tune_truth, sample.tune_score[s], sample.minority)
        found, _ = figures.values(sample.truth, sample.score[s], ("a", "b"), sample.minority, operating)
        for figure in HEADLINE:
            expected = [found[label][figure.column] for label in ("a", "b", "macro")]
            np.testing.assert_allclose(figures.draws(figure, sample)[0, s], expected, atol=1e-12)


def test_figures_have_names_and_columns_of_their_own():
    columns = [figure.column for figure in FIGURES]
    assert len(set(columns)) == len(columns) and set(columns) <= set(COLUMNS)
    assert all(figure.meaning for figure in FIGURES) and all(figure.name for figure in HEADLINE)
