"""Run-length text of a 1280×1918 mask, with the final string."""

from typing import Any

import cv2
import numpy as np

from demo.scene import draw_frame
from harness import Line, Target, gate, race, speeds
from imaging.rle import rle_decode, rle_encode
from reference import rle_decode_notebook, rle_notebook


def run(*, toy: bool) -> list[Line]:
    """Encoding along rows and columns, noise as the worst case, and decoding."""
    size = (128, 192) if toy else (1280, 1918)
    car = (draw_frame(0, 0.1, seed=42, size=size, supersample=1)[1] != 0).astype(np.uint8)
    noise = (np.random.default_rng(0).random(size) < 0.5).astype(np.uint8)
    repeats = 3 if toy else 15
    lines = []
    for order, bound in (("row", 2.5), ("column", 1.5)):
        line = encode_line(car, order, "car", repeats=repeats)
        line.targets = [
            Target("GB/s", line.median("ours"), bound),
            Target("times the notebook", line.gain("reference"), 3.0),
        ]
        lines.append(line)
    line = encode_line(noise, "row", "noise", repeats=3 if toy else 7)
    line.targets = [Target("times the notebook", line.gain("reference"), 1.0)]
    return [*lines, line, coco_line(car, repeats), decode_line(car, repeats)]


def encode_line(mask: np.ndarray, order: Any, what: str, *, repeats: int) -> Line:
    """Ours against the notebook's encoder; the floor reads the mask once."""
    turned = mask if order == "row" else mask.T
    same = rle_notebook(turned) == rle_encode(mask, order=order)
    arms = {
        "reference": lambda: many(lambda: rle_notebook(turned), what),
        "ours": lambda: many(lambda: rle_encode(mask, order=order), what),
        "floor": lambda: many(lambda: np.count_nonzero(mask), what),
    }
    name = f"RLE encode, {what}, {order}-major"
    times = race(arms, what=name, repeats=repeats)
    rate = speeds(times, mask.size * rounds(what) / 1e9)
    return Line(name, "GB/s of mask", rate, gate(same, "the same text"), rate=True)


def coco_line(mask: np.ndarray, repeats: int) -> Line:
    """Ours with the competition's text against pycocotools, which makes a string of its own."""
    from pycocotools import mask as coco

    same = np.array_equal(coco.decode(coco.encode(np.asfortranarray(mask))), mask)
    same &= np.array_equal(rle_decode(rle_encode(mask), mask.shape), mask)
    arms = {
        "reference": lambda: many(lambda: coco.encode(np.asfortranarray(mask)), "car"),
        "ours": lambda: many(lambda: rle_encode(mask), "car"),
    }
    name = "RLE encode, car, beside pycocotools"
    rate = speeds(race(arms, what=name, repeats=repeats), mask.size * rounds("car") / 1e9)
    notes = "Columns; pycocotools ends with COCO's bytes, not with the text of a CSV."
    return Line(name, "GB/s of mask", rate, gate(same, "both decode to the mask"), [], notes, True)


def decode_line(mask: np.ndarray, repeats: int) -> Line:
    """Text to mask, along rows."""
    text, size = rle_encode(mask, order="row"), mask.shape
    back = rle_decode(text, size, order="row")
    same = np.array_equal(back, rle_decode_notebook(text, size))
    empty = np.empty_like(mask)
    arms = {
        "reference": lambda: many(lambda: rle_decode_notebook(text, size), "car"),
        "ours": lambda: many(lambda: rle_decode(text, size, order="row"), "car"),
        "floor": lambda: many(lambda: cv2.copyTo(mask, None, empty), "car"),
    }
    name = "RLE decode, car, row-major"
    rate = speeds(race(arms, what=name, repeats=repeats), mask.size * rounds("car") / 1e9)
    notes = "Ours checks every run; the floor copies a mask."
    return Line(name, "GB/s of mask", rate, gate(same, "the same mask"), [], notes, True)


def rounds(what: str) -> int:
    """Calls a round: a millisecond alone is too short to time."""
    return 1 if what == "noise" else 20


def many(call: Any, what: str) -> None:
    """Calls as often as `rounds` says."""
    for _ in range(rounds(what)):
        call()
