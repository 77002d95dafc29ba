"""Scores and labels -> thresholds, calibration, ensembles, and parts of figures: pure functions, no files, no state.

Whatever is chosen (thresholds, calibration, plane weights) is chosen on tune, by `choose` and `ensemble`, which never
see a reported label.

One convention for every threshold: it lies on the probability of the POSITIVE class, and an exam is called positive
when score >= threshold. Where the minority is the negative class, an exam is therefore called minority when
score < threshold.

Letters: E exams, L labels, P planes. truth holds 0 and 1, score holds probabilities in [0, 1] (logits are refused).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .intervals import shifted
from .operating import threshold as headline

BINS = 10  # of the expected calibration error
FOLDS = 5  # of the cross-fit in a logistic ensemble


@dataclass(frozen=True)
class Operating:
    """All that tune chooses for thresholds and calibration: one entry per label, NaN where reason[k] is not empty."""

    threshold: tuple[float, ...]  # 90 % majority recall on tune, by the rule of operating.py
    slope: tuple[float, ...]  # calibrated score = sigmoid(slope * logit(score) + offset)
    offset: tuple[float, ...]
    reason: tuple[str, ...]


# ---- choices made on tune ------------------------------------------------------------------------


def choose(tune_truth: np.ndarray, tune_score: np.ndarray, minority) -> Operating:
    """Thresholds and calibration of each label from tune exams alone.

    tune_truth, tune_score: [E, L]; minority: [L], the class (0 or 1) that is rarer in training. A label with one
    class or with a score that is not finite on tune gets NaN and a reason. Raises ValueError for labels that are not
    0/1 or scores that are no probabilities.
    """
    tune_truth, tune_score = checked(tune_truth, tune_score, minority)
    chosen = []
    for truth, score, rare in zip(tune_truth.T, tune_score.T, minority):
        reason = not_finite(score) or one_class(truth)
        if reason:
            chosen.append((np.nan, np.nan, np.nan, f"on tune: {reason}"))
        else:
            chosen.append((float(headline(truth, score, rare)[0]), *_calibration(truth, score), ""))
    return Operating(*zip(*chosen))


def _calibration(truth: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Slope and offset on the logit of one label's scores (Platt 1999). truth, score: [E].

    The offset is free, so calibrated scores average to the prevalence on tune. Scores that rank worse than chance get
    slope 0: calibration may not turn a ranking around.
    """
    slope, offset = _coefficients(_regression().fit(_logit(score)[:, None], truth))
    return (float(slope), float(offset)) if slope > 0 else (0.0, float(_logit(truth.mean())))


# ---- on the reported exams -----------------------------------------------------------------------


def calibrated(score: np.ndarray, operating: Operating, k: int) -> np.ndarray:
    """Scores of label k, of any shape, after the calibration that tune chose; NaN where it could choose none."""
    return _sigmoid(operating.slope[k] * _logit(score) + operating.offset[k])


def recalls(truth: np.ndarray, score: np.ndarray, threshold: float) -> tuple[float, float]:
    """Recall of class 0 and of class 1, score >= threshold being called 1; NaN for an absent class or threshold."""
    if np.isnan(threshold):
        return np.nan, np.nan
    right = (score >= threshold) == (truth == 1)
    negative, positive = (float(right[truth == c].mean()) if (truth == c).any() else np.nan for c in (0, 1))
    return negative, positive


def expected_calibration_error(truth: np.ndarray, score: np.ndarray) -> float:
    """Mean over exams of |mean score - share of positives| of the exam's bin (Naeini 2015, Guo 2017).

    BINS bins of equal width, closed below: [0, 0.1) ... [0.9, 1]. On 120 exams a perfectly calibrated model still
    shows 0.05 to 0.12: compare methods on the same exams, and do not read it as a distance from 0.
    """
    bins = np.minimum((score * BINS).astype(int), BINS - 1)  # [E]
    gap = np.bincount(bins, weights=score - truth, minlength=BINS)  # [BINS] exams in the bin x (mean score - share)
    return float(np.abs(gap).sum() / len(score))


# ---- prevalence that shifts ----------------------------------------------------------------------


def shift(train_truth: np.ndarray, truth: np.ndarray, labels) -> str:
    """One sentence on whether prevalence differs from training (fit and tune) to reported exams; it decides nothing.

    train_truth, truth: [E, L].
    """
    before, after, moved = train_truth.mean(axis=0), truth.mean(axis=0), shifted(train_truth, truth)  # [L]
    named = [f"{labels[k]} {before[k]:.2f} -> {after[k]:.2f}" for k in np.flatnonzero(moved | ~moved.any())]
    if moved.any():
        return (
            f"Prevalence shifts between training and reported exams ({', '.join(named)}): recalls at 0.5, average "
            "precision, Brier and calibration error move with it; AUC and recalls at tune's thresholds need not."
        )
    return f"No shift of prevalence can be told between training and reported exams ({', '.join(named)})."


# ---- the ensemble of planes ----------------------------------------------------------------------


