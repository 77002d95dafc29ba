"""Figures against arithmetic done by hand. An exam is called positive when score >= threshold."""

import numpy as np
import pytest
from scipy.stats.mstats import hdquantiles
from sklearn.metrics import roc_auc_score

from bench.stats import figures, metrics, operating

COLUMNS = tuple(figure.column for figure in figures.FIGURES)
NEGATIVES = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.30, 0.60]
POSITIVES = [0.20, 0.50, 0.70]
HEADLINE = float(hdquantiles(NEGATIVES, [0.9])[0])


def column(values) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def tune_set():
    """Ten negatives, three positives of one label: truth and score, [13, 1]."""
    return column([0] * 10 + [1] * 3).astype(int), column(NEGATIVES + POSITIVES)


def one_label(truth, score, minority=1, operating=None):
    truth, score = column(truth).astype(int), column(score)
    operating = operating or metrics.choose(*tune_set(), [1])
    values, reasons = figures.values(truth, score, ["acl"], [minority], operating)
    return values["acl"], reasons["acl"]


def test_auc_counts_a_tie_as_half():
    # positives .5 .8 .2 against negatives .2 .5: (1 + 1/2) + (1 + 1) + (1/2 + 0) = 4 of 6 pairs
    assert one_label([0, 0, 1, 1, 1], [0.2, 0.5, 0.5, 0.8, 0.2])[0]["auc"] == pytest.approx(4 / 6)


