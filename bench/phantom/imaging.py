"""The scanner of the phantom: tissues, sequences, the signal equation, and what a coil and a receiver make of an
image."""

from typing import Any

import numpy as np

# Proton density, T1 and T2 in ms at 1.5 T and T1 at 3 T, share of fat. Rounded from the usual tables (Gold et al., AJR
# 2004, for the knee); T2 of fat is the longer one that a train of spin echoes shows.
TISSUES = {
    #               PD    T1    T1(3T) T2   fat
    "muscle": (0.80, 1000.0, 1400.0, 34.0, 0.03),
    "fat": (1.0, 290.0, 370.0, 130.0, 0.95),
    "marrow": (0.66, 320.0, 400.0, 110.0, 0.90),
    "red_marrow": (0.80, 500.0, 640.0, 75.0, 0.70),
    "cortex": (0.06, 400.0, 500.0, 5.0, 0.0),
    "cartilage": (0.88, 1050.0, 1240.0, 44.0, 0.0),
    "meniscus": (0.40, 800.0, 950.0, 12.0, 0.0),
    "ligament": (0.42, 700.0, 850.0, 14.0, 0.0),
    "acl": (0.58, 800.0, 950.0, 20.0, 0.08),
    "fluid": (1.0, 2800.0, 3300.0, 400.0, 0.0),
    "synovium": (0.90, 1100.0, 1400.0, 75.0, 0.05),
    "tear": (0.95, 900.0, 1100.0, 110.0, 0.0),
    "oedema": (0.92, 1000.0, 1300.0, 85.0, 0.20),
    "vessel": (0.75, 1400.0, 1700.0, 130.0, 0.0),
    "flow_void": (0.08, 1000.0, 1300.0, 40.0, 0.0),
    "nerve": (0.75, 900.0, 1100.0, 60.0, 0.30),
    "skin": (0.70, 700.0, 900.0, 30.0, 0.10),
    "septum": (0.50, 700.0, 900.0, 25.0, 0.30),
    "perimysium": (0.85, 450.0, 600.0, 90.0, 0.45),
    "air": (0.0, 1000.0, 1000.0, 10.0, 0.0),
}

# MRNet's frames per volume (least, mean, most); TR and TE in ms; share of the fat signal that is left; mm covered by
# the slabs and by a frame; sd of the noise at 256 x 256 and 1.5 T as a share of the 99th percentile; how uneven the
# coil is; share of a slice's signal that leaks into each neighbour; how far large-scale brightness is evened out (0
# not, 1 fully); exponent of the display curve. Fat is dark and slices lie over the joint in all planes, so that fluid
# and tears can be read there at 64 x 64.
SEQUENCES = {  # of the axial, the coronal and the sagittal plane
    "frames": ((19, 34.3, 61), (17, 29.8, 58), (17, 30.4, 51)),
    "tr": ((3200, 5000), (2400, 3600), (3200, 5200)),
    "te": ((34, 48), (20, 31), (54, 76)),
    "fat_left": ((0.05, 0.18), (0.06, 0.2), (0.04, 0.14)),
    "extent": ((66, 80), (58, 70), (70, 82)),
    "view": ((104, 120), (110, 126), (88, 102)),
    "noise": (0.027, 0.022, 0.045),
    "coil": (0.7, 0.5, 0.3),
    "leak": (0.0, 0.06, 0.11),
    "even": (0.3, 0.05, 0.5),
    "curve": (1.1, 1.13, 1.3),
}
PLANES: dict[str, dict[str, Any]] = {
    plane: {name: values[k] for name, values in SEQUENCES.items()}
    for k, plane in enumerate(("axial", "coronal", "sagittal"))
}


def tones(rng) -> dict[str, tuple[float, float]]:
    """How a patient's tissues differ from the table: factors of proton density and of T2 for each."""
    return {name: tuple(np.exp(rng.normal(0, (0.05, 0.08))).tolist()) for name in TISSUES}


def spin_echo(tr: float, te: float, fat_left: float, tesla3: bool, tone: dict) -> dict[str, float]:
    """Signal of every tissue: PD (1 - exp(-TR/T1)) exp(-TE/T2), the fat's part scaled by what suppression leaves."""
    signals = {}
    for name, (pd, t1, t13, t2, fat) in TISSUES.items():
        density, relaxed = tone[name][0], 1 - np.exp(-tr / (t13 if tesla3 else t1))
        signals[name] = float(pd * density * relaxed * np.exp(-te / (t2 * tone[name][1])) * (1 - fat * (1 - fat_left)))
    return signals


def turn(angles) -> np.ndarray:
    """Rotation matrix of small turns (radians) about x, y, z."""
    m = np.eye(3)
    for axis, a in enumerate(angles):
        i, j = [k for k in range(3) if k != axis]
        r = np.eye(3)
        r[i, i] = r[j, j] = np.cos(a)
        r[i, j], r[j, i] = -np.sin(a), np.sin(a)
        m = m @ r
    return m


def draw_frames(rng, least: int, mean: float, most: int) -> int:
    """T: a beta variable scaled to MRNet's range, with MRNet's mean."""
    share = (mean - least) / (most - least)
    return int(round(least + (most - least) * rng.beta(7 * share, 7 * (1 - share))))


