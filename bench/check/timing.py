"""What `python -m bench check` times, of the checkout that PYTHONPATH names: run by its file, so that an older commit
is timed by it too.

Prints JSON: the folder that sslm_core came from, and of each part its seconds relative to calibration kernels (a matrix
product, a 3 x 3 convolution, a memory copy, a Python loop; their geometric mean) timed just before and after it: the
median over rounds. What slows the whole machine slows both. Of the suite it calls only what is old and public.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

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

ROUNDS = 7
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


def calibration(device: torch.device) -> Callable[[], float]:
    """A function that times the kernels: the geometric mean of their seconds, each the median of three."""
    square, image = torch.ones(384, 384, device=device), torch.ones(4, 32, 64, 64, device=device)
    weight, block = torch.ones(32, 32, 3, 3, device=device), torch.ones(1 << 22, device=device)
    copy = torch.empty_like(block)

    def loop() -> None:
        total = 0
        for k in range(100_000):
            total += k

    kernels = (lambda: square @ square, lambda: F.conv2d(image, weight, padding=1), lambda: copy.copy_(block), loop)
    return lambda: math.exp(
        statistics.fmean(math.log(statistics.median(seconds(k, device) for _ in range(3))) for k in kernels)
    )


def parts(device: torch.device) -> dict[str, Callable[[], object]]:
    """Name -> work, on frames of noise: cost does not depend on what is seen."""
    config = SSLMConfig(
        size("w8"),
        JigsawConfig(permutations=100),
        PretextConfig("fast", epochs=1, draws=4, batch=32),
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
        "jigsaw_batch": lambda: [task.batch(store, frames, draw, train=True) for _ in range(10)],
        "head_epoch": lambda: fit(model, clips, truth, everyone, lambda _: half, truth, config.downstream, 0),
        "prediction": lambda: predict(model, store, everyone[:8], config.clip, config.downstream, 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(1)
    keep_pages()
    calibrate, works = calibration(device), parts(device)
    for work in (calibrate, *works.values()):  # what is set up lazily is there from now on
        work()
    relative: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            before = calibrate()
            took = seconds(work, device)
            relative[name].append(took / math.sqrt(before * calibrate()))
    print(
        json.dumps(
            {
                "source": sslm_core.__file__,
                "relative": {name: statistics.median(values) for name, values in relative.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
