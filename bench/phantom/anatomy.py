"""The anatomy of one simulated knee: which shapes are painted, in which order, with which textures. It reads like a
drawing.

A right knee in the knee's frame (see phantom_shapes). What lies deeper is painted first; what is painted later hides
it.
"""

from dataclasses import replace

import numpy as np

from .canvas import Knee, Layer, Texture, Waves
from .findings import (
    Dice,
    Meniscus,
    bone_oedema,
    bruises,
    cartilage_defect,
    draw_others,
    joint_fluid,
    popliteal_cyst,
    strained_muscle,
    torn_acl,
    torn_meniscus,
)
from .shapes import Shape, bend, bow, cord, ellipsoid, inside, outside, rod, sheet, union

FAT, MUSCLE, MARROW = ("fat", 1.0), ("muscle", 1.0), ("marrow", 1.0)  # these textures carry their own strength


def leg(dice: Dice):
    """What lies outside the deep fascia and outside the skin: an elliptic tube, wider at thigh and calf, whose fat is
    thicker on one side. Returns the two outer regions and (half width, half depth, centre y, fat thickness) in mm."""
    a, b, cy = dice.n(52, 3), dice.n(54, 3), dice.n(-6, 2)
    thigh, calf, fat = dice.u(0.04, 0.2), dice.u(-0.1, 0.06), dice.u(2, 8.5)
    way, knob = dice.u(2.5, 4.5), dice.u(0.0, 0.06)
    c, s, mean = np.cos(way) / a, np.sin(way) / b, np.float32(np.sqrt(a * b))

    def rho(x, y, z):
        grow = np.maximum(z - 5, 0) * np.float32(thigh / 70)
        grow += np.maximum(-z - 5, 0) * np.float32(calf / 60)
        grow += 1
        grow += np.float32(knob) * np.exp(np.float32(-1 / 484) * (z - 25) ** 2) * np.clip(y * np.float32(0.05), 0, 1)
        y = y - np.float32(cy)
        return np.sqrt(x * x * np.float32(1 / a**2) + y * y * np.float32(1 / b**2)) / grow

    def skin(x, y, z):
        return (1 - rho(x, y, z)) * mean

    def fascia(x, y, z):
        r = rho(x, y, z)
        side = (x * np.float32(c) + (y - np.float32(cy)) * np.float32(s)) / (r + np.float32(0.1))
        return (1 - r) * mean - np.float32(fat) * (1 + np.float32(0.7) * side) - np.float32(1.6)

    lo, hi = np.array([-90.0, -90.0, -140.0]), np.array([90.0, 90.0, 140.0])
    return Shape(lo, hi, fascia), Shape(lo, hi, skin), (a, b, cy, fat)


def tibia_shape(dice: Dice) -> Shape:
    a, b, taper = dice.n(38, 1.2), dice.n(25.5, 1), dice.u(20, 30)
    slope = dice.u(0.04, 0.14)

    def distance(x, y, z):
        y = y + 4
        top = np.float32(slope) * y - np.float32(1.6)
        down = np.maximum(-z - 6, 0)
        shrink = np.float32(0.42) + np.float32(0.58) * np.exp(
            down * (down * np.float32(-1 / taper**2) - np.float32(1 / 60))
        )
        xx = x / (np.float32(a) * shrink)
        yy = y / (np.float32(b) * (np.float32(0.25) + np.float32(0.75) * shrink))
        xx *= xx
        yy *= yy
        rho = np.sqrt(np.sqrt(xx * (xx + np.float32(1.2) * yy) + yy * yy))  # between an ellipse and a rounded box
        side = (rho - 1) * (np.float32(26) * shrink)
        d, e = side, z - top
        h = np.maximum(4 - np.abs(d - e), 0)
        return np.maximum(d, e) + h * h * np.float32(1 / 16)

    slab = Shape(np.array([-41.0, -32.0, -130.0]), np.array([41.0, 24.0, 3.0]), distance)
    spines = union(ellipsoid((-4.5, -3, -1), (3.5, 7, 5)), ellipsoid((5, -5, -1.5), (3.5, 6, 5)))
    tuberosity = rod((1, 11, -18), (1, 15, -36), 8, 6)
    return union(union(slab, tuberosity, smooth=16), spines, smooth=5)


