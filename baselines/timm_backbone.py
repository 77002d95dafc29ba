"""Any backbone of timm, with its published weights or with a file of the user's. Nothing is downloaded."""

import difflib
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torch.nn as nn
import torch.nn.functional as F

from sslm_core.errors import UserError
from sslm_core.seeds import seeded
from sslm_core.sslm import BackboneConfig

from .imagenet import SIDE

FOLDER = "SSLM_WEIGHTS"  # environment variable: the folder of the user's weights files
INSTALL = "`pip install 'sslm-bench[timm]'`"
OWN = f"name a file of your own by --set backbone.weights=FILE, in the folder that {FOLDER} names"


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

    def _maps(self, y: Any) -> torch.Tensor:
        if isinstance(y, torch.Tensor) and y.ndim == 4:
            return y.permute(0, 3, 1, 2) if getattr(self.net, "output_fmt", "NCHW") == "NHWC" else y
        if isinstance(y, torch.Tensor) and y.ndim == 3:
            y = y[:, getattr(self.net, "num_prefix_tokens", 0) :]
            side = math.isqrt(y.shape[1])  # frames are square
            if side * side == y.shape[1] > 1:  # one alone stands for the whole frame
                return y.transpose(1, 2).unflatten(2, (side, side))
        return torch.empty(0, 0)  # neither: timm_backbone() refuses such a network


def timm_backbone(config: BackboneConfig, frame: int = SIDE, trained: bool = True) -> TimmBackbone:
    """The network `config` names, for frames of H = W = `frame`. trained: with its weights; else it is built to be
    given others.

    Raises UserError where timm, the network or its weights are missing, where a file has other weights, and where the
    network makes no maps of such frames.
    """
    timm = _timm()
    _check(timm, config.name)

    def made(draw: int, **more: Any) -> Any:
        with seeded(draw, "timm"):
            return timm.create_model(config.name, num_classes=0, **more)

    if not trained:
        return _tried(TimmBackbone(made(0)), config.name, frame)
    path = _file(config, timm.models.get_pretrained_cfg(config.name))
    try:
        state = timm.models.load_state_dict(str(path), weights_only=True)  # nothing in the file is run
        nets = [made(k, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}) for k in (0, 1)]
    except Exception as error:  # a file may hold anything, and each network reads it by code of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path}: no weights of {config.name} ({reason})") from None
    net, other = nets
    drawn = other.state_dict()
    for name, value in net.state_dict().items():  # timm passes over what the file lacks: it is as it was drawn
        if not torch.equal(value, drawn[name]):
            raise UserError(f"{path}: no weights of {config.name} (it lacks {name})")
    net.pretrained_cfg.pop("state_dict", None)  # another copy of the weights
    backbone = _tried(TimmBackbone(net), config.name, frame)
    parameters = list(backbone.parameters())
    gradients = torch.autograd.grad(backbone(torch.zeros(1, 1, frame, frame)).sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients):  # of what comes after the maps there is nothing to train
        parameter.requires_grad_(gradient is not None)
    return backbone


def _tried(backbone: TimmBackbone, name: str, frame: int) -> TimmBackbone:
    """`backbone`, once it has mapped a frame: before any work, not after it."""
    reason = "its features are neither maps nor a square grid of tokens"
    try:
        with torch.no_grad():
            maps = backbone.eval()(torch.zeros(1, 1, frame, frame))
    except RuntimeError as error:
        maps, reason = None, f"it takes no frames of {frame} x {frame} ({str(error).splitlines()[0][:200]})"
    if maps is None or maps.shape[1] != backbone.channels:
        raise UserError(f"backbone.name = {name}: {reason}; choose another")
    return backbone


def _timm() -> Any:
    """The package. Raises UserError where it is not installed, or its torchvision is made for another torch."""
    try:
        import timm
    except ImportError as error:
        if error.name != "timm":
            raise UserError(f"timm cannot be imported ({error}); get it by {INSTALL}") from None
        raise UserError(f"timm is not installed; get it by {INSTALL}") from None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"timm cannot be imported ({reason}); install the torchvision made for torch {torch.__version__}, from "
            "where torch came"
        ) from None
    logging.getLogger("timm").setLevel(logging.ERROR)  # what it warns of is checked here
    return timm


def _check(timm: Any, name: str) -> None:
    """Raises UserError where timm has no network `name`, NAME or NAME.TAG."""
    network, _, tag = name.partition(".")
    known = timm.list_models()
    if timm.is_model(network):
        known = [network, *timm.list_models(f"{network}.*", pretrained=True, include_tags=True)]
        if not tag or name in known:
            return
    near = ", ".join(difflib.get_close_matches(name, known, 5)) or "none; `timm.list_models()` has them all"
    raise UserError(f"backbone.name = {name}: timm has no such network; the nearest: {near}")


def _file(config: BackboneConfig, published: Any) -> Path:
    """The weights file: the user's, or the one in the cache of timm."""
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    if config.weights:
        path = Path(os.environ.get(FOLDER) or hub) / config.weights
        if not path.is_file():
            raise UserError(f"{path}: no such file; set {FOLDER} to the folder that holds {config.weights}")
        return path
    if not published or not published.has_weights:
        raise UserError(f"{config.name}: timm has no weights of it; {OWN}")
    if published.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        for name in ("model.safetensors", "pytorch_model.bin"):
            if isinstance(found := try_to_load_from_cache(published.hf_hub_id, name), str):
                return Path(found)
    if published.url and (path := hub / Path(urlparse(published.url).path).name).is_file():
        return path
    fetch = f"import timm; timm.create_model('{config.name}', pretrained=True)"
    weights = published.hf_hub_id or published.url
    raise UserError(
        f'{config.name}: its weights {weights} are not in timm\'s cache; fetch them once by `python -c "{fetch}"`, '
        f"or {OWN}"
    )
