"""`python -m bench phantom`: the embedded data set made, or looked at."""

import argparse
from pathlib import Path

from sslm_core.errors import UserError

from ..config.options import whole
from ..phantom.folder import PhantomConfig, digest, make
from ..phantom.likeness import likeness_table, sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="folder to make, in MRNet's layout")
    parser.add_argument("--train", type=whole("--train"), default=1130, metavar="N", help="exams (default %(default)s)")
    parser.add_argument("--valid", type=whole("--valid"), default=120, metavar="N", help="exams (default %(default)s)")
    parser.add_argument(
        "--size", type=whole("--size", 16), default=256, help="of a frame, pixels (default %(default)s)"
    )
    parser.add_argument("--seed", type=whole("--seed", 0), default=0, help="of the exams (default %(default)s)")
    parser.add_argument("--no-masks", dest="masks", action="store_false", help="leave the lesion masks out")
    parser.add_argument("--workers", type=whole("--workers"), help="processes (default: one per core)")
    parser.add_argument("--compare", action="store_true", help="print MRNet's image statistics beside the phantom's")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet")


def main(args: argparse.Namespace) -> None:
    if not (args.out or args.compare or args.sheet):
        raise UserError("nothing to do: give --out FOLDER, --compare or --sheet FILE.png")
    config = PhantomConfig(args.train, args.valid, args.size, args.seed, args.masks)
    if args.out:
        out = make(args.out, config, args.workers)
        size = f"{config.size} x {config.size}"
        print(f"{out}: {config.train} + {config.valid} simulated exams of {size}, digest {digest(config)}")
    if args.sheet:
        print(sheet(args.sheet, args.seed, args.size))
    if args.compare:
        print(likeness_table(args.seed, args.workers))
