import numpy as np
import torch
from scipy.ndimage import map_coordinates

from sslm_core.jigsaw import JigsawConfig
from sslm_core.warp import Warp, about_centre, product

C = JigsawConfig()
TABLE = product(C.angles, C.shifts, C.scales)


def smooth(size: int) -> np.ndarray:
    """A smooth image without symmetry, so that a wrong sign, order or axis shows."""
    y, x = np.mgrid[:size, :size] / size
    return np.round(127 + 60 * np.sin(3 * x + 0.5) + 50 * np.cos(4 * y * x) + 15 * y).astype(np.uint8)


def rotate_then_scale(image: np.ndarray, angle: float, x: float, y: float, scale: float) -> np.ndarray:
    """The composed transform in float64 by scipy, zeros outside."""
    size = len(image)
    c, theta = (size - 1) / 2, np.deg2rad(angle)
    row, column = np.mgrid[:size, :size].astype(float)
    u, v = (column - x) / scale - c, (row - y) / scale - c
    at = [np.sin(theta) * u + np.cos(theta) * v + c, np.cos(theta) * u - np.sin(theta) * v + c]
    return map_coordinates(image.astype(float), at, order=1, mode="grid-constant", cval=0)


def test_all_54_transforms_agree_with_scipy():
    image = smooth(64)
    warped = Warp(TABLE, 64)(torch.from_numpy(image).expand(54, 64, 64), torch.arange(54)).numpy()
    for k, transform in enumerate(TABLE):
        expected = rotate_then_scale(image, *transform)
        inside = rotate_then_scale(np.full((64, 64), 1.0), *transform) == 1
        assert inside.mean() > 0.6
        assert abs(warped[k] - expected)[inside].max() < 0.05, transform
        assert abs(warped[k] - expected).max() < 0.1, transform


def test_identity_returns_the_window():
    image = torch.randint(0, 256, (5, 16, 16), dtype=torch.uint8)
    same = Warp([(0, 0, 0, 1.0)], 16)(image, torch.zeros(5, dtype=torch.long))
    assert torch.equal(same, image.float())
    # the same entry, sampled
    unmoved = Warp([(0, 0, 0, 1.0), (5, 0, 0, 1.0)], 16)(image, torch.zeros(5, dtype=torch.long))
    assert torch.allclose(same, unmoved, atol=1e-3)


def test_nothing_leaks_in_from_outside_the_window():
    frame = torch.full((1, 192, 192), 255, dtype=torch.uint8)
    frame[:, 64:128, 64:128] = 10
    window = frame[:, 64:128, 64:128].expand(54, 64, 64)
    assert Warp(TABLE, 64)(window, torch.arange(54)).max() <= 10.001


def test_chunks_and_gain(monkeypatch):
    image = torch.randint(0, 256, (50, 16, 16), dtype=torch.uint8)
    index, gain = torch.randint(54, (50,)), torch.rand(50) * 2
    warp = Warp(TABLE, 16)
    whole = warp(image, index, gain)
    monkeypatch.setattr("sslm_core.warp.CHUNK", 7 * 256)
    assert torch.equal(warp(image, index, gain), whole)
    assert whole.min() >= 0 and whole.max() <= 255
    assert torch.allclose(whole, (warp(image, index) * gain[:, None, None]).clamp(0, 255))


def test_scaling_about_the_centre_keeps_the_centre():
    image = torch.zeros(1, 33, 33, dtype=torch.uint8)
    image[0, 16, 16] = 200
    out = Warp(about_centre([(20, 0, 0, 1.15)], 33), 33)(image, torch.zeros(1, dtype=torch.long))
    assert out[0].argmax() == 16 * 33 + 16
