"""`python -m bench curve`: pretext accuracy against training seconds, of stored runs."""

import argparse
from pathlib import Path

from ..report.curve import draw, histories, lines
from ..report.plots import png


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are stored (default runs/)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the curves")


def main(args: argparse.Namespace) -> None:
    panels = histories(args.out)
    print("\n".join(lines(panels)))
    if args.plot:
        args.plot.write_bytes(png(draw(panels)))
