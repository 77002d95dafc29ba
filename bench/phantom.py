"""Simulated knee MR exams with known lesions, in MRNet's layout: anatomy, labels, folder and command line.

Every exam is a pure function of (seed, split, number): one 3-D anatomy of painted shapes (phantom_imaging.py holds the paint and
the scanner), rendered to three planes. No figure measured on it is a clinical one.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bench.phantom_imaging import (
    PLANES,
    Canvas,
    Layer,
    Shape,
    Waves,
    acquire,
    bend,
    bow,
    cord,
    draw_frames,
    ellipsoid,
    inside,
    outside,
    rod,
    spin_echo,
    turn,
    union,
)
from sslm_core.errors import UserError

VERSION = "4"
LABELS = ("abnormal", "acl", "meniscus")
SPLITS = ("train", "valid")
JOINT = ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
COUNTS = {"train": (217, 433, 272, 83, 125), "valid": (25, 20, 21, 23, 31)}  # MRNet's, of 1130 and 120
GOLDEN = (5 ** .5 - 1) / 2
BOXES = {  # the floor's "where to look", mm in the knee's frame: (lo, hi)
    "notch": ((-13, -28, -4), (14, 16, 30)),
    "medial_meniscus": ((-44, -30, -4), (-7, 22, 10)),
    "lateral_meniscus": ((7, -28, -4), (43, 20, 10)),
    "recess": ((-36, 8, 34), (36, 46, 84)),
    "condyles": ((-44, -34, -26), (44, 34, 46)),
    "popliteal": ((-46, -66, -44), (2, -26, 26)),
}


@dataclass(frozen=True)
class PhantomConfig:
    train: int
    valid: int
    size: int = 256
    seed: int = 0
    masks: bool = True


def digest(config: PhantomConfig) -> str:
    """12 hex characters over version and parameters: they, not the bytes, name the data (last bits may differ by machine)."""
    text = json.dumps({"version": VERSION, **asdict(config)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def stream(seed: int, split: str, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), number, purpose])


def labels_of(seed: int, split: str, number: int) -> dict[str, int]:
    """The joint class of exam `number`: a golden-ratio sequence, so that any prefix comes near MRNet's joint frequencies."""
    start = np.random.default_rng([seed, SPLITS.index(split)]).random()
    edges = np.cumsum(COUNTS[split]) / sum(COUNTS[split])
    joint = JOINT[min(int(np.searchsorted(edges, (start + number * GOLDEN) % 1, side="right")), len(JOINT) - 1)]
    return dict(zip(LABELS, joint))


# --- anatomy --------------------------------------------------------------------------------------------------------------
@dataclass
class Dice:
    rng: np.random.Generator

    def u(self, a, b):
        return float(self.rng.uniform(a, b))

    def n(self, mean, sd):
        return float(mean + sd * np.clip(self.rng.standard_normal(), -2.2, 2.2))

    def p(self, chance):
        return bool(self.rng.random() < chance)

    def pick(self, *options, weights=None):
        return options[int(self.rng.choice(len(options), p=weights))]

    def near(self, point, sd):
        return tuple(self.n(c, sd) for c in point)


@dataclass(frozen=True)
class Meniscus:
    """A C-shaped wedge, open towards the notch. `side` -1 medial, +1 lateral; radii, width and height in mm."""
    side: int
    centre: tuple
    radii: tuple
    width: float
    back: float   # how much wider the posterior horn is
    height: float
    gap: float

    def parts(self, x, y, z):
        """u (mm, away from the notch), v (mm, to the front), share of the width (0 inner edge, 1 rim), width, z from the base."""
        u, v = (x - np.float32(self.centre[0])) * np.float32(self.side), y - np.float32(self.centre[1])
        mean = np.float32(np.mean(self.radii))
        r = np.sqrt((u / np.float32(self.radii[0])) ** 2 + (v / np.float32(self.radii[1])) ** 2) * mean
        width = np.float32(self.width) - np.float32(self.back / self.radii[1]) * v
        return u, v, 1 - (mean - r) / width, width, z - np.float32(self.centre[2])

    def shape(self) -> Shape:
        def distance(x, y, z):
            u, v, share, width, z = self.parts(x, y, z)
            half = np.float32(self.height / 2) * np.clip(share, 0, 1) ** np.float32(.85) + np.float32(.15)
            return np.maximum(np.maximum(np.abs(z - half) - half, (share - 1) * width),
                              np.maximum(-share * width, np.float32(self.gap) - np.abs(v) - np.maximum(u, 0)))

        (cx, cy, cz), (rx, ry) = self.centre, self.radii
        return Shape(np.array([cx - rx - 1, cy - ry - 1, cz]), np.array([cx + rx + 1, cy + ry + 1, cz + self.height + 1]), distance)

    def tear(self, kind: str, angle: float, spread: float, thick: float, depth: float) -> Shape:
        """`angle` 0 body, > 0 anterior horn, < 0 posterior horn (radians); `thick` half the gap in mm; `depth` a share."""
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))

        def where(x, y, z):
            u, v, share, width, z = self.parts(x, y, z)
            along = (np.float32(np.cos(spread)) - (u * c + v * s) / (np.sqrt(u * u + v * v) + 1e-3)) * np.float32(20)
            if kind == "horizontal":   # a cleft from the inner edge into the body
                d = np.maximum(np.abs(z - np.float32(self.height * .5) * share) - np.float32(thick),
                               (share - np.float32(depth)) * width)
            elif kind == "radial":
                d = np.maximum(np.abs(u * s - v * c) - np.float32(thick), (share - np.float32(depth)) * width)
                along = -(u * c + v * s)
            elif kind == "vertical":
                d = np.abs(share - np.float32(depth) + np.float32(.06) * (z - 2)) * width - np.float32(thick)
            else:                      # bucket handle: the inner part is gone
                d = (share - np.float32(depth)) * width
            return np.maximum(d, along)

        return inside(self.shape(), where)

    def at(self, angle, share, z):
        """The point at an angle and a share of the width."""
        mean = np.mean(self.radii)
        v = np.sin(angle)
        r = 1 - (1 - share) * (self.width - self.back * v) / mean
        return (self.centre[0] + self.side * self.radii[0] * np.cos(angle) * r, self.centre[1] + self.radii[1] * v * r,
                self.centre[2] + z)


