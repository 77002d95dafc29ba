"""report.html: what a comparison found, in one page that needs nothing beside it, and its plots as PNG files.

Every figure is derived from stored scores. Pictures of the data are made where its folder is at hand.
"""

import argparse
from pathlib import Path

from sslm_core.errors import UserError
from sslm_core.exams import MACRO, ExamSet
from sslm_core.files import drop_unfinished, write_atomic

from . import compare, models, page, plots, repeat, report_parts, verdict
from .data import FLATTERS, PROTOCOLS
from .methods import METHODS
from .results import Scored, stored
from .table import REFERENCE, spent, summaries


def write(draws: dict[str, compare.Draws], ensemble: str, folder: Path, exams: ExamSet | None = None, notes: tuple[str, ...] = ()) -> Path:
    """The report on stored methods, as compare.drawn has them, into `folder`; the path of its page.

    exams: the reported exams, to show frames of; notes: lines below the verdict.
    """
    drop_unfinished(folder)
    methods = {name: d.seeds for name, d in draws.items()}
    summed, cost, first = summaries(draws), spent(methods, ensemble), next(iter(methods.values()))[0]
    found = compare.differences(draws, REFERENCE, (MACRO,)) if REFERENCE in draws and len(draws) > 1 else []

    def save(name: str, figure, caption: str, wide: bool = False) -> str:
        data = plots.png(figure)
        write_atomic(folder / f"{name}.png", lambda path: path.write_bytes(data))
        return page.picture(data, caption, wide)

    sections = {
        "Methods": report_parts.methods_table(first.labels, summed, cost),
        "ROC and precision-recall": report_parts.curves(draws, summed, save),
        "Differences": report_parts.differences(found, save),
        "Minority recall": report_parts.recalls(summed, save),
        "AUC against cost": report_parts.costs(summed, cost, save),
        "Label efficiency and ablations": report_parts.studies(home(first) / "studies"),
        "Pretext": report_parts.pretexts(methods, save),
        "Calibration": report_parts.calibration(draws, ensemble, save),
        "The data": report_parts.data(first, exams, save),
        "Explanations": report_parts.explanations([folder for seeds in methods.values() for s in seeds for folder in s.folders]),
        "To repeat it": repeat.parts(methods),
    }
    lines = [*([compare.footing(found, len(first.truth))] if found else []), *notes, about(methods, first)]
    top = [page.paragraph(verdict.two_sentences(summed, found), "verdict"), *map(page.paragraph, lines)]
    text = page.page(f"SSLM compared on {first.key['dataset']}", top, sections)
    write_atomic(folder / "report.html", lambda path: path.write_text(text, encoding="utf-8"))
    return folder / "report.html"


def home(first: Scored) -> Path:
    """OUT/DATA, of everything about the data set; cells lie in OUT/DATA/PRESET-PROTOCOL."""
    return first.folders[0].parents[1]


def default_folder(first: Scored, out: Path) -> Path:
    """OUT/DATA/report-PRESET, and what else tells comparisons apart. Where `out` is a folder within DATA, in that."""
    more = [first.key[name] for name, usual in (("protocol", PROTOCOLS[0]), ("variant", ""), ("device", "cpu")) if first.key[name] != usual]
    inside = home(first).resolve().is_relative_to(out.resolve())
    return (home(first) if inside else out) / "-".join(["report", first.key["preset"], *more])


def about(methods: dict[str, list[Scored]], first: Scored) -> str:
    key, seeds = first.key, sorted({s.key["seed"] for of in methods.values() for s in of})
    fit = next(iter(first.records.values()))["fit_exams"]
    text = (f"Data {key['dataset']}, digest {key['digest']}; preset {key['preset']}, protocol {key['protocol']}, device {key['device']}; "
            f"planes {', '.join(first.records)}; labels {', '.join(first.labels)}; seeds {', '.join(map(str, seeds))}; "
            f"{fit} exams to fit, {len(first.tune_truth)} to tune, {len(first.truth)} reported.")  # fmt: skip
    return text if key["protocol"] == PROTOCOLS[0] else f"{text} Protocol {key['protocol']}: {FLATTERS}."


# --- command line ---------------------------------------------------------------------------------------------------------
def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("methods", nargs="*", metavar="METHOD",
                        help="which, in their order; of a variant: 'METHOD PART.FIELD=VALUE' (default: all without a variant)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are stored (default runs/)")
    compare.add_choice(parser)
    parser.add_argument("--data", type=Path, help="the folder that the runs were made from, to show frames of (default: the phantom's)")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where report.html and its plots go (default OUT/DATA/report-PRESET)")


def main(args: argparse.Namespace) -> None:
    groups = stored(args.out)
    group = compare.chosen(groups, args.of, args.out)
    methods, notes = named(groups[group], args.methods, group)
    first = next(iter(methods.values()))[0]
    folder = args.to or default_folder(first, args.out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: is a file; name a folder")
    print(write(compare.drawn(methods, args.ensemble), args.ensemble, folder, exams_of(args.data, first), notes))


def named(methods: dict[str, list[Scored]], wanted: list[str], group: tuple) -> tuple[dict[str, list[Scored]], tuple[str, ...]]:
    """The methods that the report is on, and lines on those that it is not on."""
    if wanted:
        return compare.picked(methods, wanted, group), ()
    plain = sorted((name for name in methods if name in METHODS), key=list(METHODS).index) or list(methods)
    most = max((s for name in plain for s in methods[name]), key=lambda s: len(s.records))
    shown = {name: fitting for name in plain if (fitting := [s for s in methods[name] if compare.alike(s, most)])}
    variants = [name for name in methods if name not in plain]
    others = [f"{name} seed {s.key['seed']}" for name in plain for s in methods[name] if s not in shown.get(name, ())]
    told = [verdict.few(names, what) for names, what in ((variants, "variants"), (others, "runs of other planes")) if names]
    return shown, (f"Stored too, but not shown here (variants, or other planes): {'; '.join(told)}.",) if told else ()


def exams_of(data: Path | None, first: Scored) -> ExamSet | None:
    """The reported exams in `data`, or in the embedded phantom of these runs if it is there. Raises UserError for other exams."""
    record = next(iter(first.records.values()))
    return models.reported(first.folders[0], record, data) if data or models.embedded(record).is_dir() else None
