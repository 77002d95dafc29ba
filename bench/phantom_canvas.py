"""The canvas of the phantom: thick slices on which shapes are painted one upon the other, and the textures of the paint."""

from dataclasses import dataclass

import numpy as np

from .phantom_shapes import Shape

SLAB = 0.75  # thickness of a slice as a share of the distance between slices
EDGE = 0.5  # width of the edge of a surface across the frame, in pixels
GROUND, DEEP, STEP = 12_000, 3, 5  # voxels that are painted as one block; the coarse grid's steps in frames and pixels


@dataclass(frozen=True)
class Layer:
    """One stroke of paint. `shells` are (offset in mm, tissue, opacity, texture (name, amount) or None, region or None), outermost
    first; `label` marks a finding, whose mask is kept; `soft` widens the edge (mm). No shape: everywhere."""

    shape: Shape | None
    shells: tuple
    label: str | None = None
    soft: float = 0.0


@dataclass(frozen=True)
class Waves:
    """A random field, a sum of K plane waves: wave vectors [K, 3] (radians per mm), phases [K], amplitudes [K]. Its spread is 1."""

    k: np.ndarray
    phase: np.ndarray
    size: np.ndarray

    @classmethod
    def draw(cls, rng, n, shortest, longest, stretch=(1.0, 1.0, 1.0), slope=1.0) -> "Waves":
        """Wavelengths in mm; `stretch` lengthens structures along the axes; a greater `slope` favours the long waves."""
        length = shortest * (longest / shortest) ** rng.random(n)
        way = rng.standard_normal((n, 3)) / np.asarray(stretch)
        way /= np.linalg.norm(way * stretch, axis=1, keepdims=True)
        size = (length / longest) ** (slope / 2)
        size *= np.sqrt(2 / (size**2).sum())
        return cls((2 * np.pi * way / length[:, None]).astype(np.float32), rng.random(n) * 2 * np.pi, size)


@dataclass(frozen=True)
class Texture:
    """Brightness that varies by `amount` of itself; where the field is near 0 run septa: sheets of another tissue, 1/sharp wide."""

    waves: Waves
    amount: float
    septum: str | None = None
    share: float = 0.0
    sharp: float = 8.0


