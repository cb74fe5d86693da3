"""One pass over every image and mask, with all cores: what is worth knowing of each."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from competition.mask_source import MaskSource
from core.errors import UserError
from imaging.files import read_page
from imaging.images import read_image
from imaging.mask_files import IGNORE
from imaging.mask_pixels import is_lossy
from imaging.pictures import exif_orientation
from imaging.sources import own_file, page_of
from looking.likeness import look_of, to_grey

# Bins of a channel's histogram.
BINS = 16
# Border pixels of each side that must be foreground for a mask to touch it.
TOUCHED = 0.95
# How a mask may lie beside its image by mistake: steps along its rows and columns.
FLIPS = {"mirrored": (1, -1), "upside down": (-1, 1), "turned by 180 degrees": (-1, -1)}


@dataclass
class Picture:
    """What is known of an image file.

    Attributes:
        img: id.
        path: from INPUT.
        problem: why it cannot be read; "" where it can.
        size: (H, W).
        mode: as Pillow names it, RGB;16 of 16 bits a channel; "" where it cannot say.
        kind: what the content is: JPEG, PNG...; "" where Pillow cannot say.
        orientation: EXIF's, 1 is upright.
        transparent: share of pixels that alpha hides.
        digest: of the pixels.
        low, high, mean, std: of all values, shares of the range.
        histogram: float (C, BINS) of shares; without rows where it cannot be read.
        look: hash and thumbnail.
    """

    img: str
    path: str
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    kind: str = ""
    orientation: int = 1
    transparent: float = 0.0
    digest: str = ""
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.0
    std: float = 0.0
    histogram: np.ndarray = field(default_factory=lambda: np.zeros((0, BINS), np.float32))
    look: tuple[np.ndarray, np.ndarray] | None = None


@dataclass
class Mask:
    """What is known of an image's mask.

    Attributes:
        path: of its file from INPUT; "" where it is in a table.
        problem: why it cannot be read.
        lossy: whether the file is a JPEG or the like.
        digest: of the mask; "" where it is empty.
        share: foreground share of the pixels that count.
        ignored: share of the pixels that do not.
        touches: how many of the four sides are foreground.
        parts: connected parts of the foreground.
        specks: parts of one or two pixels.
        ragged: pixels of the outline beside those of the same area's circle.
        widths: mean width of each class but 0, pixels: how thin its strips are.
        areas: of the connected parts, pixels, the largest 100.
        edge: mean step of grey values at the outline, beside the mean step everywhere.
        flipped: the same of the outline flipped, by the words of FLIPS.
        classes: share of the pixels of each class.
    """

    path: str = ""
    problem: str = ""
    lossy: bool = False
    digest: str = ""
    share: float = 0.0
    ignored: float = 0.0
    touches: int = 0
    parts: int = 0
    specks: int = 0
    ragged: float = 0.0
    widths: dict[int, float] = field(default_factory=dict)
    areas: list[int] = field(default_factory=list)
    edge: float = 0.0
    flipped: dict[str, float] = field(default_factory=dict)
    classes: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """An image with its mask; None where it has none (test images).

    Attributes:
        row: what a `MaskSource` reads the mask by.
    """

    picture: Picture
    mask: Mask | None = None
    row: Mapping[str, Any] = field(default_factory=dict)


def scan_pairs(
    rows: Sequence[Mapping[str, Any]],
    root: Path,
    *,
    masks: MaskSource | None,
    pixels: Mapping[str, Any],
    title: str,
) -> list[Pair]:
    """Reads all images, and their masks where a source is given.

    Args:
        rows: `img`, `image`, `mask` of each, and what else the masks need.
        root: folder that their paths start from.
        masks: where masks come from.
        pixels: arguments of `read_image`.
        title: of the progress bar.
    """
    from tqdm import tqdm

    cv2.setNumThreads(0)  # the pool below keeps the cores busy

    def look(row: Mapping[str, Any]) -> Pair:
        picture, grey = _look_at_image(row, root, pixels)
        if masks is None:
            return Pair(picture)
        return Pair(picture, _look_at_mask(row, root, masks, grey), row)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(look, rows)
        return list(tqdm(done, title, len(rows), leave=False, disable=None, unit="image"))


def _look_at_image(
    row: Mapping[str, Any], root: Path, pixels: Mapping[str, Any]
) -> tuple[Picture, np.ndarray | None]:
    """What is known of an image, and its grey values uint8 (H, W) if it can be read."""
    picture = Picture(row["img"], row["image"])
    path = root / row["image"]
    try:
        data, _ = read_page(own_file(path), page_of(path))
        image = read_image(path, **pixels)
    except UserError as error:
        picture.problem = str(error)
        return picture, None
    picture.size = (image.shape[0], image.shape[1])
    _read_header(picture, data)
    picture.digest = _digest(image)
    step, most = max(1, min(picture.size) // 256), np.iinfo(image.dtype).max
    small = image[::step, ::step]
    picture.low, picture.high = float(small.min() / most), float(small.max() / most)
    shares = small.astype(np.float32) / most
    picture.mean, picture.std = float(shares.mean()), float(shares.std())
    bins = small.reshape(-1, small.shape[2]) // ((most + 1) // BINS)
    counts = [np.bincount(channel, minlength=BINS) for channel in bins.T]
    picture.histogram = np.array(counts, np.float32) / len(bins)
    grey = to_grey(image)
    picture.look = look_of(grey)
    return picture, grey


def _read_header(picture: Picture, data: bytes) -> None:
    """What Pillow says of the file; nothing where it does not know it."""
    import io

    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture.mode, picture.kind = _mode_of(opened), opened.format or ""
            picture.orientation = exif_orientation(opened)
            if opened.mode in ("RGBA", "LA"):
                alpha = np.asarray(opened.getchannel("A").resize((64, 64)))
                picture.transparent = float((alpha < 250).mean())
    except Exception:  # decoders raise what they like; the readers have told what matters
        return


def _mode_of(opened: Image.Image) -> str:
    """Pillow's mode; of 16 bits a channel it knows in files alone, with ;16."""
    tiles = getattr(opened, "tile", [])
    deep = ";16" in str(tiles[:1]) and "16" not in opened.mode
    return opened.mode + ";16" * deep


