"""Run-length text against pycocotools and a plain loop."""

import numpy as np
import pytest
from pycocotools import mask as coco

from core.errors import UserError
from imaging.rle import paint_runs, rle_area, rle_areas, rle_decode, rle_encode, rle_runs

RNG = np.random.default_rng(0)


def _blank(*pixels: tuple[int, int], size: tuple[int, int] = (7, 5)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    for row, column in pixels:
        mask[row, column] = 1
    return mask


def _border() -> np.ndarray:
    mask = np.ones((7, 5), np.uint8)
    mask[1:-1, 1:-1] = 0
    return mask


MASKS = {
    "empty": _blank(),
    "full": np.ones((7, 5), np.uint8),
    "first": _blank((0, 0)),
    "last": _blank((6, 4)),
    "corners": _blank((0, 0), (0, 4), (6, 0), (6, 4)),
    "border": _border(),
    "row": np.ones((1, 9), np.uint8),
    "column": np.ones((9, 1), np.uint8),
    "pixel": np.ones((1, 1), np.uint8),
    "no_pixels": np.zeros((0, 4), np.uint8),
    **{f"random{p}": (RNG.random((31, 17)) < p).astype(np.uint8) for p in (0.02, 0.5, 0.98)},
}


def _coco_text(mask: np.ndarray, base: int) -> str:
    """The same runs by pycocotools' own encoder: column-major alternating counts."""
    packed = coco.encode(np.asfortranarray(mask))["counts"]
    counts, at = [], 0
    while at < len(packed):  # COCO's string of 6-bit groups, differences from the third count on
        value, shift, more = 0, 0, True
        while more:
            char = packed[at] - 48
            value |= (char & 0x1F) << shift
            more, at, shift = bool(char & 0x20), at + 1, shift + 5
            if not more and char & 0x10:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    ends = np.cumsum(counts)
    pairs = [(ends[i - 1] + base, counts[i]) for i in range(1, len(counts), 2) if counts[i]]
    return " ".join(f"{start} {length}" for start, length in pairs)


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("name", [n for n in MASKS if n != "no_pixels"])
def test_equals_pycocotools(name: str, base: int) -> None:
    mask = MASKS[name]
    assert rle_encode(mask, base=base) == _coco_text(mask, base)
    turned = np.ascontiguousarray(mask.T)
    assert rle_encode(mask, order="row", base=base) == _coco_text(turned, base)


@pytest.mark.parametrize("order", ["column", "row"])
@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("name", MASKS)
def test_round_trip(name: str, base: int, order) -> None:
    mask = MASKS[name]
    text = rle_encode(mask, order=order, base=base)
    back = rle_decode(text, mask.shape, order=order, base=base)
    assert back.dtype == np.uint8
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, mask)
    assert rle_area(text) == mask.sum()


def test_known_texts() -> None:
    mask = _blank((0, 0), (1, 0), (0, 1), size=(3, 4))
    assert rle_encode(mask) == "1 2 4 1"
    assert rle_encode(mask, order="row", base=0) == "0 2 4 1"
    assert rle_encode(np.zeros((2, 2), bool), empty="-1") == "-1"


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64])
def test_any_non_zero_counts_and_views_work(kind: type) -> None:
    mask = (MASKS["random0.5"] * 255).astype(kind)
    assert rle_encode(mask[::2, ::3]) == rle_encode((mask[::2, ::3] != 0).copy())


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.float32), np.zeros((1, 2, 2), np.uint8)])
def test_encode_refuses_what_is_no_mask(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match="threshold"):
        rle_encode(bad)


@pytest.mark.parametrize("text", ["", " ", "-1", "nan", "NaN", "-", None, float("nan"), -1, -1.0])
def test_empty_texts(text: object) -> None:
    assert not rle_decode(text, (3, 4)).any()
    assert rle_area(text) == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 2 3", "has 3 numbers, need pairs"),
        ("1 2 x 4", "token 3 .run 2. is 'x'"),
        ("1 2.5", "token 2 .run 1. is '2.5'"),
        ("1 2 4 0", "run 2 of 2 .start 4, length 0. has no positive length"),
        ("1 -2", "no positive length"),
        ("0 2", "starts before the first pixel, 1: set RLE_BASE=0"),
        ("1 1 12 2", "run 2 of 2 .start 12, length 2. ends after the last pixel of .3, 4., 12"),
        ("1 4 3 2", "run 2 of 2 .start 3, length 2. begins inside or before run 1"),
        ("9 1 3 2", "sort or merge them"),
        ("3 1 1 2", "fit the image: set RLE_RELATIVE=true"),
        ("1,2", "token 1"),
        (5, "read the column as str"),
    ],
)
def test_broken_texts_say_which_run(text: object, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        rle_decode(text, (3, 4), name="car_01")
    assert str(error.value).startswith("car_01: ")


@pytest.mark.parametrize(
    ("text", "told"), [("3 2 9 1", "run 2 of 2 .*set RLE_RELATIVE=false"), ("3 2 -3 1", "negative")]
)
def test_broken_relative_texts_are_not_told_to_be_sorted(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        rle_decode(text, (3, 4), base=0, relative=True)
    assert "sort or merge" not in str(error.value)


def test_uneven_blanks_are_read() -> None:
    np.testing.assert_array_equal(rle_decode(" 1  2\t4 1\n", (3, 4)), rle_decode("1 2 4 1", (3, 4)))


def test_touching_runs_are_fine() -> None:
    assert rle_encode(rle_decode("1 2 3 2", (3, 4))) == "1 4"


def test_areas_of_many_are_those_of_each() -> None:
    masks = [(RNG.random((9, 7)) < p).astype(np.uint8) for p in RNG.random(2500)]
    texts: list[object] = [rle_encode(mask) for mask in masks]
    texts[3:6] = ["", None, " 1  2\t4 1\n"]
    masks[3:6] = [np.zeros((3, 4)), np.zeros((3, 4)), rle_decode("1 2 4 1", (3, 4))]
    names = [f"car_{at}" for at in range(len(texts))]
    assert rle_areas(texts, names).tolist() == [mask.sum() for mask in masks]
    assert rle_areas([], []).tolist() == []
    for broken in ("1 2 3", "1 x", 5):
        with pytest.raises(UserError, match=r"^car_1234: "):
            rle_areas([*texts[:1234], broken, *texts[1235:]], names)


def test_paint_keeps_labels_and_order() -> None:
    starts, lengths = rle_runs("1 2 5 3", (3, 4))
    flat = np.array([7, 7, 0, 0, 900, 900, 900, 0, 0, 0, 0, 0], np.int32)
    labels = np.array([7, 900], np.int32)
    row = paint_runs(starts, lengths, labels, size=(3, 4), order="row")
    np.testing.assert_array_equal(row, flat.reshape(3, 4))
    column = paint_runs(starts, lengths, labels, size=(3, 4), order="column")
    np.testing.assert_array_equal(column, flat.reshape(4, 3).T)