def femur_shape(dice: Dice) -> tuple[Shape, Shape]:
    """The femur in extension, and the intercondylar notch."""
    m, l, w = dice.n(1, 0.035), dice.n(1, 0.035), dice.n(21.5, 0.7)
    body = union(
        ellipsoid((-w, -6, 24.6), (15.2, 29 * m, 20.2)),
        ellipsoid((w, -6, 24.6), (15.2, 28.5 * l, 20.2)),
        ellipsoid((-15, 9, 29), (14, 19 * m, 17)),
        ellipsoid((16, 11, 30), (14, 20 * l, 18)),
        ellipsoid((0, 1, 45), (dice.n(31, 1.5), 18, 20)),
        rod((0, 0, 52), (dice.n(0, 2), dice.n(1, 1.5), 135), 17, dice.n(13, 1), (1.2, 1, 1)),
        smooth=9,
    )
    notch = ellipsoid((0, -24, 9), (dice.n(9.5, 0.7), 28, dice.n(24, 1)))
    return outside(body, notch), notch


def draw_textures(dice: Dice) -> dict[str, Texture]:
    """Lobules and septa of fat, bundles of muscle with fat between them, trabeculae, and a plain one for soft
    tissue."""
    rng = dice.rng
    fat = Waves.draw(rng, 44, 4, 30, (1.6, 1, 1.4), 0.1), dice.u(0.08, 0.16), "vessel", dice.u(0.12, 0.36), dice.u(6, 9)
    muscle = (
        Waves.draw(rng, 40, 2, 15, (1.4, 1, 4), 0),
        dice.u(0.12, 0.24),
        "perimysium",
        dice.u(0.25, 0.6),
        dice.u(4, 7),
    )
    marrow = Waves.draw(rng, 60, 1.2, 12, (1.7, 1, dice.u(1, 1.5)), dice.u(0, 0.2)), dice.u(0.1, 0.25)
    soft = Waves.draw(rng, 24, 1.8, 11, (1, 1, 1), 0), 1.0
    return {"fat": Texture(*fat), "muscle": Texture(*muscle), "marrow": Texture(*marrow), "soft": Texture(*soft)}


def muscles(dice: Dice, add):
    def muscle(points, ra, rb, flat=(1.0, 1.0, 1.0)):
        points, k = [dice.near(p, 2.0) for p in points], dice.n(1, 0.09)
        add(cord(points, ra * k, rb * k, flat), (-0.9, "fat", 1, FAT), (0, "muscle", 1, MUSCLE))

    muscle([(-12, 22, 110), (-14, 25, 66)], 17, 8, (1.5, 0.8, 1))  # vastus intermedius
    muscle([(14, 22, 110), (12, 25, 64)], 17, 8, (1.5, 0.8, 1))
    muscle([(-34, 8, 115), (-35, 10, 62), (-32, 20, 28)], 26, 7)  # vastus medialis
    muscle([(36, 4, 115), (36, 8, 68), (32, 18, 42)], 26, 6)  # vastus lateralis
    muscle([(26, -32, 115), (31, -34, 55), (38, -27, 8)], 20, 6)  # biceps femoris
    muscle([(-20, -34, 115), (-23, -40, 50), (-28, -32, 4)], 22, 7)  # semimembranosus
    muscle([(-4, -46, 110), (-14, -49, 50)], 12, 4)  # semitendinosus
    muscle([(-42, -12, 110), (-44, -24, 45), (-39, -22, -5), (-28, 2, -45)], 9, 4, (0.7, 1.2, 1))  # sartorius
    muscle([(-17, -33, 22), (-20, -40, -5), (-22, -44, -50), (-20, -44, -115)], 9, 23, (1.1, 0.9, 1))  # gastrocnemius
    muscle([(20, -33, 24), (21, -40, -5), (21, -44, -50), (19, -44, -115)], 9, 22, (1.1, 0.9, 1))
    muscle([(22, -24, -4), (2, -26, -22), (-12, -22, -60)], 6, 12, (1.2, 0.8, 1))  # popliteus
    muscle([(8, -30, -42), (5, -32, -120)], 7, 26, (1.3, 0.8, 1))  # soleus
    muscle([(25, 6, -26), (23, 6, -120)], 8, 18)  # tibialis anterior
    muscle([(40, -10, -36), (36, -10, -120)], 6, 13)  # peroneals


