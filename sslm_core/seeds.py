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


class seeded:
    """Context in which modules initialise their weights (on the CPU) from the stream `names`; the global state is restored."""

    def __init__(self, seed: int, *names: object):
        self.seed = derive(seed, *names)

    def __enter__(self):
        self.state = torch.get_rng_state()
        torch.random.default_generator.manual_seed(self.seed)

    def __exit__(self, *_):
        torch.set_rng_state(self.state)
