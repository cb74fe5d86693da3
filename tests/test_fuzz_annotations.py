"""Outlines that others drew: finite polygons and the mask of a slow twin, or one line."""

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from competition.drawn import Drawn
from competition.outline_masks import decode_coco
from competition.polygon_files import read_drawn
from competition.polygon_table import read_cell
from core.errors import UserError
from fuzzing import Dice, any_json, bent, damaged, fuzz
from imaging.coco_counts import read_counts
from imaging.polygons import FAR, Polygons, read_wkt

SIZE = (4, 5)
RING = [[0, 0], [3, 0], [3, 2.5], [0, 2]]
FLAT = [x for point in RING for x in point]
STUDIO = {"original_width": 5, "original_height": 4}
FEATURE = {
    "type": "Feature",
    "properties": {"class": "a", "image": "x.png"},
    "geometry": {"type": "Polygon", "coordinates": [[*RING, RING[0]]]},
}
DOCUMENTS: tuple[Any, ...] = (
    {"type": "FeatureCollection", "features": [FEATURE]},
    {"type": "GeometryCollection", "geometries": [FEATURE["geometry"]]},
    {
        "imagePath": "a.png",
        "imageHeight": 4,
        "imageWidth": 5,
        "shapes": [
            {"label": "a", "points": RING, "group_id": 1},
            {"label": "a", "shape_type": "circle", "points": RING[:2]},
            {"label": "a", "shape_type": "rectangle", "points": RING[1:3]},
        ],
    },
    {
        "a.png": {
            "filename": "a.png",
            "regions": [
                {"shape_attributes": shape, "region_attributes": {"class": "a"}}
                for shape in (
                    {"name": "polygon", "all_points_x": [0, 3, 3], "all_points_y": [0, 0, 2]},
                    {"name": "rect", "x": 0, "y": 0, "width": 2, "height": 1},
                    {"name": "ellipse", "cx": 2, "cy": 2, "rx": 1, "ry": 1, "theta": 0.5},
                )
            ],
        }
    },
    [
        {
            "data": {"image": "/up/0a1b2c3d-x.png"},
            "annotations": [
                {
                    "result": [
                        {**STUDIO, "value": {"points": RING, "polygonlabels": ["a"]}},
                        {
                            **STUDIO,
                            "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rotation": 30},
                        },
                        {**STUDIO, "value": {"x": 1, "y": 1, "radiusX": 9, "radiusY": 9}},
                    ]
                }
            ],
        }
    ],
    {"id": "a", "size": {"height": 4, "width": 5}, "objects": [{"label": "a", "points": RING}]},
    [{"image": "a.png", "annotations": [{"class": 1, "polygon": [RING]}, {"geometry": FLAT}]}],
    [RING, RING],
)
CVAT = b"""<annotations><image name="a.png" width="5" height="4">
<polygon label="a" points="0,0;3,0;3,2.5" z_order="1"/>
<box label="b" xtl="0" ytl="0" xbr="3" ybr="3" z_order="0"/>
<ellipse label="b" cx="1" cy="1" rx="2" ry="1.5"/></image></annotations>"""
WORDS = (1e308, -1e308, 1e9, math.nan, math.inf, 10**30, -(2**63), "1_0", True, "3", [[]], [[1, 2]])


def draw_document(dice: Dice) -> Any:
    """A document of any program, bent once or twice."""
    values = dice.pick(DOCUMENTS)
    for _ in range(1 + dice.below(2)):
        values = bent(values, dice)
    if dice.below(4) == 0:
        values = with_word(values, dice)
    return values


def with_word(values: Any, dice: Dice) -> Any:
    """With an odd number, or what is none, in the place of one value."""
    if isinstance(values, dict) and values:
        key = dice.pick(sorted(values))
        return {**values, key: with_word(values[key], dice)}
    if isinstance(values, list) and values:
        at = dice.below(len(values))
        return [*values[:at], with_word(values[at], dice), *values[at + 1 :]]
    return dice.pick(WORDS)


def is_sound(outline: Any) -> bool:
    """Whether an outline is of finite corners; COCO's own are looked at when they are painted."""
    if not isinstance(outline, Polygons):
        return isinstance(outline, dict)
    rings = [ring for part in outline.parts for ring in part]
    return all(
        ring.dtype == np.float64 and ring.ndim == 2 and (np.abs(ring) < FAR).all() for ring in rings
    )


def check_drawn(found: list[Drawn], document: Any) -> None:
    for one in found:
        assert isinstance(one.image, str), document
        assert one.size is None or all(type(side) is int for side in one.size), document
        assert all(is_sound(outline) for _, outline in one.shapes), document


