"""report.html: what a comparison found, in one page that needs nothing beside it, and its plots as PNG files.

Every figure is derived from stored scores. Pictures of the data are made where its folder is at hand.
"""

from pathlib import Path

from sslm_core.exams import MACRO, ExamSet
from sslm_core.files import drop_unfinished, write_atomic

from ..data.dataset import FLATTERS, PROTOCOLS
from ..store.scored import Scored
from . import claims, differences, page, parts, plots, repeat, verdict
from .differences import Draws
from .table import REFERENCE, spent, summaries


def write(
    draws: dict[str, Draws], ensemble: str, folder: Path, exams: ExamSet | None = None, notes: tuple[str, ...] = ()
) -> Path:
    """The report on stored methods, as `differences.drawn` has them, into `folder`; the path of its page.

    exams: the reported exams, to show frames of; notes: lines below the verdict.
    """
    drop_unfinished(folder)
    methods = {name: d.seeds for name, d in draws.items()}
    summed, cost, first = summaries(draws), spent(methods, ensemble), next(iter(methods.values()))[0]
    found = differences.differences(draws, REFERENCE, (MACRO,)) if REFERENCE in draws and len(draws) > 1 else []

    def save(name: str, figure, caption: str, wide: bool = False) -> page.Picture:
        data = plots.png(figure)
        write_atomic(folder / f"{name}.png", lambda path: path.write_bytes(data))
        return page.Picture(data, caption, wide)

    sections = {
        "Methods": [
            *parts.headline(summed, cost, save),
            *parts.label_efficiency(home(first) / "studies"),
            *parts.methods_table(first.labels, summed, cost),
        ],
        "ROC and precision-recall": parts.curves(draws, summed, save),
        "Differences": parts.differences(found, save),
        "Minority recall": parts.recalls(summed, save),
        "AUC against throughput": parts.costs(summed, cost, save),
        "Label efficiency and ablations": parts.studies(home(first) / "studies"),
        "Pretext": parts.pretexts(methods, save),
        "Calibration": parts.calibration(draws, ensemble, save),
        "The data": parts.data(first, exams, save),
        "Explanations": parts.explanations(
            [folder for seeds in methods.values() for s in seeds for folder in s.folders]
        ),
        "To repeat it": repeat.parts(methods),
    }
    top = [
        *claims.claims(draws),
        *([differences.footing(found, len(first.truth))] if found else []),
        *notes,
        about(methods, first),
    ]
    said = verdict.two_sentences(summed, found)
    text = page.page(f"SSLM compared on {first.key['dataset']}", said, top, sections)
    write_atomic(folder / "report.html", lambda path: path.write_text(text, encoding="utf-8"))
    return folder / "report.html"


def home(first: Scored) -> Path:
    """OUT/DATA, of everything about the data set; cells lie in OUT/DATA/PRESET-PROTOCOL."""
    return first.folders[0].parents[1]


def default_folder(first: Scored, out: Path) -> Path:
    """OUT/DATA/report-PRESET, and what else tells comparisons apart. Where `out` is a folder within DATA, in that."""
    more = [
        first.key[name]
        for name, usual in (("protocol", PROTOCOLS[0]), ("variant", ""), ("device", "cpu"))
        if first.key[name] != usual
    ]
    inside = home(first).resolve().is_relative_to(out.resolve())
    return (home(first) if inside else out) / "-".join(["report", first.key["preset"], *more])


def about(methods: dict[str, list[Scored]], first: Scored) -> str:
    key, seeds = first.key, sorted({s.key["seed"] for of in methods.values() for s in of})
    fit = next(iter(first.records.values()))["fit_exams"]
    text = (
        f"Data {key['dataset']}, digest {key['digest']}; preset {key['preset']}, protocol {key['protocol']}, device "
        f"{key['device']}; "
        f"planes {', '.join(first.records)}; labels {', '.join(first.labels)}; seeds {', '.join(map(str, seeds))}; "
        f"{fit} exams to fit, {len(first.tune_truth)} to tune, {len(first.truth)} reported."
    )
    return text if key["protocol"] == PROTOCOLS[0] else f"{text} Protocol {key['protocol']}: {FLATTERS}."
