"""Resampling and inference, against direct computation, and hand-worked numbers; test_statistics.py simulates
their coverage."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bench.stats import intervals, operating

PHI = NormalDist().cdf


def exams(count=60, seeds=2, seed=0, levels=None):
    """truth [E, 3] and scores [S, E, 3]; `levels` rounds scores, which makes ties."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((count, 3)) < [0.8, 0.2, 0.4]).astype(int)
    score = 1 / (1 + np.exp(-truth - rng.normal(size=(seeds, count, 3))))
    return truth, np.round(score * levels) / levels if levels else score


def test_resamples_keep_exams_and_joint_labels():
    truth = np.repeat([[0, 0], [1, 0], [1, 1]], [40, 30, 20], axis=0)
    drawn = intervals.weights(truth, 50, seed=1)
    assert drawn.shape == (50, 90) and drawn.dtype.kind == "i"
    assert (drawn[:, :40].sum(axis=1) == 40).all() and (drawn[:, 70:].sum(axis=1) == 20).all()
    assert np.array_equal(drawn, intervals.weights(truth, 50, seed=1))
    assert not np.array_equal(drawn, intervals.weights(truth, 50, seed=2))


def test_small_strata_are_pooled():
    truth = np.repeat([[0, 0], [1, 0], [1, 1], [0, 1]], [20, 4, 1, 2], axis=0)
    drawn = intervals.weights(truth, 3000)
    assert (drawn[:, :20].sum(axis=1) == 20).all() and (drawn.sum(axis=1) == 27).all()
    assert drawn[:, 24].std() > 0.5  # the lone exam of its joint label varies too


def test_many_rare_labels_end_and_say_why():
    """Most resamples lose a class of some of 14 labels with one positive each: no interval of them, nor of macro."""
    truth = np.eye(14, dtype=int).repeat(3, axis=0) * (np.arange(42) % 3 == 0)[:, None]
    score = np.random.default_rng(0).random((1, 42, 14))
    draws = intervals.auc_draws(truth, score, intervals.weights(truth))
    for k in (0, 14):
        estimate = intervals.interval(draws[:, :, k], exams=intervals.exams_behind(truth)[k])
        assert math.isfinite(estimate.value) and math.isnan(estimate.low) and estimate.why == intervals.FEW_EXAMS


def test_weighted_auc_is_that_of_the_resample_ties_included():
    truth, score = exams(levels=5)
    drawn = intervals.weights(truth, 20)
    draws = intervals.auc_draws(truth, score, drawn)
    assert draws.shape == (21, 2, 4)
    for row, counts in zip(draws, [np.ones(60, int), *drawn]):
        at = np.repeat(np.arange(60), counts)  # the resample, exam by exam
        for s in range(2):
            aucs = [roc_auc_score(truth[at, k], score[s, at, k]) for k in range(3)]
            assert row[s] == pytest.approx([*aucs, np.mean(aucs)], abs=1e-12)


def test_weighted_recall_is_that_of_the_resample():
    (truth, score), (tune_truth, tune_score), minority = exams(levels=5), exams(seed=1), [0, 1, 1]
    drawn, tune_drawn = intervals.weights(truth, 20), intervals.weights(tune_truth, 20, seed=1)
    draws = intervals.recall_draws(truth, score, drawn, minority, tune_truth, tune_score, tune_drawn)
    for row, counts, tune_counts in zip(draws, [np.ones(60, int), *drawn], [np.ones(60, int), *tune_drawn]):
        at = np.repeat(np.arange(60), counts)
        for s in range(2):
            cut = np.array(
                [
                    operating.threshold(tune_truth[:, k], tune_score[s, :, k], c, tune_counts[None])[0]
                    for k, c in enumerate(minority)
                ]
            )
            called = score[s, at] >= cut  # label 0: minority is negative, so not called
            recall = [(called[truth[at, k] == c, k] == c).mean() for k, c in enumerate(minority)]
            assert row[s] == pytest.approx([*recall, np.mean(recall)], abs=1e-12)


def test_an_undefined_label_undoes_itself_and_macro_only():
    truth, score = exams()
    truth[:, 2] = 0
    score[1, 0, 0] = np.nan
    drawn = intervals.weights(truth, 20)
    auc = intervals.auc_draws(truth, score, drawn)
    recall = intervals.recall_draws(truth, score, drawn, [0, 1, 1], truth, score, drawn)
    for draws in (auc, recall):
        assert np.isnan(draws[:, :, 2:]).all() and np.isnan(draws[:, 1, 0]).all() and not np.isnan(draws[:, :, 1]).any()
    undefined = intervals.paired(auc[:, :, 2], auc[:, :, 1], 0)
    assert math.isnan(undefined.value) and math.isnan(undefined.low) and math.isnan(undefined.p)
    assert intervals.verdict(undefined, undefined.p) == "undefined"