def under_the_skin(dice: Dice, wide: float, deep: float, cy: float, layer: float, add):
    """Septa, veins and swelling in the fat between skin and fascia, in any knee: as bright as what is wrong with
    some."""
    for _ in dice.few(5, 12):
        t, z = dice.u(0, 6.28), dice.u(-60, 60)
        p = np.array([np.cos(t) * (wide - layer * 0.7), cy + np.sin(t) * (deep - layer * 0.7), z])
        q = p + np.array([-np.sin(t) * dice.n(0, 9), np.cos(t) * dice.n(0, 9), dice.u(15, 60)])
        vein = cord(bow(p, q, dice.near((0, 0, 0), 2.5)), dice.u(0.6, 2.4))
        add(vein, (0, dice.pick("vessel", "fluid", "septum"), 1))
    if dice.p(0.6):  # bursae before the patella and its tendon
        bursa = dice.blob((-3, 47, dice.pick(-8, 30)), 5, (4, 14), (0.8, 4), (4, 14))
        add(bursa, (0, "fluid", dice.u(0.5, 1)))
    for _ in dice.few(0, 9):
        t, r = dice.u(0, 6.28), dice.u(4, 16)
        at = np.cos(t) * (wide - 4), cy + np.sin(t) * (deep - 4), dice.u(-50, 60)
        swelling = ellipsoid(at, (r, r, r * dice.u(1, 2)))
        add(swelling, (0, dice.pick("oedema", "vessel"), dice.u(0.2, 0.8), FAT), soft=6)


def popliteal_fossa(dice: Dice, add):
    x = dice.n(1, 2)
    lane = [(x, -24, 120), (x + 1, -30, 50), (x, -37, 5), (x, -36, -30), (x + 2, -32, -110)]
    add(cord(lane, dice.n(3.1, 0.3)), (-0.7, "septum"), (0, dice.pick("flow_void", "vessel"), 1))
    vein = [(p[0] + dice.u(-5, 5), p[1] - 7, p[2]) for p in lane]
    add(cord(vein, dice.n(2.9, 0.8)), (0, dice.pick("vessel", "fluid", "flow_void", weights=(0.4, 0.4, 0.2)), 1))
    if dice.p(0.5):  # a second vein
        second = cord([(p[0] + dice.u(-7, 7), p[1] - 5, p[2]) for p in lane], dice.u(0.8, 2.2))
        add(second, (0, dice.pick("vessel", "fluid"), 1))
    add(cord([(p[0] + 6, p[1] - 12, p[2]) for p in lane], 2.6), (0, "nerve"))
    for _ in dice.few(3, 7):  # genicular and muscular vessels
        p = dice.near((dice.pick(-1, 1) * 22, -26, dice.pick(34, -30)), 9)
        q = dice.near((p[0] * 1.6, 4, p[2]), 6)
        add(cord(bow(p, q, dice.near((0, -6, 0), 6)), dice.u(0.5, 1.4)), (0, "vessel", 0.9))
    for p in ((-38, -34, 60), (-34, -44, 60)):  # tendons behind the medial side
        add(cord([dice.near(p, 2), dice.near((p[0] - 3, p[1] + 4, 0), 2), (-34, 0, -50)], 1.7), (0, "ligament"))


def cruciates(dice: Dice, torn: bool, add):
    def cruciate(a, b, sag, ra, rb, tissue, flat=(1.0, 1.0, 1.0), streaks=0):
        add(cord(bow(a, b, sag, 5), ra, rb, flat), (-0.5, "synovium", 0.5), (0, tissue, 1, ("soft", 0.12)))
        for _ in range(streaks):
            d = np.array(dice.near((0, 0, 0), 1.3))
            add(cord(bow(np.array(a) + d, np.array(b) + 2 * d, sag, 4), 0.5), (0, "synovium", dice.u(0.3, 0.75)))

    ends = dice.near((-6, 3, 15), 1), dice.near((0, -27, -9), 1)
    cruciate(*ends, (0, -7, 6.5), dice.u(3.8, 4.8), 4.4, "ligament", streaks=len(dice.few(0, 1)))
    origin, foot = dice.near((9, -16, 21), 1.2), dice.near((-1, 9, 0), 1.2)
    if torn:
        torn_acl(dice, origin, foot, add)
        return
    radii, tissue = (dice.u(2.9, 3.8), dice.u(3.8, 5)), dice.pick("acl", "ligament", weights=(0.7, 0.3))
    cruciate(origin, foot, (0, 1, -1), *radii, tissue, (1, 1.1, 1), streaks=len(dice.few(1, 4)))
    if dice.p(0.35):  # mucoid or magic-angle brightening of intact fibres
        d = np.subtract(foot, origin)
        bright = rod(origin + dice.u(0.1, 0.5) * d, origin + dice.u(0.5, 0.95) * d, dice.u(1.2, 2.4))
        add(bright, (0, "synovium", dice.u(0.2, 0.55)), soft=2)
    if dice.p(0.4):  # fluid beside an intact ligament
        add(dice.blob((2, 2, 4), 3, (1, 3), (1, 3), (1, 4)), (0, "fluid", dice.u(0.5, 1)))


