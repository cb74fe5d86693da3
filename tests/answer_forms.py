"""Answers as competitions spell them, written and read by plain loops and their own libraries.

Nothing here uses the project.
"""

import base64
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import shapely
from pycocotools import mask as coco

# Masks of an image by class; several where a row is an object.
Answer = dict[str, dict[str, list[np.ndarray]]]
Sizes = Mapping[str, tuple[int, int]]
# The class of one class, and that of pixels of the truth which count for nothing.
ONE, VOID = "", "void"


class Form(NamedTuple):
    """How an answer is spelled.

    Attributes:
        read: an answer's file, by sizes of the images.
        write: an answer into a file.
        name: of the file that a run writes.
    """

    read: Callable[[Path, Sizes], Answer]
    write: Callable[[Answer, Path], None]
    name: str = "submission.csv"


def encode(mask: np.ndarray, order: str = "F", *, relative: bool = False) -> str:
    """Run lengths from 1, or gaps from 0."""
    words, end = [], 0
    flat = [0, *mask.ravel(order).tolist(), 0]
    starts = [at for at in range(1, len(flat)) if flat[at] > flat[at - 1]]
    ends = [at for at in range(1, len(flat)) if flat[at] < flat[at - 1]]
    for start, stop in zip(starts, ends, strict=True):
        words += [start - 1 - end if relative else start, stop - start]
        end = stop - 1
    return " ".join(map(str, words))