def normal_draws(value: float, sd: float, seeds: int = 1) -> np.ndarray:
    """[1 + R, S]: seeds alike, resamples at the quantiles of a normal distribution."""
    at = np.array([NormalDist().inv_cdf((k + 0.5) / 4000) for k in range(4000)])
    return np.tile(np.append(value, value + sd * at)[:, None], seeds)


def test_an_interval_is_students_on_the_logit():
    # .9 +- .02 (x 50 / 49 in variance), 49 df: t 2.0096; logit 2.1972 +- 2.0096 x .0202 / .09 = 1.7461, 2.6484
    estimate = intervals.interval(normal_draws(0.9, 0.02), exams=50)
    assert (estimate.low, estimate.high) == (pytest.approx(0.8515, abs=2e-4), pytest.approx(0.9339, abs=2e-4))
    assert estimate.over == intervals.MODELS and estimate.se == estimate.se_exams


def test_a_perfect_figure_is_not_certain():
    # 20 of 20 found: Clopper-Pearson's lower limit .025 ** (1/20) = .8316
    perfect = intervals.interval(np.ones((200, 5)), exams=20)
    assert (perfect.low, perfect.high) == (pytest.approx(0.8316, abs=1e-4), 1)
    nothing = intervals.interval(np.zeros((200, 1)), exams=20)
    assert (nothing.low, nothing.high) == (0, pytest.approx(0.1684, abs=1e-4))


def test_no_width_is_zero():
    """A figure that no resample moves: by what could be hidden where it is perfect, in macro too; else no interval."""
    draws = np.tile([1.0, 0.5, 0.75], (200, 1, 1))
    hidden = intervals.hidden(draws, np.array([20, 20, 20]))
    assert hidden == pytest.approx([(0.1684 / 1.96) ** 2, 0, (0.1684 / 1.96) ** 2 / 4], rel=1e-3)
    macro = intervals.interval(draws[:, :, 2], 20, hidden[2])
    assert macro.low < 0.70 and macro.high > 0.79
    still = intervals.interval(draws[:, :, 1], 20)
    assert math.isnan(still.low) and still.why == intervals.STILL
    apart = intervals.paired(draws[:, :, [0] * 5][:, 0], draws[:, :, [1] * 5][:, 0], 20)
    assert math.isnan(apart.p) and intervals.verdict(apart, apart.p) == intervals.STILL
    truth, score = np.array([[0], [1]]), np.array([[[0.2], [0.8]], [[0.9], [0.1]]])  # AUC 1 and 0, on two exams
    two = intervals.auc_draws(truth, score.repeat(5, axis=0), intervals.weights(truth))[:, :, 0]
    difference = intervals.paired(two[:, :5], two[:, 5:], exams=1)
    assert difference.value == 1 and intervals.verdict(difference, difference.p) == intervals.FEW_EXAMS


def test_one_perfect_label_does_not_make_the_macro_figure_worthless():
    truth = np.array([[e % 2, e % 4 == 0] for e in range(80)])
    score = truth + np.random.default_rng(0).normal(0, [0.1, 0.7], truth.shape)  # the first label is perfect
    draws = intervals.auc_draws(truth, score[None], intervals.weights(truth))
    exams = intervals.exams_behind(truth)
    macro = intervals.interval(draws[:, :, -1], exams[-1], intervals.hidden(draws, exams)[-1])
    assert draws[0, 0, 0] == 1 and 0.8 < macro.low < macro.value < macro.high <= 1


def test_exams_behind():
    truth = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])  # 3 and 1 positives of 4
    assert intervals.exams_behind(truth).tolist() == [1, 1, 1]
    truth, tune = np.repeat([[1, 0], [0, 1]], [30, 50], axis=0), np.repeat([[1, 0], [0, 1]], [20, 40], axis=0)
    # of label 2 the 20 negatives on tune
    assert intervals.exams_behind(truth, [1, 1], tune).tolist() == [30, 20, 20]
    assert intervals.exams_behind(truth, [1, 1], tune[1:]).tolist() == [30, 0, 0]  # 19 are too few for a threshold