def menisci(dice: Dice, torn: bool, add) -> set[int]:
    """Returns which are torn: 0 the medial, 1 the lateral one."""
    of_medial = dice.near((-21, -4, -1.2), 0.5), (dice.n(20, 0.8), dice.n(23.5, 1)), dice.n(9.5, 0.7), dice.u(1, 3.5)
    medial = Meniscus(-1, *of_medial, dice.n(7.4, 0.5), dice.u(4, 7))
    of_lateral = dice.near((21, -5, -1.2), 0.5), (dice.n(19, 0.8), dice.n(20, 1)), dice.n(10, 0.8), dice.u(-0.6, 0.8)
    lateral = Meniscus(+1, *of_lateral, dice.n(7.4, 0.5), dice.u(3, 5))
    which = {dice.pick(0, 1, weights=(0.65, 0.35))} | ({0, 1} if dice.p(0.15) else set()) if torn else set()
    for i, m in enumerate((medial, lateral)):
        add(m.shape(), (-0.3, "synovium", 0.5), (0, "meniscus", 1, ("soft", 0.15)))
        if dice.p(0.3):  # degeneration that does not reach a surface: no tear
            r = dice.u(0.8, 1.7)
            within = inside(ellipsoid(m.at(dice.u(-1.3, 0.8), 0.72, 2.6), (2 * r, 2 * r, r)), m.shape())
            add(within, (0, "synovium", dice.u(0.3, 0.65)), soft=1)
        if i in which:
            torn_meniscus(dice, m, add)
    return which


def extensors_and_collaterals(dice: Dice, patella: Shape, flex: float, marrow: str, gray, add):
    cartilage = (-dice.u(2, 3.4), "cartilage", 1, gray, lambda x, y, z: y - 40)
    add(patella, cartilage, (0, "cortex"), (1.4, marrow, 1, MARROW))
    tip, top = (1, 46 - 6 * flex, 20), (1, 44 + 14 * flex, 53)
    tendon = bow(tip, (1, 27, -30), (0, 4 - 6 * flex, 0), 5)
    add(cord(tendon, 1.9, 2.1, (5, 1, 1)), (-0.4, "synovium", 0.3), (0, "ligament", 1, gray))
    add(cord(bow(top, (0, 32, 125), (0, -1, 0), 3), 2.7, 2.2, (5, 1, 1)), (0, "ligament", 1, ("soft", 0.4)))
    for _ in dice.few(4, 8):  # septa and vessels of Hoffa's fat pad
        p = dice.near((0, 32, 2), 6)
        strand = cord(bow(p, dice.near(p, 10), dice.near((0, 0, 0), 2)), 0.5)
        add(strand, (0, dice.pick("septum", "vessel"), dice.u(0.4, 1)))
    # medial collateral
    add(cord([dice.near((-36, 0, 30), 1), (-42, 0, 4), (-35, 4, -42)], 1.3, 1.3, (1, 4.5, 1)), (0, "ligament"))
    add(cord([dice.near((37, -4, 28), 1), (42, -11, 6), (39, -19, -12)], 1.7), (0, "ligament"))  # lateral collateral
    add(cord([(47, 6, 90), (44, 8, 28), (33, 14, -12)], 1.3, 1.5, (1, 5, 1)), (0, "ligament"))  # iliotibial band
    for side in (-1, 1):  # retinacula
        retinaculum = [(side * 19, 43, 32), (side * 34, 27, 30), (side * 40, 6, 28)]
        add(cord(retinaculum, 0.8, 0.8, (1, 1, 14)), (0, "septum", 0.9))


