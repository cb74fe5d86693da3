"""Every rule of the linter has a bad file that trips it; a good file passes all."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from competitions import competition_in
from core.errors import UserError
from imaging.rle import rle_encode
from metrics import build_metric
from postprocessing.rules import Rule
from submissions.answer import read_answer
from submissions.answers import score_file
from submissions.drift import Shares, drift_lines, oof_shares
from submissions.linter import Linter

SIZE = (60, 90)
IDS = ["a.jpg", "b.jpg", "c.jpg"]


def disc(y: int, x: int, radius: int) -> np.ndarray:
    """uint8 (H, W) of {0, 1}."""
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)


def text(y: int = 30, x: int = 40, radius: int = 14, order: str = "row", base: int = 1) -> str:
    return rle_encode(disc(y, x, radius), order=order, base=base)


def good() -> list[list[str]]:
    """Rows of a file without fault."""
    return [["img", "rle"], *([name, text(x=30 + 10 * at)] for at, name in enumerate(IDS))]


def build_linter(folder: Path, **knobs: Any) -> Linter:
    path = folder / "sample_submission.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["img", "rle"], *([name, "1 1"] for name in IDS)])
    known = {"rle_order": "row", "rle_empty": "", **knobs}
    return Linter(read_answer(competition_in(folder, **known)), lambda img: SIZE)


def lint(folder: Path, rows: list[list[str]], **knobs: Any) -> Linter:
    path = folder / "submission.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    linter = build_linter(folder, **knobs)
    linter.check(path)
    return linter


OBJECTS = {"submission_rows": "instance"}


def test_a_filled_row_tells_its_class_and_how_sure_it_is(tmp_path: Path) -> None:
    header = ["img", "class", "rle", "confidence"]
    sample, path = tmp_path / "sample_submission.csv", tmp_path / "submission.csv"
    for file, cls, sure in ((sample, "cell", "0.5"), (path, "", "")):
        rows = [header, ["a.jpg", cls, text(), sure], ["b.jpg", "", "", ""], ["c.jpg", "", "", ""]]
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    known = competition_in(tmp_path, rle_order="row", rle_empty="", **OBJECTS)
    linter = Linter(read_answer(known), lambda img: SIZE)
    found = linter.check(path).errors
    assert "line 2: class '': need one of cell" in found["class"][0]
    assert "line 2: confidence is '', need a number from 0 to 1" in found["confidence"][0]
    assert [len(found[rule]) for rule in ("class", "confidence")] == [1, 1]


def test_a_good_file_has_no_finding(tmp_path: Path) -> None:
    linter = lint(tmp_path, good())
    assert (linter.found.errors, linter.found.warnings) == ({}, {})
    assert linter.population.rows == 3
    assert linter.population.pixels["b"] == int(disc(30, 40, 14).sum())


def changed(row: int, cell: str) -> list[list[str]]:
    rows = good()
    rows[row][1] = cell
    return rows


COLUMN = [["img", "rle"], *([n, text(x=30 + 10 * i, order="column")] for i, n in enumerate(IDS))]
# rule, the rows that trip it, words of its message
BAD = {
    "missing": (good()[:-1], "'c.jpg' is in the sample, not here"),
    "unknown": ([*good()[:3], ["c.jpeg", "1 1"]], "line 4: 'c.jpeg' is not in the sample"),
    "duplicate": ([*good(), good()[1]], "line 5: 'a.jpg' is in line 2 already"),
    "cells": ([*good()[:3], ["c.jpg", "1 1", "9"]], "line 4: has 3 cells, need 2"),
    "syntax": (changed(2, "1 2 x 4"), "line 3: b: token 3"),
    "length": (changed(1, "5 3 9 0"), "no positive length"),
    "base": (changed(1, "0 3"), "RLE_BASE=0"),
    "bounds": (changed(3, "5400 2"), "line 4: c: run 1 of 1 (start 5400, length 2) ends after"),
    "sorted": (changed(1, "5390 3 9 2"), "runs must be sorted"),
    "empty": (changed(2, "-1"), "line 3: an empty mask is '-1', this competition wants ''"),
    "pixel order": (COLUMN, "the file is in column order"),
}
WORTH_A_LOOK = {
    "order": ([good()[0], *good()[:0:-1]], "line 2: 'c.jpg', the sample has 'a.jpg' there"),
    "identity": (changed(2, "5 3 8 2"), "line 3: b: runs touch"),
    "constant": ([["img", "rle"], *([name, "1 1"] for name in IDS)], "is this the sample?"),
}


@pytest.mark.parametrize("rule", BAD)
def test_an_error_names_line_and_remedy(tmp_path: Path, rule: str) -> None:
    rows, words = BAD[rule]
    linter = lint(tmp_path, rows)
    assert words in "\n".join(linter.found.errors[rule])
    expected = {"unknown": {"unknown", "missing"}, "cells": {"cells", "missing"}}
    assert set(linter.found.errors) == expected.get(rule, {rule})


@pytest.mark.parametrize("rule", WORTH_A_LOOK)
def test_a_warning_names_line_and_remedy(tmp_path: Path, rule: str) -> None:
    rows, words = WORTH_A_LOOK[rule]
    linter = lint(tmp_path, rows)
    assert words in "\n".join(linter.found.warnings[rule])
    assert (linter.found.errors, set(linter.found.warnings)) == ({}, {rule})


@pytest.mark.parametrize("cell", ["1  2", "+1 2", "01 2", " 1 2", "1 2 "])
def test_unusual_numbers_are_pointed_out(tmp_path: Path, cell: str) -> None:
    assert "identity" in lint(tmp_path, changed(1, cell)).found.warnings


@pytest.mark.parametrize("numbers", [(9, 1, 10, 99, 1000, 10), (1, 9, 99, 1, 100, 5)])
def test_plain_numbers_of_all_lengths_pass(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    cell = " ".join(map(str, numbers))
    starts = np.array(numbers[::2])
    runs_touch = bool((starts[1:] == starts[:-1] + np.array(numbers[1:-1:2])).any())
    assert ("identity" in lint(tmp_path, changed(1, cell)).found.warnings) is runs_touch


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("rle,img\n", "in its order"),
        ("img,mask\n", "in its order"),
        (",img,rle\n", "index=False"),
        ("\ufeffimg,rle\n", "byte-order mark"),
        ("img;rle\n", "commas"),
    ],
)
def test_other_columns_stop_the_check(tmp_path: Path, head: str, words: str) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(head + "a.jpg,1 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=words):
        build_linter(tmp_path).check(path)


def test_a_file_of_another_encoding_or_none(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_bytes("img,rle\nä.jpg,1 1\n".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        build_linter(tmp_path).check(path)
    with pytest.raises(UserError, match="no such file"):
        build_linter(tmp_path).check(tmp_path / "none.csv")


def test_objects_may_not_share_pixels(tmp_path: Path) -> None:
    rows = [["img", "rle"], ["a.jpg", text()], ["a.jpg", text(x=50)], *good()[2:]]
    linter = lint(tmp_path, rows, **OBJECTS)
    assert linter.found.errors == {
        "overlap": ["line 2 and line 3: a: masks share pixels: give each pixel to one row"]
    }
    apart = [["img", "rle"], ["a.jpg", text(x=20, radius=8)], ["a.jpg", text(x=60)], *good()[2:]]
    assert lint(tmp_path, apart, **OBJECTS).found.errors == {}


def test_rows_of_one_image_stand_together(tmp_path: Path) -> None:
    rows = [*good(), ["a.jpg", "1 3"]]
    linter = lint(tmp_path, rows, **OBJECTS)
    assert "line 5: rows of 'a.jpg' are not together, the first is in line 2" in str(
        linter.found.errors["apart"]
    )


@pytest.mark.parametrize("order", ["row", "column"])
def test_the_right_order_is_never_called_wrong(tmp_path: Path, order: str) -> None:
    rows = [["img", "rle"], *([n, text(x=20 + 15 * i, order=order)] for i, n in enumerate(IDS))]
    assert lint(tmp_path, rows, rle_order=order).found.errors == {}
    other = "row" if order == "column" else "column"
    assert set(lint(tmp_path, rows, rle_order=other).found.errors) == {"pixel order"}


def test_noise_is_of_no_larger_size(tmp_path: Path) -> None:
    """Lines a pixel high, as weak networks leave them, are areas where rows are twice as long."""
    rows = [["img", "rle"]]
    for name in IDS * 2:
        lines = np.repeat(np.arange(SIZE[0])[:, None] % 2, SIZE[1], 1).astype(np.uint8)
        rows.append([name, rle_encode(lines, order="row")])
    found = lint(tmp_path, rows, submission_rows="instance").found
    assert not {"size", "pixel order"} & {*found.errors, *found.warnings}


def test_what_is_not_checked_is_told(tmp_path: Path) -> None:
    linter = build_linter(tmp_path)
    linter.native_size = lambda img: None
    path = tmp_path / "submission.csv"
    path.write_text("img,rle\na.jpg,1 9999999\nb.jpg,4 4\nc.jpg,\n")
    assert linter.check(path).errors == {}
    assert "2 rows: their image is not here" in linter.found.notes[0]


def test_many_findings_are_counted(tmp_path: Path) -> None:
    rows = [["img", "rle"], *([f"x{at}", "1 1"] for at in range(9))]
    lines = lint(tmp_path, rows).found.lines("errors")
    assert "unknown: and 4 more" in lines


def test_shares_count_the_classes_that_have_rows() -> None:
    truth = np.array([[0, 0, 1, 2], [0, 1, 255, 255]], np.uint8)
    ids = np.array([[0, 1, 1, 2], [0, 0, 0, 2]])
    levels = (np.arange(3)[:, None, None] == ids).astype(np.uint8) * 255

    class Stored:
        task = "multiclass"

        def each(self, function: Any) -> list[Any]:
            return [function(0)]

        def levels(self, at: int) -> np.ndarray:
            return levels

        def truth(self, at: int, size: tuple[int, int]) -> np.ndarray:
            return truth

    rules: Any = [Rule()] * 3
    without = oof_shares(Stored(), rules)
    assert (without.truth.tolist(), without.decided.tolist()) == ([3 / 8], [4 / 8])
    every = oof_shares(Stored(), rules, first=0)
    assert (every.truth.tolist(), every.decided.tolist()) == ([6 / 8], [1.0])


def test_shares_that_differ_are_drift() -> None:
    rng = np.random.default_rng(0)
    known = Shares(rng.uniform(0.1, 0.3, 300), rng.uniform(0.1, 0.3, 300))
    assert drift_lines(rng.uniform(0.1, 0.3, 200), known) == []
    lines = drift_lines(rng.uniform(0.1, 0.3, 200) * (np.arange(200) % 2), known)
    assert any(
        "50.0% of the images are empty, of the training masks 0.0%" in line for line in lines
    )
    far = rng.uniform(0.4, 0.6, 200)
    assert "weak" in drift_lines(far, known)[-1]
    # Out of fold the networks are as far from the truth: that is no drift, and nearer is none.
    weak = Shares(known.truth, rng.uniform(0.5, 0.7, 300) * (rng.random(300) < 0.5))
    assert drift_lines(rng.uniform(0.5, 0.7, 200) * (rng.random(200) < 0.5), weak) == []
    assert drift_lines(rng.uniform(0.1, 0.3, 200), weak) == []


@pytest.mark.parametrize("metric", ["dice", "dataset_iou"])
def test_a_file_is_scored_where_answers_are_known(tmp_path: Path, metric: str) -> None:
    import torch

    rows = changed(2, "")
    linter = lint(tmp_path, rows)
    labels = tmp_path / "labels.csv"
    truth = [disc(32, 30, 14), disc(30, 40, 14), disc(30, 52, 10)]
    with labels.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["img", "rle"], *zip(IDS, [rle_encode(m, order="row") for m in truth], strict=True)]
        )
    masks = [disc(30, 30, 14), np.zeros(SIZE, np.uint8), disc(30, 50, 14)]
    twin = build_metric(metric, task="binary", classes=1)
    for mask, true in zip(masks, truth, strict=True):
        twin.update(torch.from_numpy(mask)[None, None], torch.from_numpy(true)[None, None])
    got = score_file(tmp_path / "submission.csv", labels, linter, metric=metric)
    assert np.isclose(got, float(twin.compute()))


def of_classes(folder: Path) -> tuple[Linter, Path]:
    """A linter of two classes beside the background, and a file of which class 2 is right."""
    header, path = ["img", "class", "rle"], folder / "submission.csv"
    sample = [[name, cls, ""] for name in IDS for cls in ("1", "2")]
    rows = [[name, cls, text(x=20 + 40 * (cls == "2"))] for name, cls, _ in sample]
    for file, cells in ((folder / "sample_submission.csv", sample), (path, rows)):
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *cells])
    known = competition_in(
        folder, task="multiclass", classes=3, rle_order="row", rle_empty="", submission="rle"
    )
    linter = Linter(read_answer(known), lambda img: SIZE)
    assert linter.check(path).errors == {}
    return linter, path


def test_a_file_is_scored_by_the_classes_of_the_metric(tmp_path: Path) -> None:
    linter, path = of_classes(tmp_path)
    labels = tmp_path / "labels.csv"
    labels.write_text(path.read_text().replace(text(x=20), text(x=20, y=45, radius=10)))

    def score(metric: str) -> float:
        return score_file(path, labels, linter, metric=metric)

    assert score("dice:only=2") == 1
    assert score("dice:only=1") < 0.5
    assert np.isclose(score("0.5*dice:only=2+0.5*dice"), 0.5 + 0.5 * score("dice"))
    assert np.isclose(score("dice"), (1 + score("dice:only=1")) / 2)
    with pytest.raises(UserError, match="got class 0, the answer has masks of classes 1, 2"):
        score("dice:only=0")


def test_a_truth_of_classes_that_the_answer_has_not(tmp_path: Path) -> None:
    linter, path = of_classes(tmp_path)
    labels = tmp_path / "labels.csv"
    labels.write_text(path.read_text().replace("a.jpg,2", "a.jpg,7"))
    with pytest.raises(UserError, match="line 3: class '7': need one of 1, 2"):
        score_file(path, labels, linter, metric="dice")


def test_objects_are_scored_by_rows(tmp_path: Path) -> None:
    rows = [["img", "rle"], ["a.jpg", text(x=20, radius=8)], ["a.jpg", text(x=60)], *good()[2:]]
    linter = lint(tmp_path, rows, **OBJECTS)
    path = tmp_path / "submission.csv"
    assert score_file(path, path, linter, metric="map") == 1
    with pytest.raises(UserError, match="ranks objects by their confidence"):
        score_file(path, path, linter, metric="ap")


def test_the_script_checks_what_ensemble_writes(competition, capsys) -> None:
    import submission

    path = competition.output / "submission.csv"
    flags = competition.flags()
    path.write_text("img,rle_mask\nnew0_01.jpg,1 9\nnew1_01.jpg,1 5\nnew2_01.jpg,\n")
    assert submission.main(["check", str(path), "--labels", str(path), *flags]) == 0
    told = capsys.readouterr().out
    assert "dice 1.0000" in told
    assert "checked 3 rows of 3 images, 1 empty" in told
    path.write_text("img,rle_mask\nnew0_01.jpg,1 9\nnew1_01.jpg,5121 5\nnew3_01.jpg,-1\n")
    assert submission.main(["check", str(path), *flags]) == 2
    error = capsys.readouterr().err
    for words in ("line 3: new1_01", "'new2_01.jpg' is in the sample", "an empty mask is '-1'"):
        assert words in error


def test_a_machine_without_training_data_gets_a_note(competition, capsys) -> None:
    import submission

    path = competition.output / "submission.csv"
    path.write_text("img,rle_mask\nnew0_01.jpg,1 9\nnew1_01.jpg,1 5\nnew2_01.jpg,\n")
    flags = ["check", str(path), *competition.flags()]
    assert submission.main(flags) == 0
    assert "note: not compared with out-of-fold masks: no " in capsys.readouterr().out
    (competition.output / "train_folds.csv").unlink()
    assert submission.main(flags) == 0
    assert "note: not compared with out-of-fold masks: no folds" in capsys.readouterr().out
