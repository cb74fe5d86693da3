"""Toy turntable photographs: a car in three dimensions, its studio and its exact mask."""

from typing import NamedTuple

import cv2
import numpy as np

from demo.cars import Car, Face, build_car

SUBPIXEL = 4  # cv2's polygons take fixed-point corners: 16 steps a pixel


class Camera(NamedTuple):
    """A pinhole that looks at the turntable from the front, a little from above."""

    yaw: float
    distance: float
    height: float
    shift: tuple[float, float]

    def project(self, points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions (N, 2) as x, y and distances (N,) of points (N, 3) in metres."""
        rows, columns = size
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        right = c * points[:, 0] - s * points[:, 1]
        away = s * points[:, 0] + c * points[:, 1] + self.distance
        focal = 1.28 * columns
        x = columns * (0.5 + self.shift[0]) + focal * right / away
        y = rows * (0.44 + self.shift[1]) + focal * (self.height - points[:, 2]) / away
        return np.stack([x, y], axis=1), away


def draw_frame(
    car: int, turn: float, *, seed: int, size: tuple[int, int], supersample: int
) -> tuple[np.ndarray, np.ndarray]:
    """One photograph, uint8 BGR (H, W, 3), and its mask, uint8 (H, W) of {0, 1}.

    Args:
        car: number of the car; the same number is the same car.
        turn: turntable position, 0..1 of a full turn.
        seed: seed of the whole demo.
        size: (H, W) of the frame.
        supersample: samples a pixel along each side; edges are antialiased either way.
    """
    model = build_car(np.random.default_rng([seed, car]))
    rng = np.random.default_rng([seed, car, round(turn * 1_000_000)])
    large = (size[0] * supersample, size[1] * supersample)
    camera = Camera(
        yaw=2 * np.pi * (turn + rng.uniform(-0.012, 0.012)) + 0.35,
        distance=rng.uniform(7.4, 9.4),
        height=rng.uniform(1.2, 1.9),
        shift=(rng.uniform(-0.05, 0.05), rng.uniform(-0.03, 0.03)),
    )
    image = draw_studio(np.random.default_rng([seed, car, 1]), rng, model, large)
    image = cast_shadow(image, camera, model)
    mask = np.zeros(large, np.uint8)
    draw_car(image, mask, camera, model)
    image, mask = reduce(image, mask, size)
    return add_noise(image, rng), (mask >= 128).astype(np.uint8)


def reduce(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The image and the mask's coverage (0..255) at the frame's own size."""
    if mask.shape == size:
        return image, mask
    shape = (size[1], size[0])
    area = cv2.INTER_AREA
    return cv2.resize(image, shape, interpolation=area), cv2.resize(mask, shape, interpolation=area)


def fill(canvas: np.ndarray, points: np.ndarray, colour: tuple[int, ...]) -> None:
    """Fills an antialiased polygon, corners (N, 2) as x, y in pixels, into `canvas`."""
    fixed = np.round(points * (1 << SUBPIXEL)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], colour, lineType=cv2.LINE_AA, shift=SUBPIXEL)