def ensemble(tune_truth: np.ndarray, tune_scores: dict, scores: dict, how: str = "log-odds"):
    """Join the planes' scores, per label, by weights from tune.

    tune_truth: [E, L]; tune_scores, scores: {plane: [E, L]} on tune and on the exams to score. Returns (tune [E, L],
    scored [E, L], weights {plane: [L]}, under `logistic` with "intercept" too). NaN where a label's scores are not
    finite or, under `logistic`, where tune holds fewer than two exams of a class. Raises ValueError for planes that
    do not match.

    log-odds: mean of the probabilities weighted by log(acc / (1 - acc)) of a plane's accuracy at 0.5 on tune. acc is
    at most 1 - 1/(2E), so that a perfect plane counts much, not all; acc <= 1/2 counts 0; if all do, all count alike.
    These few numbers per label see the same tune exams as the thresholds do; that reuse is small and is left.
    Accuracy rewards the majority, so under imbalance these weights are the paper's, not the best.
    logistic: logistic regression on the planes' logits (MRNet's way, Bien 2018). Its tune scores are cross-fitted: an
    exam's score comes from a fit without it, else thresholds would be chosen on scores that had seen their labels.
    """
    planes = sorted(tune_scores)
    if planes != sorted(scores) or not planes:
        raise ValueError(f"planes on tune {planes} and to score {sorted(scores)} must be the same, and at least one")
    tune = np.stack([tune_scores[plane] for plane in planes])  # [P, E, L]
    given = _probabilities(np.stack([scores[plane] for plane in planes]))
    for of_plane in tune:
        checked(tune_truth, of_plane)
    if how == "log-odds":
        weights = _log_odds(tune_truth, tune)
        tune_joined, joined = (np.clip(np.einsum("pel,pl->el", s, weights), 0, 1) for s in (tune, given))
        return tune_joined, joined, dict(zip(planes, weights))
    if how == "logistic":
        columns = [_logistic(tune_truth[:, k], tune[:, :, k], given[:, :, k]) for k in range(tune_truth.shape[1])]
        tune_joined, joined, weights = (np.stack(column, axis=1) for column in zip(*columns))
        return tune_joined, joined, dict(zip([*planes, "intercept"], weights))
    raise ValueError(f"how must be 'log-odds' or 'logistic', not {how!r}")


def _log_odds(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """truth [E, L], scores [P, E, L] -> weights [P, L] that sum to 1 over planes."""
    accuracy = ((scores >= 0.5) == (truth == 1)).mean(axis=1)  # [P, L]
    accuracy = np.clip(accuracy, 0.5, 1 - 0.5 / len(truth))
    weights = np.log(accuracy / (1 - accuracy))
    weights[:, weights.sum(axis=0) == 0] = 1
    return weights / weights.sum(axis=0)


def _logistic(truth: np.ndarray, tune: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One label: truth [E], tune [P, E], given [P, E'] -> cross-fitted tune [E], scores [E'], weights [P + 1]."""
    folds = min(FOLDS, int((truth == 0).sum()), int((truth == 1).sum()))
    if folds < 2 or not_finite(tune) or not_finite(given):
        return np.full(tune.shape[1], np.nan), np.full(given.shape[1], np.nan), np.full(len(tune) + 1, np.nan)
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    crossed = cross_val_predict(_regression(), _logit(tune).T, truth, cv=split, method="predict_proba")[:, 1]
    weights = _coefficients(_regression().fit(_logit(tune).T, truth))  # on [E, P]
    return crossed, _sigmoid(weights[:-1] @ _logit(given) + weights[-1]), weights


def _regression():
    """Logistic regression, lightly shrunk (separable sets); scaled, so alike for wide and narrow logits."""
    return make_pipeline(StandardScaler(), LogisticRegression())


def _coefficients(fitted) -> np.ndarray:
    """Weights of the unscaled inputs, then the intercept, of a fitted `_regression`: [P + 1]."""
    scale, model = fitted[0], fitted[1]
    weights = model.coef_[0] / scale.scale_
    return np.append(weights, model.intercept_[0] - weights @ scale.mean_)


# ---- shared --------------------------------------------------------------------------------------


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(p, float), 1e-6, 1 - 1e-6)  # float32 sigmoids saturate at exactly 0 and 1
    return np.log(p / (1 - p))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))  # no overflow


def not_finite(score: np.ndarray) -> str:
    """Why nothing can be computed of these scores; empty where it can."""
    bad = int((~np.isfinite(score)).sum())
    return f"{bad} of {score.size} scores are not finite" if bad else ""


def one_class(truth: np.ndarray) -> str:
    """Why these exams tell no classes apart; empty where they do. truth: [E]."""
    return f"all {len(truth)} exams are of class {int(truth[0])}" if (truth == truth[0]).all() else ""


def checked(truth, score, minority=None) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays [E, L], score in float64. Raises ValueError with what is wrong."""
    truth, score = np.asarray(truth), np.asarray(score, dtype=np.float64)
    if truth.ndim != 2 or truth.shape != score.shape or not len(truth):
        raise ValueError(f"truth {truth.shape} and score {score.shape} must both be [E, L] with at least one exam")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"truth must hold 0 and 1 only, found {np.unique(truth)[:5]}")
    if minority is not None and (len(minority) != truth.shape[1] or not np.isin(minority, (0, 1)).all()):
        raise ValueError(f"minority must hold a class, 0 or 1, for each of {truth.shape[1]} labels, not {minority}")
    return truth, _probabilities(score)


def _probabilities(score: np.ndarray) -> np.ndarray:
    if (score < 0).any() or (score > 1).any():  # NaN passes: its figures become undefined
        raise ValueError(f"scores must be probabilities, found {np.nanmin(score):g} to {np.nanmax(score):g}: logits?")
    return score
