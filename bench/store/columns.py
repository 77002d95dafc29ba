"""What each column of results.csv means: docs/columns.md is printed from here by `python -m bench results
--columns`."""

from .results import COLUMNS

EXPLAINED = {
    "dataset": "name of the data set",
    "digest": "of its volumes and labels",
    "preset": "sizes and budget",
    "protocol": "`clean`: tune chooses; `as-published`: the reported exams do",
    "method": "as the README lists them",
    "variant": "what `--set` changed",
    "plane": "a plane, or `ensemble` or `ensemble-logistic` over all planes",
    "label": "a label, or `macro`: the mean over labels",
    "seed": "of the training",
    "device": "`cpu` or `cuda`",
    "fit_exams": "exams that were trained on",
    "tune_exams": "exams that chose epoch, rate and thresholds",
    "reported_exams": "exams that the figures are of",
    "positives": "reported exams of class 1",
    "minority": "the class that is rarer in training, 0 or 1",
    "auc": "area under the ROC curve",
    "ap": "average precision of class 1",
    "minority_recall": "recall of the class that is rarer in training, at `threshold`",
    "majority_recall": "recall of the other class, at `threshold`",
    "threshold": "chosen on tune, so that 90 % of the majority are recalled",
    "minority_recall_50": "recall of the class that is rarer in training, at 0.5",
    "majority_recall_50": "recall of the other class, at 0.5",
    "brier": "mean squared error of the probabilities",
    "ece": "expected calibration error, 10 bins",
    **{
        f"{name}_{end}": f"{which} end of the 95 % interval of `{name}`"
        for name in ("auc", "minority_recall", "skill")
        for end, which in (("low", "lower"), ("high", "upper"))
    },
    "skill": "on tune: 1 - loss / loss of a predictor that gives each label its prevalence; rows `macro` alone",
    "pretext_accuracy": "of the chosen epoch, on tune frames",
    "pretext_classes": "classes of the pretext",
    "epoch": "epoch that tune chose, from 0",
    "train_seconds": "pretext, features and training, together",
    "train_flops": "all that was spent up to the choice of the model",
    "exams_per_s": "from frames in memory to scores",
    "flops_per_exam": "from frames to scores",
    "parameters": "of encoder and head",
    "trainable": "of them, those that labels train",
    "peak_mb": "largest memory of the process, or of the GPU",
    "machine": "processor or GPU",
    "torch": "version",
    "commit": "of the code; `+`: with changes",
    "reason": "why a cell of the row is empty, or `did not learn`",
}


def page() -> str:
    """docs/columns.md."""
    rows = "\n".join(f"| `{name}` | {EXPLAINED[name]} |" for name in COLUMNS)
    return f"""# Columns of results.csv

One row for each data set, preset, protocol, method, variant, plane, label, seed and device. Cells are empty where a
figure is not defined. This page is printed by `python -m bench results --columns`.

| column | meaning |
|---|---|
{rows}
"""
