"""Any text as run lengths: the mask that a plain loop paints, or one line that refuses it."""

import re
from typing import NamedTuple

import numpy as np

from core.errors import UserError
from fuzzing import Dice, fuzz
from imaging.rle import Order, RunError, is_empty_rle, rle_area, rle_areas, rle_decode, rle_encode
from submissions.answer_format import CellError
from submissions.run_lengths import RunLengths

EMPTY = {"", "-1", "-", "nan", "none", "<na>"}
EDGES = [str(2**n + d) for n in (31, 32, 40, 62, 63, 64) for d in (-1, 0, 1)]
ODD = ("+3", "03", "1_0", "３", "٣", "1.0", "1e3", "0x1", "x", "-", "nan", "−1", "--1", "+-2", "")
TOKENS = (*map(str, range(-1, 9)), *EDGES, *(f"-{edge}" for edge in EDGES), *ODD, "9" * 30)
BLANKS = (*[" "] * 24, "  ", "\t", "\n", "\u3000", "\xa0", ",", "\0", "\x1f")


class Layout(NamedTuple):
    order: Order
    base: int
    relative: bool


def draw_layout(dice: Dice) -> Layout:
    return Layout(dice.pick(("column", "row")), dice.below(2), bool(dice.below(2)))


def draw_size(dice: Dice) -> tuple[int, int]:
    return 1 + dice.below(7), 1 + dice.below(7)


def draw_text(dice: Dice) -> str:
    """Mostly sorted runs of a small image, with a token or a blank of any kind among them."""
    end, tokens = dice.below(3), list[str]()
    for _ in range(dice.below(5)):
        length = 1 + dice.below(6)
        tokens += [str(end), str(length)]
        end += length + dice.below(4)
    for _ in range(dice.below(3)):
        at = dice.below(len(tokens) + 1)
        tokens[at : at + dice.below(2)] = [dice.pick(TOKENS)]
    blank = dice.pick(BLANKS)
    return dice.pick((" ", blank)).join(tokens) + (blank if dice.rarely() else "")


def numbers_of(text: str) -> list[int] | None:
    """The whole numbers of a text; None where a token is none."""
    tokens = text.split()
    if all(re.fullmatch(r"[+-]?[0-9]{1,40}", token, re.ASCII) for token in tokens):
        return [int(token) for token in tokens]
    return None


def is_empty(text: str) -> bool:
    """Whether a text stands for no pixel: a word for it, or one run without length."""
    no_pixels = re.fullmatch(r"[0-9]{1,13} 0", " ".join(text.split()), re.ASCII)
    return text.strip().lower() in EMPTY or bool(no_pixels)


def painted(
    text: str, size: tuple[int, int], order: Order, base: int, relative: bool
) -> np.ndarray | None:
    """The mask of a text as Python's integers paint it; None where it has to be refused."""
    flat = [0] * (size[0] * size[1])
    if not is_empty(text):
        numbers = numbers_of(text)
        if numbers is None or len(numbers) % 2:
            return None
        end = 0
        for at, (start, length) in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
            first = start + end if relative and at else start - base
            if first < end or length < 1 or first + length > len(flat):
                return None
            end = first + length
            flat[first:end] = [1] * length
    mask = np.array(flat, np.uint8)
    return mask.reshape(size) if order == "row" else mask.reshape(size[::-1]).T


@fuzz(5000)
def test_a_text_is_painted_or_refused(dice: Dice) -> None:
    size, layout, text = draw_size(dice), draw_layout(dice)._asdict(), draw_text(dice)
    expected = painted(text, size, **layout)
    try:
        mask = rle_decode(text, size, **layout)
    except RunError:
        assert expected is None, text
        return
    assert expected is not None, text
    assert mask.tolist() == expected.tolist(), text
    assert rle_area(text) == expected.sum()
    again = rle_encode(mask, **layout)
    assert rle_decode(again, size, **layout).tolist() == expected.tolist(), text


@fuzz(2000, 120)
def test_areas_together_are_sums_of_lengths(dice: Dice) -> None:
    texts = [draw_text(dice) for _ in range(dice.below(5))]
    read = [[] if is_empty(text) else numbers_of(text) for text in texts]
    try:
        areas = rle_areas(texts, [str(at) for at in range(len(texts))])
    except UserError:
        # Refused is what is no list of pairs, or what no image holds.
        largest = max((abs(n) for numbers in read for n in numbers or [0]), default=0)
        odd = any(numbers is None or len(numbers) % 2 for numbers in read)
        assert odd or largest > 2**40, texts
        return
    assert None not in read, texts
    assert areas.tolist() == [sum(numbers[1::2]) for numbers in read if numbers is not None], texts


@fuzz(3000)
def test_the_linter_is_of_one_mind_with_the_decoder(dice: Dice) -> None:
    size, layout, text = draw_size(dice), draw_layout(dice), draw_text(dice)
    form = RunLengths(order=layout.order, base=layout.base, relative=layout.relative)
    assert form.is_empty(text) == is_empty(text) == is_empty_rle(text)
    if is_empty(text):
        return
    expected = painted(text, size, **layout._asdict())
    try:
        found = form.inspect(text, size)
    except CellError:
        assert expected is None, text
        return
    assert expected is not None, text
    assert int(found.lengths.sum()) == expected.sum(), text
    if not layout.relative and text != rle_encode(expected, **layout._asdict()):
        assert found.doubts, text


@fuzz(2000, 60)
def test_a_mask_comes_back(dice: Dice) -> None:
    size, layout = draw_size(dice), draw_layout(dice)._asdict()
    pixels = [dice.below(2) for _ in range(size[0] * size[1])]
    text = rle_encode(np.array(pixels, np.uint8).reshape(size), **layout)
    for mask in (painted(text, size, **layout), rle_decode(text, size, **layout)):
        assert mask is not None
        assert mask.ravel().tolist() == pixels, text
