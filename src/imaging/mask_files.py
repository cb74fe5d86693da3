"""A mask file of any of the usual formats, read to the one array the task wants."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from core.errors import UserError
from imaging.axes import parse_axes
from imaging.files import read_page
from imaging.mask_pixels import (
    alpha_mask,
    check_bands,
    check_halves,
    check_numbers,
    decode_mask,
    is_lossy,
    is_stacked,
    one_colour,
    pack_pixels,
)
from imaging.palettes import palette_reader, read_palette
from imaging.readers import Hints, read_part
from imaging.sources import own_file, page_of, window_of

IGNORE = 255
UNDECLARED = 254
SHOWN = 10
# Classes are fewer; a drawing that was stored as JPEG or scaled has more colours, too.
MOST_COLOURS = 1000
JPEG_THRESHOLD = 128
# Values of a lossy file that are told apart.
LOSSY_GAP = 48
# JPEG rounds chroma: a grey picture stored in colour comes back a few steps off grey.
JPEG_GREY_SPREAD = 8

FileValue = int | tuple[int, int, int] | None


@dataclass(frozen=True)
class MaskRules:
    """How the values in a mask file become class ids.

    Attributes:
        task: "binary", "multiclass" or "multilabel".
        classes: K; 1 for binary. At most 254, as 255 means ignored.
        values: value in the file to class id: a grey value, the index of a palette of colours, or
            (r, g, b); the key None takes every value not listed. None: the file holds the ids.
        threshold: binary, v >= threshold is foreground. None: exact values, but 128 for JPEG.
        ignore: the data's own value of ignored pixels, 255 in the mask array afterwards.
        axes: of arrays and pages, as MASK_AXES has them.
    """

    task: str
    classes: int = 1
    values: Mapping[FileValue, int] | None = None
    threshold: int | None = None
    ignore: int | None = None
    axes: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.classes < UNDECLARED + 1:
            raise UserError(f"CLASSES is {self.classes}, need 1 to {UNDECLARED}")
        top = 2 if self.task == "binary" else self.classes
        bad = [i for i in (self.values or {}).values() if not (0 <= i < top or self._ignored(i))]
        if bad:
            raise UserError(
                f"MASK_VALUES gives class ids {sorted(set(bad))}, need 0 to {top - 1}"
                + " or the ignore id"
            )

    def _ignored(self, class_id: int) -> bool:
        return class_id in (IGNORE, self.ignore)

    def target(self, class_id: int) -> int:
        """The id in the mask array for an id of `values`."""
        return IGNORE if self._ignored(class_id) else class_id


def read_mask_file(path: str | Path, rules: MaskRules) -> np.ndarray:
    """The mask of a file: uint8 (H, W) of {0, 1} or ids with 255 ignored; multilabel (K, H, W).

    Of a path that names a window (see `imaging.sources`) it is that part of the mask.

    - A palette picture gives its colours: who writes it may number them in any order. Of Pascal
      VOC's palette, and where `values` are numbers, it gives its indices. Alpha is dropped, but of
      a cut-out, see `imaging.mask_pixels.alpha_mask`; red = green = blue is grey.
    - Binary takes the value sets {0}, {0, 1}, {0, 255} and {0, 65535}, and one colour on black. A
      file of nothing but the upper value is all foreground. A lossy file (and any file when a
      threshold is set) is cut at the threshold.
    - Multiclass takes ids 0 to K-1 and the ignore id, or what `values` declares; of a lossy file
      the nearest of `values`, which must be far apart.
    - Multilabel takes a picture of K channels, each as a binary mask.

    Raises:
        UserError: missing, truncated, or with values that no rule declares; lists the values.
    """
    file, box = own_file(path), window_of(path)
    page = page_of(path)
    part = read_part(file, Hints(alpha=True, page=page), box) if box else None
    if part is not None and not part.axes.startswith("N"):
        return mask_of_pixels(part.array, rules, file.name)
    data, page = read_page(file, page)
    jpeg = is_lossy(data)
    if jpeg and rules.task == "multiclass" and not rules.values:
        raise UserError(
            f"{file.name}: a lossy file (JPEG) mixes class ids at every edge into other classes: "
            "export the masks as PNG, or declare values that are far apart with MASK_VALUES: the "
            "nearest counts"
        )
    pixels = decode_mask(data, file.name, palette_reader(rules.values), page=page, axes=rules.axes)
    if is_stacked(data, file.name, rules.axes):
        pixels = _planes_last(pixels, rules, file.name)
    mask = mask_of_pixels(pixels, rules, file.name, jpeg=jpeg)
    return mask[(..., *box.slices)] if box else mask


def mask_of_pixels(
    pixels: np.ndarray, rules: MaskRules, name: str, *, jpeg: bool = False
) -> np.ndarray:
    """The mask of values or colours as they are stored, (H, W) or (H, W, C); see `read_mask_file`.

    Raises:
        UserError: values that no rule declares.
    """
    if rules.task == "multilabel":
        return _read_channels(pixels, rules, name, jpeg=jpeg)
    check_bands(pixels, name)
    alpha = alpha_mask(pixels) if rules.task == "binary" and rules.values is None else None
    pixels = pixels if alpha is None else alpha
    grey = _to_grey(pixels, spread=JPEG_GREY_SPREAD if jpeg else 0)
    if rules.values is not None:
        shown = pixels if grey is None else grey
        return (_nearest_values if jpeg else _map_values)(shown, rules, name)
    if grey is None and rules.task == "binary" and not jpeg:
        grey = one_colour(pixels)
    if grey is None:
        colours = np.unique(pixels[:, :, :3].reshape(-1, 3), axis=0)
        if len(colours) > MOST_COLOURS:
            raise UserError(
                f"{name}: has {len(colours)} colours, as a photo has: does MASK_PATH name the "
                "images, or MASK_SUFFIX their ends? Colours of a mask are declared by MASK_VALUES"
            )
        raise UserError(
            f"{name}: the mask is in colours {_shown(colours)}, their classes are unknown: declare "
            "them with MASK_VALUES, as {(255, 0, 0): 1}; or {0: 0, 1: 1} where it is the indices "
            "of a palette that are the classes"
        )
    if rules.task == "binary":
        return _binary(grey, name, rules, jpeg=jpeg)
    return _class_ids(grey, rules, name)


def read_label_file(path: str | Path, axes: str = "") -> np.ndarray:
    """Numbers of the objects of a file, (1, H, W), 0 where none is; arrays may be (N, H, W).

    Colours are numbers, too: black is background, each other colour an object. Of a path that names
    a window it is that part.

    Raises:
        UserError: missing, truncated, or lossy.
    """
    box, labels = window_of(path), _read_labels(path, axes)
    return labels[(..., *box.slices)] if box else labels


def _read_labels(path: str | Path, axes: str) -> np.ndarray:
    file = own_file(path)
    name, (data, page) = file.name, read_page(file, page_of(path))
    if is_lossy(data):
        raise UserError(f"{name}: a lossy file (JPEG) has no object numbers: export it as PNG")
    pixels = decode_mask(data, name, read_palette, page=page, axes=axes)
    check_numbers(pixels, name)
    if is_stacked(data, name, axes) and pixels.ndim == 3 and pixels.shape[2] > 1:
        return np.moveaxis(pixels, 2, 0) if parse_axes(axes).names else pixels
    check_bands(pixels, name)
    grey = _to_grey(pixels, spread=0)
    return (pack_pixels(pixels) if grey is None else grey)[None]


def _to_grey(pixels: np.ndarray, *, spread: int) -> np.ndarray | None:
    """(H, W) when there is one channel or colours that are all grey, else None."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] not in (3, 4):
        return pixels[:, :, 0] if pixels.shape[2] == 1 else None
    red, green, blue = (np.ascontiguousarray(pixels[:, :, c]) for c in range(3))
    if spread == 0:
        same = np.array_equal(red, green) and np.array_equal(green, blue)
    else:
        off = max(int(cv2.absdiff(green, red).max()), int(cv2.absdiff(green, blue).max()))
        same = off <= spread
    return green if same else None