@fuzz(1500, 60)
def test_drawings_are_finite_polygons_or_refused(dice: Dice) -> None:
    document = draw_document(dice)
    try:
        found = read_drawn(Path("a.json"), document, dice.pick(("", "", "class")))
    except UserError:
        return
    check_drawn(found, document)


@fuzz(800)
def test_cvat_is_finite_polygons_or_refused(dice: Dice) -> None:
    data = damaged(CVAT, dice)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError):
        return  # told by load_document
    try:
        found = read_drawn(Path("a.xml"), root, "")
    except UserError:
        return
    check_drawn(found, data)


NUMBERS = ("0", "3", "2.5", "-1e0", "+7", "1e3", "1e400", "nan", "inf", "1_0", "３", "0x1", "1e99")


def wkt_number(word: str) -> float | None:
    """A number that both WKT and JSON have; None where one of them does not."""
    plain = word.isascii() and not set(word) & set("_xnai+")
    return float(word) if plain and abs(float(word)) < FAR else None


@fuzz(1500, 60)
def test_wkt_is_its_numbers_or_refused(dice: Dice) -> None:
    """Against a list of what was written."""
    odd = dice.below(3) == 0
    words = NUMBERS if odd else NUMBERS[:4]
    rings = [
        [[dice.pick(words) for _ in "xy"] for _ in range(3 + dice.below(3))]
        for _ in range(1 + dice.below(2))
    ]
    blank = dice.pick((" ", "  ", "\t"))
    inner = ",".join(f"({','.join(blank.join(point) for point in ring)})" for ring in rings)
    text = dice.pick(
        (f"POLYGON ({inner})", f"MULTIPOLYGON((({inner[1:-1]})))", f"Polygon({inner})")
    )
    values = [[[wkt_number(word) for word in point] for point in ring] for ring in rings]
    bad = any(None in point for ring in values for point in ring)
    try:
        found = read_wkt(text)
    except ValueError:
        assert bad, text
        return
    assert not bad, text
    assert [ring.tolist() for part in found.parts for ring in part] == values, text


@fuzz(800, 60)
def test_a_cell_is_an_outline_or_refused(dice: Dice) -> None:
    whole = dice.pick((f"POLYGON(({','.join(f'{x} {y}' for x, y in RING)}))", json.dumps(RING)))
    text = damaged(whole.encode(), dice).decode("utf-8", "replace")
    try:
        outline = read_cell(text)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return
    assert outline is None or is_sound(outline), text


# ---------------------------------------------------------------- COCO's counts

LETTERS = "".join(map(chr, range(48, 112)))


def slowly_read(text: str) -> list[int] | None:
    """Counts letter by letter, as rleFrString of pycocotools has it; None of no counts."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        value = place = 0
        while True:
            if at == len(text) or text[at] not in LETTERS or place == 8:
                return None
            code = ord(text[at]) - 48
            value |= (code & 31) << 5 * place
            at, place = at + 1, place + 1
            if not code & 32:
                break
        if code & 16:
            value -= 1 << 5 * place
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts if counts and min(counts) >= 0 else None


@fuzz(2500)
def test_packed_counts_are_painted_or_refused(dice: Dice) -> None:
    few = "0123456789:;<=>?@ABCOPo"
    text = "".join(dice.pick(few if dice.below(4) else LETTERS) for _ in range(dice.below(9)))
    text += dice.pick(("", "", "", "", "é", "\ud800", "\0", " ", "~"))
    expected = slowly_read(text)
    try:
        found = read_counts(text).tolist()
    except ValueError:
        assert expected is None, text
        return
    assert found == expected, text
    pixels = SIZE[0] * SIZE[1]
    try:
        mask = decode_coco({"size": list(SIZE), "counts": text}, SIZE)
    except ValueError:
        assert sum(found) != pixels, text
        return
    flat = [at % 2 for at, count in enumerate(found) for _ in range(count)]
    assert mask.T.ravel().tolist() == flat, text


@fuzz(1500)
def test_plain_counts_are_painted_or_refused(dice: Dice) -> None:
    pixels = SIZE[0] * SIZE[1]
    first = dice.below(pixels)
    counts: Any = [first, dice.below(pixels - first + 1)]
    counts.append(pixels - sum(counts))
    if dice.below(3) == 0:
        counts[dice.below(3)] = dice.pick(
            (-1, 1.0, True, None, "1", 10**30, 2**63, 21, any_json(dice))
        )
    fine = all(type(n) is int and n >= 0 for n in counts) and sum(counts) == pixels
    try:
        mask = decode_coco({"size": list(SIZE), "counts": counts}, SIZE)
    except (ValueError, TypeError):
        assert not fine, counts
        return
    assert fine, counts
    assert mask.T.ravel().tolist() == [at % 2 for at, n in enumerate(counts) for _ in range(n)]
