"""The published size on a CPU, one step of each part: about 8 GB of memory."""

import pytest
import torch

from bench.config.presets import FULL
from sslm_core.downstream import ClipModel, FeatureClips
from sslm_core.encoder import frozen
from sslm_core.features import Features
from sslm_core.frames import FrameStore, offsets_of
from sslm_core.jigsaw import Jigsaw
from sslm_core.sslm import new_encoder, new_head


@pytest.mark.slow
def test_one_step_of_each_part_at_full_width():
    config = FULL.sslm
    assert config.encoder.branch == 256 and config.jigsaw.permutations == 1000 and config.downstream.hidden == 512
    data = torch.randint(
        0, 256, (2, FULL.frame, FULL.frame), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    store = FrameStore(data, offsets_of([1, 1]))
    encoder, task = new_encoder(config.encoder, 0), Jigsaw(config.jigsaw, FULL.frame, 0)
    head = task.head(encoder, 0)
    assert sum(p.numel() for module in (encoder, head) for p in module.parameters()) == 217_630_440

    # one pretext step at batch 2: the loss of these two patch sets falls
    optimiser = config.pretext.optimiser([*encoder.parameters(), *head.parameters()])
    patches, target = task.batch(store, torch.tensor([0, 1]), torch.Generator().manual_seed(1), train=True)
    assert patches.shape == (2, 9, 64, 64)
    before = encoder.trunk[0].conv.weight[:8].clone()
    loss = task.loss(head(encoder(patches)), target)
    assert 5 < float(loss.detach()) < 20  # about ln 1000
    loss.backward()
    optimiser.step()
    assert not torch.equal(before, encoder.trunk[0].conv.weight[:8])
    del optimiser, loss, head
    encoder.zero_grad(set_to_none=True)

    # the features of one frame, and one step of the head on them
    features = Features(frozen(encoder), store, torch.tensor([0]), "float32")
    assert features.maps.data.shape == (1, 4096, 16, 16) and features.maps.data.isfinite().all()
    model = ClipModel(encoder, new_head(config.downstream, config.encoder.channels, 3, 0))
    ((_, x, count, _),) = FeatureClips(features, config.clip).batches(
        [(torch.tensor([0]), torch.Generator().manual_seed(0))]
    )
    assert x.shape == (1, 16, 4096, 16, 16) and count.tolist() == [1]
    optimiser = config.downstream.optimise(model)
    before = model.head.linear.weight.clone()
    value = torch.nn.functional.binary_cross_entropy_with_logits(model(x, count), torch.tensor([[1.0, 0.0, 1.0]]))
    value.backward()
    optimiser.step()
    assert value.isfinite() and not torch.equal(before, model.head.linear.weight)
    assert all(p.grad is None for p in encoder.parameters())
