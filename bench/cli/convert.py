"""`python -m bench convert SRC DST --from FORMAT`: DICOM, NIfTI or KneeMRI into MRNet's layout."""

import argparse
import re
import sys
from importlib import import_module
from pathlib import Path

from sslm_core.errors import UserError, printable

from ..config.options import listed, whole
from ..data.doctor import diagnose
from ..data.doctor_text import as_text
from ..data.importers.shared import FORMATS, PLANES, Options, Span
from ..data.importers.writing import check_destination, convert, found_in, write_key
from ..machine import cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", type=Path, metavar="SRC", help="the folder to read; nothing is written into it")
    parser.add_argument("dst", type=Path, metavar="DST", help="a new folder, or one of an earlier call, which goes on")
    parser.add_argument("--from", dest="form", required=True, choices=FORMATS, help="what SRC holds")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE.csv",
        help="a name of an exam and one column a label (0 or 1), header or not",
    )
    parser.add_argument("--ids", type=Path, metavar="FILE.csv", help="rows `name,id`: your own ids in place of hashes")
    parser.add_argument(
        "--key", type=Path, metavar="FILE.csv", help="write the names and ids of all exams, outside of DST"
    )
    parser.add_argument("--valid", type=float, default=0.2, help="share of the patients to report on (default 0.2)")
    parser.add_argument("--series", metavar="REGEX", help="only series (NIfTI: paths) in which this is found")
    parser.add_argument("--planes", help=f"comma-separated: {', '.join(PLANES)} (default: what most have)")
    parser.add_argument("--derived", action="store_true", help="take derived DICOM images too")
    parser.add_argument(
        "--range",
        metavar="LOW,HIGH",
        help="what becomes 0 and 255: intensities (--range=-200,900), or percentiles as 0%%,99%%, the default",
    )
    parser.add_argument("--workers", type=whole("--workers"), help="processes (default: one a core)")


def main(args: argparse.Namespace) -> int:
    """0: clean, 1: with warnings, 2: unusable, as the doctor says at the end."""
    options = options_of(args)
    check_destination(args.src, args.dst)
    importer = import_module(f"..data.importers.{args.form}", __package__)
    found = found_in(importer, args.src, options)
    if args.key:
        write_key(found, args.key, args.dst)
        print(f"{args.key}: the names and ids of {len(found.exams)} exams; keep it out of what you share")
        if not args.labels and not all(exam.labels for exam in found.exams):
            return 0
    convert(importer, args.src, found, args.dst, options, lambda line: print(printable(line), file=sys.stderr))
    report = diagnose(args.dst, 2 * cores())
    print(as_text(report))
    return report.code


def options_of(args: argparse.Namespace) -> Options:
    if not 0 < args.valid < 1:
        raise UserError(f"--valid {args.valid:g}: expected a share between 0 and 1")
    try:
        series = re.compile(args.series, re.IGNORECASE) if args.series else None
    except re.error as error:
        raise UserError(f"--series {args.series}: not a regular expression ({error})") from None
    return Options(
        series=series,
        planes=tuple(listed(args.planes, (), PLANES, "--planes")),
        derived=args.derived,
        span=span_of(args.range) if args.range else None,
        labels=args.labels,
        ids=args.ids,
        valid=args.valid,
        workers=args.workers or cores(),
    )


def span_of(text: str) -> Span:
    cells = [cell.strip() for cell in text.split(",")]
    percent = [cell.endswith("%") for cell in cells]
    try:
        if len(cells) == 2 and percent[0] == percent[1]:
            low, high = (float(cell.removesuffix("%")) for cell in cells)
            return Span(low, high, percent[0])
    except ValueError:
        pass
    raise UserError(f"--range {text}: expected two intensities as 0,800, or two percentiles as 0%,99%")