def leg(dice: Dice):
    """What lies outside the deep fascia and outside the skin: an elliptic tube, wider at thigh and calf, whose fat is thicker on
    one side. Returns the two outer regions and (half width, half depth, centre y, fat thickness) in mm."""
    a, b, cy = dice.n(52, 3), dice.n(54, 3), dice.n(-6, 2)
    thigh, calf, fat = dice.u(.04, .2), dice.u(-.1, .06), dice.u(2, 8.5)
    way, knob = dice.u(2.5, 4.5), dice.u(.0, .06)
    c, s, mean = np.cos(way) / a, np.sin(way) / b, np.float32(np.sqrt(a * b))

    def rho(x, y, z):
        grow = np.maximum(z - 5, 0) * np.float32(thigh / 70)
        grow += np.maximum(-z - 5, 0) * np.float32(calf / 60)
        grow += 1
        grow += np.float32(knob) * np.exp(np.float32(-1 / 484) * (z - 25) ** 2) * np.clip(y * np.float32(.05), 0, 1)
        y = y - np.float32(cy)
        return np.sqrt(x * x * np.float32(1 / a ** 2) + y * y * np.float32(1 / b ** 2)) / grow

    def skin(x, y, z):
        return (1 - rho(x, y, z)) * mean

    def fascia(x, y, z):
        r = rho(x, y, z)
        side = (x * np.float32(c) + (y - np.float32(cy)) * np.float32(s)) / (r + np.float32(.1))
        return (1 - r) * mean - np.float32(fat) * (1 + np.float32(.7) * side) - np.float32(1.6)

    lo, hi = np.array([-90., -90., -140.]), np.array([90., 90., 140.])
    return Shape(lo, hi, fascia), Shape(lo, hi, skin), (a, b, cy, fat)


def tibia_shape(dice: Dice) -> Shape:
    a, b, taper = dice.n(38, 1.2), dice.n(25.5, 1), dice.u(20, 30)
    slope = dice.u(.04, .14)

    def distance(x, y, z):
        y = y + 4
        top = np.float32(slope) * y - np.float32(1.6)
        down = np.maximum(-z - 6, 0)
        shrink = np.float32(.42) + np.float32(.58) * np.exp(down * (down * np.float32(-1 / taper ** 2) - np.float32(1 / 60)))
        xx = x / (np.float32(a) * shrink)
        yy = y / (np.float32(b) * (np.float32(.25) + np.float32(.75) * shrink))
        xx *= xx
        yy *= yy
        rho = np.sqrt(np.sqrt(xx * (xx + np.float32(1.2) * yy) + yy * yy))   # between an ellipse and a rounded box
        side = (rho - 1) * (np.float32(26) * shrink)
        d, e = side, z - top
        h = np.maximum(4 - np.abs(d - e), 0)
        return np.maximum(d, e) + h * h * np.float32(1 / 16)

    slab = Shape(np.array([-41., -32., -130.]), np.array([41., 24., 3.]), distance)
    spines = union(ellipsoid((-4.5, -3, -1), (3.5, 7, 5)), ellipsoid((5, -5, -1.5), (3.5, 6, 5)))
    tuberosity = rod((1, 11, -18), (1, 15, -36), 8, 6)
    return union(union(slab, tuberosity, smooth=16), spines, smooth=5)


def femur_shape(dice: Dice) -> tuple[Shape, Shape]:
    """The femur in extension, and the intercondylar notch."""
    m, l, w = dice.n(1, .035), dice.n(1, .035), dice.n(21.5, .7)
    body = union(
        ellipsoid((-w, -6, 24.6), (15.2, 29 * m, 20.2)), ellipsoid((w, -6, 24.6), (15.2, 28.5 * l, 20.2)),
        ellipsoid((-15, 9, 29), (14, 19 * m, 17)), ellipsoid((16, 11, 30), (14, 20 * l, 18)),
        ellipsoid((0, 1, 45), (dice.n(31, 1.5), 18, 20)),
        rod((0, 0, 52), (dice.n(0, 2), dice.n(1, 1.5), 135), 17, dice.n(13, 1), (1.2, 1, 1)), smooth=9)
    notch = ellipsoid((0, -24, 9), (dice.n(9.5, .7), 28, dice.n(24, 1)))
    return outside(body, notch), notch


