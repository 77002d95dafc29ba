"""What the speed suite times of the part that sees labels: features, head, prediction; and how cost grows with the
work."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch

from sslm_core.clips import ClipConfig, clip_warp, prediction_clips
from sslm_core.downstream import ClipModel, FeatureClips, FrameClips, predict
from sslm_core.encoder import frozen, size
from sslm_core.exams import read_volume
from sslm_core.features import Features, maps_of
from sslm_core.frames import FrameStore, load_frames, offsets_of, packed_frames, resize
from sslm_core.losses import bce
from sslm_core.pretext import autocast
from sslm_core.seeds import generator
from sslm_core.sslm import SSLMConfig, new_encoder, new_head
from sslm_core.warp import normalise

from ..config.presets import CPU, FULL
from .measure import PLANE, Case, Setting, exams_of, frames_of

LABELS = 3


def model_of(config: SSLMConfig, device: torch.device) -> ClipModel:
    """A frozen encoder and its head, as they start."""
    encoder = frozen(new_encoder(config.encoder, 0))
    return ClipModel(encoder, new_head(config.downstream, config.encoder.channels, LABELS, 0)).to(device)


def epoch(config: SSLMConfig, model: ClipModel, clips: FrameClips | FeatureClips, exams: int) -> Callable[[], None]:
    """Training of the head on each exam once, in batches."""
    down, device = config.downstream, next(model.parameters()).device
    optimiser, truth = down.optimise(model), (torch.arange(LABELS, device=device) % 2).float()

    def work():
        model.train()
        batches = enumerate(torch.arange(exams).split(down.batch))
        plans = ((some, generator(device, 0, "speed", k)) for k, some in batches)
        for some, x, count, real in clips.batches(plans):
            with autocast(device, down.dtype):
                logits = model(x, count, real)
            bce(logits.float(), truth.expand(len(some), -1)).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return work


def downstream_cases(setting: Setting) -> list[Case]:
    """Exams per second, of preset cpu; on a GPU of preset full with the encoder skid-v1."""
    preset, device = FULL if setting.gpu else CPU, setting.device
    config = preset.sslm
    down, clip, frame = config.downstream, config.clip, preset.frame
    if setting.gpu:
        down = replace(down, dtype=setting.dtypes[-1])  # type: ignore[arg-type]
        config = replace(config, encoder=size("skid-v1"))
    if setting.quick:
        down = replace(down, clips=1)
    config = replace(config, downstream=down)
    exams = 1 if setting.quick else 12
    alone = 1 if setting.gpu else exams  # frame after frame: on a GPU seconds an exam
    group = "downstream, " + ("skid-v1, frame 256" if setting.gpu else "preset cpu")

    @cache
    def model() -> ClipModel:
        return model_of(config, device)

    def read(packed: bool):
        some, folder = exams_of(setting.data).subset(range(exams)), tempfile.TemporaryDirectory()  # gone with the work
        if packed:
            return lambda: packed_frames(Path(folder.name), some, PLANE, frame)
        return lambda: load_frames(some, PLANE, frame)

    def features():
        store = frames_of(setting.data, frame, device)
        rows = store.rows(torch.arange(exams, device=device))
        # one block at a time is held
        return lambda: [maps.shape for maps in maps_of(model().backbone, store, rows, down.dtype)]

    def head():
        store = frames_of(setting.data, frame, device)
        maps = Features(model().backbone, store, torch.arange(exams), down.dtype)
        return epoch(config, model_of(config, device), FeatureClips(maps, clip), exams)

    def live():
        store = frames_of(setting.data, frame, device)
        return epoch(config, model_of(config, device), FrameClips(store, clip, clip_warp(clip, frame, device)), exams)

    def from_files(count: int):
        some = exams_of(setting.data).subset(range(count))

        def work():
            predict(model(), load_frames(some, PLANE, frame).to(device), torch.arange(count), clip, down, 0)

        return work

    def single_frames(once: bool):
        """Frame after frame through the encoder: of every clip anew, or each frame of the exam once."""
        train, net = exams_of(setting.data), model().eval()

        def encoded(gray: torch.Tensor) -> torch.Tensor:
            return net.backbone(normalise(gray[None, None].to(device)))

        @torch.no_grad()
        def work():
            for e in range(alone):
                frames = resize(read_volume(train.path(PLANE, e)), frame)
                (chosen,), count = prediction_clips(torch.tensor([len(frames)]), clip, down.clips, 0)
                with autocast(device, down.dtype):
                    kept = {k: encoded(frames[k]) for k in chosen.unique().tolist()} if once else {}
                    for numbers in chosen.tolist():
                        maps = torch.cat([kept[k] if once else encoded(frames[k]) for k in numbers])
                        net(maps[None], count.to(device))

        return work

    return [
        Case(group, "file to scores, frame by frame of each clip", partial(single_frames, False), alone, "exams"),
        Case(group, "file to scores, frame by frame, each once", partial(single_frames, True), alone, "exams"),
        Case(group, "file to scores, all exams", partial(from_files, exams), exams, "exams"),
        Case(group, "file to scores, one exam", partial(from_files, 1), 1, "exams"),
        Case(group, "frames read from volumes", partial(read, False), exams, "exams"),
        Case(group, "frames from a packed file, checked", partial(read, True), exams, "exams"),
        Case(group, "features", features, exams, "exams", dtype=down.dtype),
        Case(group, "head's epoch, cached features", head, exams, "exams"),
        Case(group, "head's epoch, live", live, exams, "exams"),
    ]


def volumes(lengths: list[int], frame: int, device: torch.device) -> FrameStore:
    """Noise: cost does not depend on what is seen."""
    data = torch.randint(256, (sum(lengths), frame, frame), dtype=torch.uint8)
    return FrameStore(data, offsets_of(lengths)).to(device)


def scaling_cases(setting: Setting) -> list[Case]:
    """Cost of one unit of work, as the work grows; the first of each group is the smallest. (Of batches: see the jigsaw
    samples.)"""
    config, frame, device = CPU.sslm, CPU.frame, setting.device
    few = 1 if setting.quick else 4

    def prediction(exams: int, clip: ClipConfig):
        model = model_of(config, device)
        store = volumes([32] * exams, frame, device)
        return lambda: predict(model, store, torch.arange(exams), clip, config.downstream, 0)

    def clips(length: int):
        store = volumes([length] * few, frame, device)
        batch = FrameClips(store, config.clip, clip_warp(config.clip, frame, device))
        draws = iter(range(1 << 62))
        everyone = torch.arange(few)
        return lambda: [None for _ in batch.batches((everyone, generator(device, 0, next(draws))) for _ in range(20))]

    def longer(exams: int):
        return [n * exams for n in ((1, 2) if setting.quick else (1, 2, 4))]

    return [
        *(
            Case(
                "scaling with frames of a clip, prediction",
                f"{t} frames",
                partial(prediction, few, replace(config.clip, frames=t)),
                few * t,
                "clip frames",
            )
            for t in longer(4)
        ),
        *(
            Case("scaling with exams, prediction", f"{n} exams", partial(prediction, n, config.clip), n, "exams")
            for n in longer(few)
        ),
        *(
            Case("scaling with volume length, clips to train on", f"{t} frames", partial(clips, t), 20 * few, "clips")
            for t in longer(16)
        ),
    ]
