"""What mask files hold: their values, counted, and what these can mean."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.errors import UserError
from imaging.arrays import whole_numbers
from imaging.files import read_page
from imaging.mask_pixels import alpha_mask, decode_mask, is_lossy
from imaging.palettes import read_palette
from imaging.sources import own_file, page_of
from looking.lossy import Colour, flat_colours, join_near

# Mask files looked at, evenly picked.
LOOKED_AT = 200
# Values of two-valued masks.
PAIRS = ({0, 1}, {0, 255}, {0, 65535})
# A file's values beyond so many are no classes.
MANY = 64
# Of fewer files each may hold a value that no other has.
FEW = 10
# Share of a file's pixels that are 0 or the top where edges alone are soft.
HARD = 0.9


@dataclass
class Census:
    """Values of a sample of mask files.

    Attributes:
        read: how many files could be read; `lossy` of them are JPEG or the like.
        files: in how many files each value is; a colour is (r, g, b).
        single: of the values above 0 in a file, the share that is one connected part, a file each.
        running: whether the values of a file leave no number out, a file each.
        pairs: how many files hold nothing but 0 and 1, 0 and 255, or 0 and 65535.
        most: the largest value of each file.
        hard: the share of pixels that are 0 or the largest, a file each.
        layers: shapes of the files that are arrays of several layers, (N, H, W) or (H, W, K).
        numbered: how many of these hold more than two values in a layer.
        empty: how many files hold nothing but 0.
        palettes: the colours of each file in colours, without black.
        areas: the colours of areas of each lossy file.
    """

    read: int = 0
    lossy: int = 0
    files: Counter[Any] = field(default_factory=Counter)
    single: list[float] = field(default_factory=list)
    running: list[bool] = field(default_factory=list)
    most: list[int] = field(default_factory=list)
    hard: list[float] = field(default_factory=list)
    layers: list[tuple[int, ...]] = field(default_factory=list)
    numbered: int = 0
    pairs: int = 0
    empty: int = 0
    palettes: list[set[Any]] = field(default_factory=list)
    areas: list[Counter[Colour]] = field(default_factory=list)

    @property
    def planes(self) -> int:
        """Layers of an array that all files have behind height and width, a class each; else 0."""
        deep = [shape[-1] for shape in self.layers if len(shape) == 3]
        same = len(deep) == self.read and len(set(deep)) == 1
        return deep[0] if same and all(2 * s[2] <= min(s[:2]) for s in self.layers) else 0

    @property
    def coloured(self) -> bool:
        """Whether values are colours in most files."""
        colours = sum(n for value, n in self.files.items() if isinstance(value, tuple))
        return 2 * colours > sum(self.files.values())

    @property
    def levels(self) -> list[Colour]:
        """Colours of the areas of files that are lossy, most of all; [] where few files are."""
        if 2 * self.lossy <= self.read:
            return []
        files: Counter[Colour] = Counter()
        for area in self.areas:
            files.update(area)
        return sorted(join_near(files.items()))

    def usual(self) -> list[Any]:
        """Values that are no slip of one file, sorted."""
        lonely = 1 if self.read < FEW else 2
        kept = [value for value, n in self.files.items() if n >= lonely]
        return sorted(value for value in kept if isinstance(value, tuple) == self.coloured)


def take_census(paths: Sequence[Path]) -> Census:
    """The values of mask files; those that cannot be read are passed by."""
    census = Census()
    chosen = paths[:: -(-len(paths) // LOOKED_AT) or 1]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(read_mask_values, chosen):
            if found is None:
                continue
            pixels, lossy = found
            census.read += 1
            census.lossy += lossy
            if pixels.ndim > 3 or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
                census.layers.append(pixels.shape)
                census.numbered += not any(set(np.unique(pixels).tolist()) <= p for p in PAIRS)
                continue
            if lossy and pixels.dtype == np.uint8:
                census.areas.append(flat_colours(pixels))
            _count(census, pixels)
    return census


def read_mask_values(path: Path) -> tuple[np.ndarray, bool] | None:
    """(a mask file's values, colours of a palette; whether it is lossy); None where unreadable."""
    try:
        name, (data, page) = own_file(path).name, read_page(own_file(path), page_of(path))
        pixels = decode_mask(data, name, read_palette, page=page)
        if pixels.dtype.kind == "f":
            pixels = whole_numbers(pixels, name)
        alpha = alpha_mask(pixels)
        return pixels if alpha is None else alpha, is_lossy(data)
    except UserError:
        return None


def palette_indices(paths: Sequence[Path]) -> list[int]:
    """Indices in palette pictures that mean one colour in all of them, sorted; [] of any others."""
    colour_of: dict[int, tuple[int, ...]] = {}
    for path in paths[:: -(-len(paths) // LOOKED_AT) or 1]:
        tables: list[np.ndarray] = []

        def keep(indices: np.ndarray, colours: np.ndarray, to: list[Any] = tables) -> np.ndarray:
            to.append(colours)
            return indices

        try:
            file = own_file(path)
            data, page = read_page(file, page_of(path))
            used = np.unique(decode_mask(data, file.name, keep, page=page)).tolist()
        except UserError:
            return []
        if not tables:
            return []
        for index in used:
            colour = tuple(tables[0][index].tolist())
            if colour_of.setdefault(index, colour) != colour:
                return []
    return sorted(colour_of)


def _count(census: Census, pixels: np.ndarray) -> None:
    if pixels.ndim == 3:
        planes = pixels[:, :, :3]
        if planes.shape[2] == 3 and (planes != planes[:, :, :1]).any():
            _count_colours(census, planes)
            return
        pixels = planes[:, :, 0]
    values, counts = np.unique(pixels, return_counts=True)
    census.files.update(values[: 4 * MANY].tolist())
    census.empty += values.tolist() == [0]
    census.pairs += any(set(values.tolist()) <= pair for pair in PAIRS)
    census.most.append(int(values[-1]))
    edges = counts[values == 0].sum() + counts[-1]
    census.hard.append(float(edges / pixels.size))
    numbers = [value for value in values.tolist() if value]
    if len(numbers) > 1:
        census.running.append(numbers[-1] == len(numbers))
        numbers = numbers[:: -(-len(numbers) // MANY)]
        census.single.append(_share_of_one_part(pixels, numbers))


def _count_colours(census: Census, planes: np.ndarray) -> None:
    packed = planes.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    numbers = np.unique(packed)[: MANY + 1].tolist()
    colours = [(value >> 16, value >> 8 & 255, value & 255) for value in numbers]
    census.files.update(colours)
    census.palettes.append({*colours} - {(0, 0, 0)})
    numbers = [value for value in numbers if value]
    if 1 < len(numbers) <= MANY:
        census.single.append(_share_of_one_part(packed, numbers))


def _share_of_one_part(pixels: np.ndarray, numbers: Sequence[int]) -> float:
    return float(np.mean([_is_one_part(pixels == number) for number in numbers]))


def _is_one_part(inside: np.ndarray) -> bool:
    return cv2.connectedComponents(inside.view(np.uint8), connectivity=8)[0] == 2
