"""Stored scores of one method as figures: its planes and their ensembles, and the rows of results.csv."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sslm_core.errors import UserError, one_of
from sslm_core.exams import ENSEMBLES, MACRO
from sslm_core.history import least_loss

from ..config import options
from ..stats import figures, intervals, metrics
from ..stats.figures import HEADLINE, Figure, Sample
from .records import read_record, read_scores
from .results import GROUP, KEY, SKILL, UNLEARNT


class Derived(dict):
    """A dict whose entries are made when first asked for: joining planes takes longer than reading them."""

    def __init__(self, make: Callable, known: dict | None = None):
        super().__init__(known or {})
        self.make = make

    def __missing__(self, name: str):
        self[name] = self.make(name)
        return self[name]


class Scored:
    """Stored scores of one method, variant and seed: its planes and their ensembles, all on the same exams."""

    def __init__(self, folders: list[Path]):
        found = [(read_record(folder / "run.json"), folder) for folder in folders]
        found.sort(key=lambda pair: pair[0]["plane"])
        self.records = {record["plane"]: record for record, _ in found}
        self.folders = [folder for _, folder in found]
        stored = {record["plane"]: read_scores(folder / "scores.csv", record["labels"]) for record, folder in found}
        record, home = found[0]
        first = stored[record["plane"]]
        for other, folder in found:
            for split, (ids, truth, _) in stored[other["plane"]].items():
                if ids != first[split][0] or (truth != first[split][1]).any():
                    raise UserError(f"{folder}/scores.csv: not the exams of {home}; run both again with --force")
        self.key = {name: record[name] for name in KEY if name not in ("plane", "label")}
        self.labels, self.minority = tuple(record["labels"]), np.array(record["minority"])
        (self.tune_ids, self.tune_truth, _), (self.ids, self.truth, _) = first["tune"], first["reported"]
        tune, reported = ({plane: sets[split][2] for plane, sets in stored.items()} for split in ("tune", "reported"))
        joined = Derived(lambda name: metrics.ensemble(self.tune_truth, tune, reported, ENSEMBLES[name]))
        self.tune, self.scores = (
            Derived(lambda name: joined[name][0], tune),
            Derived(lambda name: joined[name][1], reported),
        )
        self.operating = Derived(lambda plane: metrics.choose(self.tune_truth, self.tune[plane], self.minority))

    def shown(self, ensemble: str) -> str:
        """The plane that stands for all: the only one, or the `ensemble`."""
        return ensemble if len(self.records) > 1 else next(iter(self.records))

    def majority_recall(self, plane: str) -> float:
        """Macro, at the thresholds that tune chose."""
        of_labels = zip(self.truth.T, self.scores[plane].T, self.operating[plane].threshold, self.minority)
        return float(np.mean([metrics.recalls(truth, score, cut)[1 - rare] for truth, score, cut, rare in of_labels]))

    def tune_weights(self) -> np.ndarray:
        """Resamples of the tune exams [R, E]: the same for all that was tuned on these exams."""
        return intervals.tune_weights(self.tune_truth, self.tune_ids)

    def draws(self, plane: str, weights: np.ndarray, tune_weights: np.ndarray) -> dict[Figure, np.ndarray]:
        """Every figure of HEADLINE on the exams (row 0) and on each resample: [1 + R, 1, L + 1] each."""
        score, tune = self.scores[plane][None], self.tune[plane][None]
        sample = Sample(self.truth, score, weights, self.minority, self.tune_truth, tune, tune_weights)
        return {figure: figures.draws(figure, sample) for figure in HEADLINE}

    @property
    def behind(self) -> dict[Figure, np.ndarray]:
        """What every figure of HEADLINE rests on, [L + 1] each."""
        return {figure: figures.behind(figure, self.truth, self.minority, self.tune_truth) for figure in HEADLINE}

    def tune_losses(self, plane: str) -> np.ndarray:
        """Losses of each tune exam [2, E]: of the model, and of the constant predictor; of an ensemble the means over
        its planes."""
        records = self.records.values() if plane in ENSEMBLES else [self.records[plane]]
        return np.mean([[record["tune_losses"][of] for of in ("model", "constant")] for record in records], axis=0)

    def rows(self) -> list[dict]:
        """Rows of results.csv: every plane, and the ensembles if they are of all the data has; every label and
        macro."""
        resamples = intervals.weights(self.truth), self.tune_weights()
        whole = set(self.records) == set(next(iter(self.records.values()))["planes"])
        planes = (*self.records, *ENSEMBLES) if whole else self.records
        return [row for plane in planes for row in self._plane(plane, resamples)]

    def _plane(self, plane: str, resamples: tuple[np.ndarray, np.ndarray]) -> list[dict]:
        truth, score = self.truth, self.scores[plane]
        values, reasons = figures.values(truth, score, self.labels, self.minority, self.operating[plane])
        drawn, behind = self.draws(plane, *resamples), self.behind
        hidden = {figure: intervals.hidden(drawn[figure], behind[figure]) for figure in HEADLINE}
        common = self.key | {"plane": plane} | self.costs(plane)
        skill = intervals.skill(*self.tune_losses(plane))
        rows = []
        for i, label in enumerate((*self.labels, MACRO)):
            row = common | {"label": label, "tune_exams": len(self.tune_truth), "reported_exams": len(truth)}
            row |= values[label]
            why = [v for k, v in reasons[label].items() if not k.startswith("threshold")]
            for figure in HEADLINE:
                e = intervals.interval(drawn[figure][:, :, i], behind[figure][i], hidden[figure][i])
                row |= dict(zip(figure.bounds, (e.low, e.high)))
                if e.why and math.isnan(e.low):
                    why.append(f"no interval of {figure.name}: {e.why}")
            if label == MACRO:
                row |= dict(zip(SKILL, (skill.value, skill.low, skill.high)))
                why += [] if skill.learnt else [UNLEARNT]
            else:
                row |= {"positives": int(truth[:, i].sum()), "minority": int(self.minority[i])}
            row["reason"] = "; ".join(dict.fromkeys(filter(None, why)))
            rows.append(row)
        return rows

    def costs(self, plane: str) -> dict:
        """What was measured on one plane; of the ensemble the sums over planes (throughput: one plane after
        another)."""
        records = list(self.records.values()) if plane in ENSEMBLES else [self.records[plane]]
        costs = [record["cost"] for record in records]
        summed = ("train_flops", "flops_per_exam", "parameters", "trainable")
        row = {name: sum(cost[name] for cost in costs) for name in summed}
        row["exams_per_s"] = 1 / sum(1 / cost["exams_per_s"] for cost in costs)
        row["peak_mb"] = max(cost["peak_mb"] for cost in costs)
        row["train_seconds"] = sum(record["seconds"]["train"] for record in records)
        row["fit_exams"] = records[0]["fit_exams"]
        row |= {name: records[0]["environment"][name] for name in ("machine", "torch", "commit")}
        if plane not in ENSEMBLES:
            row |= records[0]["chosen"]
        if pretexts := [least_loss(r["pretext"]) for r in records if r["pretext"]]:
            row["pretext_accuracy"] = float(np.mean([epoch["tune_accuracy"] for epoch in pretexts]))
            row["pretext_classes"] = records[0]["pretext_classes"]
        return row


def stored(out: Path) -> dict[tuple, dict[str, list[Scored]]]:
    """All runs below a folder: GROUP -> name of method and variant -> one Scored per seed. Raises UserError where there
    are none."""
    cells: dict = {}
    for path in sorted(out.rglob("run.json")):
        record = read_record(path)
        name = " ".join(filter(None, (record["method"], record["variant"])))
        seeds = cells.setdefault(tuple(record[key] for key in GROUP), {}).setdefault(name, {})
        seeds.setdefault(record["seed"], []).append(path.parent)
    if not cells:
        raise UserError(f"--out {out}: holds no finished run; run one first: python -m bench run --out {out}")
    return {
        group: {name: [Scored(folders) for _, folders in sorted(seeds.items())] for name, seeds in names.items()}
        for group, names in cells.items()
    }


def chosen(groups: dict, words: str, out: Path) -> tuple:
    """The one group that has all of the comma-separated `words`."""
    fitting = [group for group in groups if set(options.words(words)) <= set(group)]
    if len(fitting) != 1:
        held = "; ".join(", ".join(group) for group in fitting or groups)
        raise UserError(
            f"--of {words or '(not given)'}: {'several fit' if fitting else 'nothing fits'} in {out}: {held}"
        )
    return fitting[0]


def picked(methods: dict[str, list[Scored]], names: list[str], group: tuple) -> dict[str, list[Scored]]:
    """Those of a group's `methods` that the command line names, in its order."""
    for name in names:
        if name not in methods:
            raise UserError(f"{name}: no stored run of {', '.join(group)}; {one_of(methods, name)}")
    return {name: methods[name] for name in names}
