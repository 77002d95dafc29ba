"""`python -m bench explain`: where the models of stored runs look, as pictures of exams, or scored against lesions.

RUN is a folder of a run or one that holds some: of a method's planes, of a preset, all. What is no folder is an EXAM:
an id of the reported exams, or the path of a volume in the planes of the runs.
"""

import argparse
from pathlib import Path
from typing import get_args

from sslm_core.errors import UserError
from sslm_core.explain import GRID, Layer

from ..config.options import listed, seeds_of, whole
from ..explain.looking import Asking, pictures, score
from ..run.methods import METHODS
from ..run.models import LAYOUT, cells, prepared, record_of, stored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="+",
        metavar="RUN|EXAM",
        help="RUN: the folder of a run, or one that holds several (runs of a variant only where their own folder is "
        "named). EXAM: the id of a reported exam, or a volume file",
    )
    parser.add_argument(
        "--score",
        action="store_true",
        help="instead of pictures of exams: all reported ones with lesions, scored against their masks",
    )
    parser.add_argument("--force", action="store_true", help="score anew what is scored")
    parser.add_argument("--methods", help="of the runs those of these methods, comma-separated")
    parser.add_argument("--planes", help="of the runs those in these planes, comma-separated")
    parser.add_argument("--seeds", help="of the runs those of these seeds, comma-separated")
    parser.add_argument(
        "--layer",
        default="auto",
        choices=get_args(Layer),
        help="whose maps: the first ConvLSTM layer, the encoder's last, or (auto) the first that there is",
    )
    parser.add_argument(
        "--by",
        default="gradcam",
        choices=("gradcam", "occlusion"),
        help="occlusion: what a gray patch takes away; needs no layer, and takes long",
    )
    parser.add_argument(
        "--exams",
        type=whole("--exams"),
        default=12,
        metavar="N",
        help="of a run, for --score --by occlusion (default %(default)s)",
    )
    parser.add_argument(
        "--grid", type=int, default=GRID, help="places of the patch along each side of a frame (default %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, help="the folder that the runs were made from (default: the embedded data set)"
    )
    parser.add_argument("--to", type=Path, help="folder of the pictures (default: the run's own)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: what is there)")


def main(args: argparse.Namespace) -> None:
    if args.score and args.to:
        raise UserError("--to: is of pictures of exams; --score writes beside the runs")
    folders, exams = chosen(args)
    if not args.score and not exams:
        raise UserError("explain: no exam; name ids of reported exams or volume files, or score all with --score")
    if args.score and exams:
        raise UserError(
            f"{exams[0]}: --score scores all reported exams with a lesion; name no exam, and a folder that exists as "
            "RUN"
        )
    device = prepared(args.device, folders[0])
    asking = Asking(args.by, args.layer, args.grid, args.exams, args.data)
    if args.score:
        print("\n".join(score(asking, folders, device, args.force)))
        return
    for folder in folders:
        for line in pictures(asking, folder, stored(folder, device), exams, args.to):
            print(line, flush=True)


def chosen(args: argparse.Namespace) -> tuple[list[Path], list[str]]:
    """(folders of runs, exams) of the command line."""
    folders = list(dict.fromkeys(cell for word in args.what if Path(word).is_dir() for cell in cells(Path(word))))
    exams = [word for word in args.what if not Path(word).is_dir()]
    if not folders:
        raise UserError(f"{args.what[0]}: no such folder; name a run, as {LAYOUT}, or a folder of some")
    records = {folder: record_of(folder) for folder in folders}
    planes = listed(args.planes, (), {record["plane"] for record in records.values()}, "--planes")
    methods = listed(args.methods, (), METHODS, "--methods")
    seeds = seeds_of(args.seeds, ())
    named = {Path(word) for word in args.what}
    plain = {folder: record for folder, record in records.items() if not record["variant"] or folder in named}
    wanted = [
        folder
        for folder, record in plain.items()
        if all(
            not some or record[name] in some for name, some in (("plane", planes), ("method", methods), ("seed", seeds))
        )
    ]
    if not wanted:
        raise UserError(
            f"{args.what[0]}: no run of these --methods, --planes and --seeds is stored there (variants: name their "
            "folders)"
        )
    return sorted(wanted, key=lambda folder: methods.index(records[folder]["method"]) if methods else 0), exams