def torn_acl(dice: Dice, origin, foot, add):
    """A torn cruciate ligament: complete (a gap, slack stumps), or partial (thin, swollen, bright fibres)."""
    severity, complete = dice.u(.3, 1), dice.p(.6)
    a, b = np.array(origin), np.array(foot)
    at = dice.u(.25, .65)
    middle = a + at * (b - a) + np.array([dice.n(0, 1), 0, -dice.u(0, 4)])
    swollen = dice.p(.8)
    if swollen:                                        # oedema and blood between the fibres and around
        add(rod(a + .08 * (b - a), b, dice.u(5, 9), dice.u(5, 9)), (0, "oedema", dice.u(.4, .9), ("soft", .3)),
            label="acl", soft=3)
    n = (b - a) / np.linalg.norm(b - a)
    torn = dice.pick("tear", "oedema", "synovium", weights=(.3, .35, .35))
    if complete:
        gap = dice.u(1.5, 3) + 4 * severity
        drop = np.array([0, dice.u(-2, 2), -dice.u(2, 8) * severity])
        add(cord(bow(a, middle - n * gap, drop / 2), 3.2, 2.2), (0, "acl", dice.u(.4, .9)))
        add(cord(bow(middle + n * gap + drop, b, -drop / 2), 2.6, 4), (0, "acl", dice.u(.3, .9)))
        add(rod(middle - n * gap, middle + n * gap + drop / 2, dice.u(2.6, 4)), (0, torn, dice.u(.5, .95), ("soft", .3)),
            label="acl", soft=1)
    else:
        add(cord(bow(a, b, (0, 0, -dice.u(1, 5))), dice.u(2, 3.2), 4), (0, "acl", dice.u(.4, .8)))
        add(rod(middle - n * dice.u(4, 7), middle + n * dice.u(4, 8), dice.u(2.2, 3.4)),
            (0, torn, dice.u(.4, .8), ("soft", .3)), label="acl", soft=1)


def torn_meniscus(dice: Dice, m: Meniscus, pcl_side: float, add):
    kind = dice.pick("horizontal", "vertical", "radial", "bucket", weights=(.3, .25, .2, .25))
    severity = dice.u(.4, 1)
    angle = dice.pick(dice.u(-1.5, -.7), dice.u(-.7, .5), dice.u(.6, 1.3), weights=(.6, .28, .12))
    if kind == "bucket":
        depth = dice.u(.45, .75)
        angle, spread = dice.u(-.6, 0), dice.u(.9, 1.4)
        add(m.tear(kind, angle, spread, 0, depth), (0, "tear", dice.u(.85, 1)), label="meniscus")
        x = m.centre[0] - m.side * dice.u(9, 13)        # the handle lies in the notch
        add(cord(bow((x, -19, 3), (x, 9, 3), (0, 0, 2)), dice.u(2, 3.2)), (0, "meniscus", 1), label="meniscus")
        return
    thick, depth = 1.6 + 2.4 * severity, dice.u(.7, 1) if kind != "vertical" else dice.u(.4, .75)
    spread = dice.u(.5, .8) + .8 * severity
    add(m.tear(kind, angle, spread, thick, depth), (0, "tear", dice.u(.85, 1)), label="meniscus", soft=.3)
    if dice.p(.6):                                      # a parameniscal cyst
        add(ellipsoid(m.at(angle, 1.2, 3), (dice.u(3, 7), dice.u(3, 7), dice.u(3, 6))),
            (0, "fluid", 1), label="meniscus")