def coil_bias(rng, frames: int, size: int, plane: str) -> np.ndarray:
    """Sensitivity of the coil, [T, H, W] float32: brighter near the skin, darker at its ends."""
    t, p = np.linspace(-1, 1, frames, dtype=np.float32), np.linspace(-1, 1, size, dtype=np.float32)
    a = rng.normal(0, 0.13, 9).astype(np.float32)
    fall, ends = (np.float32(rng.uniform(low, high) * PLANES[plane]["coil"]) for low, high in ((0.1, 0.6), (0.1, 0.8)))
    r, r2, p2 = p[:, None], p[:, None] ** 2, p**2
    log = a[0] * r + a[1] * p2 + a[2] * (r * p) + a[3] * r2 + a[4] * p + fall * (r2 + p2 - np.float32(0.6))
    if plane != "axial":  # where the rows run along the leg
        log -= ends * r2
    along = a[5] * t + (a[6] - (ends if plane == "axial" else 0)) * t**2
    return np.exp(log)[None] * np.exp(along[:, None] + a[7] * t[:, None] * p)[:, None, :]


def k_space(rng, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What the sampling leaves of each spatial frequency, along rows and along columns: the matrix, apodisation,
    sometimes ghosts.

    Both windows are real and even, so that each is a symmetric matrix [size, size] in the image: frame -> rows @ frame
    @ columns.
    """
    k = np.abs(np.fft.fftfreq(size, 1 / size))  # cycles per frame
    read, phase, soft = rng.uniform(118, 170), rng.uniform(100, 160), rng.uniform(0.02, 0.25)
    swap, ghost = rng.random() < 0.5, rng.random() < 0.22
    strength, period = rng.uniform(0.02, 0.09), rng.uniform(2.2, 9.0)

    def window(half):
        return np.where(k <= half, 1 - soft + soft * np.cos(np.minimum(k / half, 1) * np.pi / 2) ** 2, 0)

    read, phase = window(read), window(phase)
    if ghost:  # periodic motion, along the phase direction
        phase = phase * (1 + strength * np.cos(2 * np.pi * k / period))
    apart = np.subtract.outer(np.arange(size), np.arange(size)) % size
    read, phase = (np.fft.ifft(w).real.astype(np.float32)[apart] for w in (read, phase))
    return (read, phase) if swap else (phase, read)


def leaked(image: np.ndarray, share: float) -> np.ndarray:
    """Neighbouring slices mixed, as their profiles overlap: [T, H, W]."""
    if not share:
        return image
    first, last = image[:1], image[-1:]
    return np.float32(1 - 2 * share) * image + np.float32(share) * (
        np.concatenate([first, image[:-1]]) + np.concatenate([image[1:], last])
    )


def power(x: np.ndarray, exponent: float) -> np.ndarray:
    """x ** exponent in place, for x >= 0: by exp and log, which numpy has in vector form."""
    np.maximum(x, np.float32(1e-9), out=x)
    np.log(x, out=x)
    x *= np.float32(exponent)
    return np.exp(x, out=x)


def evened(image: np.ndarray, how: float) -> np.ndarray:
    """Brightness beyond about a third of the frame taken back by `how`, as scanners correct for surface coils: [T, H,
    W], in place."""
    frames, size, _ = image.shape
    coarse = size // 32 or 1
    n = size // coarse
    at, centre = np.arange(size, dtype=np.float32), (np.arange(n, dtype=np.float32) + 0.5) * coarse - 0.5
    near = np.exp(-0.5 * ((centre[:, None] - centre) * np.float32(6 * np.pi / size)) ** 2)  # 3 cycles per frame pass
    linear = np.maximum(1 - np.abs(at[:, None] - centre) / coarse, 0)
    near, linear = near / near.sum(1, keepdims=True), linear / linear.sum(1, keepdims=True)
    smooth = near @ image[:, : n * coarse, : n * coarse].reshape(frames, n, coarse, n, coarse).mean((2, 4)) @ near.T
    gain = power(smooth + np.float32(0.25 * smooth.mean()), -how)
    image *= linear @ gain @ linear.T
    return image


def acquire(image: np.ndarray, rng, plane: str, tesla3: bool) -> np.ndarray:
    """Receive, sample and scale: coil, noise, k-space, magnitude, evening, 99th percentile, display curve -> uint8 [T,
    H, W].

    image: float32 [T, H, W] of true signals. Noise is drawn per pixel so that its density in k-space does not depend on
    H: a frame of 64 x 64 is as quiet as one of 256 x 256 averaged 4 x 4.
    """
    size, settings = image.shape[-1], PLANES[plane]
    image = leaked(image, settings["leak"]) * coil_bias(rng, len(image), size, plane)
    scale = float(np.percentile(image[:, ::2, ::2], 99)) or 1.0
    share = settings["noise"] * (0.75 if tesla3 else 1.0) * rng.uniform(0.7, 1.45)
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(scale * share * size / 256)
    image += noise

    rows, columns = k_space(rng, size)
    image = rows @ (image @ columns)
    image *= image
    noise *= noise  # of the other receiver channel: the same numbers, read backwards, are as good as new ones
    image += noise[::-1, ::-1, ::-1]
    np.sqrt(image, out=image)
    image = evened(image, settings["even"])
    image *= np.float32(1 / max(float(np.percentile(image[:, ::2, ::2], 99)), 1e-6))
    image = power(image, settings["curve"])
    image *= np.float32(255)
    image -= np.float32(rng.uniform(0, 1.5))
    np.maximum(image, 0, out=image)
    np.minimum(image, 255, out=image)
    return image.astype(np.uint8)
