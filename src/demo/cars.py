"""Car shapes of the demo: a side profile swept across the car's width, wheels, glass, mirrors."""

from typing import NamedTuple

import numpy as np

Colour = tuple[float, ...]

KINDS = ("sedan", "hatch", "suv", "van", "coupe")
# Side profiles, front to rear over the top: x and z of each kind, as shares of length and height.
# The rows WINDSHIELD and REAR_GLASS are the two ends of the glass.
TABLE = """
# sedan     hatch       suv         van         coupe
0    0.16   0    0.16   0    0.2    0    0.16   0    0.16
0    0.42   0    0.42   0    0.48   0    0.36   0    0.38
0.05 0.52   0.06 0.52   0.03 0.58   0.03 0.44   0.05 0.5
0.28 0.62   0.24 0.6    0.25 0.64   0.13 0.52   0.34 0.6
0.42 0.97   0.4  0.96   0.36 0.97   0.28 0.96   0.5  0.98
0.68 1      0.8  1      0.9  1      0.95 1      0.62 1
0.84 0.66   0.96 0.62   0.98 0.64   0.99 0.58   0.86 0.64
0.98 0.62   1    0.56   1    0.58   1    0.52   0.99 0.6
1    0.4    1    0.38   1    0.4    1    0.36   1    0.4
1    0.18   1    0.18   1    0.2    1    0.16   1    0.18
"""
# (10, 2) of each kind.
PROFILES = dict(zip(KINDS, np.split(np.loadtxt(TABLE.splitlines()), 5, axis=1), strict=True))
HEIGHTS = {"sedan": 1.45, "hatch": 1.5, "suv": 1.75, "van": 1.95, "coupe": 1.3}
LENGTHS = {"sedan": 4.7, "hatch": 4.1, "suv": 4.7, "van": 4.9, "coupe": 4.5}
WINDSHIELD, REAR_GLASS = (3, 4), (5, 6)
TYRE, RIM = (32, 30, 30), (165, 165, 160)


class Face(NamedTuple):
    """A flat polygon: corners (N, 3) in metres, outward normal (3,), BGR colour."""

    corners: np.ndarray
    normal: np.ndarray
    colour: tuple[float, ...]
    layer: int = 0
    two_sided: bool = False
    visible_outside: bool = True


class Car(NamedTuple):
    """One car: its faces, size in metres, colours that the clutter may copy, shadow 0..1."""

    faces: list[Face]
    length: float
    width: float
    colours: list[tuple[float, ...]]
    shadow: float


def build_car(rng: np.random.Generator) -> Car:
    """A car whose shape family, size and colours come from `rng`."""
    kind = KINDS[rng.integers(len(KINDS))]
    length = LENGTHS[kind] * rng.uniform(0.92, 1.08)
    height = HEIGHTS[kind] * rng.uniform(0.94, 1.06)
    width = rng.uniform(1.7, 1.95)
    grey = rng.random() < 0.55
    level = rng.uniform(25, 235)
    spread = 6 if grey else 70
    paint = tuple(float(v) for v in np.clip(level + rng.uniform(-spread, spread, 3), 12, 245))
    glass = tuple(float(v) for v in rng.uniform(30, 75) + rng.uniform(-6, 12, 3))
    profile = PROFILES[kind] + rng.uniform(-0.012, 0.012, (10, 2))
    profile = (profile - (0.5, 0)) * (length, height)
    radius = rng.uniform(0.3, 0.36) * (1.1 if kind in {"suv", "van"} else 1.0)
    faces = [
        *body_faces(profile, width, height, paint),
        *glass_faces(profile, width, height, glass),
        *wheel_faces(length, width, radius),
        *trim_faces(profile, width, height, paint),
    ]
    return Car(faces, length, width, [paint, glass, TYRE], float(rng.uniform(0, 1)))


def half_width(z: np.ndarray, width: float, height: float) -> np.ndarray:
    """Half the car's width at height z: straight sides, then a cabin that leans inwards."""
    return width / 2 * (1 - 0.22 * np.clip(z / height - 0.58, 0, 1) / 0.42)


def rounded(profile: np.ndarray) -> np.ndarray:
    """The open outline with its corners cut twice (Chaikin), shape (M, 2)."""
    for _ in range(2):
        a, b = profile[:-1], profile[1:]
        inner = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        profile = np.concatenate([profile[:1], inner, profile[-1:]])
    return profile


def side(points: np.ndarray, width: float, height: float, sign: int) -> np.ndarray:
    """Profile points (N, 2) on one side of the car, (N, 3)."""
    y = sign * half_width(points[:, 1], width, height)
    return np.stack([points[:, 0], y, points[:, 1]], axis=1)