def knee(rng, labels: dict[str, int]) -> tuple[list[Layer], dict[str, Waves], list[Waves]]:
    """One knee (a right one in the knee's frame): layers in the order of painting, textures, warp."""
    dice, layers = Dice(rng), []
    abnormal, acl, meniscus = (labels[k] for k in LABELS)

    def add(shape, *shells, label=None, soft=0.):
        full = tuple((s + (1, None, None)[len(s) - 2:]) if len(s) < 5 else s for s in shells)
        layers.append(Layer(shape, full, label, soft))

    # what is wrong with it
    other = set()
    if abnormal:
        if not (acl or meniscus) or dice.p(.35):
            other.add(dice.pick("effusion", "oedema", "defect", "cyst", weights=(.26, .36, .24, .14)))
            if dice.p(.75):
                other.add(dice.pick("effusion", "oedema", "defect", "cyst"))
        if acl and dice.p(.6):
            other.add("effusion")
        if acl and dice.p(.55):
            other.add("oedema")
        if meniscus and dice.p(.35):
            other.add("effusion")

    textures = {
        "muscle": Waves.draw(rng, 36, 1.8, 11, (1, 1, .22), 0),
        "fat": Waves.draw(rng, 36, 3, 17, (1, 1, .8), 0),
        "marrow": Waves.draw(rng, 88, 1.3, 24, (1, 1, dice.u(.5, .9)), dice.u(.1, .7)),
        "soft": Waves.draw(rng, 36, 1.8, 11, (1, 1, 1), 0),
    }
    warp = [Waves.draw(rng, 8, 34, 130, slope=2.5) for _ in range(3)]
    warp = [Waves(w.k, w.phase, w.size * dice.u(.7, 1.5)) for w in warp]
    fat, meat = ("fat", dice.u(.08, .24)), ("muscle", dice.u(.2, .45))
    bone = ("marrow", dice.u(.09, .25))
    marrow = dice.pick("marrow", "red_marrow", weights=(.75, .25))

    # leg: fat everywhere, muscles in it, then the skin's fat around the fascia
    fascia, skin, (wide, deep, cy, layer) = leg(dice)
    add(None, (0, "fat", 1, fat))

    def muscle(points, ra, rb, flat=(1., 1., 1.)):
        points = [dice.near(p, 2.0) for p in points]
        k = dice.n(1, .09)
        add(cord(points, ra * k, rb * k, flat), (-.9, "fat", 1, fat), (0, "muscle", 1, meat))

    muscle([(-12, 22, 110), (-14, 25, 66)], 17, 8, (1.5, .8, 1))                    # vastus intermedius
    muscle([(14, 22, 110), (12, 25, 64)], 17, 8, (1.5, .8, 1))
    muscle([(-34, 8, 115), (-35, 10, 62), (-32, 20, 28)], 26, 7)                    # vastus medialis
    muscle([(36, 4, 115), (36, 8, 68), (32, 18, 42)], 26, 6)                        # vastus lateralis
    muscle([(26, -32, 115), (31, -34, 55), (38, -27, 8)], 20, 6)                    # biceps femoris
    muscle([(-20, -34, 115), (-23, -40, 50), (-28, -32, 4)], 22, 7)                 # semimembranosus
    muscle([(-4, -46, 110), (-14, -49, 50)], 12, 4)                                 # semitendinosus
    muscle([(-42, -12, 110), (-44, -24, 45), (-39, -22, -5), (-28, 2, -45)], 9, 4, (.7, 1.2, 1))     # sartorius
    muscle([(-17, -33, 22), (-20, -40, -5), (-22, -44, -50), (-20, -44, -115)], 9, 23, (1.1, .9, 1))   # gastrocnemius
    muscle([(20, -33, 24), (21, -40, -5), (21, -44, -50), (19, -44, -115)], 9, 22, (1.1, .9, 1))
    muscle([(22, -24, -4), (2, -26, -22), (-12, -22, -60)], 6, 12, (1.2, .8, 1))    # popliteus
    muscle([(8, -30, -42), (5, -32, -120)], 7, 26, (1.3, .8, 1))                    # soleus
    muscle([(25, 6, -26), (23, 6, -120)], 8, 18)                                    # tibialis anterior
    muscle([(40, -10, -36), (36, -10, -120)], 6, 13)                                # peroneals
    add(fascia, (0, "septum"), (.9, "fat", 1, fat))
    for _ in range(dice.rng.integers(3, 9)):            # septa and veins under the skin
        t, z = dice.u(0, 6.28), dice.u(-60, 60)
        p = np.array([np.cos(t) * (wide - layer * .7), cy + np.sin(t) * (deep - layer * .7), z])
        q = p + np.array([-np.sin(t) * dice.n(0, 9), np.cos(t) * dice.n(0, 9), dice.u(15, 60)])
        add(cord(bow(p, q, dice.near((0, 0, 0), 1.5)), dice.u(.6, 2.1)), (0, dice.pick("vessel", "septum"), 1))
    # popliteal fossa
    x = dice.n(1, 2)
    lane = [(x, -24, 120), (x + 1, -30, 50), (x, -37, 5), (x, -36, -30), (x + 2, -32, -110)]
    add(cord(lane, dice.n(3.1, .3)), (-.7, "septum"), (0, dice.pick("flow_void", "vessel"), 1))
    vein = [(p[0] + dice.u(-5, 5), p[1] - 7, p[2]) for p in lane]
    add(cord(vein, dice.n(3.6, .9)), (0, dice.pick("vessel", "fluid", "flow_void", weights=(.4, .45, .15)), 1))
    add(cord([(p[0] + 6, p[1] - 12, p[2]) for p in lane], 2.6), (0, "nerve"))
    for _ in range(dice.rng.integers(2, 5)):             # genicular vessels
        p = dice.near((dice.pick(-1, 1) * 22, -24, 34), 8)
        add(cord(bow(p, dice.near((p[0] * 1.6, 4, p[2]), 6), dice.near((0, -6, 0), 6)), dice.u(.5, 1.1)),
            (0, "vessel", .8))
    for p in ((-38, -34, 60), (-34, -44, 60)):           # tendons behind the medial side
        add(cord([dice.near(p, 2), dice.near((p[0] - 3, p[1] + 4, 0), 2), (-34, 0, -50)], 1.7), (0, "ligament"))

    # fluid: a little in every knee, an effusion in some
    effusion = "effusion" in other
    thick = dice.u(3.6, 6) if effusion else dice.u(.5, 3.)
    mark = "abnormal" if effusion else None
    y = dice.n(25, 1)
    add(ellipsoid((dice.n(0, 3), y + thick * .4, dice.u(52, 60)), (dice.u(16, 24), thick, dice.u(14, 24))),
        (-1, "synovium", .8), (0, "fluid", 1), label=mark)
    for side in (-1, 1):
        if effusion or dice.p(.65):
            t = thick * dice.u(.5, 1)
            add(ellipsoid(dice.near((side * 35, 8, 34), 2), (t, dice.u(9, 14), dice.u(8, 18))), (-.8, "synovium", .8),
                (0, "fluid", 1), label=mark)
    if dice.p(.5):                                       # prepatellar and other bursae, in any knee
        add(ellipsoid(dice.near((-3, 46, -8), 5), (dice.u(3, 9), dice.u(.8, 2), dice.u(4, 9))), (0, "fluid", dice.u(.4, .9)))
    for _ in range(dice.rng.integers(0, 6)):             # swollen fat under the skin, in any knee
        t, r = dice.u(0, 6.28), dice.u(4, 16)
        add(ellipsoid((np.cos(t) * (wide - 4), cy + np.sin(t) * (deep - 4), dice.u(-50, 60)), (r, r, r * dice.u(1, 2))),
            (0, dice.pick("oedema", "vessel"), dice.u(.2, .7), fat), soft=8)
    cyst = "cyst" in other
    if cyst or dice.p(.3):
        r = dice.u(4, 7.5) if cyst else dice.u(1.2, 2.8)
        c = dice.near((-24, -42, -2), 3)
        add(union(ellipsoid(c, (r, r * dice.u(.7, 1.1), r * dice.u(1.3, 2.4))), rod(c, (-16, -30, 12), r * .35), smooth=4),
            (-.9, "septum"), (0, "fluid", 1), label="abnormal" if cyst else None)

    # the bones' shapes, needed by what lies between them
    flex, hinge = dice.u(.0, .3), (-5., 24.6)
    femur, notch = (bend(s, -flex, hinge) for s in femur_shape(dice))
    tibia = tibia_shape(dice)
    cap = bend(ellipsoid(dice.near((1, 43, 34), 1.3), (dice.n(21, 1.2), dice.n(9.6, .7), dice.n(20.5, 1.3))), -flex * .6, hinge)
    patella = inside(cap, lambda x, y, z: (np.abs(x - 2) * np.float32(.38) - y + np.float32(33.5)) * np.float32(.93))

    # notch and joint line
    add(ellipsoid((0, -9, 8), (9, 17, 19)), (0, "fat", 1, fat), (2, "synovium", dice.u(.1, .4), ("soft", .3)))
    for side in (-1, 1):
        add(ellipsoid((side * 21, -4, 2.2), (17, 21, 1.7)), (0, "fluid", dice.u(.1, .6)))

    def cruciate(a, b, sag, ra, rb, tissue, flat=(1., 1., 1.), streaks=0):
        add(cord(bow(a, b, sag, 5), ra, rb, flat), (-.5, "synovium", .5), (0, tissue, 1, ("soft", .12)))
        for _ in range(streaks):
            d = np.array(dice.near((0, 0, 0), 1.3))
            add(cord(bow(np.array(a) + d, np.array(b) + 2 * d, sag, 4), .5), (0, "synovium", dice.u(.3, .75)))

    cruciate(dice.near((-6, 3, 15), 1), dice.near((0, -27, -9), 1), (0, -7, 6.5), dice.u(3.8, 4.8), 4.4, "ligament",
             streaks=dice.rng.integers(0, 2))
    origin, foot = dice.near((9, -16, 21), 1.2), dice.near((-1, 9, 0), 1.2)
    if acl:
        torn_acl(dice, origin, foot, add)
    else:
        cruciate(origin, foot, (0, 1, -1), dice.u(2.9, 3.8), dice.u(3.8, 5), dice.pick("acl", "ligament", weights=(.7, .3)),
                 (1, 1.1, 1), streaks=dice.rng.integers(1, 6))
        if dice.p(.35):                                  # mucoid or magic-angle brightening of intact fibres
            d = np.subtract(foot, origin)
            add(rod(origin + dice.u(.1, .5) * d, origin + dice.u(.5, .95) * d, dice.u(1.2, 2.4)),
                (0, "synovium", dice.u(.2, .55)), soft=2)
        if dice.p(.4):                                   # fluid beside an intact ligament
            add(ellipsoid(dice.near((2, 2, 4), 3), (dice.u(1, 3), dice.u(1, 3), dice.u(1, 4))), (0, "fluid", dice.u(.5, 1)))

    menisci = [
        Meniscus(-1, dice.near((-21, -4, -1.2), .5), (dice.n(20, .8), dice.n(23.5, 1)), dice.n(9.5, .7), dice.u(1, 3.5),
                 dice.n(7.4, .5), dice.u(4, 7)),
        Meniscus(+1, dice.near((21, -5, -1.2), .5), (dice.n(19, .8), dice.n(20, 1)), dice.n(10, .8), dice.u(-.6, .8),
                 dice.n(7.4, .5), dice.u(3, 5)),
    ]
    torn = {dice.pick(0, 1, weights=(.65, .35))} | ({0, 1} if dice.p(.15) else set()) if meniscus else set()
    for i, m in enumerate(menisci):
        add(m.shape(), (-.3, "synovium", .5), (0, "meniscus", 1, ("soft", .15)))
        if dice.p(.3):                                   # degeneration that does not reach a surface: no tear
            r = dice.u(.8, 1.7)
            add(inside(ellipsoid(m.at(dice.u(-1.3, .8), .72, 2.6), (2 * r, 2 * r, r)), m.shape()),
                (0, "synovium", dice.u(.3, .65)), soft=1)
        if i in torn:
            torn_meniscus(dice, m, 0, add)

    # bones with cartilage, cortex, marrow
    cart, tcart = dice.u(1.7, 2.8), dice.u(1.5, 2.5)
    front = dice.u(32, 37)

    def joint_surface(x, y, z):                          # condyles and trochlea, not the shaft
        high = z - np.clip(y * np.float32(.5), 0, 8) - np.float32(front)
        return np.maximum(np.maximum(high, np.abs(x) - 34), 2.5 - notch.distance(x, y, z))

    def plateau(x, y, z):
        return np.maximum(np.abs(np.abs(x) - 20) - 15, np.float32(-3.5) - z)

    gray = ("soft", dice.u(.05, .18))
    shaft = dice.u(1.1, 1.9)
    add(femur, (-cart, "cartilage", 1, gray, joint_surface), (0, "cortex"), (shaft, marrow, 1, bone),
        (shaft + 5, marrow, 1, bone))
    add(tibia, (-tcart, "cartilage", 1, gray, plateau), (0, "cortex"), (shaft, marrow, 1, bone))
    add(inside(Shape(np.array([-40., -30., 34.]), np.array([40., 28., 42.]),
                     lambda x, y, z: np.abs(z - 38 - 3 * np.cos(x / 9)) - np.float32(.5)), femur, grow=-2),
        (0, "cortex", dice.u(.1, .6)))
    add(inside(Shape(np.array([-38., -28., -20.]), np.array([38., 26., -10.]),
                     lambda x, y, z: np.abs(z + 15 - 2 * np.cos(x / 8)) - np.float32(.45)), tibia, grow=-2),
        (0, "cortex", dice.u(.1, .6)))
    fibula = cord([dice.near((36, -19, -15), 1.5), (37, -19, -30), (36, -16, -120)], 9, 6)
    add(fibula, (0, "cortex"), (1.3, marrow, 1, bone))
    for _ in range(dice.rng.integers(4, 14)):            # islands of red marrow
        c = dice.near((0, -2, dice.pick(55, 90, -45, -80)), 9)
        add(inside(ellipsoid(c, (dice.u(3, 11), dice.u(3, 10), dice.u(4, 14))), union(femur, tibia), grow=-2),
            (0, "red_marrow", dice.u(.2, .9), bone), soft=5)

    if "oedema" in other:
        for _ in range(dice.rng.integers(1, 3)):
            home, c = dice.pick((femur, (dice.pick(-1, 1) * 22, dice.u(-16, 14), dice.u(12, 22))),
                                (tibia, (dice.pick(-1, 1) * 22, dice.u(-18, 8), dice.u(-14, -6))))
            add(inside(ellipsoid(dice.near(c, 2), (dice.u(9, 15), dice.u(9, 15), dice.u(8, 14))), home, grow=-1.2),
                (0, "oedema", dice.u(.7, 1), bone), label="abnormal", soft=5)
    if "defect" in other:
        side, a = dice.pick(-1, 1), dice.u(-.6, .5)
        c = (side * dice.n(21, 2), -6 + 27 * np.sin(a), 25 - 21 * np.cos(a))
        add(inside(ellipsoid(c, (dice.u(6, 10), dice.u(6, 12), 7)), bend(femur, 0, hinge), grow=cart),
            (0, "fluid", 1, None, lambda x, y, z: -femur.distance(x, y, z) - 1), label="abnormal")
        add(inside(ellipsoid(c, (10, 10, 9)), femur, grow=-.5), (0, "oedema", dice.u(.4, .9), bone),
            label="abnormal", soft=4)

    # extensor mechanism, collaterals
    add(patella, (-dice.u(2, 3.4), "cartilage", 1, gray, lambda x, y, z: y - 40), (0, "cortex"), (1.4, marrow, 1, bone))
    tip, top = (1, 46 - 6 * flex, 16), (1, 44 + 14 * flex, 53)
    add(cord([(tip[0], tip[1], tip[2] + 4), dice.near((1, 40, -8), 1), (1, 27, -30)], 1.9, 2.1, (5, 1, 1)),
        (-.4, "synovium", .3), (0, "ligament", 1, gray))
    add(cord([top, dice.near((0, 36, 80), 1.5), (0, 32, 125)], 2.7, 2.2, (5, 1, 1)), (0, "ligament", 1, ("soft", .4)))
    for _ in range(dice.rng.integers(3, 8)):             # septa of Hoffa's fat pad
        p = dice.near((0, 32, 2), 6)
        add(cord(bow(p, dice.near(p, 10), dice.near((0, 0, 0), 2)), .5), (0, "septum", dice.u(.4, 1)))
    add(cord([dice.near((-36, 0, 30), 1), (-42, 0, 4), (-35, 4, -42)], 1.3, 1.3, (1, 4.5, 1)), (0, "ligament"))  # medial collateral
    add(cord([dice.near((37, -4, 28), 1), (42, -11, 6), (39, -19, -12)], 1.7), (0, "ligament"))  # lateral collateral
    add(cord([(47, 6, 90), (44, 8, 28), (33, 14, -12)], 1.3, 1.5, (1, 5, 1)), (0, "ligament"))  # iliotibial band
    for side in (-1, 1):                                 # retinacula
        add(cord([(side * 19, 43, 32), (side * 34, 27, 30), (side * 40, 6, 28)], .8, .8, (1, 1, 14)), (0, "septum", .9))
    add(skin, (1.7, "skin"), (0, "air"))
    return layers, textures, warp


