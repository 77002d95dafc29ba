"""`python -m bench VERB`: the command line. A user's mistake is one line on stderr and exit code 2.

A verb's module is imported when it is called: torch and scikit-learn take seconds.
"""

import os
import sys
import time
from importlib import import_module

from sslm_core.errors import UserError, printable

from .ending import answered

VERBS = {  # verb -> its module, which has add_arguments(parser) and main(args), and what it does
    "run": ("comparison", "train and score methods, print the table, write results.csv"),
    "cost": ("cost", "what a preset would cost on MRNet, computed before anything is run"),
    "ablate": ("ablate", "run an ablation study: its cells, one table, one plot"),
    "compare": ("compare", "paired differences of stored runs, with verdicts"),
    "check": ("check", "regression gates on accuracy, cost and speed: exit 0 passed, 1 failed, 2 unusable input"),
    "results": ("results", "derive the rows of results.csv again from stored runs"),
    "report": ("report", "one page with every table and plot of stored runs: report.html"),
    "curve": ("curve", "pretext accuracy against training seconds, of stored runs"),
    "explain": ("explain", "where the models of stored runs look: pictures, or scored against lesions"),
    "predict": ("predict", "exams from files to scores, by the stored runs of a method's planes"),
    "doctor": ("doctor", "check a folder of exams: exit 0 clean, 1 with warnings, 2 unusable"),
    "speed": ("speed", "time the data path, the encoder and the downstream part beside their opponents"),
    "gpu": ("gpu", "all that can only be tried on a GPU, in one go: exit 0 passed, 1 where a part failed"),
    "phantom": ("phantom", "make the embedded data set, or look at it"),
}

LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun
OWN = 10  # seconds after which a rank takes an error for its own: one that all make the first rank tells, and torchrun ends the others


def main(arguments: list[str] | None = None) -> int:
    import argparse  # here: Ctrl-C is answered once this module stands

    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser("python -m bench", description="Self-supervised learning on MR exams, compared.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    called = next((word for word in arguments if word in VERBS), None)
    for name, (module, about) in VERBS.items():
        verb = verbs.add_parser(name, help=about, description=about)
        if name == called:
            work = import_module(f"bench.{module}")
            work.add_arguments(verb)
    args = parser.parse_args(arguments)
    if called != "run" and LAUNCHED in os.environ:
        return refused(f"torchrun: `{called}` is for one process; start it without")
    try:
        return work.main(args) or 0
    except UserError as error:
        return refused(str(error))
    except OSError as error:
        return refused(f"{error.filename or 'input or output'}: {error.strerror or error}")


def refused(reason: str) -> int:
    if LAUNCHED in os.environ and os.environ["RANK"] != "0":
        time.sleep(OWN)
    print("error:", printable(reason), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(answered(main))
