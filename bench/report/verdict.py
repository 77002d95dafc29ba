"""What a comparison decided, in two sentences made from its differences alone."""

import math

from ..stats.figures import AUC, HEADLINE, RECALL
from ..stats.intervals import FEW_EXAMS, FEW_SEEDS, STILL, Estimate
from ..text import number
from .differences import NO_VERDICT, Difference
from .table import REFERENCE, Summary

SAYS = {  # of a verdict; {}: the other methods
    "better": "better than {}",
    "worse": "worse than {}",
    "undecided": "not significantly different from {}",
    "undefined": "not comparable with {}",
    NO_VERDICT: "given no verdict against {} (one of the two did not learn)",
    FEW_EXAMS: "given no verdict against {} (too few exams of a class)",
    FEW_SEEDS: "given no verdict against {} (too few seeds)",
    STILL: "given no verdict against {} (no resample differs)",
}
NAMED = 5  # methods at most in one list


def two_sentences(summaries: dict[str, Summary], found: list[Difference]) -> str:
    """summaries: of every method; found: SSLM against every other one, macro, empty where there is no such
    comparison."""
    if found:
        own = summaries[found[0].first]
        said = {d.verdict for d in found}
        if FEW_SEEDS in said and said <= {FEW_SEEDS, "undefined"}:
            return f"SSLM has {has(own)}. Too few seeds for a verdict on the methods."
        clauses = {
            figure: _clause(own.figures[figure][-1], [d for d in found if d.figure is figure]) for figure in HEADLINE
        }
        clauses[RECALL] += (
            f"; its thresholds keep {number(own.kept)} of the majority, the others' {kept(summaries, found)}"
        )
        return ". ".join(clauses.values()) + "."
    if REFERENCE in summaries:
        return f"SSLM has {has(summaries[REFERENCE])}. No other method is stored beside it, so nothing is compared."
    macro = {name: s.figures[AUC][-1] for name, s in summaries.items()}
    defined = {name: auc for name, auc in macro.items() if not math.isnan(auc.value)}
    best = max(defined, key=lambda name: defined[name].value, default=None)
    tail = (
        f"{best} has the highest {AUC.macro}, {interval(defined[best])}."
        if best
        else f"No method's {AUC.macro} is defined."
    )
    return f"SSLM is not among the methods ({', '.join(summaries)}), so nothing is said about it. {tail}"


def has(own: Summary) -> str:
    return joined([f"a {figure.macro} of {interval(own.figures[figure][-1])}" for figure in HEADLINE])


def kept(summaries: dict[str, Summary], found: list[Difference]) -> str:
    """The range of the others' majority recall: a minority recall says nothing without it."""
    shares = sorted(number(s) for d in found if not math.isnan(s := summaries[d.second].kept)) or ["-"]
    return shares[0] if shares[0] == shares[-1] else f"{shares[0]} to {shares[-1]}"


def _clause(own: Estimate, found: list[Difference]) -> str:
    by_verdict = {verdict: [d.second for d in found if d.verdict == verdict] for verdict in SAYS}
    said = joined(
        [SAYS[verdict].format(those(names, len(found))) for verdict, names in by_verdict.items() if names], ", and "
    )
    return f"In {found[0].figure.macro} SSLM ({interval(own)}) is {said}"


def those(names: list[str], others: int) -> str:
    if len(names) <= NAMED:
        return joined(names)
    return (
        f"each of the {others} others"
        if len(names) == others
        else joined([*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"])
    )


def few(names: list[str], what: str) -> str:
    """The names, or how many they are."""
    return joined(names) if len(names) <= NAMED else f"{len(names)} {what}"


def joined(words: list[str], last: str = " and ") -> str:
    return last.join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def interval(e: Estimate) -> str:
    if math.isnan(e.value):
        return "undefined on these exams"
    return number(e.value) if math.isnan(e.low) else f"{number(e.value)} [{number(e.low)}, {number(e.high)}]"