# --- an exam ----------------------------------------------------------------------------------------------------------------
def exam(seed: int, split: str, number: int, size: int = 256):
    """Volumes {plane: uint8 [T, H, W]}, labels {label: 0|1}, masks {plane: {label: bool [T, H, W]}} of the labels that are 1, and
    boxes {plane: {name: ((first, last), ...)}}: half-open index ranges of frames, rows and columns that hold the places of BOXES."""
    labels = labels_of(seed, split, number)
    rng = stream(seed, split, number, 0)
    pose = rng.normal(0, 1, 3) * (.05, .06, .07)
    left, tesla3 = rng.random() < .5, rng.random() < .6
    stretch = np.clip(rng.normal(1, .03, 3), .92, 1.08) * np.clip(rng.normal(1, .055), .87, 1.14)
    layers, textures, warp = knee(rng, labels)
    side = 1 if left else -1                            # +x of the patient (his left) is lateral in a left knee
    volumes, masks, boxes = {}, {}, {}
    for i, (plane, how) in enumerate(PLANES.items()):
        rng = stream(seed, split, number, 1 + i)
        frames, view = draw_frames(rng, *how["frames"]), rng.uniform(*how["view"])
        extent = rng.uniform(*how["extent"]) * np.clip(.93 + .07 * frames / how["frames"][1], .9, 1.1)
        turned = turn(pose + rng.normal(0, .035, 3))
        axes = np.array([(side, 0, 0), (0, 1, 0), (0, 0, 1)], float)   # patient's left, front, up in the knee's frame
        right_to_left, front_to_back, down = axes[0], -axes[1], -axes[2]
        across = {"axial": (down, front_to_back, right_to_left), "coronal": (front_to_back, down, right_to_left),
                  "sagittal": (right_to_left, down, front_to_back)}[plane]
        if plane == "sagittal":
            turned = turned @ turn((0, 0, side * -rng.uniform(0, .2)))  # along the cruciate ligament, as they are planned
        lengths = (extent / frames, view / size, view / size)
        steps = [turned @ a * n / stretch for a, n in zip(across, lengths)]
        origin = np.array((0, -6, {"axial": 16, "coronal": 8, "sagittal": 8}[plane])) + rng.normal(0, 3.5, 3)
        signals = spin_echo(rng.uniform(*how["tr"]), rng.uniform(*how["te"]), rng.uniform(*how["fat_left"]), tesla3)
        canvas = Canvas(origin, *steps, frames, size, signals, textures, warp)
        for layer in layers:
            canvas.paint(layer)
        volumes[plane] = acquire(canvas.image, rng, plane, tesla3)
        found = {k: m > .4 for k, m in canvas.masks.items()}
        none = np.zeros(volumes[plane].shape, bool)
        masks[plane] = {k: found.get(k, none) for k in LABELS if labels[k]}
        if labels["abnormal"]:
            masks[plane]["abnormal"] = np.any([none, *found.values()], axis=0)
        boxes[plane] = {}
        for name, (lo, hi) in BOXES.items():
            f, r, c = canvas.box(lo, hi)
            boxes[plane][name] = ((f.start, f.stop), (r.start, r.stop), (c.start, c.stop))
    return volumes, labels, masks, boxes


