"""Run lengths as JSON's and Python's values: what they say, against plain loops and pycocotools."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco

from answer_forms import decode, encode
from competition.masks import build_masks, mask_format
from competition.run_layout import run_layout
from competition.training_images import collect_images
from competitions import competition_in
from core.errors import UserError
from imaging.rle import Layout
from imaging.run_values import read_run_values
from submissions.answer import Prediction, read_answer
from submissions.formats import SUBMISSIONS
from submissions.linter import Linter
from test_answers import discs

SIZE = (36, 60)
MASKS = {"a": discs(1, SIZE), "b": discs(2, SIZE), "c": np.zeros(SIZE, np.uint8)}


def flat(mask, order="F"):
    return [int(number) for number in encode(mask, order).split()]


def pairs(mask, order="F"):
    numbers = flat(mask, order)
    return [numbers[at : at + 2] for at in range(0, len(numbers), 2)]


def counted(mask, *, compressed):
    found = coco.encode(np.asfortranarray(mask))
    if compressed:
        return {"size": list(SIZE), "counts": found["counts"].decode()}
    ends = np.flatnonzero(np.diff(np.append(0, mask.ravel("F")))) if mask.any() else []
    bounds = [0, *ends, mask.size]
    return {"size": list(SIZE), "counts": np.diff(bounds).tolist()}


# How a mask is spelled, whether an empty one is so, too, and the row of SUBMISSIONS, if any.
SPELLINGS = {
    "a list": (lambda mask: json.dumps(flat(mask)), False, "list"),
    "a list by row": (lambda mask: json.dumps(flat(mask, "C")), False, "list"),
    "a list without brackets": (lambda mask: str(flat(mask))[1:-1], False, None),
    "pairs": (lambda mask: json.dumps(pairs(mask)), False, "pairs"),
    "pairs of Python": (lambda mask: str([*map(tuple, pairs(mask))]), False, None),
    "counts": (lambda mask: json.dumps(counted(mask, compressed=False)), True, "dictionary"),
    "compressed": (lambda mask: json.dumps(counted(mask, compressed=True)), True, "dictionary"),
    "quoted by Python": (lambda mask: str(counted(mask, compressed=True)), True, "dictionary"),
    "bytes": (lambda mask: str(coco.encode(np.asfortranarray(mask))), True, "dictionary"),
}


@pytest.fixture(scope="module", params=SPELLINGS)
def told(request, tmp_path_factory):
    """A competition whose table and sample are spelled in one way, and that way."""
    folder = tmp_path_factory.mktemp("told")
    spell, dresses_empty, name = SPELLINGS[request.param]
    for part in ("train_hq", "test_hq"):
        (folder / part).mkdir()
        for img in MASKS:
            Image.new("L", SIZE[::-1]).save(folder / part / f"{img}.png")
    cells = {
        img: spell(mask) if mask.any() or dresses_empty else "[]" for img, mask in MASKS.items()
    }
    table = pd.DataFrame({"id": cells.keys(), "where": cells.values()})
    table.to_csv(folder / "train_masks.csv", index=False)
    table.to_csv(folder / "sample_submission.csv", index=False)
    order = "row" if "row" in request.param else "column"
    return competition_in(folder), spell, dresses_empty, name, order


def test_a_table_is_read_as_what_it_says(told):
    competition, _, _, _, order = told
    assert mask_format(competition) == "rle"
    assert run_layout(competition) == Layout(order, 1, False)
    masks, images = build_masks(competition), collect_images(competition)
    assert images.areas.tolist() == [int(mask.sum()) for mask in MASKS.values()]
    assert not masks.has_objects
    for img, mask in MASKS.items():
        assert np.array_equal(masks.read({"img": img}, SIZE), mask)


def test_an_answer_is_spelled_as_the_sample(told):
    competition, spell, dresses_empty, name, _ = told
    if name is None:
        with pytest.raises(UserError, match="of no known format"):
            read_answer(competition)
        return
    answer = read_answer(competition)
    assert type(answer.form) is SUBMISSIONS[name]
    rows = {img: answer.write(Prediction(img, mask[None])) for img, mask in MASKS.items()}
    for img, mask in MASKS.items():
        (row,) = rows[img]
        assert row.cell == (spell(mask) if mask.any() or dresses_empty else "[]")
    path = competition.input / answer.name
    answer.form.file().assemble(path, answer.plan, rows.__getitem__)
    linter = Linter(answer, lambda img: SIZE)
    assert linter.check(path).errors == {}
    assert linter.population.pixels == {img: int(mask.sum()) for img, mask in MASKS.items()}


def rewritten(folder, cells, head="id,rle"):
    names = head.split(",")
    pd.DataFrame(cells, columns=names).to_csv(folder / "train_masks.csv", index=False)
    (folder / "train_hq").mkdir(exist_ok=True)
    for row in cells:
        Image.new("L", SIZE[::-1]).save(folder / "train_hq" / f"{row[0]}.png")
    return competition_in(folder)


def test_several_masks_in_a_cell_are_objects(tmp_path):
    ones = [(discs(1, SIZE) > 0) & (np.arange(60) // 30 == half) for half in (0, 1)]
    cell = ";".join(json.dumps(flat(one.astype(np.uint8))) for one in ones)
    masks = build_masks(rewritten(tmp_path, [("a", cell), ("b", "[]")]))
    assert masks.has_objects
    assert np.array_equal(masks.objects({"img": "a"}, SIZE), ones[0] + 2 * ones[1])
    assert not masks.read({"img": "b"}, SIZE).any()


def test_points_and_boxes_are_no_run_lengths(tmp_path):
    square = [("a", "[[5, 4], [20, 4], [20, 30], [5, 30]]"), ("b", "[[3, 3], [9, 3], [9, 9]]")]
    assert mask_format(rewritten(tmp_path, square, "id,where")) == "polygons"
    boxes = rewritten(tmp_path, [("a", "[1, 2, 30, 8]"), ("b", "[5, 5, 40, 9]")], "id,bbox")
    with pytest.raises(UserError, match="no masks"):
        mask_format(boxes)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["[1, 3, 10]", "[1, 3, 10, 5]"] * 11, "11 cells(.|\n)*line 2: 3 numbers: need pairs"),
        (["[1, 3, 10, 5]"] * 20 + ["[1, 3, 10"], "line 22: no list or dictionary .* cut off"),
        (["[1, 3, 10, 5]"] * 20 + ["[1, 3.5]"], "line 22: 3.5 is no whole number"),
        (["[1, 3, 10, 5]"] * 20 + ['{"counts": "132"}'], "line 22: .* without the size"),
        (["[1, 3, 10, 5]"] * 20 + ['{"size": [2, 3], "counts": [5]}'], "counts of 5 pixels"),
        (["[1, 3, 10, 5]"] * 20 + ['{"size": [2, 3], "counts": [6]}'], "of another kind"),
    ],
)
def test_a_cell_that_is_none_is_told(tmp_path, cells, told):
    rows = [(f"i{at}", cell) for at, cell in enumerate(cells)]
    competition = rewritten(tmp_path, rows)
    with pytest.raises(UserError, match=told):
        build_masks(competition).read({"img": "i0"}, SIZE)


def test_counts_of_another_size_are_told(tmp_path):
    cell = json.dumps({"size": [60, 36], "counts": [100, 5, 60 * 36 - 105]})
    competition = rewritten(tmp_path, [("a", cell)])
    with pytest.raises(UserError, match=r"a: its run lengths are of a mask of \(60, 36\)"):
        build_masks(competition).read({"img": "a"}, SIZE)
    by_row = competition_in(tmp_path, rle_order="row")
    with pytest.raises(UserError, match="COCO's counts, which number pixels by column"):
        run_layout(by_row)


@pytest.mark.parametrize(
    ("name", "cell", "rule"),
    [
        ("list", "[[1, 3], [10, 5]]", "syntax"),
        ("pairs", "[1, 3, 10, 5]", "syntax"),
        ("list", "[2160, 3]", "bounds"),
        ("pairs", "[[10, 5], [1, 3]]", "sorted"),
        ("dictionary", "{'size': [36, 60], 'counts': [5, 3, 2152]}", "syntax"),
        ("dictionary", '{"size": [36, 60], "counts": "5dS1"}', "syntax"),
        ("dictionary", '{"size": [60, 36], "counts": [5, 3, 2152]}', "size"),
    ],
)
def test_another_spelling_is_a_fault(tmp_path, name, cell, rule):
    shown = {
        "list": "[1, 3]",
        "pairs": "[[1, 3]]",
        "dictionary": '{"size": [36, 60], "counts": [5, 3, 2152]}',
    }[name]
    path = tmp_path / "sample_submission.csv"
    pd.DataFrame({"id": ["a"], "rle": [shown]}).to_csv(path, index=False)
    answer = read_answer(competition_in(tmp_path, submission=name))
    pd.DataFrame({"id": ["a"], "rle": [cell]}).to_csv(path, index=False)
    assert rule in Linter(answer, lambda img: SIZE).check(path).errors


def test_lists_are_what_plain_loops_decode():
    cell = json.dumps(pairs(MASKS["a"]))
    assert np.array_equal(decode(read_run_values(cell)[0].text, SIZE), MASKS["a"])
