"""Random streams derived by name: any step of any loop can be drawn again without replaying what came before."""

import hashlib

import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called `names` under the run's `seed`; the same on every machine."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(device: torch.device | str, seed: int, *names: object) -> torch.Generator:
    """A generator on `device`, seeded for the stream `names`."""
    return torch.Generator(device).manual_seed(derive(seed, *names))


def rng_states() -> list[torch.Tensor]:
    """Of the CPU, and of the GPU at work once one is used."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else ())]


def set_rng_states(states: list[torch.Tensor]) -> None:
    cpu, *gpu = states
    torch.set_rng_state(cpu)
    if gpu and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(gpu[0])


class seeded:
    """Context in which the global generators run the stream `names`: weights are initialised there, dropout draws
    there.

    They go on as before afterwards.
    """

    def __init__(self, seed: int, *names: object):
        self.seed = derive(seed, *names)

    def __enter__(self):
        self.states = rng_states()
        torch.manual_seed(self.seed)

    def __exit__(self, *_):
        set_rng_states(self.states)
