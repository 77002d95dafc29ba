"""The command line, `python -m bench VERB`. A user's mistake is one line on stderr and exit code 2.

A verb's module is imported when it is called: torch and scikit-learn take seconds. Without a verb, FIRST is printed.
"""

import argparse
import os
import signal
import sys
import time
from importlib import import_module

from sslm_core.errors import UserError, memory_full, one_of, printable

FIRST = """\
Self-supervised learning on MR exams, compared. What people do first:

  see that everything runs (2 minutes)     python -m bench run --preset smoke
  compare methods on the embedded data     python -m bench run --preset cpu
  check data of their own                  python -m bench doctor DATA
  compare methods on data of their own     python -m bench run --preset cpu --data DATA
  see which differences are significant    python -m bench compare sslm-probe supervised
  score a new exam                         python -m bench predict RUN EXAM.npy

`python -m bench --help` lists all verbs, `python -m bench VERB --help` the options of one."""

VERBS = {  # verb -> what it does; its module in cli/ has add_arguments(parser) and main(args)
    "run": "train and score methods, print the table, write results.csv",
    "cost": "what a preset would cost on MRNet, computed before anything is run",
    "ablate": "run an ablation study: its cells, one table, one plot",
    "compare": "paired differences of stored runs, with verdicts",
    "check": "regression gates on accuracy, cost and speed: exit 0 passed, 1 failed, 2 unusable input",
    "results": "derive the rows of results.csv again from stored runs",
    "report": "one page with every table and plot of stored runs: report.html",
    "explain": "where the models of stored runs look: pictures, or scored against lesions",
    "predict": "exams from files to scores, by the stored runs of a method's planes",
    "convert": "DICOM, NIfTI or KneeMRI into MRNet's layout, checked by the doctor at the end",
    "doctor": "check a folder of exams: exit 0 clean, 1 with warnings, 2 unusable",
    "speed": "time the data path, the encoder and the downstream part beside their opponents",
    "gpu": "all that can only be tried on a GPU, in one go: exit 0 passed, 1 where a part failed",
    "phantom": "make the embedded data set, or look at it",
}

EXAMPLES = {  # verb -> the words of two calls
    "run": ("--preset smoke", "--preset cpu --data DATA --methods sslm-probe,imagenet-probe,supervised"),
    "cost": ("--preset full", "--preset cpu --memory"),
    "ablate": ("labels --dry-run", "layer --seeds 0 --shard 1/2"),
    "compare": ("sslm-probe supervised", "random-probe sslm-probe imagenet-probe --markdown"),
    "check": ("", "--gates accuracy --markdown"),
    "results": ("", "--out runs --results results.csv"),
    "report": ("", "sslm supervised --to page"),
    "explain": ("runs/DATASET/cpu-clean/RUN 0001", "runs/DATASET/cpu-clean --score"),
    "predict": ("runs/DATASET/cpu-clean/RUN 0001.npy", "runs/DATASET/cpu-clean/RUN DATA/valid/sagittal --json"),
    "convert": (
        "SRC DST --from dicom --labels labels.csv",
        "SRC DST --from nifti --labels labels.csv --planes sagittal",
    ),
    "doctor": ("DATA", "DATA --json"),
    "speed": ("--quick", "--groups data --save before"),
    "gpu": ("", "--device cpu --quick"),
    "phantom": ("--out DATA --train 288 --valid 160", "--sheet phantom.png"),
}

LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun
# seconds until another rank tells an error: one that all ranks make is told by the first, and torchrun ends the others
OWN = 10


def main(arguments: list[str] | None = None) -> int:
    try:
        try:
            return called(sys.argv[1:] if arguments is None else arguments)
        finally:
            if sys.stdout:  # as stderr: a terminal may not have every letter of a label
                sys.stdout.flush()  # here, not at exit, it is found that nobody reads on
    except UserError as error:
        return refused(str(error))
    except BrokenPipeError:  # `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except OSError as error:
        return refused(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not (full := memory_full(error)):
            raise
        return refused(f"{full}; use --jobs 1, a smaller preset or batch, or a machine with more of it")


def called(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench", description="Self-supervised learning on MR exams, compared.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    if not arguments:
        print(FIRST)
        return 0
    if arguments[0] not in VERBS and not arguments[0].startswith("-"):
        raise UserError(f"{arguments[0]}: {one_of(VERBS, arguments[0])}")
    wanted = next((word for word in arguments if word in VERBS), None)
    for name, about in VERBS.items():
        examples = "\n".join(f"  python -m bench {name} {words}".rstrip() for words in EXAMPLES[name])
        verb = verbs.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == wanted:
            work = import_module(f"bench.cli.{name}")
            work.add_arguments(verb)
    args = parser.parse_args(arguments)
    if wanted != "run" and LAUNCHED in os.environ:
        raise UserError(f"torchrun: `{wanted}` is for one process; start it without")
    return work.main(args) or 0


def refused(reason: str) -> int:
    if LAUNCHED in os.environ and os.environ["RANK"] != "0":
        time.sleep(OWN)
    print("error:", printable(reason), file=sys.stderr)
    return 2
