"""Which differences are real: paired comparisons of stored runs on the same exams.

A difference is the mean over seeds; its interval comes from one bootstrap over exams that both share (see intervals),
its verdict after Holm over all comparisons shown, where both methods have the seeds for one. DeLong's test stands
beside the AUC of each label as a cross-check.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from sslm_core.errors import UserError
from sslm_core.exams import MACRO

from ..stats import intervals
from ..stats.figures import AUC, HEADLINE, Figure
from ..store.scored import Scored

NO_VERDICT = "no verdict"  # one of the two methods did not learn


@dataclass(frozen=True)
class Draws:
    """A method's figures on the exams and on every resample, [1 + R, S, labels + 1] each, and what all that is compared
    shares."""

    seeds: list[Scored]
    score: np.ndarray  # [S, E, L]
    values: dict[Figure, np.ndarray]
    kept: float  # macro recall of the majority
    skill: intervals.Skill
    weights: np.ndarray  # [R, E], of the reported exams
    exams: dict[Figure, np.ndarray]  # what each rests on, [L + 1]

    def hidden(self, figure: Figure) -> np.ndarray:
        return intervals.hidden(self.values[figure], self.exams[figure])

    def interval(self, figure: Figure, k: int) -> intervals.Estimate:
        """Of label number k; -1 is macro."""
        return intervals.interval(self.values[figure][:, :, k], self.exams[figure][k], self.hidden(figure)[k])

    def less(self, other: "Draws", figure: Figure, k: int) -> intervals.Estimate:
        """The difference from `other`."""
        hidden, exams = self.hidden(figure)[k] + other.hidden(figure)[k], self.exams[figure][k]
        return intervals.paired(self.values[figure][:, :, k], other.values[figure][:, :, k], exams, hidden)


@dataclass(frozen=True)
class Difference:
    """One figure of `first` less that of `second`. label: a label, or macro."""

    first: str
    second: str
    figure: Figure
    label: str
    values: tuple[float, float]
    estimate: intervals.Estimate
    adjusted: float  # p after Holm
    delong: float  # p, of one label's AUC; else NaN
    needed: float  # exams
    unlearnt: str = ""  # those of the two that did not learn

    @property
    def verdict(self) -> str:
        return NO_VERDICT if self.unlearnt else intervals.verdict(self.estimate, self.adjusted)


def alike(one: Scored, other: Scored) -> bool:
    """Whether both were scored on the same exams and planes, with thresholds from the same exams."""
    return (
        one.ids == other.ids
        and one.labels == other.labels
        and (one.truth == other.truth).all()
        and one.tune_ids == other.tune_ids
        and set(one.records) == set(other.records)
    )


def drawn(methods: dict[str, list[Scored]], ensemble: str) -> dict[str, Draws]:
    """Every method's draws, from one set of resamples. Raises UserError where methods were not scored on the same exams
    and planes."""
    first = next(iter(methods.values()))[0]
    for name, seeds in methods.items():
        for s in seeds:
            if not alike(s, first):
                raise UserError(
                    f"{name} was not run on the same exams and planes as {next(iter(methods))}; run both in one command"
                )
    plane, weights, tune_weights = first.shown(ensemble), intervals.weights(first.truth), first.tune_weights()
    exams, out = first.behind, {}
    for name, seeds in methods.items():
        score = np.stack([s.scores[plane] for s in seeds])
        each = [s.draws(plane, weights, tune_weights) for s in seeds]
        values = {figure: np.concatenate([of[figure] for of in each], 1) for figure in HEADLINE}
        majority = float(np.mean([s.majority_recall(plane) for s in seeds]))
        skill = intervals.skill(*np.mean([s.tune_losses(plane) for s in seeds], axis=0))
        out[name] = Draws(seeds, score, values, majority, skill, weights, exams)
    return out


def differences(draws: dict[str, Draws], reference: str, labels: tuple[str, ...]) -> list[Difference]:
    """`reference` against every other method, in the figures of HEADLINE, for `labels` (macro among them or alone)."""
    others = [name for name in draws if name != reference]
    return compared(draws, [(reference, o, figure, label) for o in others for figure in HEADLINE for label in labels])


def compared(draws: dict[str, Draws], asked: list[tuple[str, str, Figure, str]]) -> list[Difference]:
    """Each (method, less this one, in this figure, for this label); verdicts after Holm over all of them."""
    some = next(iter(draws.values())).seeds[0]
    names, found = (*some.labels, MACRO), []
    for first, second, figure, label in asked:
        k, (one, other) = names.index(label), (draws[first], draws[second])
        estimate, delong = one.less(other, figure, k), math.nan
        if figure is AUC and k < len(some.labels) and math.isfinite(estimate.p):
            delong = intervals.delong(some.truth[:, k], one.score[:, :, k], other.score[:, :, k]).p
        values = float(one.values[figure][0, :, k].mean()), float(other.values[figure][0, :, k].mean())
        needed = intervals.exams_to_decide(estimate, len(some.truth))
        unlearnt = " and ".join(name for name in (first, second) if not draws[name].skill.learnt)
        found.append(Difference(first, second, figure, label, values, estimate, math.nan, delong, needed, unlearnt))
    adjusted = intervals.holm([math.nan if d.unlearnt else d.estimate.p for d in found])
    return [replace(d, adjusted=float(p)) for d, p in zip(found, adjusted)]


def footing(found: list[Difference], exams: int) -> str:
    """What the intervals and the verdicts are about."""
    judged = sum(math.isfinite(d.adjusted) for d in found)
    few = [d for d in found if d.estimate.over == intervals.MODELS]
    lines = [f"Intervals: 95 %, on {exams} exams, thresholds chosen anew in each resample of tune."]
    if judged:
        lines.append(f"Verdicts: on the methods, after Holm over {judged} comparisons.")
    if few:
        whose = "" if len(few) == len(found) else f" against {', '.join(dict.fromkeys(d.second for d in few))}"
        lines.append(
            f"Too few seeds for a verdict{whose}: {intervals.MIN_SEEDS} of each method are needed; "
            "these differences are those of the trained models."
        )
    return " ".join(lines)


def phrase(figure: str, e: intervals.Estimate, verdict: str, digits: int = 3) -> str:
    """A difference with its interval and, unless empty, its verdict."""
    if math.isnan(e.value):
        return f"{figure} undefined on these exams"
    value, *ends = (f"{v:+.{digits}f}" for v in (e.value, e.low, e.high))
    between = f" [{', '.join(ends)}]" if math.isfinite(e.low) else ""
    return f"{figure} {value}{between}" + (f": {verdict}" if verdict else "")


def said(d: Difference, found: list[Difference]) -> str:
    """The verdict as a sentence has it: what `footing` says of all of them is not said in each."""
    return (
        ""
        if d.verdict == intervals.FEW_SEEDS and all(e.estimate.over == intervals.MODELS for e in found)
        else d.verdict
    )


HEAD = (
    *("first", "second", "figure", "label", "first's", "second's", "difference", "low", "high"),
    *("p", "p Holm", "p DeLong", "verdict", "exams to decide"),
)


def cells(d: Difference) -> list[str]:
    def number(value: float, form: str) -> str:
        return format(value, form) if math.isfinite(value) else "-"

    e = d.estimate
    values = [number(v, ".3f") for v in d.values] + [number(v, "+.3f") for v in (e.value, e.low, e.high)]
    chances = [number(p, ".4f") for p in (e.p, d.adjusted, d.delong)]
    needed = number(d.needed, ",.0f") if d.verdict == "undecided" else ""
    return [d.first, d.second, d.figure.name, d.label, *values, *chances, d.verdict, needed]
