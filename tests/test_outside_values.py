"""Numbers and ids of others' files, flags and variables: one gate each, wherever they come in."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from competition.drawn import size_of
from competition.fold_column import read_folds
from competition.listings import find_test_images
from competition.outline_masks import decode_coco
from competition.outline_units import UNITS, pixels_a_unit
from competition.polygon_files import read_coco_masks, read_drawn
from competition.tables import class_ids
from competition.xml_drawings import read_cvat
from competitions import competition_in
from conftest import Competition
from core.arguments import read_name
from core.errors import UserError
from core.gates import (
    check_ids,
    decimal_number,
    id_problem,
    is_whole_number,
    json_value,
    whole_number,
)
from core.ranges import percentiles_of
from data.draws import row_weights
from imaging.coco_counts import plain_counts, read_counts, write_counts
from imaging.images import _numbers as band_numbers
from imaging.sources import page_of, window_of
from losses import build_loss
from metrics import build_metric
from runs.shares import parse_share
from runs.trial import launched
from stages import call, errors_of
from submissions.sample import class_numbers

# No whole number, as files have it.
NOT_WHOLE = (
    *(
        "1_0",
        "１",
        "٣",
        "²",
        "Ⅳ",
        "९",
        "1.5",
        "1e3",
        "0x1",
        "+1",
        "--1",
        "",
        " ",
        "nan",
        "inf",
        "-",
    ),
    *("1" * 19, "9" * 30, "1" * 5000, "true", "None", "1\x00", "1\n", "−1"),
)
# Nor a finite decimal one.
NOT_DECIMAL = (
    *("1_0.5", "１.5", "٣", "²", "½", "1e400", "-1e999", "nan", "NaN", "inf", "-Infinity", "0x1p3"),
    *("1e", "e1", ".", "1..2", "1,5", "", "--1", "True", "1\x00", "1 2", "9" * 400, "−1"),
)


@pytest.mark.parametrize("text", NOT_WHOLE)
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    assert not is_whole_number(text)
    with pytest.raises(ValueError, match="no whole number"):
        whole_number(text)


@pytest.mark.parametrize("text", NOT_DECIMAL)
def test_what_is_no_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        decimal_number(text)


@pytest.mark.parametrize("value", [True, None, [1], {}, 1.5, math.nan, math.inf, 1e30, 10**30])
def test_values_of_json_pass_the_same_gate(value: Any) -> None:
    with pytest.raises(ValueError, match="no whole number"):
        whole_number(value)
    assert [whole_number(n) for n in (7, 7.0, "7", -1)] == [7, 7, 7, -1]
    assert decimal_number("-.5e1") == -5


def test_an_object_of_json_has_each_name_once() -> None:
    assert json_value('{"a": 1, "a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="'a' stands twice in one object, with two values"):
        json_value('[{"b": {"a": 1, "c": 0, "a": [2]}}]')


ROWS = [{"img": "a"}]


def weights(text: str) -> Any:
    return row_weights([{"img": "a", "w": text}], "w")


READ_DECIMAL: dict[str, Callable[[str], Any]] = {
    "an argument of a metric": lambda text: read_name(f"fbeta:beta={text}", "metric"),
    "a weight of a metric": lambda text: build_metric(f"{text}*dice", task="binary", classes=1),
    "a weight of a loss": lambda text: build_loss(f"{text}*bce", task="binary", classes=1),
    "a percentile": lambda text: percentiles_of((f"{text}%", "99%")),
    "WEIGHT_COLUMN": lambda text: weights(text) if text else weights("x"),
}


@pytest.mark.parametrize("text", [t for t in NOT_DECIMAL if not set(t) & set(", ")])
@pytest.mark.parametrize("name", READ_DECIMAL)
def test_users_of_decimal_numbers(name: str, text: str) -> None:
    if name == "an argument of a metric" and text == "True":
        return  # a word of its own there
    with pytest.raises(UserError):
        READ_DECIMAL[name](text)


def slurm(text: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        patch.setenv("SLURM_NTASKS", "2")
        patch.setenv("SLURM_NNODES", text.replace("\0", "x"))
        return launched()


READ_WHOLE: dict[str, Callable[[str], Any]] = {
    "--shard": lambda text: parse_share(f"0/{text}"),
    "a page": lambda text: page_of(f"a.tif{{page:{text}}}"),
    "a window": lambda text: window_of(f"a.tif{{window:0,0,{text},4}}"),
    "BANDS": lambda text: band_numbers([text]),
    "a fold": lambda text: read_folds(pd.Series(["0", text]), "kfold", words=True),
    "a launcher's variable": slurm,
}


@pytest.mark.parametrize("text", [t for t in NOT_WHOLE if t != "true"])
@pytest.mark.parametrize("name", READ_WHOLE)
def test_users_of_whole_numbers(name: str, text: str) -> None:
    if name == "a fold" and not text.strip(" \n1"):
        text = "x"  # cells are stripped
    with pytest.raises(UserError):
        READ_WHOLE[name](text)


@pytest.mark.parametrize("text", ["٣", "１", "²", "1_0", "9" * 30, "1" * 5000])
def test_classes_are_numbers_in_ascii(text: str) -> None:
    competition = competition_in(Path(), task="multilabel", classes=4)
    assert class_numbers(competition, ["0", text]) == {"0": 0}
    assert class_ids(pd.Series([text]), competition)[0] not in range(4)


@pytest.mark.parametrize("value", [True, "x", [1], 1.5, math.nan, math.inf, 10**400, "1_0"])
def test_sizes_and_corners_of_annotations(value: Any) -> None:
    with pytest.raises(ValueError, match="no whole number"):
        size_of({"h": value, "w": 5}, "h", "w")
    shown = [{"label": "a", "points": [[0, 0], [3, 0], [value, 3]]}]
    for shape in (
        {"imagePath": "a.png", "shapes": shown},
        [{"image": "a.png", "objects": shown}],
        {"type": "Polygon", "coordinates": [[[0, 0], [3, 0], [value, 3], [0, 0]]]},
    ):
        if value not in (True, 1.5):
            with pytest.raises(UserError):
                read_drawn(Path("a.json"), shape, "")


CVAT = """<annotations><image name="a.png" width="{size}" height="5">
<box label="a" xtl="{corner}" ytl="0" xbr="3" ybr="3" z_order="{order}"/></image></annotations>"""


@pytest.mark.parametrize("text", ["1_0", "１", "nan", "inf", "1e400", "", "x"])
@pytest.mark.parametrize("place", ["size", "corner", "order"])
def test_numbers_of_cvat(place: str, text: str) -> None:
    from xml.etree import ElementTree

    values = {"size": "6", "corner": "1", "order": "0"}
    (drawn,) = read_cvat(ElementTree.fromstring(CVAT.format(**values)))
    assert drawn.size == (5, 6)
    with pytest.raises(UserError):
        read_drawn(
            Path("a.xml"), ElementTree.fromstring(CVAT.format(**{**values, place: text})), ""
        )


@pytest.mark.parametrize("found", [(math.nan, 1), (1, math.inf), (0, 1), (1,), ("1_0", 1)])
def test_a_unit_of_outlines_is_a_number(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UNITS, "mine", lambda row, size: found)
    with pytest.raises(UserError, match="OUTLINE_UNITS=mine"):
        pixels_a_unit("mine", {}, (4, 5), "a")


# ---------------------------------------------------------------- COCO's counts

SIZE = (6, 7)
DISC = np.zeros(SIZE, np.uint8)
DISC[1:4, 2:5] = 1
LIST = [13, 3, 3, 3, 3, 3, 14]


def test_counts_are_the_mask_that_pycocotools_paints() -> None:
    text = write_counts(DISC)
    for counts in (LIST, text):
        found = decode_coco({"size": list(SIZE), "counts": counts}, SIZE)
        assert found.dtype == bool
        assert (found == DISC).all()
    assert read_counts(text).tolist() == plain_counts(LIST).tolist() == LIST


@pytest.mark.parametrize(
    "counts",
    [
        *(
            "",
            "0",
            "Z",
            write_counts(DISC)[:-1],
            write_counts(DISC)[:-3],
            write_counts(np.ones((9, 9), np.uint8)),
        ),
        *("oooooooooooooo0", "é", "\ud800", "\x7f~", [41.5, 0.5], [49, -7], [True] * 42, [42.0]),
        *([], ["42"], [10**30, 1], [2**63, 42], [41], [43], None, 5, {}, [[42]]),
        # Their sum is 42 beyond 64 bits.
        [2**62] * 4 + [42],
    ],
)
def test_counts_of_other_pixels_are_refused(tmp_path: Path, counts: Any) -> None:
    """pycocotools fills what a short text does not count with whatever memory holds."""
    path = tmp_path / "a.json"
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": {"size": SIZE, "counts": counts}}
        ],
    }
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="no COCO polygon or run length"):
        read_coco_masks(competition_in(tmp_path, mask_path=path), [path]).read({"img": "a"}, SIZE)


# ---------------------------------------------------------------- ids

HOSTILE_IDS = (
    *(
        "../up",
        "..",
        ".",
        "",
        "/root/x",
        "a/b",
        "a\\b",
        "..\\x",
        "a\nb",
        "a\rb",
        "a\tb",
        "\0",
        "a\0.png",
    ),
    *("\x7f", "\x1b[31m", "\x85", "\u2028", "\udcff", "x" * 201, "é" * 101, "𝄞" * 60),
)


@pytest.mark.parametrize("img", HOSTILE_IDS)
def test_an_id_names_one_file(img: str, tmp_path: Path) -> None:
    assert id_problem(img)
    with pytest.raises(UserError, match="ids of"):
        check_ids(["good", img], "ids of images:")
    for good in ("car_01.v2 (3)", "é" * 100, "図1", "a..b", " a"):
        assert id_problem(good) is None
        (tmp_path / f"{good}.png").write_bytes(b"x")


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1bb.png", "\udcff.png", "x" * 220 + ".png"])
def test_files_with_such_names_are_told_before_training(
    competition: Competition, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages import call

    for folder in ("images", "later"):
        picture = competition.root / folder / name
        picture.parent.mkdir()
        picture.write_bytes(cv2.imencode(".png", np.zeros((8, 9), np.uint8))[1].tobytes())
    flags = ["--train-path", str(competition.root / "images"), "--mask-path", str(competition.root)]
    with pytest.raises(UserError, match="ids of test images"):
        find_test_images(competition_in(competition.root, test_path=competition.root / "later"))
    (competition.input / "train_masks.csv").unlink(missing_ok=True)
    assert call("folds", competition.flags(*flags)) == 2
    assert "ids of training images" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("look", "--name", "../escaped"),
        ("look", "--name", "/tmp/escaped"),
        ("look", "--hours", "nan"),
        ("watch", "--every", "1e30"),
        ("watch", "--every", "0"),
        ("pseudo_label", "--confident", "1_0"),
    ],
    ids=" ".join,
)
def test_a_scripts_own_flags_are_read_by_the_same_gates(
    competition: Competition, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    script, flag, _ = words
    before = sorted(competition.root.rglob("*"))
    assert call(script, [*words[1:], *competition.flags()]) == 2
    assert flag in errors_of(capsys)[0]
    assert sorted(competition.root.rglob("*")) == before
