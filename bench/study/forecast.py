"""How long cells will take: from finished cells of their kind, else from FLOPs over what this machine was measured to
reach."""

from functools import cache

import numpy as np
import torch

from sslm_core.frames import FrameStore, offsets_of

from ..config.presets import Preset
from ..run import flops, probe
from ..run.cell import resolved
from ..run.device import prepare
from ..run.job import Job
from ..run.methods import METHODS
from ..run.throughput import median_seconds
from ..speed.pretext import Step
from ..store.records import RECORD, read_json, read_record

passes, patches = cache(flops.passes), cache(flops.patches)
TIMED = 20  # exams that a cell predicts to measure its throughput


class Forecast:
    """`measured`: cells whose time was taken from finished ones."""

    def __init__(self, jobs: list[Job]):
        self.known: dict[tuple, list[dict]] = {}
        self.paid = {shared_by(job) for job in jobs if job.finished()}
        self.measured = 0
        for path in sorted(jobs[0].home.rglob("run.json")):
            if read_json(path).get("record") == RECORD:
                record = read_record(path)
                key = record["preset"], record["device"], record["method"], kind_of(record["variant"])
                self.known.setdefault(key, []).append(record)

    def seconds(self, job: Job) -> float:
        """Of one cell that is to run. What it shares, a pretext and feature maps, is counted for the first that wants
        it."""
        first = shared_by(job) not in self.paid
        self.paid.add(shared_by(job))
        records = self.known.get((job.preset.name, job.device, job.method, kind_of(job.variant)))
        if not records:
            return self.computed(job, first)
        self.measured += 1
        fit = len(job.dataset.labelled)
        times = []
        for record in records:
            loop, down = record["history"][-1]["seconds"], record["seconds"]["downstream"]
            shared = record["seconds"].get("pretext", 0.0) + max(0.0, down - loop)
            scored = (len(job.dataset.reported) + TIMED) / record["cost"]["exams_per_s"]
            times.append(loop * fit / record["fit_exams"] + scored + first * shared)
        return sum(times) / len(times)

    def computed(self, job: Job, first: bool) -> float:
        """From FLOPs; other backbones are taken to cost what SSLM's encoder does."""
        config, data, method = job.preset.sslm, job.dataset, METHODS[job.method]
        frame, clip, _ = passes(job.preset, len(data.train.labels))
        lengths = torch.from_numpy(np.concatenate([exams.frames(job.plane) for exams in data.sets]))
        looked = np.minimum(data.reported.frames(job.plane), config.downstream.clips * config.clip.frames)
        work = frame * (looked.sum() + TIMED * looked.mean())
        frozen = method.frozen(config)
        epochs = flops.epochs(config.downstream if frozen else config.finetune)
        fitted = lengths[data.labelled], lengths[data.judged]
        mapped = frame if first or not frozen else 0  # maps of a frozen backbone are there
        trained = 0 if frozen and (method.head or config.downstream.head) == probe.HEAD else clip
        work += flops.downstream(config, mapped, trained, epochs, *fitted, frozen)
        if first and method.pretext == "supervised":
            work += flops.downstream(config, frame, clip, flops.epochs(config.finetune), *fitted, frozen=False)
        elif first and method.pretext == "random":
            work += patches(config, job.preset.frame) * len(data.fit) * config.pretext.draws
        elif first and method.pretext:  # all pretexts are given the jigsaw's FLOPs
            work += flops.pretext(patches(config, job.preset.frame), config.pretext, len(data.fit), len(data.tune))
        return float(work) / speed(job.preset, job.device)


def kind_of(variant: str) -> str:
    """A variant less the labels that it sees, whose number is known, and less the jigsaw's options, which cost little:
    what a cell's time depends on. Another head, or one that is fine-tuned, is another kind."""
    return ",".join(pair for pair in variant.split(",") if not pair.startswith(("data.", "jigsaw.")))


def shared_by(job: Job) -> tuple:
    """What cells share that need the same encoder of the same frames."""
    return METHODS[job.method].pretext or job.method, job.plane, job.seed, job.pretext()


@cache
def speed(chosen: Preset, device: str) -> float:
    """FLOP/s that a pretext's training step reaches here."""
    prepare(chosen, device)
    config, where = resolved(chosen.sslm, torch.device(device)), torch.device(device)
    noise = torch.randint(256, (32, chosen.frame, chosen.frame), dtype=torch.uint8)
    step = Step(
        config, FrameStore(noise, offsets_of([4] * 8)).to(where, "resident"), config.pretext.batch, config.pretext.dtype
    )
    return flops.TRAINING * config.pretext.batch * patches(config, chosen.frame) / median_seconds(step.loop, where)