def test_p_agrees_with_the_interval():
    for centre in np.linspace(-0.1, 0.1, 41):
        estimate = intervals.paired(normal_draws(0.7 + centre, 0.02, 5), np.full((4001, 5), 0.7), exams=50)
        assert (estimate.p < 0.05) == (estimate.low > 0 or estimate.high < 0)
    zero = np.zeros((200, 5))
    same = intervals.paired(zero, zero, exams=50)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="paired"):
        intervals.paired(zero, zero[:-1], exams=50)


def test_seeds_count_and_verdicts_are_given_from_five_on():
    truth, score = exams(seeds=10)
    draws = intervals.auc_draws(truth, score, intervals.weights(truth, 500))[:, :, 1]
    few, many = intervals.paired(draws[:, :4], draws[:, 4:8], 20), intervals.paired(draws[:, :5], draws[:, 5:], 20)
    assert few.over == "trained models" and few.se == pytest.approx(few.se_exams) and math.isnan(few.p)
    assert many.over == "methods" and many.se > many.se_exams
    assert many.value == pytest.approx(draws[0, :5].mean() - draws[0, 5:].mean())
    assert (
        intervals.verdict(few, few.p)
        == intervals.verdict(intervals.paired(draws[:, :5], draws[:, 5:9], 20), 0)
        == "too few seeds"
    )
    assert (
        intervals.verdict(intervals.paired(draws[:, :5], draws[:, 5:], intervals.MIN_EXAMS - 1), 0)
        == "too few exams of a class"
    )


def test_what_two_fits_to_the_same_exams_share_cancels():
    random = np.random.default_rng(0)
    shared, own = random.normal(0, 0.1, 5), random.normal(0, 0.01, (2, 5))
    exams = random.normal(0, 0.02, (1001, 1))
    first, second = (np.tile(0.7 + shared + mine, (1001, 1)) + exams for mine in own)
    together, apart = (intervals.paired(first - 0.05, second, 50, together=t) for t in (True, False))
    assert together.value == apart.value and together.over == intervals.METHODS
    assert together.high - together.low < (apart.high - apart.low) / 3
    assert together.high < 0 < apart.high


def test_seeds_alone_give_students_interval():
    # no exam noise; S = 5 with variance .01: pooled two-sample t with 8 df: 2.306 x sqrt(.01/5 + .01/5) = .1458
    values = np.array([-0.1, -0.1, 0, 0.1, 0.1])  # mean 0, variance .04 / 4 = .01
    draws = np.tile(values, (2001, 1))
    assert intervals.paired(draws, draws[:, ::-1], 1000).high == pytest.approx(0.1458, abs=0.0001)


def delong_by_loops(truth, first, second) -> tuple[float, float]:
    """Difference of two AUCs, means over the models in `first` and `second` [S, E], and its standard error: the
    covariance of the 1988 paper written as loops over pairs."""
    positive, negative = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)

    def psi(s, i, j):
        return 1.0 if s[i] > s[j] else 0.5 if s[i] == s[j] else 0.0

    v10 = np.array([[np.mean([psi(s, i, j) for s in m for j in negative]) for i in positive] for m in (first, second)])
    v01 = np.array([[np.mean([psi(s, i, j) for s in m for i in positive]) for j in negative] for m in (first, second)])
    covariance = np.cov(v10) / len(positive) + np.cov(v01) / len(negative)  # [2, 2]
    value = np.mean([roc_auc_score(truth, s) for s in first]) - np.mean([roc_auc_score(truth, s) for s in second])
    return value, math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


def test_delong_equals_the_direct_sum():
    truth, score = exams(40, seeds=3, levels=8)
    truth, first, second = truth[:, 2], score[:2, :, 2], score[2:, :, 2]
    value, se = delong_by_loops(truth, first, second)
    found = intervals.delong(truth, first, second)
    assert (found.value, found.se) == (pytest.approx(value), pytest.approx(se))
    assert found.p == pytest.approx(2 * PHI(-abs(value) / se))
    assert found.high - found.value == pytest.approx(1.959964 * se)
    assert intervals.delong(truth, first, first).p == 1
    assert math.isnan(intervals.delong(np.zeros(40), first, second).value)