def _look_at_mask(
    row: Mapping[str, Any], root: Path, masks: MaskSource, grey: np.ndarray | None
) -> Mask:
    mask = Mask(row.get("mask", ""))
    if grey is None:
        return mask
    try:
        planes = masks.read(row, (grey.shape[0], grey.shape[1]))
        if mask.path:
            with own_file(root / mask.path).open("rb") as stream:
                mask.lossy = is_lossy(stream.read(16))
    except UserError as error:
        mask.problem = str(error)
        return mask
    _measure(mask, planes, grey)
    return mask


def _measure(mask: Mask, planes: np.ndarray, grey: np.ndarray) -> None:
    """Fills what is known of a mask uint8 (H, W) of ids, or (K, H, W) of {0, 1}."""
    ids = planes if planes.ndim == 2 else (planes == 1).any(0).view(np.uint8)
    top, left, part = _drawn_part(ids)
    numbers = cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    numbers[0] += ids.size - part.size
    counted = max(ids.size - int(numbers[IGNORE]), 1)
    if planes.ndim == 3:
        mask.classes = {k: float((one == 1).mean()) for k, one in enumerate(planes)}
    else:
        mask.classes = {k: n / counted for k, n in enumerate(numbers[:IGNORE].tolist()) if n}
    inside = ((part > 0) & (part != IGNORE)).view(np.uint8)
    mask.ignored = 1 - counted / ids.size
    mask.share = int(numbers[1:IGNORE].sum()) / counted
    if not mask.share or min(grey.shape) < 2:
        return
    mask.digest = _digest(planes)
    sides = (ids[0], ids[-1], ids[:, 0], ids[:, -1])
    mask.touches = sum(float(((s > 0) & (s != IGNORE)).mean()) >= TOUCHED for s in sides)
    count, _, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])[::-1]
    mask.parts, mask.specks = count - 1, int((areas <= 2).sum())
    mask.areas = areas[:100].tolist()
    edges = _changes(part)
    # A circle of the same area has an outline of 4 / pi times its own in such pixels.
    circle = 4 * 2 * np.sqrt(numbers[1:IGNORE].sum() / np.pi)
    mask.ragged = sum(map(np.count_nonzero, _changes(inside))) / circle
    mask.widths = _widths(part, edges, numbers)
    _measure_edges(mask, edges, (top, left), grey)


def _digest(values: np.ndarray) -> str:
    """Hash of an array's bytes; SHA-1 is the fastest of hashlib where processors know it."""
    return hashlib.sha1(np.ascontiguousarray(values).data, usedforsecurity=False).hexdigest()


def _drawn_part(ids: np.ndarray) -> tuple[int, int, np.ndarray]:
    """(top, left, ids without the rows and columns of 0 around, but one)."""
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(ids))
    top, left, bottom, right = max(top - 1, 0), max(left - 1, 0), top + height + 1, left + width + 1
    return top, left, np.ascontiguousarray(ids[top:bottom, left:right])


def _changes(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ids change from a row to the next, bool (H - 1, W), and from a column, (H, W - 1)."""
    return ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]


def _measure_edges(
    mask: Mask,
    edges: tuple[np.ndarray, np.ndarray],
    place: tuple[int, int],
    grey: np.ndarray,
) -> None:
    """Fills what outlines meet in the image; those of ids at (top, left) of it."""
    steps = cv2.absdiff(grey[1:], grey[:-1]), cv2.absdiff(grey[:, 1:], grey[:, :-1])
    everywhere = sum(cv2.mean(one)[0] for one in steps) / 2
    places = []
    for one in edges:
        rows, columns = np.divmod(np.flatnonzero(one), one.shape[1])  # np.nonzero takes ten times
        places.append((rows + place[0], columns + place[1]))
    count = sum(len(rows) for rows, _ in places)
    if not (count and everywhere):
        return

    def met(y: int, x: int) -> float:
        pairs = zip(steps, places, strict=True)
        return sum(float(one[::y, ::x][at].sum()) for one, at in pairs) / count / everywhere

    mask.edge = met(1, 1)
    mask.flipped = {word: met(y, x) for word, (y, x) in FLIPS.items()}


def _widths(
    ids: np.ndarray, edges: tuple[np.ndarray, np.ndarray], areas: np.ndarray
) -> dict[int, float]:
    """Mean width of each class in pixels: its area beside half its outline.

    An outline of whole pixels is 4 / pi times as long as the smooth one, of all directions alike.
    """
    down, right = edges
    sides = (ids[1:][down], ids[:-1][down], ids[:, 1:][right], ids[:, :-1][right])
    outlines = np.sum([np.bincount(side, minlength=256) for side in sides], axis=0)
    found = [k for k in range(1, IGNORE) if areas[k] and outlines[k]]
    return {k: float(8 / np.pi * areas[k] / outlines[k]) for k in found}
