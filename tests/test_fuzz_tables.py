"""Tables, names and patterns by others: what a slow twin reads, or one line."""

import csv
import io
import math
import re
from pathlib import Path

import pytest

from competition.patterns import FilePattern
from competition.table_files import read_table
from core.arguments import read_name
from core.errors import UserError
from fuzzing import Dice, damaged, fuzz
from runs.fold_table import read_fold_table

FOLDER = Path()
IDS = (
    "a",
    "b",
    "c",
    "a b",
    "é",
    "d.1",
    "../a",
    "/a",
    "a\\b",
    "",
    ".",
    "x" * 300,
    "a\nb",
    "nan",
    "1",
)
FOLDS = (
    "0",
    "1",
    "2",
    "-1",
    "999999",
    "1000000",
    "1.0",
    " 1",
    "１",
    "1_0",
    "",
    "nan",
    "9" * 30,
    "-2",
)


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("tables")


def written(rows: list[list[str]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def is_id(text: str) -> bool:
    return (
        bool(text) and text not in (".", "..") and not set(text) & set("/\\\n") and len(text) < 200
    )


@fuzz(400, 60, slow=10)
def test_a_table_of_folds_is_sound_or_refused(dice: Dice) -> None:
    usual = dice.below(3) > 0
    count = dice.below(4)
    ids = [dice.pick(IDS[:6] if usual else IDS) for _ in range(count)]
    folds = [dice.pick(FOLDS[:5] if usual else FOLDS) for _ in range(count)]
    head = ["img", "image", "mask", "group", "kfold"]
    rows = [[img, "x.png", "", "g", fold] for img, fold in zip(ids, folds, strict=True)]
    path = FOLDER / "train_folds.csv"
    path.write_bytes(written([head, *rows]))
    fine = count > 0 and len(set(ids)) == count and all(map(is_id, ids))
    fine &= all(re.fullmatch("-1|[0-9]{1,6}", fold, re.ASCII) for fold in folds)
    try:
        table = read_fold_table(path)
    except UserError:
        assert not fine, rows
    else:
        assert fine, rows
        assert table["img"].tolist() == ids
        assert table["kfold"].tolist() == list(map(int, folds))
    path.write_bytes(damaged(written([head, *rows]), dice))
    try:
        table = read_fold_table(path)
    except UserError:
        return
    assert all(map(is_id, table["img"]))
    assert table["img"].is_unique
    assert table["kfold"].between(-1, 999999).all()


@fuzz(300, 60, slow=10)
def test_a_table_is_text_or_refused(dice: Dice) -> None:
    mark = dice.pick((",", ";", "\t"))
    cells = ("a.png", "1 2", "", "x y", '"q,r"', "é", "0", "-1")
    lines = [mark.join(("id", "rle"))]
    lines += [mark.join((f"i{at}.png", dice.pick(cells))) for at in range(1 + dice.below(4))]
    data = dice.pick(("\n", "\r\n")).join(lines).encode(dice.pick(("utf-8", "utf-8-sig", "utf-16")))
    path = FOLDER / "train.csv"
    path.write_bytes(damaged(data, dice) if dice.below(4) else data)
    try:
        table = read_table(path)
    except UserError:
        return
    assert len(table) > 0
    assert all(isinstance(cell, str) for name in table for cell in table[name])


NUMBERS = (
    "0",
    "1",
    "-2",
    "0.5",
    "1e3",
    ".5",
    "1e400",
    "nan",
    "inf",
    "1_0",
    "１",
    "٣",
    "",
    "x",
    "--1",
)
VALUES = {
    "0": 0,
    "1": 1,
    "-2": -2,
    "0.5": 0.5,
    "1e3": 1000.0,
    ".5": 0.5,
    "true": True,
    "none": None,
}


@fuzz(3000)
def test_arguments_in_a_name_are_values_or_refused(dice: Dice) -> None:
    words = [dice.pick((*NUMBERS, "true", "none")) for _ in range(1 + dice.below(2))]
    key = dice.pick(("beta", "only", "k1", "1k", "", "a b", "x-y"))
    text = f"fbeta:{key}{dice.pick(('=', '=', '=', ''))}{'/'.join(words)}"
    fine = "=" in text and key.isidentifier() and all(word in VALUES for word in words)
    try:
        name, found = read_name(text, "metric")
    except UserError:
        assert not fine, text
        return
    assert fine, text
    values = tuple(VALUES[word] for word in words)
    assert (name, found) == ("fbeta", {key: values if len(values) > 1 else values[0]}), text
    assert all(math.isfinite(value) for value in values if value is not None)


NAMES = ("a", "b_1", "é", "x.y", "7", "A B")
PIECES = (
    "{id}",
    "{id}",
    "{day}",
    "*",
    "_",
    "-",
    "mask",
    "**/",
    "/",
    "{_end}",
    "{a²}",
    "{",
    "}",
    ".png",
)


def id_of(pattern: FilePattern, path: str) -> str | None:
    found = pattern.read(path)
    return found[0] if found else None


@fuzz(1500)
def test_a_pattern_is_a_rule_or_refused(dice: Dice) -> None:
    text = "".join(dice.pick(PIECES) for _ in range(1 + dice.below(6)))
    template = dice.pick(("", "", "{id}", "{id}_{day}", "{x}", "{id}/..", "id", "{id!r}", "{"))
    try:
        pattern = FilePattern(text, template, knobs=("IMAGE_PATTERN", "ID_TEMPLATE"))
    except UserError:
        return
    for name in ("a.png", "b_1-x.PNG", "mask/a_b.png", "", "{id}.png"):
        img = id_of(pattern, name)
        assert img is None or not set(img) & set("/*"), (text, template, name)


@fuzz(1500)
def test_a_pattern_finds_the_parts_that_made_the_path(dice: Dice) -> None:
    case, day = dice.pick(NAMES), dice.pick(NAMES)
    ends, capitals = dice.pick((".png", ".tif")), dice.below(2)
    text = dice.pick(("{case}/{day}", "{case}/{case}+{day}", "{day}/x*/{case}", "**/{case}+{day}"))
    path = text.replace("{case}", case).replace("{day}", day)
    path = path.replace("x*", dice.pick(("x", "xyz"))).replace("**/", dice.pick(("", "p/", "p/q/")))
    pattern = FilePattern(text + ends, "{day}={case}", knobs=("IMAGE_PATTERN", "ID_TEMPLATE"))
    assert id_of(pattern, path + (ends.upper() if capitals else ends)) == f"{day}={case}", path
    assert id_of(pattern, path + ".jpg") is None