def test_average_precision_brier_and_calibration_error():
    value, _ = one_label([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert value["ap"] == pytest.approx(5 / 6)  # recall 1/2 at precision 1, then 1/2 at 2/3
    assert value["brier"] == pytest.approx(0.1875)  # (.01 + .64 + .09 + .01) / 4
    assert value["ece"] == pytest.approx(0.325)  # four bins of one exam: (.1 + .8 + .3 + .1) / 4


def test_calibration_error_compares_means_within_a_bin():
    # bin [.7, .8): mean score .75, share 1/2, gap .25, 2 of 4 exams; bin [.9, 1]: mean .95, share 1, gap .05, 2 of 4
    truth, score = np.array([1, 0, 1, 1]), np.array([0.72, 0.78, 0.9, 1.0])
    assert metrics.expected_calibration_error(truth, score) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_thresholds_of_a_positive_minority():
    chosen = metrics.choose(*tune_set(), [1])
    assert chosen.threshold == pytest.approx((HEADLINE,), abs=1e-4)


def test_a_negative_minority_is_the_mirror_image():
    truth, score = tune_set()
    mirrored = metrics.choose(1 - truth, 1 - score, [0])
    assert mirrored.threshold == pytest.approx((1 - HEADLINE,), abs=1e-4)
    straight, _ = one_label([1, 1, 1, 0, 0], [0.45, 0.46, 0.9, 0.2, 0.47])
    turned, _ = one_label([0, 0, 0, 1, 1], [0.55, 0.54, 0.1, 0.8, 0.53], minority=0, operating=mirrored)
    # .46 and .9 reach HEADLINE
    assert straight["minority_recall"] == turned["minority_recall"] == pytest.approx(2 / 3)
    assert straight["majority_recall"] == turned["majority_recall"] == pytest.approx(1 / 2)  # .47 does too
    for kind in ("auc", "brier"):
        assert straight[kind] == pytest.approx(turned[kind])


def test_recalls_at_one_half_name_the_right_class():
    # at 0.5: positives .5 and .9 of three are called so (0.5 counts as positive), negatives .2 and .4 of three are not
    value, _ = one_label([1, 1, 1, 0, 0, 0], [0.5, 0.9, 0.3, 0.2, 0.4, 0.8], minority=0)
    assert value["majority_recall_50"] == value["minority_recall_50"] == pytest.approx(2 / 3)
    value, _ = one_label([1, 1, 0], [0.5, 0.9, 0.8], minority=0)
    assert (value["minority_recall_50"], value["majority_recall_50"]) == (0, 1)


@pytest.mark.parametrize("minority", [0, 1])
def test_the_headline_threshold_keeps_ninety_percent(minority):
    """Of the majority that it was not chosen on, on average."""
    rng, kept = np.random.default_rng(0), []
    for _ in range(300):
        truth, score = (np.arange(60) % 4 == 0) == (minority == 1), rng.normal(size=1060)
        cut = operating.threshold(truth.astype(int), score[:60], minority)[0]
        kept.append(((score[60:] >= cut) != (minority == 1)).mean())
    assert np.mean(kept) == pytest.approx(0.9, abs=0.01)


def test_scores_that_all_tie_find_nobody():
    truth, score = tune_set()
    chosen = metrics.choose(truth, np.full_like(score, 0.5), [1])
    assert chosen.threshold == (np.nextafter(0.5, 1),)  # all kept, none found
    value, _ = one_label([0, 1, 1], [0.5, 0.5, 0.5], operating=chosen)
    assert (value["minority_recall"], value["majority_recall"]) == (0, 1)


def test_macro_is_the_mean_and_undefined_figures_carry_a_reason():
    rng = np.random.default_rng(0)
    truth = np.column_stack([np.arange(30) % 2, np.arange(30) % 3 == 0, np.zeros(30)]).astype(int)
    score = rng.random((30, 3))
    chosen = metrics.choose(truth, score, [1, 1, 1])
    assert np.isnan(chosen.threshold[2]) and chosen.reason[2] == "on tune: all 30 exams are of class 0"

    values, reasons = figures.values(truth[:, :2], score[:, :2], ["a", "b"], [1, 1], chosen)
    assert list(values) == ["a", "b", "macro"] and all(tuple(v) == COLUMNS for v in values.values())
    assert values["macro"]["auc"] == pytest.approx((values["a"]["auc"] + values["b"]["auc"]) / 2)
    assert reasons["a"] == {} and set(reasons["macro"]) == {"threshold"}

    values, reasons = figures.values(truth, score, ["a", "b", "c"], [1, 1, 1], chosen)
    assert reasons["c"]["auc"] == "all 30 exams are of class 0"
    assert reasons["c"]["majority_recall"] == "on tune: all 30 exams are of class 0"
    assert reasons["macro"]["auc"] == "undefined for c" and np.isnan(values["macro"]["auc"])
    assert values["c"]["majority_recall_50"] > 0 and np.isnan(values["c"]["minority_recall_50"])
    for name, value in values.items():  # a reason for each NaN and for nothing else
        assert set(reasons[name]) == {figure for figure in COLUMNS if np.isnan(value[figure])}
        assert all(reasons[name].values())


def test_scores_that_are_nan_or_logits():
    value, reason = one_label([0, 1, 1], [0.1, np.nan, 0.9])
    assert np.isnan(value["auc"]) and np.isnan(value["brier"]) and np.isnan(value["minority_recall_50"])
    assert reason["auc"] == "1 of 3 scores are not finite" and "threshold" not in reason
    with pytest.raises(ValueError, match="probabilities, found -2 to 3: logits"):
        one_label([0, 1, 1], [-2, 3, 1])
    with pytest.raises(ValueError, match="0 and 1 only"):
        one_label([0, 1, 2], [0.1, 0.2, 0.3])


# ---- prevalence ----------------------------------------------------------------------------------


def test_shift_speaks_in_one_sentence():
    before = np.repeat([[0, 1], [1, 1], [0, 0], [0, 0], [0, 1]], 200, axis=0)  # .2 and .6 of 1,000
    after = np.repeat([[0, 1], [1, 1], [1, 0], [0, 0], [0, 1]], 24, axis=0)  # .4 and .6 of 120
    said = metrics.shift(before, after, ["acl", "meniscus"])
    assert said.startswith("Prevalence shifts") and "(acl 0.20 -> 0.40)" in said
    assert metrics.shift(before, before[::10], ["acl", "meniscus"]).startswith("No shift of prevalence can be told")


# ---- ensemble ------------------------------------------------------------------------------------


def plane_with(accuracy: float, truth: np.ndarray) -> np.ndarray:
    """Scores .7 for what it calls positive, .3 for the rest, right on the first accuracy x E exams."""
    right = np.arange(len(truth)) < accuracy * len(truth)
    return np.where(right == (truth[:, 0] == 1), 0.7, 0.3)[:, None]


def weigh(**accuracies):
    truth = column(np.arange(20) % 2).astype(int)
    scores = {plane: plane_with(accuracy, truth) for plane, accuracy in accuracies.items()}
    tune, joined, weights = metrics.ensemble(truth, scores, scores)
    assert np.array_equal(tune, joined)
    assert np.allclose(joined, sum(weights[plane] * scores[plane] for plane in scores))
    return [float(weights[plane][0]) for plane in accuracies]


def test_log_odds_weights_and_their_clamps():
    assert weigh(axial=0.9, sagittal=0.75) == pytest.approx([2 / 3, 1 / 3])  # log 9 = 2 log 3
    assert weigh(axial=0.9, sagittal=0.5, coronal=0.2) == [1, 0, 0]  # at and below 1/2: none
    assert weigh(axial=0.5, sagittal=0.3) == [0.5, 0.5]  # all none: alike
    perfect = np.log(39) / (np.log(39) + np.log(3))  # 1 - 1/40 against 3/4
    assert weigh(axial=1, sagittal=0.75) == pytest.approx([perfect, 1 - perfect])


def test_logistic_ensemble_is_cross_fitted():
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 2)) < 0.4).astype(int)
    noise = {f"plane {p}": rng.random((80, 2)) for p in range(15)}
    crossed, seen, weights = metrics.ensemble(truth, noise, noise, "logistic")
    assert list(weights) == [*sorted(noise), "intercept"] and weights["intercept"].shape == (2,)
    for k in range(2):  # planes that know nothing: only a fit on the labels can tell
        assert roc_auc_score(truth[:, k], seen[:, k]) > 0.7 and roc_auc_score(truth[:, k], crossed[:, k]) < 0.6

    told = dict(noise, axial=0.2 + 0.6 * truth + 0.2 * rng.random((80, 2)))
    crossed, _, weights = metrics.ensemble(truth, told, told, "logistic")
    assert all((weights["axial"] > 5 * np.abs(weights[plane])).all() for plane in noise)
    assert all(roc_auc_score(truth[:, k], crossed[:, k]) > 0.95 for k in range(2))