def _planes_last(array: np.ndarray, rules: MaskRules, name: str) -> np.ndarray:
    """(H, W), or (H, W, K) of an array of (K, H, W) or (H, W, K) masks."""
    if array.ndim == 3 and rules.task == "multilabel" and rules.classes in array.shape[::2]:
        return array if array.shape[2] == rules.classes else np.moveaxis(array, 0, 2)
    axes = [n for n in array.shape if n > 1]
    if array.ndim > 2 and len(axes) != 2:
        raise UserError(
            f"{name}: holds {array.shape}, need (H, W): set MASK_FORMAT=labels where it is a layer "
            "an object, raters where it is a mask of each rater, TASK=multilabel where it is one a "
            "class"
        )
    return array.reshape(axes) if array.ndim > 2 else array


def _threshold(rules: MaskRules, *, jpeg: bool) -> int | None:
    if rules.threshold is None and jpeg:
        return JPEG_THRESHOLD
    return rules.threshold


def _binary(grey: np.ndarray, name: str, rules: MaskRules, *, jpeg: bool) -> np.ndarray:
    if rules.ignore is not None:
        ignored = grey == rules.ignore
        rest = _binary(grey * ~ignored, name, replace(rules, ignore=None), jpeg=jpeg)
        return np.where(ignored, np.uint8(IGNORE), rest)
    if jpeg and rules.threshold is None:
        check_halves(grey, name)
    threshold = _threshold(rules, jpeg=jpeg)
    if threshold is not None:
        return (grey >= threshold).view(np.uint8)
    if grey.dtype.kind == "f" and (grey != np.rint(grey)).any():
        raise UserError(
            f"{name}: the mask holds {grey.dtype} between whole numbers: set SOFT_LABELS=true "
            "where these are shares of foreground, else round or threshold it"
        )
    top, low = int(grey.max(initial=0)), int(grey.min(initial=0))
    foreground = (grey != 0).view(np.uint8)
    if top <= 1 and low == 0:
        return foreground
    two = top in (255, 65535) and low == 0
    if two and np.count_nonzero(grey == top) == np.count_nonzero(foreground):
        return foreground
    raise UserError(
        f"{name}: the mask has values {_shown(np.unique(grey))}, a binary mask has 0 and 1, or 0 "
        "and 255. Set MASK_THRESHOLD when the edges are soft, MASK_VALUES when the values are "
        "classes, IGNORE_INDEX to one that counts for nothing"
    )


