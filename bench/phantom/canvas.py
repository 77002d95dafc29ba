"""The canvas of the phantom: thick slices on which shapes are painted one upon the other, and the textures of the
paint."""

from dataclasses import dataclass

import numpy as np

from .shapes import ALL, NONE, Shape

SLAB = 0.75  # thickness of a slice as a share of the distance between slices
EDGE = 0.5  # width of the edge of a surface across the frame, in pixels
DEEP = 2  # frames of a tile
AT_ONCE = 32_768  # voxels that are painted at once: their dozen arrays stay in the cache


@dataclass(frozen=True)
class Layer:
    """One stroke of paint. `shells` are (offset in mm, tissue, opacity, texture (name, amount) or None, region or
    None), outermost first; `label` marks a finding, whose mask is kept; `soft` widens the edge (mm). No shape:
    everywhere."""

    shape: Shape | None
    shells: tuple
    label: str | None = None
    soft: float = 0.0


@dataclass(frozen=True)
class Waves:
    """A random field, a sum of K plane waves: wave vectors [K, 3] (radians per mm), phases [K], amplitudes [K]. Its
    spread is 1."""

    k: np.ndarray
    phase: np.ndarray
    size: np.ndarray

    @classmethod
    def draw(cls, rng, n, shortest, longest, stretch=(1.0, 1.0, 1.0), slope=1.0) -> "Waves":
        """Wavelengths in mm; `stretch` lengthens structures along the axes; a greater `slope` favours the long
        waves."""
        length = shortest * (longest / shortest) ** rng.random(n)
        way = rng.standard_normal((n, 3)) / np.asarray(stretch)
        way /= np.linalg.norm(way * stretch, axis=1, keepdims=True)
        size = (length / longest) ** (slope / 2)
        size *= np.sqrt(2 / (size**2).sum())
        return cls((2 * np.pi * way / length[:, None]).astype(np.float32), rng.random(n) * 2 * np.pi, size)


@dataclass(frozen=True)
class Texture:
    """Brightness that varies by `amount` of itself; where the field is near 0 run septa: sheets of another tissue,
    1/sharp wide."""

    waves: Waves
    amount: float
    septum: str | None = None
    share: float = 0.0
    sharp: float = 8.0


@dataclass(frozen=True)
class Knee:
    """What the canvas needs: layers in the order of painting, textures, the warp's three fields (mm), and a region of
    poor fat suppression (direction [3], start in mm, strength) or None."""

    layers: list[Layer]
    textures: dict[str, Texture]
    warp: list[Waves]
    poor_fat: tuple | None