def test_ensembles_that_cannot_be():
    truth, score = tune_set()
    with pytest.raises(ValueError, match="planes"):
        metrics.ensemble(truth, {"axial": score}, {"coronal": score})
    with pytest.raises(ValueError, match="how"):
        metrics.ensemble(truth, {"axial": score}, {"axial": score}, "mean")
    with pytest.raises(ValueError, match="logits"):
        metrics.ensemble(truth, {"axial": score}, {"axial": 9 * score})
    lost = score.copy()
    lost[3] = np.nan
    for how in ("log-odds", "logistic"):
        tune, _, _ = metrics.ensemble(truth, {"axial": lost}, {"axial": score}, how)
        assert "not finite" in metrics.choose(truth, tune, [1]).reason[0]


def test_reported_labels_choose_nothing():
    """Permuting the reported labels moves figures, but no threshold, calibration or weight."""
    rng = np.random.default_rng(0)
    tune_truth, truth = ((rng.random((n, 3)) < [0.8, 0.2, 0.4]).astype(int) for n in (90, 60))
    tune_scores, scores = (
        {plane: np.clip(0.3 * t + 0.7 * rng.random(t.shape), 0, 1) for plane in ("axial", "coronal")}
        for t in (tune_truth, truth)
    )
    told = []
    for reported in (truth, rng.permutation(truth)):
        for how in ("log-odds", "logistic"):
            tune, joined, weights = metrics.ensemble(tune_truth, tune_scores, scores, how)
            chosen = metrics.choose(tune_truth, tune, [0, 1, 1])
            values, _ = figures.values(reported, joined, ["abnormal", "acl", "meniscus"], [0, 1, 1], chosen)
            choices = chosen, {plane: tuple(w) for plane, w in weights.items()}, values["acl"]["threshold"]
            told.append((choices, values["acl"]["auc"]))
    for before, after in zip(told[:2], told[2:]):
        assert before[0] == after[0] and before[1] != after[1]
