"""The sections of the report: each a function of stored scores to parts of the page. `save` stores a figure and returns
its picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from sslm_core.errors import UserError
from sslm_core.exams import ExamSet
from sslm_core.jigsaw import JigsawConfig
from sslm_core.settings import restored

from ..stats import intervals, metrics
from ..stats.figures import AUC, HEADLINE, RECALL
from ..stats.operating import MAJORITY_RECALL
from ..store.results import UNLEARNT
from ..store.scored import Scored
from ..text import number
from . import page, plots_curves, plots_frames, plots_methods, study_table
from .differences import HEAD, Difference, Draws, cells
from .table import REFERENCE, Summary, learnt, span

SHOWN = 4  # methods whose curves are drawn
EXPLAINED = 12  # pictures of explanations at most

Save = Callable[..., page.Picture]  # (name, figure, caption, wide)


def methods_table(
    labels: tuple[str, ...], summed: dict[str, Summary], cost: dict[str, dict[str, float]]
) -> list[page.Part]:
    def cell(e: intervals.Estimate) -> tuple[str, str]:
        return number(e.value), span(e)

    head = ["method", "seeds"]
    for figure in HEADLINE:
        head += [figure.macro, *(f"{figure.name} {label}" for label in labels if figure.by_label)]
    head += ["majority recall", "skill on tune", "training s", "training TFLOP", "exams/s", "parameters"]
    rows = []
    for name, s in summed.items():
        c = cost[name]
        skill = f"{number(s.skill.low)}-{number(s.skill.high)}" if s.skill.learnt else UNLEARNT
        figures: list[str | tuple[str, str]] = []
        for figure, (*of_labels, macro) in s.figures.items():
            figures += [cell(macro), *(cell(e) for e in of_labels if figure.by_label)]
        figures.append(number(s.kept))
        training = [f"{c['train_seconds']:.0f}", f"{c['train_flops'] / 1e12:.3g}"]
        more = [f"{c['exams_per_s']:.3g}", f"{c['parameters']:.0f}"]
        rows.append([name, str(s.seeds), *figures, (number(s.skill.value), skill), *training, *more])
    return [page.Table(head, rows)]


def differences(found: list[Difference], save: Save) -> list[page.Part]:
    if not found:
        return []
    forests = [
        save(
            f"forest-{figure.column.replace('_', '-')}",
            plots_methods.forest([d for d in found if d.figure is figure], figure.macro),
            f"SSLM minus each other method in {figure.macro}, paired over the same exams, 95 % interval; "
            "verdicts after Holm.",
        )
        for figure in HEADLINE
    ]
    # alike, or empty, in every row
    shown = [k for k, name in enumerate(HEAD) if name not in ("first", "label", "p DeLong")]
    rows = [[line[k] for k in shown] for line in ([*HEAD], *map(cells, found))]
    return [forests, page.Table(rows[0], rows[1:])]


def principal(summed: dict[str, Summary]) -> list[str]:
    """The methods whose curves are drawn: SSLM, its control, the best from scratch, ImageNet; others where these are
    not there."""
    scratch = sorted(
        (n for n in summed if n.startswith("supervised")),
        key=lambda n: -np.nan_to_num(summed[n].figures[AUC][-1].value),
    )
    wanted = [n for n in (REFERENCE, "random", *scratch[:1], "imagenet") if n in summed]
    return list(dict.fromkeys([*wanted, *summed]))[:SHOWN]


def curves(draws: dict[str, Draws], summed: dict[str, Summary], save: Save) -> list[page.Part]:
    names, first = principal(summed), next(iter(draws.values())).seeds[0]
    weights = draws[names[0]].weights
    rows: dict[str, list[page.Picture]] = {"ROC": [], "PR": []}
    for k, label in enumerate(first.labels):
        truth, scores = first.truth[:, k], {name: draws[name].score[:, :, k] for name in names}
        areas = {
            "ROC": {name: summed[name].figures[AUC][k].value for name in names},
            "PR": {name: precision(truth, scores[name]) for name in names},
        }
        for kind, these in rows.items():
            figure = plots_curves.curves(kind, label, truth, scores, areas[kind], weights)
            these.append(save(f"{kind.lower()}-{k + 1}", figure, f"{kind} of {label}"))
    note = "Means over seeds, with pointwise 95 % bands from a bootstrap over exams. Gray: what chance gives."
    scratch = [name for name in summed if name.startswith("supervised")]
    if len(scratch) > 1:
        note += f" Of the {len(scratch)} methods from scratch the one with the highest macro AUC here."
    return [note, *rows.values()]


def precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Average precision as a mean over seeds, NaN where undefined. truth: [E], scores: [S, E]."""
    if truth.min() == truth.max() or not np.isfinite(scores).all():
        return np.nan
    return float(np.mean([average_precision_score(truth, s) for s in scores]))


def recalls(summed: dict[str, Summary], save: Save) -> list[page.Part]:
    figure = plots_methods.recalls(
        {name: s.figures[RECALL][-1] for name, s in summed.items()},
        {name: s.kept for name, s in summed.items()},
        MAJORITY_RECALL,
    )
    caption = (
        "Recall of the class that is rarer in training, macro over labels, and of the commoner class, at the threshold "
        "that keeps the dotted share of the commoner class on tune."
    )
    return [[save("recall", figure, caption)]]


