"""`python -m bench doctor DATA`: what a folder of exams holds, and all that is wrong with it."""

import argparse
from pathlib import Path

from sslm_core.errors import UserError

from ..config.options import whole
from ..data.doctor import Report, diagnose
from ..data.doctor_text import as_json, as_text
from ..machine import cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="a folder in MRNet's layout; nothing is written into it"
    )
    parser.add_argument("--json", action="store_true", help="all findings and figures as one JSON object")
    parser.add_argument("--workers", type=whole("--workers"), help="threads that read (default: two a core)")


def main(args: argparse.Namespace) -> int:
    """0: clean, 1: with warnings, 2: unusable."""
    try:
        report = diagnose(args.data, args.workers or 2 * cores(), quiet=args.json)
    except UserError as error:
        if not args.json:
            raise
        report = Report(args.data)
        report.error("layout", str(error))
    print(as_json(report) if args.json else as_text(report))
    return report.code
