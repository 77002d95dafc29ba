"""`python -m bench cost`: what a preset would cost, computed before anything is run."""

import argparse

from ..config.options import whole
from ..config.presets import PRESETS, preset
from ..config.variants import canonical
from ..run.flops import EXAMS, FRAMES, planned

H200, SHARE = 790e12, 0.4  # a dense bfloat16 peak in FLOP/s, and the part of it that training is taken to reach


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="full", help=f"{', '.join(PRESETS)} (default full)")
    parser.add_argument("--set", default="", metavar="PART.FIELD=VALUE,...", help="a variant of the preset")
    parser.add_argument(
        "--exams", type=whole("--exams", 3), default=EXAMS, help="train exams (default: MRNet's %(default)s)"
    )
    parser.add_argument("--memory", action="store_true", help="what training steps hold in memory instead")
    parser.add_argument(
        "--flops", type=float, default=H200 * SHARE, help="FLOP/s reached (default: 40 %% of an H200's bfloat16 peak)"
    )


def main(args: argparse.Namespace) -> None:
    chosen = preset(args.preset, canonical(args.set))
    if args.memory:
        from ..run import memory  # here: it takes seconds

        print(memory.table(chosen))
        return
    frames, seeds = sum(FRAMES) / len(FRAMES), len(chosen.seeds)
    whose = f"MRNet's {EXAMS}" if args.exams == EXAMS else f"{args.exams}"
    print(
        f"preset {chosen.name} on {whose} exams; computed from FLOPs, not measured: hours at {args.flops / 1e12:.3g} "
        "TFLOP/s"
    )
    print(f"{'':36}  {'PFLOP':>8}  {'hours':>6}  {len(FRAMES)} planes x {seeds} seeds, hours")
    for part, work in planned(chosen, frames, args.exams).items():
        hours = work / args.flops / 3600
        print(f"{part:36}  {work / 1e15:8.3g}  {hours:6.2g}  {hours * len(FRAMES) * seeds:26.3g}")
