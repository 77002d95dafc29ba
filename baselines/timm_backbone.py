"""Any backbone of timm, with its published weights or with a file of the user's. Nothing is downloaded."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torch.nn as nn
import torch.nn.functional as F

from sslm_core.errors import UserError, one_of
from sslm_core.seeds import seeded
from sslm_core.sslm import BackboneConfig

from .imagenet import SIDE

FOLDER = "SSLM_WEIGHTS"  # environment variable: the folder of the user's weights files


class TimmBackbone(nn.Module):
    """Gray frames [B, 1, H, W] in -1..1 -> maps [B, channels, h, w] of a network of timm.

    Frames become three channels, normalised as the network was trained. They are resampled to its input where it takes
    no other, and enlarged to SIDE where they are smaller. Tokens are laid out as the grid that they were cut from.
    """

    mean: torch.Tensor
    std: torch.Tensor
    net: Any

    def __init__(self, net: Any):
        super().__init__()
        self.net, self.channels = net, net.num_features
        settings = net.pretrained_cfg
        self.fixed = tuple(settings["input_size"][1:]) if settings.get("fixed_input_size") else None
        # buffers: cached maps are told apart by what a state dict holds
        self.register_buffer("side", torch.tensor(SIDE))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(settings[name]).view(-1, 1, 1))

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Batch norm keeps its statistics: a batch of few exams has none worth taking."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._maps(self.net.forward_features(self._colour(x)))

    def stages(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """The maps after each stage or block, where the network gives them; the last ones are those of forward()."""
        if not hasattr(self.net, "forward_intermediates"):
            yield "last", self(x)
            return
        last, inner = self.net.forward_intermediates(self._colour(x), output_fmt="NCHW")
        yield from ((f"stage{k}", maps) for k, maps in enumerate(inner[:-1], 1))
        yield "last", self._maps(last)

    def _colour(self, x: torch.Tensor) -> torch.Tensor:
        size = self.fixed or ((SIDE, SIDE) if min(x.shape[-2:]) < SIDE else None)
        if size and tuple(x.shape[-2:]) != size:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        return ((x + 1) / 2 - self.mean) / self.std

    def _maps(self, y: torch.Tensor) -> torch.Tensor:
        if y.ndim == 4:
            return y.permute(0, 3, 1, 2) if getattr(self.net, "output_fmt", "NCHW") == "NHWC" else y
        y = y[:, getattr(self.net, "num_prefix_tokens", 0) :]
        side = math.isqrt(y.shape[1])  # frames are square
        if side * side != y.shape[1]:
            raise UserError(f"backbone: its {y.shape[1]} tokens are no square grid; choose another network")
        return y.transpose(1, 2).unflatten(2, (side, side))


def timm_backbone(config: BackboneConfig, trained: bool = True) -> TimmBackbone:
    """The network `config` names. trained: with its weights; else it is built to be given others.

    Raises UserError where timm, the network or its weights are missing, or where a file has other weights.
    """
    try:
        import timm
    except ImportError:
        raise UserError("timm is not installed; get it by `pip install 'sslm-bench[timm]'`") from None
    if not timm.is_model(config.name):
        raise UserError(f"backbone.name = {config.name}: {one_of(timm.list_models(), config.name)}")

    def made(**more: Any) -> Any:
        with seeded(0, "timm"):
            return timm.create_model(config.name, num_classes=0, **more)

    fresh = made()
    if not trained:
        return TimmBackbone(fresh)
    path = _file(config, timm.models.get_pretrained_cfg(config.name))
    try:
        net = made(pretrained=True, pretrained_cfg_overlay={"file": str(path)})
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(f"{path}: no weights of {config.name} ({str(error).splitlines()[0][:200]})") from None
    before = fresh.state_dict()
    for name, value in net.state_dict().items():  # timm passes over what the file lacks
        if value.ndim > 1 and torch.equal(value, before[name]):
            raise UserError(f"{path}: no weights of {config.name} (it lacks {name})")
    return TimmBackbone(net)


def _file(config: BackboneConfig, published: Any) -> Path:
    """The weights file: the user's, or the one in the cache of timm."""
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    if config.weights:
        path = Path(os.environ.get(FOLDER) or hub) / config.weights
        if not path.is_file():
            raise UserError(f"{path}: no such file; set {FOLDER} to the folder that holds {config.weights}")
        return path
    if published and published.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        for name in ("model.safetensors", "pytorch_model.bin"):
            if isinstance(found := try_to_load_from_cache(published.hf_hub_id, name), str):
                return Path(found)
    if published and published.url and (path := hub / Path(urlparse(published.url).path).name).is_file():
        return path
    fetch = f"import timm; timm.create_model('{config.name}', pretrained=True)"
    raise UserError(
        f"{config.name}: its published weights are not in timm's cache; fetch them once by `python -c "
        f'"{fetch}"`, or name a file of your own by --set backbone.weights=FILE'
    )
