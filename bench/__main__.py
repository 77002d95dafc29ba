"""`python -m bench` and the command `sslm-bench`: `cli.main.main` as a process of its own."""

import os
import signal
import sys


def console() -> int:
    # an import that Ctrl-C breaks would print a traceback; `answered` lets it in
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    from .cli.interrupt import answered
    from .cli.main import LAUNCHED, main

    if sys.stdout:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = answered(main)
    if LAUNCHED in os.environ:  # threads of gloo outlive the group and can abort a process that tidies up at its end
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(console())
