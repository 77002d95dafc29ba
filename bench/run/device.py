"""What a process computes with, and what a figure was measured on."""

import platform

import torch

from sslm_core import ranks
from sslm_core.memory import keep_pages, start_peak

from ..config.presets import Preset
from ..machine import commit, cores, processor


def prepare(chosen: Preset, device: str) -> None:
    """What a cell's scores and memory figure may depend on in this process."""
    start_peak(torch.device(device))
    if device == "cuda":
        pin_kernels()
    else:
        keep_pages()
        if chosen.threads:
            torch.set_num_threads(chosen.threads)


def pin_kernels() -> None:
    """What a GPU computes with."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def environment(device: torch.device) -> dict[str, str]:
    """What a figure was measured on and with."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    machine = f"{name}, {cores()} cores{ranks.named()}"
    return {"machine": machine, "torch": torch.__version__, "python": platform.python_version(), "commit": commit()}