# The example of DeLong, DeLong and Clarke-Pearson 1988, as the manual of SAS/STAT (LOGISTIC, "Comparing Receiver
# Operating Characteristic Curves") prints it: the 43 patients of whom all is known. Albumin x 10, total protein x 10,
# K-G score; the outcome.
PATIENTS = np.array(
    [
        (30, 58, 10, 0),
        (32, 63, 5, 1),
        (39, 68, 3, 1),
        (28, 48, 6, 0),
        (32, 58, 3, 1),
        (9, 40, 5, 0),
        (25, 57, 8, 0),
        (16, 56, 5, 1),
        (38, 57, 5, 1),
        (37, 67, 6, 1),
        (32, 54, 4, 1),
        (38, 66, 6, 1),
        (41, 66, 5, 1),
        (36, 57, 5, 1),
        (43, 70, 4, 1),
        (36, 67, 4, 0),
        (23, 44, 6, 1),
        (42, 76, 4, 0),
        (40, 66, 6, 0),
        (35, 58, 6, 1),
        (38, 68, 7, 1),
        (30, 47, 8, 0),
        (45, 74, 5, 1),
        (37, 74, 5, 1),
        (31, 66, 6, 1),
        (41, 82, 6, 1),
        (43, 70, 5, 1),
        (43, 65, 4, 1),
        (32, 51, 5, 1),
        (26, 47, 6, 1),
        (33, 68, 6, 0),
        (17, 40, 7, 0),
        (37, 61, 5, 1),
        (33, 63, 7, 1),
        (42, 77, 6, 1),
        (35, 62, 5, 1),
        (29, 57, 9, 0),
        (21, 48, 7, 1),
        (28, 62, 8, 0),
        (40, 70, 7, 1),
        (33, 57, 6, 1),
        (37, 69, 5, 1),
        (36, 66, 5, 1),
    ]
)


def test_delong_on_the_papers_example():
    # 31 x 12 = 372 pairs: albumin wins 274 of them, total protein 241, the K-G score (low is good) 270, ties as halves
    albumin, protein, score, truth = PATIENTS.T
    assert [float(intervals.wins(truth, s).sum()) for s in (albumin, protein, -score)] == [274, 241, 270]
    for test, wins, se, p in ((albumin, 274, 0.0953, 0.9102), (protein, 241, 0.1046, 0.4561)):
        found = intervals.delong(truth, test[None], -score[None])
        assert (found.value, found.se) == pytest.approx(delong_by_loops(truth, test[None], -score[None]))
        assert found.value == pytest.approx((wins - 270) / 372)
        assert (found.se, found.p) == (pytest.approx(se, abs=5e-5), pytest.approx(p, abs=5e-5))


def test_delong_and_the_bootstrap_agree():
    truth, score = exams(200, seeds=4, seed=3)
    draws = intervals.auc_draws(truth, score, intervals.weights(truth, 2000))
    for k in range(3):
        ours = intervals.paired(draws[:, :2, k], draws[:, 2:, k], 200)
        theirs = intervals.delong(truth[:, k], score[:2, :, k], score[2:, :, k])
        assert ours.value == pytest.approx(theirs.value)
        assert ours.se == pytest.approx(theirs.se, rel=0.1)


def test_holm():
    # sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, then never falling: .02 .03 .06 .06
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.01, math.nan, 0.9]) == pytest.approx([0.02, math.nan, 0.9], nan_ok=True)
    assert intervals.holm([0.6, 0.7]) == pytest.approx([1, 1])


def test_verdict_follows_holm():
    up = intervals.Estimate(0.1, 0.01, 0.2, 0.05, 0.05, intervals.METHODS, p=0.03)
    assert intervals.verdict(up, 0.03) == "better" and intervals.verdict(up, 0.06) == "undecided"
    down = intervals.Estimate(-0.1, -0.2, -0.01, 0.05, 0.05, intervals.METHODS, p=0.03)
    assert intervals.verdict(down, 0.03) == "worse"


def test_exams_to_decide():
    # 120 x ((1.960 + 0.842) x .04 / .05) ** 2 = 120 x 5.0233 = 602.8
    def of(value, se=0.04):
        return intervals.exams_to_decide(intervals.Estimate(value, 0, 0, se, 0.04, intervals.METHODS), 120)

    assert of(0.05) == of(-0.05) == 603
    assert of(0) == math.inf and math.isnan(of(math.nan, math.nan))
    # seeds add .03 ** 2, which no exams shrink: nothing is left of (.05 / 2.802) ** 2; of (.10 / 2.802) ** 2 = .0012739
    # .0003739 are
    assert of(0.05, 0.05) == math.inf and of(0.10, 0.05) == 514