def decode(
    text: str, size: tuple[int, int], order: str = "F", *, relative: bool = False
) -> np.ndarray:
    flat, at = np.zeros(size[0] * size[1], np.uint8), 0
    numbers = list(map(int, text.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        at = at + start if relative else start - 1
        assert flat[at : at + length].sum() == 0
        flat[at : at + length] = 1
        at += length
    return flat.reshape(size, order=order)


def run_lengths(order: str = "F", *, relative: bool = False) -> tuple[Any, Any]:
    """How a mask becomes a cell, and a cell a mask of a size."""
    return (
        lambda mask: encode(mask, order, relative=relative),
        lambda cell, size: decode(cell, size, order, relative=relative),
    )


def table(
    img: str,
    text: str,
    cls: str = "",
    *,
    spelled: tuple[Any, Any] | None = None,
    suffix: str = "",
    empty: str = "",
    objects: bool = False,
    last: bool = False,
) -> Form:
    """A table with a row an image, class or object; a class may be joined to the id.

    `last`: the column of classes is the last.
    """
    spell, understand = spelled or run_lengths()

    def read(path: Path, sizes: Sizes) -> Answer:
        found: Answer = {}
        for row in read_rows(path):
            name, klass = row[img], row[cls] if cls else ONE
            if cls == img:
                name, _, klass = name.rpartition("_")
            name = name.removesuffix(suffix)
            blank = np.zeros(sizes[name], np.uint8)
            if objects and row[text] == empty:
                klass = ONE
            mask = blank if row[text] == empty else understand(row[text], sizes[name])
            found.setdefault(name, {}).setdefault(klass, []).append(mask)
        return found

    def write(answer: Answer, path: Path) -> None:
        rows = []
        for name, klass, masks in _classes_of(answer):
            joined = name + suffix + (f"_{klass}" if cls == img else "")
            whole = np.maximum.reduce(masks)
            for mask in [m for m in masks if m.any()] or [whole] if objects else [whole]:
                cell = spell(mask) if mask.any() else empty
                column = {cls: klass} if cls not in ("", img) else {}
                cells = {text: cell} | column if last else column | {text: cell}
                rows.append({img: joined} | cells)
        pd.DataFrame(rows).to_csv(path, index=False)

    return Form(read, write)


def read_rows(path: Path) -> list[dict[str, str]]:
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def _classes_of(answer: Answer) -> list[tuple[str, str, list[np.ndarray]]]:
    return [(img, cls, masks) for img, them in answer.items() for cls, masks in them.items()]


def counted_objects(img: str, text: str) -> Form:
    """A row an object, ids counted from 1, COCO's counts; an image without any has no row."""

    def read(path: Path, sizes: Sizes) -> Answer:
        found: Answer = {name: {ONE: [np.zeros(size, np.uint8)]} for name, size in sizes.items()}
        for row in read_rows(path):
            name, _, number = row[img].rpartition("_")
            assert int(number) == len(found[name][ONE])
            packed = {"size": sizes[name], "counts": row[text].encode()}
            found[name][ONE].append(coco.decode(packed))
        return found

    def write(answer: Answer, path: Path) -> None:
        rows = [
            {img: f"{name}_{n}", text: _counts(mask).decode()}
            for name, _, masks in _classes_of(answer)
            for n, mask in enumerate((m for m in masks if m.any()), 1)
        ]
        pd.DataFrame(rows, columns=[img, text]).to_csv(path, index=False)

    return Form(read, write)


def _counts(mask: np.ndarray) -> bytes:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


# Xmax and Ymin of DSTL's scenes.
GRID = (0.009188, -0.00904)


def _grid_scale(size: tuple[int, int]) -> tuple[float, float]:
    height, width = size
    return width * width / (width + 1) / GRID[0], height * height / (height + 1) / GRID[1]


def grid_outline(mask: np.ndarray) -> str:
    """A square a pixel, joined by shapely, in units of DSTL's grid."""
    if not mask.any():
        return "MULTIPOLYGON EMPTY"
    squares = [shapely.box(x, y, x + 1, y + 1) for y, x in np.argwhere(mask)]
    shape = shapely.transform(shapely.union_all(squares), lambda at: at / _grid_scale(mask.shape))
    parts = getattr(shape, "geoms", [shape])
    return shapely.to_wkt(shapely.MultiPolygon(parts), rounding_precision=12)


def grid_mask(cell: str, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres a valid outline holds."""
    shape = shapely.from_wkt(cell)
    assert shape.is_valid
    assert shape.geom_type == "MultiPolygon"
    shape = shapely.transform(shape, lambda at: at * _grid_scale(size))
    y, x = np.indices(size) + 0.5
    return shapely.contains_xy(shape, x, y).astype(np.uint8)


def packed(img: str, text: str, sides: tuple[str, str]) -> Form:
    """A row an image: class, confidence and base64 of zlib of counts for each object.

    `sides`: columns of height and width, in their order.
    """

    def told(size: tuple[int, ...]) -> dict[str, str]:
        return {side: str(size["width" in side.lower()]) for side in sides}

    def read(path: Path, sizes: Sizes) -> Answer:
        found: Answer = {}
        for row in read_rows(path):
            size = sizes[row[img]]
            assert {side: row[side] for side in sides} == told(size)
            words = row[text].split()
            classes = found.setdefault(row[img], {})
            for cls, sure, data in zip(words[::3], words[1::3], words[2::3], strict=True):
                counts = zlib.decompress(base64.b64decode(data))
                mask = coco.decode({"size": size, "counts": counts})
                classes.setdefault(cls, []).append(Scored(mask, float(sure)))
        return found

    def write(answer: Answer, path: Path) -> None:
        rows = []
        for name, classes in answer.items():
            size = told(next(iter(classes.values()))[0].shape)
            words = [
                f"{cls} 1.0 {base64.b64encode(zlib.compress(_counts(mask))).decode()}"
                for cls, masks in classes.items()
                for mask in masks
                if mask.any()
            ]
            rows.append({img: name} | size | {text: " ".join(words)})
        pd.DataFrame(rows).to_csv(path, index=False)

    return Form(read, write)


def joined_lists(img: str, text: str, empty: str) -> Form:
    """A row an image: JSON lists of column-wise run lengths, one a region, joined by ;."""

    def read(path: Path, sizes: Sizes) -> Answer:
        found: Answer = {}
        for row in read_rows(path):
            size = sizes[row[img]]
            lists = [] if row[text] == empty else row[text].split(";")
            masks = [decode(" ".join(map(str, json.loads(one))), size) for one in lists]
            found[row[img]] = {ONE: masks or [np.zeros(size, np.uint8)]}
        return found

    def write(answer: Answer, path: Path) -> None:
        rows = []
        for name, _, masks in _classes_of(answer):
            lists = [json.dumps([int(n) for n in encode(m).split()]) for m in masks if m.any()]
            rows.append({img: name, text: ";".join(lists) or empty})
        pd.DataFrame(rows).to_csv(path, index=False)

    return Form(read, write)


class Scored(np.ndarray):
    """A mask that knows its confidence."""

    score: float

    def __new__(cls, mask: np.ndarray, score: float) -> "Scored":
        made = np.asarray(mask).view(cls)
        made.score = score
        return made


def results(categories: Sequence[tuple[str, int]], number: Callable[[str], Any]) -> Form:
    """COCO results, an entry an object; `number` makes image_id of an id."""
    cls_of = {category: cls for cls, category in categories}

    def read(path: Path, sizes: Sizes) -> Answer:
        found: Answer = {
            img: {cls: [np.zeros(size, np.uint8)] for cls, _ in categories}
            for img, size in sizes.items()
        }
        ids = {number(img): img for img in sizes}
        for one in json.loads(path.read_text()):
            img = ids[one["image_id"]]
            assert tuple(one["segmentation"]["size"]) == sizes[img]
            assert 0 <= one["score"] <= 1
            mask = Scored(coco.decode(one["segmentation"]), one["score"])
            found[img][cls_of[one["category_id"]]].append(mask)
        return found

    def write(answer: Answer, path: Path) -> None:
        entries = [
            {
                "image_id": number(img),
                "category_id": dict(categories)[cls],
                "segmentation": {"size": mask.shape, "counts": _counts(mask).decode()},
                "score": 1.0,
            }
            for img, cls, masks in _classes_of(answer)
            for mask in masks
            if mask.any()
        ]
        path.write_text(json.dumps(entries))

    return Form(read, write, "submission.json")