class Canvas:
    """Thick slices through the knee for one plane: frames [T], rows [H], columns [W], painted layer upon layer.

    Each voxel is a slab. A shape's share of it follows from the distance in the middle of the slab and from how fast that changes
    from frame to frame: the edge of a surface that runs obliquely through the slabs is as wide as it is in a real thick slice.
    """

    def __init__(self, origin, steps, frames: int, size: int, signals: dict[str, float], textures: dict[str, Texture], warp, poor_fat=None):
        """`steps` [3, 3]: vectors (mm) from one frame, row, column to the next, in the knee's frame. `poor_fat`: (direction [3],
        start in mm, strength) of a region where the fat's signal is not suppressed."""
        self.frames, self.size, self.signals = frames, size, signals
        f = (np.arange(frames) + 0.5 - frames / 2).astype(np.float32)
        p = (np.arange(size) + 0.5 - size / 2).astype(np.float32)
        self.axes, self.steps, self.origin = (f, p, p), np.stack(steps), np.asarray(origin)
        self.inverse = np.linalg.inv(self.steps)
        self.pixel, self.slab = float(np.linalg.norm(steps[1])), float(np.linalg.norm(steps[0]))
        self.where = [self._line(d) for d in range(3)]
        self.texture = {name: self._texture(name, t) for name, t in textures.items()}
        if poor_fat:
            self._add_poor_fat(*poor_fat)
        moved = [self.waves(w) for w in warp]  # the warp makes every knee's shapes organic
        for here, by in zip(self.where, moved):
            here += by
        self.slack = max(float(np.abs(by).max()) for by in moved) + (self.pixel + self.slab) / 2
        self.image = np.zeros(self.where[0].shape, np.float32)
        self.masks: dict[str, np.ndarray] = {}
        self.held: dict[str, list] = {}  # index ranges outside of which a mask is empty

    def _line(self, d: int) -> np.ndarray:
        f, r, c = (a * np.float32(s) for a, s in zip(self.axes, self.steps[:, d]))
        return (f[:, None] + r + np.float32(self.origin[d]))[:, :, None] + c

    def _texture(self, name: str, t: Texture) -> np.ndarray:
        n = self.waves(t.waves)
        if t.septum is None:
            n *= np.float32(t.amount)
        else:
            contrast = np.clip(self.signals[t.septum] / (self.signals[name] + 1e-6) - 1, -1, 5) * t.share
            line = n * np.float32(t.sharp)
            line *= line
            line += 1
            np.divide(np.float32(contrast), line, out=line)
            n *= n  # lobules and bundles: bright within, darker towards their edges
            np.minimum(n, 3, out=n)
            n -= 1
            n *= np.float32(t.amount)
            n += line
        np.maximum(n, np.float32(-0.85), out=n)
        return n

    def _add_poor_fat(self, way, start: float, strength: float):
        x = self.where[0] * np.float32(way[0])
        x += self.where[1] * np.float32(way[1])
        x += self.where[2] * np.float32(way[2])
        x -= np.float32(start)
        x *= np.float32(1 / 18)
        np.maximum(x, 0, out=x)
        np.minimum(x, 1, out=x)
        x *= np.float32(strength)
        self.texture["fat"] += x

    def waves(self, w: Waves) -> np.ndarray:
        """cos(k . p + phase) splits into (slice, row) times (column): one matrix product for all waves. [T, H, W]

        A wave is damped by what averaging over a pixel leaves of it, so that small frames do not alias.
        """
        left_over = np.prod([np.sinc(w.k @ s / (2 * np.pi)) for s in self.steps[1:]], axis=0)
        f, r, c = (np.exp(np.complex64(1j) * np.outer(a, w.k @ s).astype(np.float32)) for a, s in zip(self.axes, self.steps))  # [n, K]
        left = f[:, None] * (r * np.exp(1j * (w.k @ self.origin + w.phase)).astype(np.complex64))  # [T, H, K]
        right = (c * (w.size * left_over).astype(np.float32)).conj()  # [W, K]
        left = left.reshape(-1, left.shape[-1]).view(np.float32)  # cos and sin side by side: [T * H, 2K]
        return (left @ np.ascontiguousarray(right).view(np.float32).T).reshape(len(f), len(r), len(c))

    def box(self, lo, hi, slack: float = 0.0) -> tuple[slice, slice, slice]:
        """Index ranges (frames, rows, columns) that hold a box of the knee's frame."""
        lo, hi = np.asarray(lo, float), np.asarray(hi, float)
        middle = ((lo + hi) / 2 - self.origin) @ self.inverse
        half = ((hi - lo) / 2 + slack) @ np.abs(self.inverse)
        out = []
        for m, h, axis in zip(middle.tolist(), half.tolist(), self.axes):
            n, m = len(axis), m + len(axis) / 2 - 0.5
            out.append(slice(min(max(int(np.floor(m - h)), 0), n), min(max(int(np.ceil(m + h)) + 1, 0), n)))
        return tuple(out)

    def paint(self, layer: Layer):
        if layer.shape is None:  # the ground
            ((_, tissue, _, (name, amount), _),) = layer.shells
            np.multiply(self.texture[name], np.float32(amount * self.signals[tissue]), out=self.image)
            self.image += np.float32(self.signals[tissue])
            return
        reach = max([0.0] + [-s[0] for s in layer.shells]) + layer.soft / 2
        at = self.box(layer.shape.lo, layer.shape.hi, self.slack + reach)
        if min(s.stop - s.start for s in at) <= 0:
            return
        if layer.label:
            self.masks.setdefault(layer.label, np.zeros(self.image.shape, np.float32))
            held = self.held.setdefault(layer.label, [(s.start, s.stop) for s in at])
            self.held[layer.label] = [(min(a, s.start), max(b, s.stop)) for (a, b), s in zip(held, at)]
        for part in self._blocks(at, layer.shape.distance, reach):
            self._stroke(part, layer)

    def _blocks(self, at, distance, reach):
        """Boxes of a few frames, no larger than the shape needs there: found on a coarse grid first."""
        n = [s.stop - s.start for s in at]
        if n[0] * n[1] * n[2] < GROUND:
            yield at
            return
        coarse = tuple(slice(min(s.start + k // 2, s.stop - 1), s.stop, k) for s, k in zip(at, (DEEP, STEP, STEP)))
        d = distance(*(w[coarse] for w in self.where))
        far = np.sqrt((DEEP * self.slab) ** 2 + 2 * (STEP * self.pixel) ** 2) * 0.6 + (self.pixel + self.slab) / 2 + reach
        near = d < far
        together = 2 if self.size <= 128 else 1
        for i in range(0, len(near), together):
            some = near[i : i + together].any(0)
            rows, cols = np.flatnonzero(some.any(1)), np.flatnonzero(some.any(0))
            if len(rows):
                f = at[0].start + i * DEEP
                last = at[0].stop if i + together >= len(near) else f + together * DEEP
                ends = [(k[0], k[-1] + 1 if k[-1] < m - 1 else None) for k, m in zip((rows, cols), near.shape[1:])]
                yield (slice(f, last), *(slice(s.start + a * STEP, s.stop if b is None else min(s.start + b * STEP, s.stop))
                                         for s, (a, b) in zip(at[1:], ends)))  # fmt: skip

    def _stroke(self, at, layer: Layer):
        x, y, z = (np.ascontiguousarray(w[at]) for w in self.where)  # contiguous blocks stay in the cache
        d = layer.shape.distance(x, y, z)
        per_width = self._per_width(d, layer.soft)
        image = self.image[at].copy()
        others = [self.masks[name][at] for name, held in self.held.items()
                  if name != layer.label and all(a < s.stop and s.start < b for (a, b), s in zip(held, at))]  # fmt: skip
        for offset, tissue, opacity, texture, region in layer.shells:
            if region is None:
                cover = d + np.float32(offset)
            else:
                cover = region(x, y, z)
                np.maximum(cover, d + np.float32(offset), out=cover)
            cover *= per_width
            cover += np.float32(0.5)
            np.maximum(cover, 0, out=cover)
            np.minimum(cover, 1, out=cover)
            for mask in others:  # what is painted over is no longer seen
                mask *= 1 - cover * np.float32(opacity)
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

    def _per_width(self, d: np.ndarray, soft: float):
        """-1 / the width (mm) of the edge: the pixel, and the change of distance from one slab to the next."""
        if len(d) == 1:
            return np.float32(-1 / (EDGE * self.pixel + soft + 0.5 * self.slab))
        width = np.empty_like(d)
        change = d[1:] - d[:-1]
        np.abs(change, out=change)
        width[0], width[-1] = change[0], change[-1]
        np.add(change[1:], change[:-1], out=width[1:-1])
        width[1:-1] *= np.float32(0.5)
        width *= np.float32(SLAB)
        width += np.float32(EDGE * self.pixel + soft)
        return np.divide(np.float32(-1), width, out=width)
