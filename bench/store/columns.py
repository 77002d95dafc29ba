"""What each column of results.csv means: docs/columns.md is printed from here by `python -m bench results
--columns`."""

from ..stats.figures import FIGURES, HEADLINE
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
    **{figure.column: figure.meaning for figure in FIGURES},
    **{
        f"{name}_{end}": f"{which} end of the 95 % interval of `{name}`"
        for name in (*(figure.column for figure in HEADLINE), "skill")
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
    "trainable": "parameters that are trained with labels (not those of a frozen encoder)",
    "peak_mb": "most memory held while the cell ran: of the process, libraries included, or of the GPU",
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
