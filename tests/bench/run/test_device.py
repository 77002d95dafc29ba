"""Every method's steps as on a GPU, without one: on the `meta` device, whose tensors have shapes and no values.

Within a step no operator may make the host wait for the device, nor meet a tensor that was left in host memory.
"""

from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from baselines import imagenet, reweighted
from bench.config.presets import SMOKE
from bench.run import probe
from bench.run.encoders import Cell
from bench.run.methods import METHODS
from sslm_core import downstream, features, sslm
from sslm_core.checkpoint import Resume
from sslm_core.frames import FrameStore, offsets_of
from sslm_core.pretext import Pretrained
from sslm_core.sslm import new_encoder

WAITS = {
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "unique_dim",
    "unique_consecutive",
    "_unique2",
}
LOOPS = {"pretext", "downstream", "batch-norm statistics"}
# some shorter than a clip, one batch of whole ones
LENGTHS = [9, 3, 12, 5, 7, 8, 9, 4, 11, 10, 9, 8, 6, 7, 10, 12, 8, 9, 3, 11, 9, 12]


class Operators(TorchDispatchMode):
    """Makes an error of those that would make a GPU wait or meet tensors of both sides."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, (_, name) = kwargs or {}, func._schema.name.split("::")
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there = [t for t in given if t.device.type == "meta"]
        here = [t for t in given if t.device.type == "cpu"]
        if there:
            picked = any(t.dtype in (torch.bool, torch.uint8) for t in there[1:]) and name in (
                "index",
                "index_put",
                "index_put_",
            )
            counted = name == "repeat_interleave" and kwargs.get("output_size") is None
            assert name not in WAITS and not picked and not counted, f"{name} waits for the device"
        if name in ("_to_copy", "copy_"):
            towards = torch.device(kwargs.get("device") or given[0].device).type
            assert not there or towards == "meta", "a copy to the host waits for the device"
            assert towards == "cpu" or not here or kwargs.get("non_blocking") or True in args[2:], (
                "a copy to the device waits"
            )
        else:
            assert not there or not any(t.dim() for t in here), f"{name} meets a tensor that was left in host memory"
        return func(*args, **kwargs)


class Literals(TorchFunctionMode):
    """Makes an error of torch.tensor on the device, which waits for the copy and is no operator there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        assert func not in (torch.tensor, torch.as_tensor) or made.device.type == "cpu", (
            "torch.tensor waits for a copy to the device"
        )
        return made


@contextmanager
def strict():
    with Operators(), Literals():
        yield


looked_at: set[str] = set()  # pretexts, which methods share


class Enough(Exception):
    pass


class Steps:
    """A progress under which the loops' steps are strict, from the second of an epoch on; the third is not taken."""

    def __init__(self):
        self.taken, self.strict = 0, ExitStack()  # left by the test too: the frames of a loop that broke off live on

    def __call__(self, steps, what):
        if what not in LOOPS:
            yield from steps
            return
        self.taken = 0
        for step in steps:
            if step == 1:
                self.strict.enter_context(strict())
            if step == 2:
                self.strict.close()
                raise Enough
            yield step
            self.taken += 1


class Draw(torch.Generator):
    """Draws on the host for either side; the meta device has no generator."""

    device = None

    def __new__(cls, device):
        made = super().__new__(cls, "cpu")
        made.device = torch.device(device)
        return made


def held(encoder, store, exams, dtype, cache=None, warp=None, views=1, seed=0, progress=None) -> SimpleNamespace:
    """What FeatureClips reads of Features: maps without values."""
    lengths = store.known[: len(exams)].repeat_interleave(views)
    maps = encoder(torch.empty(1, 1, *store.data.shape[1:], device="meta")).half()
    rows = FrameStore(maps.expand(int(lengths.sum()), -1, -1, -1), offsets_of(lengths)).to("meta")
    return SimpleNamespace(store=store, views=views, whole=True, lengths=rows.lengths, maps=rows, saved_seconds=0.0)


@pytest.fixture
def device(monkeypatch):
    """What is set up before the first step reads values: here it is made without."""
    monkeypatch.setattr(torch, "Generator", Draw)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: torch.arange(len(t)).to(t.dtype))  # exam numbers, weights
    for name in ("Adam", "AdamW"):
        plain = getattr(torch.optim, name)
        monkeypatch.setattr(torch.optim, name, lambda *given, fused, plain=plain, **more: plain(*given, **more))
    monkeypatch.setattr(sslm, "Features", held)
    monkeypatch.setattr(features.Scale, "measure", lambda self, *_: self)
    monkeypatch.setattr(downstream, "constant", lambda truth, *_: truth[0])
    monkeypatch.setattr(imagenet, "lite0", imagenet.EfficientNetLite0)


def cell(tmp_path, steps: Steps, shared) -> Cell:
    config = replace(
        SMOKE.sslm,
        pretext=replace(SMOKE.sslm.pretext, draws=64, batch=8),
        downstream=replace(SMOKE.sslm.downstream, views=2),
    )
    count = len(LENGTHS)
    data = torch.empty(sum(LENGTHS), SMOKE.frame, SMOKE.frame, dtype=torch.uint8, device="meta")
    store = FrameStore(data, offsets_of(LENGTHS).to("meta"))
    store.__dict__["known"] = torch.tensor(LENGTHS)
    return Cell(
        config,
        store,
        torch.empty(count, 3, device="meta"),
        torch.arange(16),
        torch.arange(16, count),
        0,
        steps,
        Resume(tmp_path / "none", {}),
        None,
        shared,
    )


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if method.head != probe.HEAD and not name.startswith("timm")]
)
def test_a_step_never_waits_for_the_device_nor_meets_the_host(name, device, tmp_path):
    steps = Steps()

    def shared(pretext, train):
        if pretext not in looked_at:
            with pytest.raises(Enough):
                train(Resume(tmp_path / "none", {}))
            assert steps.taken == 2
            looked_at.add(pretext)
        return Pretrained(new_encoder(SMOKE.sslm.encoder, 0).to("meta")), 0.0

    with steps.strict, pytest.raises(Enough):
        METHODS[name].fit(cell(tmp_path, steps, shared))
    assert steps.taken == 2


@pytest.mark.parametrize(
    "planted",
    [
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.repeat_interleave(x, x.long()),
        lambda x: x.to("cpu"),
        lambda x: x.__setitem__(x > 0, 1.0),
        lambda x: torch.tensor([1, 2, 3], device=x.device),
        lambda x: torch.ones(3).to(x.device),
        lambda x: x.copy_(torch.ones(3)),
        lambda x: x + torch.ones(3),
        lambda x: x[torch.zeros(3).long()],
        lambda x: torch.ones(3)[x.long()],
        lambda x: torch.nn.functional.conv1d(x[None, None], torch.ones(1, 1, 3)),
    ],
)
def test_what_is_planted_is_found(planted):
    with pytest.raises(AssertionError), strict():
        planted(torch.empty(3, device="meta"))


def test_balanced_sampling_asks_no_device():
    with strict():
        assert reweighted.balanced(torch.empty(5, 2, device="meta")).shape == (5,)