class Canvas:
    """Thick slices through the knee for one plane: frames [T], rows [H], columns [W], painted layer upon layer.

    Each voxel is a slab. A shape's share of it follows from the distance in the middle of the slab and from how fast
    that changes from frame to frame: the edge of a surface that runs obliquely through the slabs is as wide as it is in
    a real thick slice.

    Voxels are kept by tiles, [tiles, DEEP * side * side], so that a shape is computed in the tiles that it touches
    alone.
    """

    def __init__(self, origin, steps, frames: int, size: int, signals: dict[str, float], knee: Knee):
        """`steps` [3, 3]: vectors (mm) from one frame, row, column to the next, in the knee's frame."""
        self.shape, self.signals = (frames, size, size), signals
        self.tile = (DEEP, max(size // 32, 2), max(size // 32, 2))
        self.tiles = tuple(-(-n // k) for n, k in zip(self.shape, self.tile))
        self.steps, self.origin = np.stack(steps), np.asarray(origin)
        self.inverse = np.linalg.inv(self.steps)
        self.pixel, self.slab = float(np.linalg.norm(steps[1])), float(np.linalg.norm(steps[0]))
        self.half_tile = np.linalg.norm(self.steps * np.array(self.tile)[:, None]) / 2
        # along frames, rows and columns: where tiles start from the middle of the volume, and the steps to the voxels
        # of a tile
        self.starts = [
            (np.arange(m) * k + 0.5 - n / 2).astype(np.float32) for n, m, k in zip(self.shape, self.tiles, self.tile)
        ]
        self.within = [np.arange(k, dtype=np.float32) for k in self.tile]
        self.where = [
            self._line(self.starts, d)[:, None] + self._line(self.within, d) + np.float32(self.origin[d])
            for d in range(3)
        ]
        self.texture = {name: self._texture(name, t) for name, t in knee.textures.items()}
        if knee.poor_fat:
            self._add_poor_fat(*knee.poor_fat)
        moved = [self.waves(w) for w in knee.warp]  # the warp makes every knee's shapes organic
        self.slack = max(float(np.abs(by).max()) for by in moved) + (self.pixel + self.slab) / 2
        for here, by in zip(self.where, moved):
            here += by
        self.middle = [w.mean(1, keepdims=True) for w in self.where]  # of each tile
        self.canvas = np.zeros(self.where[0].shape, np.float32)
        self.marks: dict[str, np.ndarray] = {}

    @property
    def image(self) -> np.ndarray:
        """What was painted: [T, H, W]."""
        return self._frames(self.canvas)

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Of each label the share of each voxel that its findings fill and nothing hides: [T, H, W]."""
        return {label: self._frames(mark) for label, mark in self.marks.items()}

    def _frames(self, a: np.ndarray) -> np.ndarray:
        (t, h, w), (i, j, k) = self.tiles, self.tile
        whole = a.reshape(t, h, w, i, j, k).transpose(0, 3, 1, 4, 2, 5).reshape(t * i, h * j, w * k)
        return np.ascontiguousarray(whole[tuple(slice(n) for n in self.shape)])

    def _line(self, axes, d: int) -> np.ndarray:
        """Coordinate d (mm) of all combinations of places along frames, rows and columns, flat."""
        f, r, c = (a * np.float32(s) for a, s in zip(axes, self.steps[:, d]))
        return (f[:, None, None] + r[:, None] + c).ravel()

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
        np.clip(x, NONE, ALL, out=x)
        x *= np.float32(strength)
        self.texture["fat"] += x

    def waves(self, w: Waves) -> np.ndarray:
        """cos(k . p + phase) splits into a tile's part times a voxel's part: one matrix product for all waves. [tiles,
        voxels]

        A wave is damped by what averaging over a pixel leaves of it, so that small frames do not alias.
        """
        left_over = np.prod([np.sinc(w.k @ s / (2 * np.pi)) for s in self.steps[1:]], axis=0)

        def turns(axes):  # of frames, rows and columns: [n, K] each -> [n * n * n, K]
            f, r, c = (
                np.exp(np.complex64(1j) * np.outer(a, w.k @ s).astype(np.float32)) for a, s in zip(axes, self.steps)
            )
            return ((f[:, None] * r)[:, :, None] * c).reshape(-1, c.shape[1])

        first = np.exp(1j * (w.k @ self.origin + w.phase)) * w.size * left_over
        left, right = turns(self.starts), (turns(self.within) * first.astype(np.complex64)).conj()
        return left.view(np.float32) @ np.ascontiguousarray(right).view(np.float32).T  # cos and sin side by side

    def box(self, lo, hi, slack: float = 0.0) -> tuple[slice, slice, slice]:
        """Index ranges (frames, rows, columns) that hold a box of the knee's frame."""
        lo, hi = np.asarray(lo, float), np.asarray(hi, float)
        middle = ((lo + hi) / 2 - self.origin) @ self.inverse
        half = ((hi - lo) / 2 + slack) @ np.abs(self.inverse)
        out: list[slice] = []
        for m, h, n in zip(middle.tolist(), half.tolist(), self.shape):
            m += n / 2 - 0.5
            out.append(slice(min(max(int(np.floor(m - h)), 0), n), min(max(int(np.ceil(m + h)) + 1, 0), n)))
        return out[0], out[1], out[2]

    def paint(self, layer: Layer):
        if layer.shape is None:  # the ground
            ((_, tissue, _, (name, amount), _),) = layer.shells
            np.multiply(self.texture[name], np.float32(amount * self.signals[tissue]), out=self.canvas)
            self.canvas += np.float32(self.signals[tissue])
            return
        if layer.label and layer.label not in self.marks:
            self.marks[layer.label] = np.zeros(self.canvas.shape, np.float32)
        touched = self._touched(layer)
        step = AT_ONCE // self.canvas.shape[1]
        for i in range(0, len(touched), step):
            self._stroke(touched[i : i + step], layer)

    def _touched(self, layer: Layer) -> np.ndarray:
        """Numbers of the tiles that a layer may reach, by the distance from their middle."""
        assert layer.shape is not None  # the ground reaches all of them
        reach = max([0.0] + [-s[0] for s in layer.shells]) + layer.soft / 2
        at = self.box(layer.shape.lo, layer.shape.hi, self.slack + reach)
        f, r, c = (np.arange(s.start // k, -(-s.stop // k)) for s, k in zip(at, self.tile))
        tiles = ((f[:, None] * self.tiles[1] + r)[:, :, None] * self.tiles[2] + c).ravel()
        d = layer.shape.distance(*(m.take(tiles, 0) for m in self.middle))[:, 0]
        return tiles[d < 1.2 * self.half_tile + (self.pixel + self.slab) / 2 + reach]  # some distances are approximate

    def _stroke(self, tiles: np.ndarray, layer: Layer):
        assert layer.shape is not None
        x, y, z = (w.take(tiles, 0) for w in self.where)
        d = layer.shape.distance(x, y, z)
        per_width = self._per_width(d, layer.soft)
        image = self.canvas.take(tiles, 0)
        others = [mark for label, mark in self.marks.items() if label != layer.label and mark.take(tiles, 0).any()]
        for offset, tissue, opacity, texture, region in layer.shells:
            if region is None:
                cover = d + np.float32(offset)
            else:
                cover = region(x, y, z)
                np.maximum(cover, d + np.float32(offset), out=cover)
            cover *= per_width
            cover += np.float32(0.5)
            np.clip(cover, NONE, ALL, out=cover)
            for mark in others:  # what is painted over is no longer seen
                mark[tiles] *= 1 - cover * np.float32(opacity)
            if layer.label:
                self.marks[layer.label][tiles] = np.maximum(self.marks[layer.label].take(tiles, 0), cover)
            if opacity != 1:
                cover *= np.float32(opacity)
            signal = np.float32(self.signals[tissue])
            if texture is None:
                paint = signal - image
            else:
                name, amount = texture
                paint = self.texture[name].take(tiles, 0)
                paint *= signal * np.float32(amount)
                paint += signal
                paint -= image
            paint *= cover
            image += paint
        self.canvas[tiles] = image

    def _per_width(self, d: np.ndarray, soft: float) -> np.ndarray:
        """-1 / the width (mm) of the edge: the pixel, and the change of distance from one slab to the next."""
        d = d.reshape(len(d), DEEP, -1)
        width = d[:, 1] - d[:, 0]
        np.abs(width, out=width)
        width *= np.float32(SLAB)
        width += np.float32(EDGE * self.pixel + soft)
        np.divide(np.float32(-1), width, out=width)
        return np.concatenate([width, width], 1)
