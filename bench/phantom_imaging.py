"""The scanner of the phantom: from painted shapes to the frames of one plane.

Lengths are millimetres in the knee's frame: x medial (-) to lateral (+), y posterior (-) to anterior (+), z inferior (-) to
superior (+), origin at the centre of the joint line. Only numpy.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

Field = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # coordinates in mm -> signed distance in mm

# Proton density, T1 and T2 in ms at 1.5 T and T1 at 3 T, share of fat. Rounded from the usual tables (Gold et al., AJR 2004,
# for the knee); T2 of fat is the longer one that a train of spin echoes shows.
TISSUES = {
    #               PD    T1    T1(3T) T2   fat
    "muscle":      (.80, 1000., 1400., 40., .03),
    "fat":         (1.0, 290., 370., 130., .95),
    "marrow":      (.66, 320., 400., 110., .84),
    "red_marrow":  (.84, 550., 700., 75., .55),
    "cortex":      (.06, 400., 500., 5., .0),
    "cartilage":   (.88, 1050., 1240., 44., .0),
    "meniscus":    (.40, 800., 950., 12., .0),
    "ligament":    (.42, 700., 850., 14., .0),
    "acl":         (.58, 800., 950., 20., .08),
    "fluid":       (1.0, 2800., 3300., 400., .0),
    "synovium":    (.90, 1100., 1400., 75., .05),
    "tear":        (.95, 900., 1100., 110., .0),
    "oedema":      (.92, 1000., 1300., 85., .20),
    "vessel":      (.75, 1400., 1700., 130., .0),
    "flow_void":   (.08, 1000., 1300., 40., .0),
    "nerve":       (.75, 900., 1100., 60., .30),
    "skin":        (.70, 700., 900., 30., .10),
    "septum":      (.50, 700., 900., 25., .30),
    "air":         (.0, 1000., 1000., 10., .0),
}

# MRNet's frames per volume (least, mean, most), and the sequence: TR and TE in ms, share of the fat signal that is left.
PLANES = {
    "axial":    dict(frames=(19, 34.3, 61), tr=(2600, 4200), te=(22, 36), fat_left=(.07, .24), extent=(112, 136), view=(120, 144)),
    "coronal":  dict(frames=(17, 29.8, 58), tr=(480, 800), te=(10, 18), fat_left=(1., 1.), extent=(108, 128), view=(134, 160)),
    "sagittal": dict(frames=(17, 30.4, 51), tr=(3200, 5200), te=(62, 86), fat_left=(.04, .14), extent=(80, 94), view=(110, 130)),
}
NOISE = {"axial": .045, "coronal": .025, "sagittal": .065}  # sd at 256 x 256 as a share of the 99th percentile, at 1.5 T


COIL = {"axial": .8, "coronal": 2.2, "sagittal": .35}  # how uneven the coil is


@dataclass(frozen=True)
class Shape:
    """A signed distance (mm, negative inside) and the box outside of which it is positive."""
    lo: np.ndarray
    hi: np.ndarray
    distance: Field


@dataclass(frozen=True)
class Layer:
    """One stroke of paint. `shells` are (offset in mm, tissue, opacity, texture or None, region or None), outermost first;
    `label` marks a finding, whose mask is kept; `soft` widens the edge (mm)."""
    shape: Shape | None  # None: everywhere
    shells: tuple
    label: str | None = None
    soft: float = 0.


# --- shapes -----------------------------------------------------------------------------------------------------------
def _v(*p):
    return np.asarray(p, np.float32)


def ellipsoid(centre, radii) -> Shape:
    c, r = _v(*centre), _v(*radii)
    i, j = (1 / r ** 2).astype(np.float32), (1 / r ** 4).astype(np.float32)

    def distance(x, y, z):                             # to first order: (q - 1) / |grad q|, exact where it matters
        x, y, z = x - c[0], y - c[1], z - c[2]
        x *= x
        y *= y
        z *= z
        slope = x * j[0]
        slope += y * j[1]
        slope += z * j[2]
        np.sqrt(slope, out=slope)
        slope += np.float32(1e-4)
        x *= i[0]
        y *= i[1]
        z *= i[2]
        x += y
        x += z
        x -= 1
        x /= slope
        x *= np.float32(.5)
        return x

    return Shape(c - r, c + r, distance)


def rod(a, b, ra, rb=None, flat=(1., 1., 1.)) -> Shape:
    """A capsule from a to b, radii ra and rb; `flat` stretches it along the axes (distances are then approximate)."""
    rb = ra if rb is None else rb
    f = _v(*flat)
    a, b = _v(*a) / f, _v(*b) / f
    d = b - a
    d2, least = float(d @ d) + 1e-6, float(f.min())

    def distance(x, y, z):
        x, y, z = x * np.float32(1 / f[0]) - a[0], y * np.float32(1 / f[1]) - a[1], z * np.float32(1 / f[2]) - a[2]
        t = x * np.float32(d[0] / d2)
        t += y * np.float32(d[1] / d2)
        t += z * np.float32(d[2] / d2)
        np.clip(t, 0, 1, out=t)
        x -= t * d[0]
        y -= t * d[1]
        z -= t * d[2]
        x *= x
        y *= y
        z *= z
        x += y
        x += z
        np.sqrt(x, out=x)
        t *= np.float32(rb - ra)
        x -= t
        x -= np.float32(ra)
        if least != 1:
            x *= np.float32(least)
        return x

    r = max(ra, rb)
    return Shape((np.minimum(a, b) - r) * f, (np.maximum(a, b) + r) * f, distance)


def cord(points, ra, rb=None, flat=(1., 1., 1.)) -> Shape:
    """Rods joined at the points: a bent ligament, a vessel."""
    rb = ra if rb is None else rb
    radii = np.linspace(ra, rb, len(points))
    return union(*(rod(p, q, r, s, flat) for p, q, r, s in zip(points[:-1], points[1:], radii[:-1], radii[1:])))


def bow(a, b, sag, n=4) -> list:
    """n + 1 points from a to b, bent by the vector `sag` in the middle."""
    a, b, sag = _v(*a), _v(*b), _v(*sag)
    return [a + t * (b - a) + 4 * t * (1 - t) * sag for t in np.linspace(0, 1, n + 1, dtype=np.float32)]


def union(*shapes: Shape, smooth: float = 0.) -> Shape:
    def distance(x, y, z):
        d = None
        for s, gap in zip(shapes, _gaps(shapes, x, y, z)):
            if d is not None and gap > smooth + 8:     # far from all of these voxels: a lower bound will do
                d = np.minimum(d, np.float32(gap))
                continue
            e = s.distance(x, y, z) if gap <= smooth + 8 else np.full(x.shape, gap, np.float32)
            if d is None:
                d = e
            elif smooth:
                h = d - e
                np.abs(h, out=h)
                np.subtract(np.float32(smooth), h, out=h)
                np.maximum(h, 0, out=h)
                h *= h
                h *= np.float32(.25 / smooth)
                np.minimum(d, e, out=d)
                d -= h
            else:
                np.minimum(d, e, out=d)
        return d

    return Shape(np.min([s.lo for s in shapes], 0) - smooth / 4, np.max([s.hi for s in shapes], 0) + smooth / 4, distance)


def _gaps(shapes, x, y, z):
    """A lower bound (mm) of each shape's distance from a block of voxels, read off the block's corners."""
    ends = tuple(slice(None, None, max(n - 1, 1)) for n in x.shape)
    c = np.array([(w[ends].min(), w[ends].max()) for w in (x, y, z)])
    lo, hi = c[:, 0] - 4, c[:, 1] + 4                  # the warp may bulge beyond the corners
    return [float(np.maximum(0, np.maximum(s.lo - hi, lo - s.hi)).max()) for s in shapes]


def inside(shape: Shape, *others, grow: float = 0.) -> Shape:
    """The part of `shape` where every other field is negative (`grow` > 0 admits that many mm more)."""
    def distance(x, y, z):
        d = shape.distance(x, y, z)
        for other in others:
            d = np.maximum(d, (other.distance if isinstance(other, Shape) else other)(x, y, z) - np.float32(grow))
        return d

    return Shape(shape.lo, shape.hi, distance)


def outside(shape: Shape, other: Shape) -> Shape:
    return Shape(shape.lo, shape.hi, lambda x, y, z: np.maximum(shape.distance(x, y, z), -other.distance(x, y, z)))


def bend(shape: Shape, angle: float, about) -> Shape:
    """Flexion: turned by `angle` (radians) about the transverse axis through `about` (y, z)."""
    c, s, (oy, oz) = np.float32(np.cos(angle)), np.float32(np.sin(angle)), about

    def distance(x, y, z):
        y, z = y - np.float32(oy), z - np.float32(oz)
        return shape.distance(x, c * y + s * z + np.float32(oy), c * z - s * y + np.float32(oz))

    corners = np.array(list(product(*zip(shape.lo, shape.hi))))
    y, z = corners[:, 1] - oy, corners[:, 2] - oz
    corners[:, 1], corners[:, 2] = c * y - s * z + oy, c * z + s * y + oz
    return Shape(corners.min(0), corners.max(0), distance)


# --- texture: sums of plane waves, the same in every plane of a knee ------------------------------------------------------
@dataclass(frozen=True)
class Waves:
    """A random field: directions and wavelengths (mm) as wave vectors [K, 3], phases [K], amplitudes [K]."""
    k: np.ndarray
    phase: np.ndarray
    size: np.ndarray

    @classmethod
    def draw(cls, rng, n, shortest, longest, stretch=(1., 1., 1.), slope=1.):
        length = shortest * (longest / shortest) ** rng.random(n)
        way = rng.standard_normal((n, 3)) / np.asarray(stretch)
        way /= np.linalg.norm(way * stretch, axis=1, keepdims=True)
        size = (length / longest) ** (slope / 2)
        size *= np.sqrt(2 / (size ** 2).sum())
        return cls((2 * np.pi * way / length[:, None]).astype(np.float32), rng.random(n) * 2 * np.pi, size)


class Canvas:
    """Thick slices through the knee for one plane: frames [T], rows [H], columns [W], painted layer upon layer.

    Each voxel is a slab. A shape's share of it follows from the distance in the middle of the slab and from how fast that changes
    from frame to frame: the edge of a surface that runs obliquely through the slabs is as wide as it is in a real thick slice.
    """

    def __init__(self, origin, frame_step, row_step, col_step, frames, size, signals, textures, warp):
        """Steps are vectors (mm) from one frame, row, column to the next, in the knee's frame."""
        self.frames, self.size, self.signals = frames, size, signals
        f = (np.arange(frames) + .5 - frames / 2).astype(np.float32)
        p = (np.arange(size) + .5 - size / 2).astype(np.float32)
        self.steps = np.stack([frame_step, row_step, col_step])              # [3 axes, 3]
        self.inverse, self.origin = np.linalg.inv(self.steps), np.asarray(origin)
        self.axes = (f, p, p)
        self.pixel, self.slab = float(np.linalg.norm(row_step)), float(np.linalg.norm(frame_step))
        self.where = [self._line(d) for d in range(3)]
        moved = [self.waves(w) for w in warp]                                 # the warp makes every knee's shapes organic
        for here, by in zip(self.where, moved):
            here += by
        self.slack = max(float(np.abs(by).max()) for by in moved) + (self.pixel + self.slab) / 2
        self.texture = {name: self.waves(w) for name, w in textures.items()}
        for name in ("fat", "muscle"):                                        # septa: dark or bright lines where the field is near 0
            n = self.texture[name]
            line = np.float32({"fat": -1.8, "muscle": 1.4}[name]) / (1 + (6 * n) ** 2)
            n *= np.float32(.5)
            n += line
        self.texture = {name: np.clip(n, -2.5, 3, out=n) for name, n in self.texture.items()}
        self.image = np.zeros(self.where[0].shape, np.float32)
        self.masks: dict[str, np.ndarray] = {}

    def _line(self, d):
        f, r, c = (a * np.float32(s) for a, s in zip(self.axes, self.steps[:, d]))
        return f[:, None, None] + r[None, :, None] + c[None, None, :] + np.float32(self.origin[d])

    def waves(self, w: Waves):
        """cos(k . p + phase) splits into (slice, row) times (column): one matrix product for all waves. [T, H, W]

        A wave is damped by what averaging over a pixel leaves of it, so that small frames do not alias.
        """
        left_over = np.prod([np.sinc(w.k @ s / (2 * np.pi)) for s in self.steps[1:]], axis=0)
        f, r, c = (np.exp(1j * np.outer(a, w.k @ s)).astype(np.complex64) for a, s in zip(self.axes, self.steps))   # [n, K]
        left = f[:, None] * (r * np.exp(1j * (w.k @ self.origin + w.phase)).astype(np.complex64))     # [T, H, K]
        left = left.reshape(-1, left.shape[-1])
        right = (c * (w.size * left_over).astype(np.float32)).conj()                        # [W, K]
        left = left.view(np.float32)                                          # cos and sin side by side: [T * H, 2K]
        return (left @ np.ascontiguousarray(right).view(np.float32).T).reshape(len(f), len(r), len(c))

    def box(self, lo, hi, slack=0.):
        """Index ranges (frames, rows, columns) that hold a box of the knee's frame."""
        corners = np.array(list(product(*zip(np.asarray(lo) - slack, np.asarray(hi) + slack)))) - self.origin
        index = corners @ self.inverse                           # [8, 3 axes], in frames, rows, columns
        out = []
        for i, axis in enumerate(self.axes):
            half = len(axis) / 2
            a, b = index[:, i].min() + half - .5, index[:, i].max() + half - .5
            out.append(slice(int(np.clip(np.floor(a), 0, len(axis))), int(np.clip(np.ceil(b) + 1, 0, len(axis)))))
        return tuple(out)

    def paint(self, layer: Layer):
        if layer.shape is None:                                               # the ground
            (_, tissue, _, (name, amount), _), = layer.shells
            self.image[:] = np.float32(self.signals[tissue]) * (1 + np.float32(amount) * self.texture[name])
            return
        reach = max([0.] + [-s[0] for s in layer.shells]) + layer.soft / 2
        at = self.box(layer.shape.lo, layer.shape.hi, self.slack + reach)
        if layer.label:
            self.masks.setdefault(layer.label, np.zeros(self.image.shape, np.float32))
        for part in self._blocks(at, layer.shape.distance, reach):
            self._stroke(part, layer)

    def _blocks(self, at, distance, reach):
        """Boxes of a few frames, no larger than the shape needs there: found on a coarse grid first."""
        n = [s.stop - s.start for s in at]
        if min(n) <= 0:
            return
        if n[0] * n[1] * n[2] < 12000:
            yield at
            return
        deep, step = 3, 5
        coarse = tuple(slice(min(s.start + k // 2, s.stop - 1), s.stop, k) for s, k in zip(at, (deep, step, step)))
        d = distance(*(w[coarse] for w in self.where))
        length = np.linalg.norm(self.steps, axis=1)
        far = np.sqrt((deep * length[0]) ** 2 + 2 * (step * self.pixel) ** 2) * .6 + (self.pixel + self.slab) / 2 + reach
        near = d < far
        for i in range(len(near)):
            rows, cols = np.flatnonzero(near[i].any(1)), np.flatnonzero(near[i].any(0))
            if len(rows):
                f = at[0].start + i * deep
                last = at[0].stop if i == len(near) - 1 else f + deep
                yield (slice(f, last), *(slice(s.start + k[0] * step, min(s.start + (k[-1] + 1) * step, s.stop) if k[-1] < m - 1
                                               else s.stop) for s, k, m in zip(at[1:], (rows, cols), near.shape[1:])))

    def _stroke(self, at, layer: Layer):
        x, y, z = (w[at].copy() for w in self.where)                          # contiguous blocks stay in the cache
        d = layer.shape.distance(x, y, z)
        per_width = self._per_width(d, layer.soft)
        image = self.image[at].copy()
        for offset, tissue, opacity, texture, region in layer.shells:
            cover = d + np.float32(offset)
            if region is not None:
                np.maximum(cover, region(x, y, z), out=cover)
            cover *= per_width
            cover += np.float32(.5)
            np.clip(cover, 0, 1, out=cover)
            for name, mask in self.masks.items():                             # what is painted over is no longer seen
                if name != layer.label:
                    mask[at] *= 1 - cover * np.float32(opacity)
            if layer.label:
                mask = self.masks[layer.label][at]
                np.maximum(mask, cover, out=mask)
            if opacity != 1:
                cover *= np.float32(opacity)
            signal = np.float32(self.signals[tissue])
            if texture is None:
                paint = signal - image
            else:
                name, amount = texture
                paint = self.texture[name][at] * (signal * np.float32(amount))
                paint += signal
                paint -= image
            paint *= cover
            image += paint
        self.image[at] = image

    def _per_width(self, d, soft):
        """-1 / the width (mm) of the edge: the pixel, and the change of distance from one slab to the next."""
        if len(d) == 1:
            return np.float32(-1 / (self.pixel + soft + .5 * self.slab))
        change = np.abs(d[1:] - d[:-1])
        width = np.empty_like(d)
        width[0], width[-1] = change[0], change[-1]
        np.add(change[1:], change[:-1], out=width[1:-1])
        width[1:-1] *= np.float32(.5)
        width += np.float32(self.pixel + soft)
        return np.divide(np.float32(-1), width, out=width)


# --- signal and acquisition ----------------------------------------------------------------------------------------------
def spin_echo(tr, te, fat_left, tesla3: bool) -> dict[str, float]:
    """Signal of every tissue: PD (1 - exp(-TR/T1)) exp(-TE/T2), the fat's part scaled by what suppression leaves."""
    return {name: pd * (1 - np.exp(-tr / (t13 if tesla3 else t1))) * np.exp(-te / t2) * (1 - fat * (1 - fat_left))
            for name, (pd, t1, t13, t2, fat) in TISSUES.items()}


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


def draw_frames(rng, least, mean, most) -> int:
    """T: a beta variable scaled to MRNet's range, with MRNet's mean."""
    share = (mean - least) / (most - least)
    return int(round(least + (most - least) * rng.beta(7 * share, 7 * (1 - share))))


def acquire(image, rng, plane: str, tesla3: bool) -> np.ndarray:
    """Receive, sample and scale: coil bias, noise and truncation in k-space, ghosts, magnitude, 99th percentile -> uint8.

    image: float32 [T, H, W] of true signals. Noise is drawn per pixel so that its density in k-space does not depend on H:
    a frame of 64 x 64 is as quiet as one of 256 x 256 averaged 4 x 4.
    """
    frames, size, _ = image.shape
    t, p = np.linspace(-1, 1, frames, dtype=np.float32), np.linspace(-1, 1, size, dtype=np.float32)
    a = rng.normal(0, 1, 9).astype(np.float32) * np.float32(.13)
    fall = np.float32(rng.uniform(.1, .6) * COIL[plane])  # surface coils: brighter near the skin
    ends = np.float32(rng.uniform(.1, .8) * COIL[plane])  # and darker at the coil's ends
    bias = (a[0] * p[:, None] + a[1] * p ** 2 + a[2] * (p[:, None] * p) + a[3] * p[:, None] ** 2 + a[4] * p
            + fall * (p[:, None] ** 2 + p ** 2 - .6)) - (0 if plane == "axial" else ends * p[:, None] ** 2)
    bias = bias[None] + (a[5] * t + (a[6] - ends * (plane == "axial")) * t ** 2)[:, None, None] + a[7] * t[:, None, None] * p
    bias = np.exp(bias)
    image = image * bias
    scale = float(np.percentile(image[:, ::2, ::2], 99)) or 1.
    noise = NOISE[plane] * (.75 if tesla3 else 1.) * rng.uniform(.7, 1.45)
    sd = np.float32(scale * noise * size / 256)
    z = np.empty(image.shape, np.complex64)
    z.real = rng.standard_normal(image.shape, np.float32)
    z.imag = rng.standard_normal(image.shape, np.float32)
    z *= sd
    z += image

    k = np.abs(np.fft.fftfreq(size, 1 / size)).astype(np.float32)             # cycles per frame
    phase_rows = rng.random() < .5
    read, phase = rng.uniform(118, 170), rng.uniform(100, 160)                 # half the matrix, read and phase direction
    soft = rng.uniform(.05, .35)                                               # apodisation: how much of the ringing is left

    def window(half):
        return np.where(k <= half, 1 - soft + soft * np.cos(np.minimum(k / half, 1) * np.pi / 2) ** 2, 0).astype(np.float32)

    rows, cols = (window(phase), window(read)) if phase_rows else (window(read), window(phase))
    if rng.random() < .22:                                                    # periodic motion: ghosts along phase
        strength, period = rng.uniform(.02, .09), rng.uniform(2.2, 9.)
        ghost = 1 + strength * np.cos(2 * np.pi * np.fft.fftfreq(size, 1 / size) / period + rng.uniform(0, 6.28))
        rows, cols = (rows * ghost, cols) if phase_rows else (rows, cols * ghost)
    z = np.fft.fft2(z)
    z *= (rows[:, None] * cols[None]).astype(np.float32)
    z = np.fft.ifft2(z)
    image = np.sqrt(z.real ** 2 + z.imag ** 2)
    image = image * np.float32(255 / max(float(np.percentile(image[:, ::2, ::2], 99)), 1e-6)) - np.float32(rng.uniform(0, 1.5))
    return np.clip(image, 0, 255).astype(np.uint8)
