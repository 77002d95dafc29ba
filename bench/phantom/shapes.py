"""Shapes as signed distances, and how they are joined, cut and bent: the pencil of the phantom.

Lengths are millimetres in the knee's frame: x medial (-) to lateral (+), y posterior (-) to anterior (+), z inferior
(-) to superior (+), origin at the centre of the joint line. Coordinates are float32 arrays of one shape; a field
overwrites none of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

Field = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # coordinates in mm -> signed distance in mm
# np.clip is twice as fast as a maximum and a minimum, if its bounds are float32
NONE, ALL = np.float32(0), np.float32(1)


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


def cord(points, ra: float, rb: float | None = None, flat=(1.0, 1.0, 1.0)) -> Shape:
    """Capsules joined at the points: a bent ligament, a vessel. The radius goes from `ra` to `rb`; `flat` stretches the
    cross-section along the axes (distances are then approximate)."""
    f = _v(*flat)
    p = np.asarray(points, np.float32) / f
    radii = np.linspace(ra, ra if rb is None else rb, len(p), dtype=np.float32)[:, None]
    centre = p.mean(0)
    a, d = p[:-1] - centre, p[1:] - p[:-1]
    dd = (d * d).sum(1, keepdims=True) + np.float32(1e-6)
    along, start, aa = d / dd, (d * a).sum(1, keepdims=True) / dd, (a * a).sum(1, keepdims=True)
    factors, least = np.concatenate([along, -2 * a]), f.min()

    # of all segments [S, N] at once: |q - a - t d|^2 = |q|^2 - 2 a.q + |a|^2 - t (2 t0 - t) |d|^2
    def distance(x, y, z):
        q = np.stack((x, y, z)).reshape(3, -1)
        if flat != (1.0, 1.0, 1.0):
            q /= f[:, None]
        q -= centre[:, None]
        t, far = np.split(factors @ q, 2)
        t -= start
        near = np.clip(t, NONE, ALL)
        t *= np.float32(2)
        t -= near
        t *= near
        t *= dd
        far -= t
        far += aa
        q *= q
        qq = q[0]
        qq += q[1]
        qq += q[2]
        if rb is None:
            far = far.min(0)
        far += qq
        np.abs(far, out=far)  # rounding may leave less than 0
        np.sqrt(far, out=far)
        if rb is None:
            far -= radii[0]
        else:
            near *= radii[1:] - radii[:-1]
            near += radii[:-1]
            far -= near
            far = far.min(0)
        if least != 1:
            far *= least
        return far.reshape(x.shape)

    widest = radii.max()
    return Shape((p.min(0) - widest) * f, (p.max(0) + widest) * f, distance)


def rod(a, b, ra: float, rb: float | None = None, flat=(1.0, 1.0, 1.0)) -> Shape:
    return cord((a, b), ra, rb, flat)


def bow(a, b, sag, n: int = 4) -> list:
    """n + 1 points from a to b, bent by the vector `sag` in the middle."""
    a, b, sag = _v(*a), _v(*b), _v(*sag)
    return [a + t * (b - a) + 4 * t * (1 - t) * sag for t in np.linspace(0, 1, n + 1, dtype=np.float32)]


def union(*shapes: Shape, smooth: float = 0.0) -> Shape:
    """All of them; edges between them are rounded over `smooth` mm."""

    def distance(x, y, z):
        d = shapes[0].distance(x, y, z)
        for s in shapes[1:]:
            e = s.distance(x, y, z)
            if smooth:
                h = d - e
                np.abs(h, out=h)
                np.subtract(np.float32(smooth), h, out=h)
                np.maximum(h, 0, out=h)
                h *= h
                h *= np.float32(0.25 / smooth)
            np.minimum(d, e, out=d)
            if smooth:
                d -= h
        return d

    return Shape(
        np.min([s.lo for s in shapes], 0) - smooth / 4, np.max([s.hi for s in shapes], 0) + smooth / 4, distance
    )


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