def _class_ids(grey: np.ndarray, rules: MaskRules, name: str) -> np.ndarray:
    table: dict[FileValue, int] = {i: i for i in range(rules.classes)}
    if rules.ignore is not None:
        table[rules.ignore] = IGNORE
    return _look_up(grey, table, name, f"ids 0 to {rules.classes - 1}{_ignored(rules)}")


def _map_values(pixels: np.ndarray, rules: MaskRules, name: str) -> np.ndarray:
    table: dict[FileValue, int] = {}
    for value, class_id in (rules.values or {}).items():
        if isinstance(value, tuple):
            grey = pixels.ndim == 2 and len(set(value)) == 1
            value = value[0] if grey else _pack(*value)
        elif value is not None and pixels.ndim == 3:
            value = _pack(value, value, value)
        table[value] = rules.target(class_id)
    if rules.ignore is not None:
        table.setdefault(rules.ignore, IGNORE)
    if pixels.ndim == 3:
        pixels = pack_pixels(pixels)
    return _look_up(pixels, table, name, "what MASK_VALUES declares")


def _nearest_values(pixels: np.ndarray, rules: MaskRules, name: str) -> np.ndarray:
    """uint8 (H, W): the class of the value that is nearest to each pixel of a lossy file."""
    declared = {
        (value if isinstance(value, tuple) else (value,) * 3): rules.target(class_id)
        for value, class_id in (rules.values or {}).items()
        if value is not None
    }
    planes = np.atleast_3d(pixels)[:, :, :3].astype(np.float32)
    nearest = np.full(pixels.shape[:2], np.inf, np.float32)
    out = np.zeros(pixels.shape[:2], np.uint8)
    for colour, class_id in declared.items():
        gaps = [np.abs(np.subtract(colour, other)).max() for other in declared if other != colour]
        if min(gaps, default=255) < LOSSY_GAP:
            raise UserError(
                f"{name}: a lossy file (JPEG), in which values of MASK_VALUES as near as {colour} "
                f"and another cannot be told apart (need {LOSSY_GAP}): export the masks as PNG"
            )
        away = ((planes - np.array(colour, np.float32)) ** 2).sum(2)
        out[away < nearest] = class_id
        nearest = np.minimum(nearest, away)
    return out


def _look_up(
    pixels: np.ndarray, table: Mapping[FileValue, int], name: str, need: str
) -> np.ndarray:
    """uint8 (H, W): each value's row of the table; the key None takes the others."""
    rest = table.get(None, UNDECLARED)
    if pixels.dtype == np.uint8:
        lut = np.full(256, rest, np.uint8)
        for value, class_id in table.items():
            if isinstance(value, int) and 0 <= value < 256:
                lut[value] = class_id
        out = cv2.LUT(np.ascontiguousarray(pixels), lut)
    else:
        out = np.full(pixels.shape, rest, np.uint8)
        for value, class_id in table.items():
            if value is not None:
                out[pixels == value] = class_id
    unknown = out == UNDECLARED
    if unknown.any():
        values = np.unique(pixels[unknown])
        coloured = values[-1] > 0xFFFF or any(isinstance(v, int) and v > 0xFFFF for v in table)
        if coloured and values.dtype.kind in "iu":
            values = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1)
        raise UserError(
            f"{name}: the mask has values {_shown(values)}, need {need}: set CLASSES, "
            "IGNORE_INDEX or MASK_VALUES (None: 0 in it is for all others); values between the "
            "classes come of a lossy file or of a resize: export the masks anew"
        )
    return out


def _read_channels(pixels: np.ndarray, rules: MaskRules, name: str, *, jpeg: bool) -> np.ndarray:
    planes = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if planes.shape[2] == 4 and rules.classes == 3:
        planes = planes[:, :, :3]
    if planes.shape[2] != rules.classes:
        raise UserError(
            f"{name}: the mask has {planes.shape[2]} channels, CLASSES is {rules.classes}. "
            "Overlapping classes need a channel each: export a picture of that many channels or "
            "give the masks as run-length rows"
        )
    return np.stack(
        [_binary(planes[:, :, k], name, rules, jpeg=jpeg) for k in range(rules.classes)]
    )


def _pack(red: int, green: int, blue: int) -> int:
    return (int(red) << 16) | (int(green) << 8) | int(blue)


def _ignored(rules: MaskRules) -> str:
    return "" if rules.ignore is None else f" and {rules.ignore} (ignored)"


def _shown(values: np.ndarray) -> str:
    told = [str(tuple(v) if isinstance(v, list) else v) for v in values[:SHOWN].tolist()]
    return ", ".join(told) + (f" ... ({len(values)} in all)" if len(values) > SHOWN else "")