def blotches(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Smooth random texture, float32 (H, W), about -1..1, with `cells` cells a row."""
    coarse = rng.standard_normal((max(2, cells * 2 // 3), cells)).astype(np.float32)
    return cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def draw_studio(
    style: np.random.Generator, rng: np.random.Generator, car: Car, size: tuple[int, int]
) -> np.ndarray:
    """Wall, floor, tiles and clutter, some of it in the car's own colours; uint8 BGR (H, W, 3)."""
    rows, columns = size
    horizon = int(rows * style.uniform(0.42, 0.58))
    image = np.empty((rows, columns, 3), np.uint8)
    tint = style.integers(-14, 15, 3)
    wall = np.clip(style.integers(110, 225) + tint, 30, 250)
    floor = np.clip(style.integers(80, 200) + tint, 30, 250)
    image[:horizon], image[horizon:] = wall, floor
    if style.random() < 0.5:
        draw_tiles(image[:horizon], wall, int(columns / style.uniform(6, 14)))
    clutter(image, rng, car, horizon)
    left, right = style.uniform(-22, 22, 2).tolist()
    ramp = np.linspace(left, right, columns, dtype=np.float32)[None]
    small = (rows // 4, columns // 4)
    texture = 7 * blotches(rng, small, 24) + 5 * blotches(rng, small, 90)
    shade = cv2.resize(texture, (columns, rows)) + ramp
    return cv2.add(image, cv2.merge([shade] * 3), dtype=cv2.CV_8U)


def draw_tiles(image: np.ndarray, colour: np.ndarray, side: int) -> None:
    """Darker joints in a grid, `side` pixels apart, in place."""
    line = max(1, side // 24)
    for offset in range(line):
        image[offset::side] = colour * 0.82
        image[:, offset::side] = colour * 0.82


def clutter(image: np.ndarray, rng: np.random.Generator, car: Car, horizon: int) -> None:
    """Boxes, poles and blobs around the horizon, in place; colour alone must not find the car."""
    rows, columns = image.shape[:2]
    for _ in range(rng.integers(1, 5)):
        own = rng.random() < 0.1
        pick = car.colours[rng.integers(len(car.colours))] if own else rng.integers(20, 235, 3)
        colour = tuple(int(v) for v in np.clip(pick + rng.integers(-12, 13, 3), 0, 255))
        x = rng.uniform(0, columns)
        base = horizon + rng.uniform(-0.02, 0.14) * rows
        width, height = rng.uniform(0.03, 0.14) * columns, rng.uniform(0.06, 0.34) * rows
        kind = rng.integers(3)
        if kind == 2:
            angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
            wobble = 1 + 0.12 * np.sin(3 * angle + rng.uniform(0, 6))
            blob = np.stack([width * np.cos(angle), height * np.sin(angle)], 1) * wobble[:, None]
            fill(image, blob * 0.5 + (x, base - height / 2), colour)
            continue
        width = width * 0.12 if kind == 1 else width
        lean = rng.uniform(-0.08, 0.08) * height
        corners = [(0, 0), (width, 0), (width + lean, -height), (lean, -height)]
        fill(image, np.array(corners) + (x, base), colour)


def cast_shadow(image: np.ndarray, camera: Camera, car: Car) -> np.ndarray:
    """The image with a soft dark patch on the floor; the shadow is not part of the mask."""
    rows, columns = image.shape[:2]
    reach = 1.0 + car.shadow * 0.16
    x, y = car.length / 2 * reach, car.width / 2 * reach
    plate = np.array([(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)])
    small = (rows // 8, columns // 8)
    patch = np.zeros(small, np.uint8)
    fill(patch, camera.project(plate, small)[0], (255,))
    sigma = columns / 8 * 0.016
    soft = cv2.GaussianBlur(patch, (0, 0), sigma).astype(np.float32) / 255
    gain = cv2.resize(1 - (0.45 + 0.3 * car.shadow) * soft, (columns, rows))
    return cv2.multiply(image, cv2.merge([gain] * 3), dtype=cv2.CV_8U)


def draw_car(image: np.ndarray, mask: np.ndarray, camera: Camera, car: Car) -> None:
    """Paints the car's faces from the farthest to the nearest, in the image and in the mask."""
    size = mask.shape[0], mask.shape[1]
    light = np.array([0.35, -0.55, 0.76])
    drawn: list[tuple[float, np.ndarray, tuple[int, ...], Face]] = []
    for face in car.faces:
        points, away = camera.project(face.corners, size)
        c, s = np.cos(camera.yaw), np.sin(camera.yaw)
        turned = face.normal * 1.0
        turned[0] = c * face.normal[0] - s * face.normal[1]
        turned[1] = s * face.normal[0] + c * face.normal[1]
        shade = 0.62 + 0.42 * max(0.0, float(turned @ light))
        colour = tuple(int(v) for v in np.clip(np.array(face.colour) * shade, 0, 255))
        drawn.append((face.layer * 1e3 - float(away.mean()), points, colour, face))
        if face.visible_outside:
            fill(mask, points, (255,))
    eye = np.array([-np.sin(camera.yaw), -np.cos(camera.yaw), 0]) * camera.distance
    eye[2] = camera.height
    for _, points, colour, face in sorted(drawn, key=lambda item: item[0]):
        facing = float(face.normal @ (eye - face.corners.mean(axis=0))) > 0
        if facing or face.two_sided:
            fill(image, points, colour)


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image with a sensor's grain of up to 7 grey levels."""
    grain = rng.integers(-7, 8, image.shape[:2], dtype=np.int8)
    return cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
