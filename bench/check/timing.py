"""What `python -m bench check` times, of the checkout that PYTHONPATH names: run by its file, so that an older commit
is timed by it too.

It answers each line of its input with a line: the name of a part with the seconds that it took once, "source" with the
file that sslm_core was taken from. Of the suite it calls only what is old and public.
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch

import sslm_core
from sslm_core.clips import ClipConfig
from sslm_core.downstream import ClipModel, DownstreamConfig, FeatureClips, fit, predict
from sslm_core.encoder import frozen, size
from sslm_core.features import Features
from sslm_core.frames import FrameStore
from sslm_core.jigsaw import Jigsaw, JigsawConfig
from sslm_core.memory import keep_pages
from sslm_core.pretext import PretextConfig
from sslm_core.sslm import SSLMConfig, new_encoder, new_head, pretext

EXAMS, FRAMES, LABELS = 32, 8, 2


def seconds(work: Callable[[], object], device: torch.device) -> float:
    def ready() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    ready()
    began = time.perf_counter()
    work()
    ready()
    return time.perf_counter() - began


def parts(device: torch.device) -> dict[str, Callable[[], object]]:
    """Name -> work, on frames of noise: cost does not depend on what is seen."""
    config = SSLMConfig(
        size("w8"),
        JigsawConfig(permutations=100),
        PretextConfig("fast", epochs=1, draws=2, batch=32),
        ClipConfig(frames=4, edge=0),
        DownstreamConfig(
            epochs=1, batch=4, lrs=(1e-3,), trial=1, optimiser="adam", clips=4, tune_clips=1, hidden=24, views=1
        ),
    )
    noise = torch.randint(
        0, 256, (EXAMS * FRAMES, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    store = FrameStore(noise, torch.arange(EXAMS + 1) * FRAMES).to(device)
    everyone = torch.arange(EXAMS, device=device)
    truth = (torch.arange(LABELS, device=device) + everyone[:, None]).remainder(2).float()
    task, frames = Jigsaw(config.jigsaw, 64, 0, device), torch.arange(64, device=device)
    draw = torch.Generator(device).manual_seed(0)
    encoder = frozen(new_encoder(config.encoder, 0).to(device))
    model = ClipModel(encoder, new_head(config.downstream, config.encoder.channels, LABELS, 0)).to(device)
    clips = FeatureClips(Features(encoder, store, everyone, "float32"), config.clip)
    half = torch.full_like(truth, 0.5)
    return {
        "pretext_step": lambda: pretext(config, store, everyone[:-8], everyone[-8:], 0),
        "jigsaw_batch": lambda: [task.batch(store, frames, draw, train=True) for _ in range(20)],
        "head_epoch": lambda: fit(model, clips, truth, everyone[:16], lambda _: half, truth, config.downstream, 0),
        "prediction": lambda: predict(model, store, everyone[:4], config.clip, config.downstream, 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(1)
    keep_pages()
    works = parts(device)
    for work in [*works.values()] * 2:  # what is set up lazily is there from now on
        work()
    for name in map(str.strip, sys.stdin):
        print(sslm_core.__file__ if name == "source" else seconds(works[name], device), flush=True)


if __name__ == "__main__":
    main()