def headline(summed: dict[str, Summary], cost: dict[str, dict[str, float]], save: Save) -> list[page.Part]:
    """What stands first: the accuracy that the time of training buys."""
    about = "training seconds (pretext and every learning rate tried included)"
    return _against(summed, cost, save, "train_seconds", "training seconds", about)


def costs(summed: dict[str, Summary], cost: dict[str, dict[str, float]], save: Save) -> list[page.Part]:
    about = "exams per second (from frames in memory to scores)"
    return _against(summed, cost, save, "exams_per_s", "exams per second", about)


def _against(
    summed: dict[str, Summary], cost: dict[str, dict[str, float]], save: Save, key: str, unit: str, about: str
) -> list[page.Part]:
    auc, spent = {name: s.figures[AUC][-1] for name, s in summed.items()}, {name: c[key] for name, c in cost.items()}
    figure = plots_methods.against(auc, spent, unit, lambda name: name.startswith(REFERENCE))
    caption = f"Macro AUC against {about}, all planes together."
    return [[save(f"auc-{key.replace('_', '-')}", figure, caption)]]


LABELS = "labels-*.png"  # plots of the study that stands first


def label_efficiency(folder: Path) -> list[page.Part]:
    """AUC against the share of labels, where that study is stored."""
    plotted = [page.Picture(path.read_bytes(), f"Study {path.stem}", wide=True) for path in sorted(folder.glob(LABELS))]
    return [plotted] if plotted else []


def studies(folder: Path) -> list[page.Part]:
    """Every stored plot of a study, with its table; LABELS are shown by label_efficiency."""
    plotted = sorted(folder.glob("*.png"))
    if not plotted:
        return ["No study is stored for this data set; python -m bench ablate labels makes one."]
    parts: list[page.Part] = []
    for path in plotted:
        if not path.match(LABELS):
            parts.append([page.Picture(path.read_bytes(), f"Study {path.stem}", wide=True)])
        if path.with_suffix(".csv").exists():
            try:
                head, lines, reasons = study_table.laid_out(*study_table.read(path.with_suffix(".csv")))
                parts += [f"Study {path.stem}:", page.Table(head, lines), *reasons]
            except UserError as error:  # one study is no reason to end a run without its report
                parts.append(f"No table: {error}")
    return parts


def pretexts(methods: dict[str, list[Scored]], save: Save) -> list[page.Part]:
    told: dict[str, dict[str, list]] = {}  # plane -> method -> one history per seed
    for name, seeds in methods.items():
        for plane in seeds[0].records:
            histories = [h for s in seeds if (h := s.records[plane]["pretext"])]
            # methods that share a pretext tell of it once
            if histories and histories not in told.get(plane, {}).values():
                told.setdefault(plane, {})[name] = histories
    figures = [
        save(
            f"pretext-{k + 1}",
            plots_curves.pretexts(plane, of),
            f"Share of patch sets of tune exams that the pretext names right, {plane}: one line per seed",
        )
        for k, (plane, of) in enumerate(told.items())
    ]
    return [*learnt(methods), figures] if figures else []


def calibration(draws: dict[str, Draws], ensemble: str, save: Save) -> list[page.Part]:
    name = REFERENCE if REFERENCE in draws else next(iter(draws))
    drawn = draws[name]
    first, plane = drawn.seeds[0], drawn.seeds[0].shown(ensemble)
    figures = []
    for k, label in enumerate(first.labels):
        before = drawn.score[:, :, k]
        after = np.stack([metrics.calibrated(s, of.operating[plane], k) for s, of in zip(before, drawn.seeds)])
        figures.append(
            save(
                f"calibration-{k + 1}",
                plots_curves.reliability(label, first.truth[:, k], before, after),
                f"Reliability of {name}, {label}",
            )
        )
    note = (
        f"Scores of {name} as they are, and after Platt's calibration chosen on tune; areas of points are shares of "
        "exams, seeds "
        f"together. ECE: expected calibration error; on {len(first.truth)} exams a perfect model has some too."
    )
    return [note, figures]


def data(first: Scored, exams: ExamSet | None, save: Save) -> list[page.Part]:
    if exams is None:
        return [
            "Neither frames nor a jigsaw are shown: the data's folder was not at hand (report --data FOLDER names it)."
        ]
    plane, record = list(first.records.items())[-1]
    size, settings = record["settings"]["frame"], record["settings"]["jigsaw"]
    config = restored(JigsawConfig, settings)
    sample = save(
        "jigsaw",
        plots_frames.jigsaw(exams, plane, size, config),
        f"The pretext (trained on other exams): a {plane} frame; its "
        "patches augmented and permuted, the class being the permutation; the same patches put back",
        wide=True,
    )
    sheet = save(
        "frames",
        plots_frames.sheet(exams, size),
        f"Middle frames of reported exams at {size} x {size}; ids and positive labels",
        wide=True,
    )
    return ["Pictures of the data: whoever passes this page on passes them on too.", [sample, sheet]]


def explanations(folders: list[Path]) -> list[page.Part]:
    found = [path for folder in folders for path in folder.rglob("explain*.png")]
    found.sort(key=lambda path: (len(path.name), path))  # galleries of a cell first
    shown = [page.Picture(p.read_bytes(), f"{p.parent.name}: {p.stem}", wide=True) for p in found[:EXPLAINED]]
    more = [f"{len(found) - EXPLAINED} more lie beside the stored scores."] if len(found) > EXPLAINED else []
    return [shown, *more] if shown else []