def body_faces(profile: np.ndarray, width: float, height: float, paint: Colour) -> list[Face]:
    """The painted hull: the two sides and the strips between them."""
    outline = rounded(profile)
    left, right = side(outline, width, height, -1), side(outline, width, height, 1)
    faces = [
        Face(left, np.array([0.0, -0.98, 0.15]), paint),
        Face(right, np.array([0.0, 0.98, 0.15]), paint),
    ]
    for i in range(len(outline) - 1):
        strip = np.array([left[i], left[i + 1], right[i + 1], right[i]])
        dx, dz = outline[i + 1] - outline[i]
        faces.append(Face(strip, np.array([-dz, 0.0, dx]) / np.hypot(dx, dz), paint))
    floor = np.array([left[0], left[-1], right[-1], right[0]])
    return [*faces, Face(floor, np.array([0.0, 0.0, -1.0]), TYRE)]


def glass_faces(profile: np.ndarray, width: float, height: float, glass: Colour) -> list[Face]:
    """Windshield, rear window and two side windows a side, all inside the hull's outline."""
    faces = []
    for low, high in (WINDSHIELD, REAR_GLASS):
        a, b = profile[low], profile[high]
        ends = np.array([a + 0.16 * (b - a), a + 0.84 * (b - a)])
        left, right = side(ends, width * 0.86, height, -1), side(ends, width * 0.86, height, 1)
        strip = np.array([left[0], left[1], right[1], right[0]])
        dx, dz = b - a
        normal = np.array([-dz, 0.0, dx]) / np.hypot(dx, dz)
        faces.append(Face(strip, normal, glass, layer=1, visible_outside=False))
    base, front, rear, tail = (profile[i] for i in (3, 4, 5, 6))
    up, down = np.array([0.0, 0.07 * height]), np.array([0.0, -0.07 * height])
    mid = 0.5 * (front[0] + rear[0])
    gap = np.array([0.05, 0.0])
    sill, roof = np.array([mid, base[1]]), np.array([mid, rear[1]])
    panes = [
        [base + (0.28, 0) + up, front + (0.1, 0) + down, roof - gap + down, sill - gap + up],
        [sill + gap + up, roof + gap + down, rear + (-0.1, 0) + down, tail + (-0.28, 0) + up],
    ]
    for sign in (-1, 1):
        for pane in panes:
            corners = side(np.array(pane), width, height, sign)
            normal = np.array([0.0, 0.95 * sign, 0.3])
            faces.append(Face(corners, normal, glass, layer=1, visible_outside=False))
    return faces


def wheel_faces(length: float, width: float, radius: float) -> list[Face]:
    """Four wheels, each a tyre with a tread, a rim and a hub."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    ring = np.stack([np.cos(angle), np.zeros(28), np.sin(angle)], axis=1)
    faces = []
    for x in (-0.31 * length, 0.3 * length):
        for sign in (-1, 1):
            out = np.array([x, sign * (width / 2 + 0.01), radius])
            normal = np.array([0.0, float(sign), 0.0])
            inner = out - normal * 0.24
            faces.append(Face(inner + ring * radius, normal, TYRE, two_sided=True, layer=-1))
            for i in range(0, 28, 2):
                j = (i + 2) % 28
                corners = ((out, i), (out, j), (inner, j), (inner, i))
                quad = np.array([centre + ring[k] * radius for centre, k in corners])
                faces.append(Face(quad, ring[i], TYRE, two_sided=True, layer=-1))
            faces.append(Face(out + ring * radius, normal, TYRE, layer=2))
            for share, colour in ((0.66, RIM), (0.5, (95, 95, 92)), (0.2, RIM)):
                disc = out + ring * radius * share
                faces.append(Face(disc, normal, colour, layer=3, visible_outside=False))
    return faces


def trim_faces(profile: np.ndarray, width: float, height: float, paint: Colour) -> list[Face]:
    """Mirrors that stick out, lamps at both ends, a door line: what makes an outline hard."""
    faces = []
    x, z = profile[3] + (0.4, 0.04 * height)
    for sign in (-1, 1):
        y = sign * (width / 2 * 0.99)
        end = y + sign * 0.2
        mirror = np.array([(x, y, z), (x, end, z + 0.02), (x, end, z + 0.16), (x, y, z + 0.14)])
        faces.append(Face(mirror, np.array([-1.0, 0.0, 0.0]), paint, layer=0, two_sided=True))
        for index, colour in ((1, (225, 235, 235)), (8, (40, 35, 190))):
            ax, az = profile[index]
            low, wide = az - 0.02 * height, width / 2
            high = low + 0.1
            outer, inner = sign * wide * 0.95, sign * wide * 0.6
            lamp = np.array(
                [(ax, outer, low), (ax, inner, low), (ax, inner, high), (ax, outer, high)]
            )
            normal = np.array([-1.0 if index == 1 else 1.0, 0.0, 0.0])
            faces.append(Face(lamp, normal, colour, layer=1, visible_outside=False))
        door = np.array([(0.02, 0.2), (0.026, 0.2), (0.026, 0.62), (0.02, 0.62)])
        seam = side(door * (length_of(profile), height), width, height, sign)
        dark = tuple(0.6 * v for v in paint)
        normal = np.array([0.0, float(sign), 0.0])
        faces.append(Face(seam, normal, dark, layer=1, visible_outside=False))
    return faces


def length_of(profile: np.ndarray) -> float:
    """The car's length in metres."""
    return float(np.ptp(profile[:, 0]))
