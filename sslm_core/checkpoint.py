"""Checkpoints: loops that go on where they were killed."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from . import ranks
from .errors import UserError
from .files import drop_unfinished, write_atomic
from .seeds import rng_states, set_rng_states


def save(path: Path, state: dict) -> None:
    write_atomic(path, lambda temporary: torch.save(state, temporary))


def load(path: Path, mend: str = "delete it to start anew") -> dict:
    """A checkpoint's state on the CPU. Only tensors and plain containers are admitted: loading executes nothing."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__}); {mend}") from None


class Resume:
    """The state of one loop on disk, saved now and then, handed back when the same loop is started again.

    Of several ranks all read it, before any takes a step, and the first one saves.
    `identity` is what the state depends on (config, data digest, seed); a checkpoint of another identity is refused by
    name. The loops derive their own draws from (seed, step); the global RNG states are kept for modules that draw, as
    dropout does.
    """

    def __init__(self, path: Path, identity: dict, seconds: float = 60):
        self.path, self.identity, self.seconds = path, {k: str(v) for k, v in identity.items()}, seconds
        self.saved = time.monotonic()

    def load(self) -> dict | None:
        drop_unfinished(self.path.parent, self.path.name)
        if not self.path.exists():
            return None
        state = load(self.path)
        for name in sorted(self.identity.keys() | state["identity"].keys()):
            was, now = state["identity"].get(name), self.identity.get(name)
            if was != now:
                raise UserError(
                    f"{self.path}: made with {name} = {was}, now {now}; delete it or use another output folder"
                )
        set_rng_states(state["rng"])
        return state

    def tick(self, state: Callable[[], dict], last: bool = False) -> None:
        """Save `state()` if the last save is `seconds` old, or at the loop's last step: what has ended is not run
        again."""
        if ranks.first() and (last or time.monotonic() - self.saved >= self.seconds):
            save(self.path, {**state(), "identity": self.identity, "rng": rng_states()})
            self.saved = time.monotonic()