def draw_knee(rng: np.random.Generator, labels: dict[str, int]) -> Knee:
    """One knee with the findings that `labels` names (abnormal, acl, meniscus -> 0|1)."""
    dice, layers = Dice(rng), []
    abnormal, acl, meniscus = (bool(labels[k]) for k in ("abnormal", "acl", "meniscus"))

    def add(shape, *shells, label=None, soft=0.0):
        full = tuple(s + (1, None, None)[len(s) - 2 :] if len(s) < 5 else s for s in shells)
        layers.append(Layer(shape, full, label, soft))

    other = draw_others(dice, abnormal, acl, meniscus)
    textures = draw_textures(dice)
    warp = [Waves.draw(rng, 8, 34, 130, slope=2.5) for _ in range(3)]
    warp = [replace(w, size=w.size * dice.u(0.7, 1.5)) for w in warp]
    way = dice.u(0, 6.28)
    poor_fat = ((np.cos(way), np.sin(way), dice.n(0, 0.5)), dice.u(28, 50), dice.u(0.5, 2)) if dice.p(0.35) else None
    marrow = dice.pick("marrow", "red_marrow", weights=(0.75, 0.25))

    # the leg: fat everywhere, muscles in it, then the skin's fat around the fascia
    fascia, skin, (wide, deep, cy, layer) = leg(dice)
    add(None, (0, "fat", 1, FAT))
    muscles(dice, add)
    strained_muscle(dice, MUSCLE, add)
    add(fascia, (0, "septum"), (0.9, "fat", 1, FAT))
    under_the_skin(dice, wide, deep, cy, layer, add)
    popliteal_fossa(dice, add)
    joint_fluid(dice, "effusion" in other, add)
    if "cyst" in other or dice.p(0.3):
        popliteal_cyst(dice, "cyst" in other, add)

    # the bones' shapes, needed by what lies between them
    flex, hinge = dice.u(0.0, 0.3), (-5.0, 24.6)
    femur, notch = (bend(s, -flex, hinge) for s in femur_shape(dice))
    tibia = tibia_shape(dice)
    cap = ellipsoid(dice.near((1, 43, 34), 1.3), (dice.n(21, 1.2), dice.n(9.6, 0.7), dice.n(20.5, 1.3)))
    cap = bend(cap, -flex * 0.6, hinge)
    patella = inside(cap, lambda x, y, z: (np.abs(x - 2) * np.float32(0.38) - y + np.float32(33.5)) * np.float32(0.93))

    # notch and joint line
    add(ellipsoid((0, -9, 8), (9, 17, 19)), (0, "fat", 1, FAT), (2, "synovium", dice.u(0.1, 0.4), ("soft", 0.3)))
    for side in (-1, 1):
        add(ellipsoid((side * 21, -4, 2.2), (17, 21, 1.7)), (0, "fluid", dice.u(0.1, 0.6)))
    cruciates(dice, acl, add)
    torn = menisci(dice, meniscus, add)

    # bones with cartilage, cortex, marrow
    cart, tcart, front = dice.u(1.7, 2.8), dice.u(1.5, 2.5), dice.u(32, 37)

    def joint_surface(x, y, z):  # condyles and trochlea, not the shaft
        high = z - np.clip(y * np.float32(0.5), 0, 8) - np.float32(front)
        return np.maximum(np.maximum(high, np.abs(x) - 34), 2.5 - notch.distance(x, y, z))

    def plateau(x, y, z):
        return np.maximum(np.abs(np.abs(x) - 20) - 15, np.float32(-3.5) - z)

    gray, shaft = ("soft", dice.u(0.05, 0.18)), dice.u(1.1, 1.9)
    add(femur, (-cart, "cartilage", 1, gray, joint_surface), (0, "cortex"), (shaft, marrow, 1, MARROW))
    add(tibia, (-tcart, "cartilage", 1, gray, plateau), (0, "cortex"), (shaft, marrow, 1, MARROW))
    for bone, lo, hi, middle, wave in (
        (femur, (-40, -30, 34), (40, 28, 42), np.float32(38), np.float32(3)),
        (tibia, (-38, -28, -20), (38, 26, -10), np.float32(-15), np.float32(2)),
    ):
        scar = sheet(lo, hi, lambda x, m=middle, w=wave: m + w * np.cos(x * np.float32(0.115)), 0.5)  # type: ignore[misc]
        add(inside(scar, bone, grow=-2), (0, "cortex", dice.u(0.1, 0.6)))
    fibula = cord([dice.near((36, -19, -15), 1.5), (37, -19, -30), (36, -16, -120)], 9, 6)
    add(fibula, (0, "cortex"), (1.3, marrow, 1, MARROW))
    for _ in dice.few(4, 10):  # islands of red marrow
        bone, z = dice.pick((femur, 55), (femur, 90), (tibia, -45), (tibia, -80))
        island = inside(dice.blob((0, -2, z), 9, (3, 11), (3, 10), (4, 14)), bone, grow=-2)
        add(island, (0, dice.pick("red_marrow", "oedema"), dice.u(0.2, 0.9), MARROW), soft=5)
    bone_oedema(dice, bruises(dice, other, acl, torn), femur, tibia, MARROW, add)
    if "defect" in other:
        cartilage_defect(dice, femur, bend(femur, 0, hinge), cart, MARROW, add)

    extensors_and_collaterals(dice, patella, flex, marrow, gray, add)
    add(skin, (1.7, "skin"), (0, "air"))
    return Knee(layers, textures, warp, poor_fat)
