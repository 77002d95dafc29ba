"""What may be wrong with a simulated knee: tears and other findings, painted and marked, and their look-alikes in
normal knees."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .shapes import Shape, bow, cord, ellipsoid, inside, rod, union

BOXES = {  # where to look, mm in the knee's frame: (lo, hi)
    "notch": ((-13, -28, -4), (14, 16, 30)),
    "medial_meniscus": ((-44, -30, -4), (-7, 22, 10)),
    "lateral_meniscus": ((7, -28, -4), (43, 20, 10)),
    "recess": ((-36, 8, 34), (36, 46, 84)),
    "medial_femur": ((-42, -34, 0), (-4, 26, 38)),
    "lateral_femur": ((4, -34, 0), (42, 26, 38)),
    "medial_tibia": ((-40, -32, -26), (-3, 20, -1)),
    "lateral_tibia": ((3, -32, -26), (40, 20, -1)),
    "popliteal": ((-42, -62, -34), (-4, -24, 24)),
}
OTHERS = ("effusion", "oedema", "defect", "cyst")


@dataclass
class Dice:
    """Draws in the words that anatomy needs."""

    rng: np.random.Generator

    def u(self, a, b) -> float:
        return float(self.rng.uniform(a, b))

    def n(self, mean, sd) -> float:
        return float(mean + sd * min(max(self.rng.standard_normal(), -2.2), 2.2))

    def p(self, chance) -> bool:
        return bool(self.rng.random() < chance)

    def few(self, least, most) -> range:
        """As many as least .. most, the last included."""
        return range(int(self.rng.integers(least, most + 1)))

    def pick(self, *options, weights=None):
        return options[int(self.rng.choice(len(options), p=weights))]

    def near(self, point, sd) -> tuple:
        return tuple(self.n(c, sd) for c in point)

    def blob(self, point, sd, *radii) -> Shape:
        """An ellipsoid near a point; radii: least and most of each."""
        return ellipsoid(self.near(point, sd), [self.u(*radius) for radius in radii])


@dataclass(frozen=True)
class Meniscus:
    """A C-shaped wedge, open towards the notch. `side` -1 medial, +1 lateral; radii, width and height in mm."""

    side: int
    centre: tuple
    radii: tuple
    width: float
    back: float  # how much wider the posterior horn is
    height: float
    gap: float

    def parts(self, x, y, z):
        """u (mm, away from the notch), v (mm, to the front), share of the width (0 inner edge, 1 rim), width, z from
        the base."""
        u, v = (x - np.float32(self.centre[0])) * np.float32(self.side), y - np.float32(self.centre[1])
        mean = np.float32(np.mean(self.radii))
        r = np.sqrt((u / np.float32(self.radii[0])) ** 2 + (v / np.float32(self.radii[1])) ** 2) * mean
        width = np.float32(self.width) - np.float32(self.back / self.radii[1]) * v
        return u, v, 1 - (mean - r) / width, width, z - np.float32(self.centre[2])

    def shape(self) -> Shape:
        def distance(x, y, z):
            u, v, share, width, z = self.parts(x, y, z)
            half = np.float32(self.height / 2) * np.clip(share, 0, 1) ** np.float32(0.85) + np.float32(0.15)
            return np.maximum(
                np.maximum(np.abs(z - half) - half, (share - 1) * width),
                np.maximum(-share * width, np.float32(self.gap) - np.abs(v) - np.maximum(u, 0)),
            )

        (cx, cy, cz), (rx, ry) = self.centre, self.radii
        return Shape(
            np.array([cx - rx - 1, cy - ry - 1, cz]),
            np.array([cx + rx + 1, cy + ry + 1, cz + self.height + 1]),
            distance,
        )

    def tear(self, kind: str, angle: float, spread: float, thick: float, depth: float) -> Shape:
        """`angle` 0 body, > 0 anterior horn, < 0 posterior horn (radians); `thick` half the gap in mm; `depth` a
        share."""
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))

        def where(x, y, z):
            u, v, share, width, z = self.parts(x, y, z)
            along = (np.float32(np.cos(spread)) - (u * c + v * s) / (np.sqrt(u * u + v * v) + 1e-3)) * np.float32(20)
            if kind == "horizontal":  # a cleft from the inner edge into the body
                d = np.maximum(
                    np.abs(z - np.float32(self.height * 0.5) * share) - np.float32(thick),
                    (share - np.float32(depth)) * width,
                )
            elif kind == "radial":
                d = np.maximum(np.abs(u * s - v * c) - np.float32(thick), (share - np.float32(depth)) * width)
                along = -(u * c + v * s)
            elif kind == "vertical":
                d = np.abs(share - np.float32(depth) + np.float32(0.06) * (z - 2)) * width - np.float32(thick)
            else:  # bucket handle: the inner part is gone
                d = (share - np.float32(depth)) * width
            return np.maximum(d, along)

        return inside(self.shape(), where)

    def at(self, angle, share, z) -> tuple:
        """The point at an angle and a share of the width, z mm above the base."""
        v = np.sin(angle)
        r = 1 - (1 - share) * (self.width - self.back * v) / np.mean(self.radii)
        cx, cy, cz = self.centre
        return cx + self.side * self.radii[0] * np.cos(angle) * r, cy + self.radii[1] * v * r, cz + z


def draw_others(dice: Dice, abnormal: bool, acl: bool, meniscus: bool) -> set[str]:
    """Which of OTHERS a knee has: one or two where nothing is torn; some come along with tears."""
    other = set()
    if abnormal and (not (acl or meniscus) or dice.p(0.3)):
        other.add(dice.pick(*OTHERS, weights=(0.22, 0.34, 0.26, 0.18)))
        if dice.p(0.75):
            other.add(dice.pick(*OTHERS))
    for name, torn, chance in (("effusion", acl, 0.45), ("effusion", meniscus, 0.3)):
        if torn and dice.p(chance):
            other.add(name)
    return other


def torn_acl(dice: Dice, origin, foot, add: Callable):
    """A torn cruciate ligament: complete (a gap, slack stumps), or partial (thin, swollen, bright fibres)."""
    severity, complete = dice.u(0.3, 1), dice.p(0.6)
    a, b = np.array(origin), np.array(foot)
    at = dice.u(0.25, 0.65)
    middle = a + at * (b - a) + np.array([dice.n(0, 1), 0, -dice.u(0, 4)])
    if dice.p(0.9):  # oedema and blood between the fibres and around
        around = rod(a + 0.08 * (b - a), b, dice.u(6.5, 10.5), dice.u(6.5, 10.5))
        add(around, (0, "oedema", dice.u(0.5, 1), ("soft", 0.3)), label="acl", soft=3)
    n = (b - a) / np.linalg.norm(b - a)
    torn = dice.pick("tear", "oedema", "synovium", weights=(0.3, 0.35, 0.35))
    if complete:
        gap = dice.u(1.5, 3) + 4 * severity
        drop = np.array([0, dice.u(-2, 2), -dice.u(2, 8) * severity])
        add(cord(bow(a, middle - n * gap, drop / 2), 3.2, 2.2), (0, "acl", dice.u(0.4, 0.9)))
        add(cord(bow(middle + n * gap + drop, b, -drop / 2), 2.6, 4), (0, "acl", dice.u(0.3, 0.9)))
        tear, bright = rod(middle - n * gap, middle + n * gap + drop / 2, dice.u(2.6, 4)), dice.u(0.5, 0.95)
    else:
        add(cord(bow(a, b, (0, 0, -dice.u(1, 5))), dice.u(2, 3.2), 4), (0, "acl", dice.u(0.4, 0.8)))
        tear, bright = rod(middle - n * dice.u(4, 7), middle + n * dice.u(4, 8), dice.u(2.2, 3.4)), dice.u(0.4, 0.8)
    add(tear, (0, torn, bright, ("soft", 0.3)), label="acl", soft=1)


def torn_meniscus(dice: Dice, m: Meniscus, add: Callable):
    kind = dice.pick("horizontal", "vertical", "radial", "bucket", weights=(0.3, 0.25, 0.2, 0.25))
    severity = dice.u(0.4, 1)
    angle = dice.pick(dice.u(-1.5, -0.7), dice.u(-0.7, 0.5), dice.u(0.6, 1.3), weights=(0.6, 0.28, 0.12))
    if kind == "bucket":
        depth, angle, spread = dice.u(0.45, 0.75), dice.u(-0.6, 0), dice.u(0.9, 1.4)
        add(m.tear(kind, angle, spread, 0, depth), (0, "tear", dice.u(0.85, 1)), label="meniscus")
        x = m.centre[0] - m.side * dice.u(9, 13)  # the handle lies in the notch
        add(cord(bow((x, -19, 3), (x, 9, 3), (0, 0, 2)), dice.u(2, 3.2)), (0, "meniscus", 1), label="meniscus")
        return
    thick, depth = 1.6 + 2.4 * severity, dice.u(0.7, 1) if kind != "vertical" else dice.u(0.4, 0.75)
    spread = dice.u(0.5, 0.8) + 0.8 * severity
    add(m.tear(kind, angle, spread, thick, depth), (0, "tear", dice.u(0.85, 1)), label="meniscus", soft=0.3)
    if dice.p(0.75):  # a parameniscal cyst
        cyst = ellipsoid(m.at(angle, 1.2, 3), (dice.u(4, 8.5), dice.u(4, 8.5), dice.u(3.5, 7)))
        add(cyst, (0, "fluid", 1), label="meniscus")


def joint_fluid(dice: Dice, effusion: bool, add: Callable):
    """A little in every knee; an effusion fills the recess above the patella and those beside the condyles."""
    thick, mark = dice.u(4, 5.4) if effusion else dice.u(1.5, 3.4), "abnormal" if effusion else None
    centre = dice.n(0, 3), dice.n(25, 1) + thick * 0.4, dice.u(52, 60)
    recess = ellipsoid(centre, (dice.u(16, 24), thick, dice.u(14, 24)))
    add(recess, (-1, "synovium", 0.8), (0, "fluid", 1), label=mark)
    for side in (-1, 1):
        if dice.p(0.65):
            t = max(min(thick, 4.5) * dice.u(0.5, 1), 1.4)
            pool = ellipsoid(dice.near((side * 35, 8, 34), 2), (t, dice.u(9, 14), dice.u(8, 18)))
            add(pool, (-0.8, "synovium", 0.8), (0, "fluid", 1), label=mark)


def strained_muscle(dice: Dice, muscle, add: Callable):
    """Swelling in the muscles of half of the knees, whatever else they have: as bright as a finding."""
    if dice.p(0.5):
        for _ in dice.few(1, 3):
            upper = ((-34, 8, 70), (34, 6, 75), (28, -33, 60), (-23, -40, 55))
            lower = ((-21, -44, -50), (21, -44, -50), (6, -31, -70))
            swelling = dice.blob(dice.pick(*upper, *lower), 5, (5, 11), (5, 11), (8, 22))
            add(swelling, (0, "oedema", dice.u(0.4, 0.9), muscle), soft=4)


def popliteal_cyst(dice: Dice, cyst: bool, add: Callable):
    """Baker's cyst, with its neck between semimembranosus and gastrocnemius; a small bursa there in some normal
    knees."""
    r = dice.u(4.2, 6.5) if cyst else dice.u(1.0, 2.8)
    c = dice.near((-24, -42, -2), 3)
    sac, neck = ellipsoid(c, (r, r * dice.u(0.7, 1.1), r * dice.u(1.3, 2.2))), rod(c, (-16, -30, 12), r * 0.35)
    add(union(sac, neck, smooth=4), (-0.9, "septum"), (0, "fluid", 1), label="abnormal" if cyst else None)


def bone_oedema(dice: Dice, places: list, femur: Shape, tibia: Shape, bone, add: Callable):
    """Bruises under the joint surface: bright where fat is suppressed. `places`: ("femur" or "tibia", centre)."""
    for name, c in places:
        home = femur if name == "femur" else tibia
        bruise = inside(dice.blob(c, 2, (9, 14), (9, 14), (8, 13)), home, grow=-1.2)
        add(bruise, (0, "oedema", dice.u(0.75, 1), bone), label="abnormal", soft=4)


def bruises(dice: Dice, other: set[str], acl: bool, torn: set[int]) -> list:
    """Where marrow oedema lies: anywhere under the joint surface; with a torn cruciate ligament where the bones hit
    each other, on the lateral side; with a torn meniscus (`torn`: 0 medial, 1 lateral) sometimes in the plateau under
    it."""
    places = []
    if "oedema" in other:
        for _ in dice.few(1, 2):
            x = dice.pick(-1, 1) * 22
            femur, tibia = (x, dice.u(-16, 14), dice.u(12, 22)), (x, dice.u(-18, 8), dice.u(-14, -6))
            places.append(dice.pick(("femur", femur), ("tibia", tibia)))
    if acl and dice.p(0.75):
        places += [("femur", (22, dice.u(0, 10), dice.u(10, 16))), ("tibia", (22, dice.u(-18, -10), dice.u(-12, -7)))]
    return places + [("tibia", ((2 * side - 1) * 24, dice.u(-16, 4), dice.u(-10, -6))) for side in torn if dice.p(0.45)]


def cartilage_defect(dice: Dice, femur: Shape, bent: Shape, cart: float, bone, add: Callable):
    """A hole in the cartilage of a condyle that fluid fills, and a reaction of the bone beneath."""
    side, a = dice.pick(-1, 1), dice.u(-0.6, 0.5)
    c = (side * dice.n(21, 2), -6 + 27 * np.sin(a), 25 - 21 * np.cos(a))
    hole = inside(ellipsoid(c, (dice.u(7, 11), dice.u(7, 13), 7)), bent, grow=cart)
    add(hole, (0, "fluid", 1, None, lambda x, y, z: -femur.distance(x, y, z) - 1), label="abnormal")
    reaction = inside(ellipsoid(c, (10, 10, 9)), femur, grow=-0.5)
    add(reaction, (0, "oedema", dice.u(0.6, 1), bone), label="abnormal", soft=3)
