"""The smallest settings of the two loops, and a kill."""

import torch

from sslm_core.clips import ClipConfig
from sslm_core.downstream import DownstreamConfig
from sslm_core.encoder import EncoderConfig
from sslm_core.jigsaw import JigsawConfig
from sslm_core.pretext import PretextConfig
from sslm_core.sslm import SSLMConfig

CONFIG = SSLMConfig(
    encoder=EncoderConfig(4, 8, (8, 8), positions=4),
    jigsaw=JigsawConfig(grid=2, permutations=4),
    pretext=PretextConfig("fast", epochs=3, draws=4, batch=8, lr=2e-3),
    clip=ClipConfig(frames=4, edge=1),
    downstream=DownstreamConfig(
        epochs=3, batch=4, lrs=(1e-3, 1e-2), trial=1, optimiser="adam", clips=2, hidden=8, views=2
    ),
)
FIT, TUNE = torch.arange(4, 20), torch.arange(4)


class Killed(Exception):
    pass


def killed_after(steps: int):
    """A progress that breaks the loop off after some steps, as a kill would."""
    left = [steps]

    def progress(iterable, what):
        for item in iterable:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            yield item

    return progress
