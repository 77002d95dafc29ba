"""Shapes as signed distances, and how they are joined, cut and bent: the pencil of the phantom.

Lengths are millimetres in the knee's frame: x medial (-) to lateral (+), y posterior (-) to anterior (+), z inferior (-) to
superior (+), origin at the centre of the joint line. Coordinates are float32 arrays of one shape; a field overwrites none of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

Field = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # coordinates in mm -> signed distance in mm
FAR = 8.0  # mm: beyond this a lower bound of the distance will do
BULGE = 4.0  # mm: how far the warp may carry voxels beyond the corners of their block


@dataclass(frozen=True)
class Shape:
    """A signed distance (mm, negative inside) and the box [3] outside of which it is positive."""

    lo: np.ndarray
    hi: np.ndarray
    distance: Field


def _v(*p) -> np.ndarray:
    return np.asarray(p, np.float32)


def ellipsoid(centre, radii) -> Shape:
    c, r = _v(*centre), _v(*radii)
    i, j, deepest = 1 / r**2, 1 / r**4, -r.min()

    def distance(x, y, z):  # to first order: (q - 1) / |grad q|, exact where it matters
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
        x *= np.float32(0.5)
        return np.maximum(x, deepest, out=x)  # the first order is endless at the centre

    return Shape(c - r, c + r, distance)


def rod(a, b, ra: float, rb: float | None = None, flat=(1.0, 1.0, 1.0)) -> Shape:
    """A capsule from a to b, radii ra and rb; `flat` stretches it along the axes (distances are then approximate)."""
    rb = ra if rb is None else rb
    f = _v(*flat)
    a, b = _v(*a) / f, _v(*b) / f
    d = b - a
    along, least = d / np.float32(float(d @ d) + 1e-6), float(f.min())

    def distance(x, y, z):
        if least == 1 and f.max() == 1:
            x, y, z = x - a[0], y - a[1], z - a[2]
        else:
            x, y, z = x * (1 / f[0]) - a[0], y * (1 / f[1]) - a[1], z * (1 / f[2]) - a[2]
        t = x * along[0]
        t += y * along[1]
        t += z * along[2]
        np.maximum(t, 0, out=t)
        np.minimum(t, 1, out=t)
        for w, slope in zip((x, y, z), d):
            if slope:
                w -= t * slope
            w *= w
        x += y
        x += z
        np.sqrt(x, out=x)
        if rb != ra:
            t *= np.float32(rb - ra)
            x -= t
        x -= np.float32(ra)
        if least != 1:
            x *= np.float32(least)
        return x

    r = max(ra, rb)
    return Shape((np.minimum(a, b) - r) * f, (np.maximum(a, b) + r) * f, distance)


def cord(points, ra: float, rb: float | None = None, flat=(1.0, 1.0, 1.0)) -> Shape:
    """Rods joined at the points: a bent ligament, a vessel."""
    radii = np.linspace(ra, ra if rb is None else rb, len(points))
    return union(*(rod(p, q, r, s, flat) for p, q, r, s in zip(points[:-1], points[1:], radii[:-1], radii[1:])))


def bow(a, b, sag, n: int = 4) -> list:
    """n + 1 points from a to b, bent by the vector `sag` in the middle."""
    a, b, sag = _v(*a), _v(*b), _v(*sag)
    return [a + t * (b - a) + 4 * t * (1 - t) * sag for t in np.linspace(0, 1, n + 1, dtype=np.float32)]


def union(*shapes: Shape, smooth: float = 0.0) -> Shape:
    """All of them; edges between them are rounded over `smooth` mm."""
    bounds = [(tuple(map(float, s.lo)), tuple(map(float, s.hi))) for s in shapes]
    far = smooth + FAR

    def distance(x, y, z):
        d = None
        for s, gap in zip(shapes, _gaps(bounds, x, y, z)):
            if gap > far:
                d = np.full(x.shape, gap, np.float32) if d is None else np.minimum(d, np.float32(gap), out=d)
                continue
            e = s.distance(x, y, z)
            if d is None:
                d = e
            elif smooth:
                h = d - e
                np.abs(h, out=h)
                np.subtract(np.float32(smooth), h, out=h)
                np.maximum(h, 0, out=h)
                h *= h
                h *= np.float32(0.25 / smooth)
                np.minimum(d, e, out=d)
                d -= h
            else:
                np.minimum(d, e, out=d)
        return d

    return Shape(np.min([s.lo for s in shapes], 0) - smooth / 4, np.max([s.hi for s in shapes], 0) + smooth / 4, distance)


def _gaps(bounds, x, y, z) -> list[float]:
    """A lower bound (mm) of each shape's distance from a block of voxels, read off the block's corners."""
    ends = tuple(slice(None, None, max(n - 1, 1)) for n in x.shape)
    corners = [w[ends].ravel().tolist() for w in (x, y, z)]
    lo, hi = [min(c) - BULGE for c in corners], [max(c) + BULGE for c in corners]
    return [max(0.0, *(a - h for a, h in zip(s, hi)), *(l - b for l, b in zip(lo, t))) for s, t in bounds]


def inside(shape: Shape, *others: Shape | Field, grow: float = 0.0) -> Shape:
    """The part of `shape` where every other field is negative (`grow` > 0 admits that many mm more)."""

    def distance(x, y, z):
        d = shape.distance(x, y, z)
        for other in others:
            d = np.maximum(d, (other.distance if isinstance(other, Shape) else other)(x, y, z) - np.float32(grow))
        return d

    return Shape(shape.lo, shape.hi, distance)


def outside(shape: Shape, other: Shape) -> Shape:
    return Shape(shape.lo, shape.hi, lambda x, y, z: np.maximum(shape.distance(x, y, z), -other.distance(x, y, z)))


def sheet(lo, hi, height: Callable[[np.ndarray], np.ndarray], half: float) -> Shape:
    """A thin layer around z = height(x), `half` mm to either side, within a box: a scar of the growth plate."""
    return Shape(_v(*lo), _v(*hi), lambda x, y, z: np.abs(z - height(x)) - np.float32(half))


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
