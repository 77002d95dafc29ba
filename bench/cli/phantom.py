"""`python -m bench phantom`: the embedded data set made, or looked at."""

import argparse
from pathlib import Path

from sslm_core.errors import UserError

from ..phantom.folder import PhantomConfig, digest, make
from ..phantom.likeness import likeness_table, sheet


def add_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--out", type=Path, help="folder to make, in MRNet's layout")
    parser.add_argument("--train", type=int, default=1130, metavar="N")
    parser.add_argument("--valid", type=int, default=120, metavar="N")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of a frame (default 256)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-masks", dest="masks", action="store_false", help="leave the lesion masks out")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument("--compare", action="store_true", help="print MRNet's image statistics beside the phantom's")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet")


def main(args) -> int:
    if not (args.out or args.compare or args.sheet):
        raise UserError("nothing to do: give --out FOLDER, --compare or --sheet FILE.png")
    for name, least in (("train", 1), ("valid", 1), ("size", 16), ("seed", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: expected {least} or more")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: expected 1 or more")
    config = PhantomConfig(args.train, args.valid, args.size, args.seed, args.masks)
    if args.out:
        out = make(args.out, config, args.workers)
        print(
            f"{out}: {config.train} + {config.valid} simulated exams of {config.size} x {config.size}, digest "
            f"{digest(config)}"
        )
    if args.sheet or args.compare:
        if args.sheet:
            print(sheet(args.sheet, args.seed, args.size))
        if args.compare:
            print(likeness_table(args.seed, workers=args.workers))
    return 0