# --- the folder ---------------------------------------------------------------------------------------------------------------
def exam_id(number: int) -> str:
    """Zero-padded to four digits as in MRNet. Train and valid count from 0000 each: they lie in different folders."""
    return f"{number:04d}"


def _paths(out: Path, split: str, number: int, masks: bool):
    name = exam_id(number)
    volumes = {p: out / split / p / f"{name}.npy" for p in PLANES}
    return volumes, {p: out / "masks" / split / p / f"{name}.npz" for p in PLANES} if masks else {}


def _save(path: Path, save, *args, **kwargs):
    """A temporary file beside it, then os.replace: nobody ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as f:
        save(f, *args, **kwargs)
    os.replace(temporary, path)


def _write(task):
    out, config, split, number = task
    volumes, masks = _paths(out, split, number, config.masks)
    if not all(p.exists() for p in (*volumes.values(), *masks.values())):
        made, _, found, _ = exam(config.seed, split, number, config.size)
        for plane, path in masks.items():
            _save(path, np.savez_compressed, **found[plane])
        for plane, path in volumes.items():
            _save(path, np.save, made[plane])
    return number


def _stamp(config: PhantomConfig) -> dict:
    return {"generator": "bench.phantom", "version": VERSION, "digest": digest(config), **asdict(config)}


def _read_stamp(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        stamp = json.loads(path.read_text())
        if stamp["generator"] == "bench.phantom":
            return stamp
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} was not written by this generator: choose another folder with --out, or remove that file")


def make(out: Path, config: PhantomConfig, workers: int | None = None, progress: bool = True) -> Path:
    """Makes the folder of `config` unless it is there; continues a generation that was cut short; returns `out`."""
    out = Path(out)
    done, begun = out / "phantom.json", out / ".phantom-in-progress.json"
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder with --out")
    stamp, partial = _read_stamp(done), _read_stamp(begun)
    if stamp == _stamp(config):
        return out
    if out.is_dir() and any(out.iterdir()) and stamp is None and partial is None:
        raise UserError(f"{out} is not empty and no phantom was made there: choose an empty or new folder with --out")
    if stamp is not None or (partial is not None and partial != _stamp(config)):
        done.unlink(missing_ok=True)                   # of another version or other parameters: ours, so made again
        _save(begun, lambda f: f.write(json.dumps({**(stamp or partial), "digest": "stale"}).encode()))
        _clear(out)
    out.mkdir(parents=True, exist_ok=True)
    _save(begun, lambda f: f.write(json.dumps(_stamp(config)).encode()))

    tasks = ((out, config, split, i) for split in SPLITS for i in range(getattr(config, split)))
    total = config.train + config.valid
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = max(1, min(workers or cores, total))
    bar = dict(total=total, desc=f"phantom {config.size}x{config.size}", unit="exam", disable=not progress, file=sys.stderr)
    if workers == 1 or total < 6:                      # starting processes would cost more
        for _ in tqdm(map(_write, tasks), **bar):
            pass
    else:
        threads = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"            # read when a spawned worker imports numpy
        try:
            with multiprocessing.get_context("spawn").Pool(workers) as pool:
                for _ in tqdm(pool.imap_unordered(_write, tasks, chunksize=1), **bar):
                    pass
        finally:
            os.environ.pop("OMP_NUM_THREADS") if threads is None else os.environ.update(OMP_NUM_THREADS=threads)
    for split in SPLITS:
        rows = [(exam_id(i), labels_of(config.seed, split, i)) for i in range(getattr(config, split))]
        for label in LABELS:
            text = "".join(f"{name},{row[label]}\n" for name, row in rows)
            _save(out / f"{split}-{label}.csv", lambda f, text=text: f.write(text.encode()))
    _save(done, lambda f: f.write((json.dumps(_stamp(config), indent=1) + "\n").encode()))
    begun.unlink()
    return out


def _clear(out: Path):
    """Removes what this generator writes, and nothing else."""
    for path in [*out.glob("train/*/*.npy"), *out.glob("valid/*/*.npy"), *out.glob("masks/*/*/*.npz"),
                 *(out / f"{s}-{k}.csv" for s in SPLITS for k in LABELS)]:
        path.unlink(missing_ok=True)


# --- command line ----------------------------------------------------------------------------------------------------------------
def compare(config: PhantomConfig | None = None, exams: int = 14, workers: int | None = None) -> str:
    """MRNet's image statistics beside the phantom's (the first `exams` training exams of config.seed, at 256 x 256)."""
    from bench.phantom_limits import likeness_table
    return likeness_table(config.seed if config else 0, exams, workers)


def _in_recess(masks, boxes) -> float:
    at = tuple(slice(*ends) for ends in boxes["axial"]["recess"])
    return masks["axial"]["abnormal"][at].mean()


def sheet(path: Path, seed: int = 0, size: int = 256) -> Path:
    """A contact sheet: a normal knee, a torn cruciate ligament, a torn meniscus and an effusion, in three planes."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    wanted = {"normal": ((0, 0, 0), "notch"), "ACL tear": ((1, 1, 0), "notch"), "meniscal tear": ((1, 0, 1), "medial_meniscus"),
              "effusion": ((1, 0, 0), "recess")}
    figure, axes = plt.subplots(3, len(wanted), figsize=(2.6 * len(wanted), 8.1), facecolor="black")
    for column, (title, (joint, place)) in enumerate(wanted.items()):
        number = next(i for i in range(10_000) if tuple(labels_of(seed, "train", i).values()) == joint)
        if title == "effusion":                            # among the first of that class the one with most in the recess
            some = [i for i in range(200) if tuple(labels_of(seed, "train", i).values()) == joint][:12]
            number = max(some, key=lambda i: _in_recess(*exam(seed, "train", i, 32)[2:]))
        volumes, _, masks, boxes = exam(seed, "train", number, size)
        label = LABELS[1 if joint[1] else 2 if joint[2] else 0]
        for row, plane in enumerate(PLANES):
            found = masks[plane].get(label)
            frame = sum(boxes[plane][place][0]) // 2 if found is None else int(found.sum((1, 2)).argmax())
            axes[row, column].imshow(volumes[plane][frame], cmap="gray", vmin=0, vmax=255)
            axes[row, column].axis("off")
        axes[0, column].set_title(title, color="white", fontsize=11)
    figure.subplots_adjust(0, 0, 1, .96, .01, .01)
    _save(Path(path), lambda f: figure.savefig(f, dpi=60, format="png", facecolor="black"))
    plt.close(figure)
    return Path(path)


def add_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--out", type=Path, help="folder to make, in MRNet's layout")
    parser.add_argument("--train", type=int, default=1130, metavar="N")
    parser.add_argument("--valid", type=int, default=120, metavar="N")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of a frame (default 256)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-masks", dest="masks", action="store_false", help="leave the lesion masks out")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument("--compare", action="store_true", help="print MRNet's image statistics beside the phantom's")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet")


def main(args) -> int:
    if not (args.out or args.compare or args.sheet):
        raise UserError("nothing to do: give --out FOLDER, --compare or --sheet FILE.png")
    for name, least in (("train", 1), ("valid", 1), ("size", 16), ("seed", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: expected {least} or more")
    config = PhantomConfig(args.train, args.valid, args.size, args.seed, args.masks)
    if args.out:
        out = make(args.out, config, args.workers)
        print(f"{out}: {config.train} + {config.valid} simulated exams of {config.size} x {config.size}, digest {digest(config)}")
    if args.sheet:
        print(sheet(args.sheet, args.seed, args.size))
    if args.compare:
        print(compare(config, workers=args.workers))
    return 0
