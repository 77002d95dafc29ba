"""The paper's claims, put to the test on the methods at hand: a line for each."""

import math
from dataclasses import dataclass

from sslm_core.exams import MACRO

from ..run.methods import STRATEGIES
from ..stats.figures import AUC, RECALL, Figure
from .differences import Difference, Draws, compared, phrase


@dataclass(frozen=True)
class Claim:
    """`figure` of the first method of each pair is above that of the second; denied: it is above in no pair."""

    text: str
    pairs: tuple[tuple[str, str], ...]
    figure: Figure
    denied: bool = False

    def sentence(self, found: list[Difference]) -> str:
        verdicts = [d.verdict for d in found]
        if self.denied and "better" in verdicts:
            said = "does not hold"
        elif self.denied and set(verdicts) <= {"worse", "undecided"}:
            said = "no strategy is significantly better"
        elif len(set(verdicts)) > 1:
            said = "differs from pair to pair"
        else:
            said = {"better": "holds", "worse": "does not hold"}.get(verdicts[0], verdicts[0])
        shown = "; ".join(
            f"{d.first} minus {d.second}: "
            + phrase(self.figure.macro, d.estimate, d.verdict if len(found) > 1 else "")
            + (f", {d.unlearnt} did not learn" if d.unlearnt else "")
            for d in found
        )
        return f"Claim: {self.text}: {said} ({shown})."


CLAIMS = (
    Claim(
        "Frozen features of the jigsaw are better than those at random weights",
        (("sslm", "random"), ("sslm-probe", "random-probe")),
        AUC,
    ),
    Claim(
        "Jigsaw pretraining, then fine-tuning is better than training from scratch",
        (("sslm-finetuned", "supervised"),),
        AUC,
    ),
    Claim(
        "SSLM needs no strategy against imbalance",
        tuple((f"sslm-{name}", "sslm") for name in STRATEGIES),
        RECALL,
        denied=True,
    ),
)


def claims(draws: dict[str, Draws]) -> list[str]:
    """A sentence on each claim that the methods in `draws` put to the test, and what its verdicts rest on."""
    tested = {claim: [pair for pair in claim.pairs if set(pair) <= set(draws)] for claim in CLAIMS}
    found = compared(draws, [(*pair, claim.figure, MACRO) for claim, pairs in tested.items() for pair in pairs])
    sentences, rest = [], iter(found)
    for claim, pairs in tested.items():
        if pairs:
            sentences.append(claim.sentence([next(rest) for _ in pairs]))
    if judged := sum(math.isfinite(d.adjusted) for d in found):
        sentences.append(f"Verdicts on the claims: after Holm over their own {judged} comparisons.")
    return sentences
