"""`python -m bench predict`: exams from files to scores, by the stored runs of a method's planes."""

import argparse
import json
import sys
from pathlib import Path

from sslm_core.errors import UserError, printable

from ..explain.predict import ENSEMBLE, NOTE, Readers, exams_of
from ..run.models import prepared
from ..text import aligned, number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="the folder of a run; those in the other planes are found beside it"
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="an exam: a folder of PLANE.npy, or one volume; or exams: a folder of PLANE/ID.npy",
    )
    parser.add_argument("--plane", help="of a PATH that is one volume (default: that of RUN)")
    parser.add_argument(
        "--overlay", type=Path, metavar="FOLDER", help="write pictures of where the models look, as `explain` does"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, an object for each exam on a line")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: what is there)")


def main(args: argparse.Namespace) -> int:
    """0: every exam is answered, 2: some cannot be; these are named, the others are answered."""
    readers, code = Readers.of(args.run, prepared(args.device, args.run)), 0
    for name, volumes in exams_of(args.paths, args.plane or readers.plane, readers.planes):
        try:
            answer = readers.answer(name, volumes)
        except UserError as error:
            print("error:", printable(str(error)), file=sys.stderr)
            code = 2
            continue
        print(json.dumps(answer) if args.json else text(answer), flush=True)
        if args.overlay:
            readers.draw(args.overlay, name, volumes)
    return code


def text(answer: dict) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else number(value)

    lines = []
    for label, of in answer["labels"].items():
        for plane, told in sorted(of.items(), key=lambda item: item[0] != ENSEMBLE):
            call = {None: "-", True: "positive", False: "negative"}[told["positive"]]
            lines.append(
                [label, plane, shown(told["score"]), shown(told["threshold"]), call, shown(told["probability"])]
            )
    method = " ".join(filter(None, (answer["method"], answer["variant"])))
    missing = [f"{plane}: {why}, left out" for plane, why in answer["missing"].items()]
    return "\n".join(
        [
            f"exam {printable(answer['exam'])}, {method}, seed {answer['seed']}",
            *aligned(["label", "plane", "score", "threshold", "call", "probability"], lines),
            *missing,
            f"{answer['seconds']:.2f} s from file to answer. {NOTE}",
        ]
    )
