"""submission.csv: the sample rules it, masks become its rows, a kill costs nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco
from scipy import ndimage

from competitions import competition_in
from core.errors import UserError
from imaging.rle import rle_decode
from postprocessing.rules import drop_small
from submissions.answer import Answer, Prediction, read_answer
from submissions.answer_files import Row
from submissions.csv_file import CsvFile
from submissions.part_file import PartFile, fingerprint, finished_rows
from submissions.plan import Plan, match_images

CORNERS = np.ones((3, 3))


def answer_of(folder: Path, text: str, **knobs: object) -> Answer:
    """The answer that a sample asks for; of three classes."""
    (folder / "sample_submission.csv").write_text(text)
    known = {"classes": 3, "task": "multilabel", **knobs}
    return read_answer(competition_in(folder, **known))


def one_class(folder: Path, **knobs: object) -> Answer:
    """The answer of one class and one image, a."""
    text = "id,rle\na,1 1\n"
    return answer_of(folder, text, **{"task": "binary", "classes": 1, **knobs})


def blobs(seed: int, size: tuple[int, int] = (23, 31), share: float = 0.55) -> np.ndarray:
    """A ragged mask of parts of many sizes, some of which touch at corners only."""
    noise = np.random.default_rng(seed).random(size)
    return (ndimage.uniform_filter(noise, 3) > share).astype(np.uint8)


def cells_of(mask: np.ndarray, answer: Answer) -> list[str]:
    return [row.cell for row in answer.write(Prediction("a", mask))]


def submit(folder: Path, plan: Plan, texts: dict[str, list[str]]) -> list[list[str]]:
    """Rows of the submission that these cells of images, one a class or object, give."""
    with PartFile(folder / "part.jsonl", "key") as part:
        for img, told in texts.items():
            classes = plan.wanted if plan.kind == "class" else [0] * len(told)
            part.write(img, [Row(*pair) for pair in zip(told, classes, strict=True)])
    count = CsvFile().assemble(folder / "submission.csv", plan, finished_rows([part]))
    table = pd.read_csv(folder / "submission.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == plan.header
    assert count == len(table)
    return table.to_numpy().tolist()


# ---------------------------------------------------------------- what the sample asks for


def test_ids_stay_as_the_sample_writes_them(tmp_path: Path) -> None:
    text = "img,rle_mask\nb/x_2.jpg,1 1\na/x_1.PNG,1 1\nv1.2,1 1\n"
    plan = answer_of(tmp_path, text, task="binary", classes=1).plan
    assert plan.images == ["x_2", "x_1", "v1.2"]
    texts = {"v1.2": ["9 9"], "x_1": ["1 2"], "x_2": [""]}
    rows = submit(tmp_path, plan, texts)
    assert rows == [["b/x_2.jpg", ""], ["a/x_1.PNG", "1 2"], ["v1.2", "9 9"]]


def test_ids_that_look_like_numbers_keep_their_zeros(tmp_path: Path) -> None:
    plan = answer_of(tmp_path, "id,rle\n007,\n7,\n", task="binary", classes=1).plan
    assert plan.images == ["007", "7"]


def test_columns_in_any_order_and_cells_of_no_interest(tmp_path: Path) -> None:
    text = "height,EncodedPixels,ClassId,width,ImageId\n5,1 1,2,7,a.png\n6,1 1,0,8,a.png\n"
    plan = answer_of(tmp_path, text, id_column="ImageId").plan
    rows = submit(tmp_path, plan, {"a": ["zero", "two"]})
    assert rows == [["5", "two", "2", "7", "a.png"], ["6", "zero", "0", "8", "a.png"]]


def test_a_sample_sorted_by_class(tmp_path: Path) -> None:
    text = "id,class,rle\na,1,\nb,1,\na,2,\nb,2,\na,3,\nb,3,\n"
    plan = answer_of(tmp_path, text, class_base=1).plan
    assert (plan.kind, plan.images) == ("class", ["a", "b"])
    texts = {"b": ["b1", "b2", "b3"], "a": ["a1", "a2", "a3"]}
    rows = submit(tmp_path, plan, texts)
    order = [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]
    assert rows == [[img, str(k), f"{img}{k}"] for img, k in order]


def test_classes_by_name(tmp_path: Path) -> None:
    names = ("large_bowel", "small_bowel", "stomach")
    text = "id,class,predicted\na,stomach,1 1\na,large_bowel,1 1\na,small_bowel,1 1\n"
    plan = answer_of(tmp_path, text, class_names=names).plan
    rows = submit(tmp_path, plan, {"a": ["L", "S", "T"]})
    assert rows == [["a", "stomach", "T"], ["a", "large_bowel", "L"], ["a", "small_bowel", "S"]]


@pytest.mark.parametrize(
    ("base", "cells", "told"),
    [
        (0, ("0", "3"), ["'3'"]),
        (1, ("0", "3"), ["'0'"]),
        (0, ("-1", "2"), ["'-1'"]),
        (0, ("rode", "7", "sky"), ["'rode'", "Did you mean road?", "'7'"]),
    ],
)
def test_classes_nobody_knows_are_all_listed(
    tmp_path: Path, base: int, cells: tuple[str, ...], told: list[str]
) -> None:
    text = "id,class,rle\n" + "".join(f"a,{cell},1 1\n" for cell in cells)
    with pytest.raises(UserError) as error:
        answer_of(tmp_path, text, class_base=base, class_names=("sky", "road", "car"))
    assert all(word in str(error.value) for word in [*told, f"CLASS_BASE={base}"])
    assert str(error.value).count("\n") == sum(word.startswith("'") for word in told)


def test_what_a_row_stands_for(tmp_path: Path) -> None:
    one, several = "id,rle\na,\nb,\n", "id,rle\na,\na,\nb,\n"
    classes = "id,class,rle\na,0,\na,1,\n"
    single = {"task": "binary", "classes": 1}
    assert answer_of(tmp_path, one, **single).plan.kind == "image"
    assert answer_of(tmp_path, classes).plan.kind == "class"
    for text in (one, several):
        asked = answer_of(tmp_path, text, **single, submission_rows="instance")
        assert asked.plan.kind == "instance"
    with pytest.raises(UserError, match="3 rows for 2 images: set SUBMISSION_ROWS"):
        answer_of(tmp_path, several, **single)
    with pytest.raises(UserError, match="CLASS_COLUMN"):
        answer_of(tmp_path, one, submission_rows="class")
    for kind in ("auto", "instance"):
        with pytest.raises(UserError, match="room for one class, the networks know 3"):
            answer_of(tmp_path, one, submission_rows=kind)


def test_images_and_sample_must_agree(tmp_path: Path) -> None:
    plan = answer_of(tmp_path, "id,rle\na.jpg,\nb.jpg,\n", task="binary", classes=1).plan
    match_images(plan, ["b", "a"], tmp_path)
    with pytest.raises(UserError) as error:
        match_images(plan, ["b", "c"], tmp_path)
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        "a: in the sample, no image",
        "c: an image, not in the sample",
    ]


# ---------------------------------------------------------------- a mask's rows


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("base", [0, 1])
def test_a_row_an_image(tmp_path: Path, order: str, base: int) -> None:
    mask = blobs(1)
    (text,) = cells_of(mask[None], one_class(tmp_path, rle_order=order, rle_base=base))
    decoded = rle_decode(text, mask.shape, order=order, base=base)
    assert np.array_equal(decoded, mask)


@pytest.mark.filterwarnings("ignore:__array__")
def test_pycocotools_reads_the_same_mask(tmp_path: Path) -> None:
    mask = blobs(2)
    (text,) = cells_of(mask[None], one_class(tmp_path, rle_base=0))
    numbers = np.array(text.split(), int)
    ends = numbers[0::2] + numbers[1::2]
    gaps = numbers[0::2] - np.concatenate([[0], ends[:-1]])
    counts = [*np.stack([gaps, numbers[1::2]], 1).ravel().tolist(), int(mask.size - ends[-1])]
    height, width = mask.shape
    packed = coco.frPyObjects({"counts": counts, "size": [height, width]}, height, width)
    assert np.array_equal(coco.decode(packed), mask)


CLASSES = "id,class,rle\na,0,\na,1,\na,2,\n"


def test_a_row_a_class(tmp_path: Path) -> None:
    ids = blobs(3) + blobs(4)
    answer = answer_of(tmp_path, CLASSES, task="multiclass")
    planes = [rle_decode(text, ids.shape) for text in cells_of(ids, answer)]
    assert np.array_equal(np.argmax(planes, axis=0), ids)
    assert np.array_equal(np.sum(planes, axis=0), np.ones_like(ids))


def test_classes_that_overlap_keep_their_pixels(tmp_path: Path) -> None:
    masks = np.stack([blobs(5), blobs(6), blobs(5) | blobs(6)])
    texts = cells_of(masks, answer_of(tmp_path, CLASSES))
    assert np.array_equal([rle_decode(text, masks.shape[1:]) for text in texts], masks)


def test_the_foreground_of_two_classes_is_a_row_an_image(tmp_path: Path) -> None:
    ids = blobs(7)
    (text,) = cells_of(ids, one_class(tmp_path, task="multiclass", classes=2))
    assert np.array_equal(rle_decode(text, ids.shape), ids)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_row_an_object(tmp_path: Path, task: str) -> None:
    mask, classes = blobs(8), 1 if task == "binary" else 2
    answer = one_class(tmp_path, task=task, classes=classes, submission_rows="instance")
    texts = cells_of(mask if task == "multiclass" else mask[None], answer)
    objects = np.array([rle_decode(text, mask.shape) for text in texts])
    assert np.array_equal(objects.sum(0), mask)  # no pixel twice, none lost
    assert all(ndimage.label(one, CORNERS)[1] == 1 for one in objects)
    assert len(objects) == ndimage.label(mask, CORNERS)[1] > 3


@pytest.mark.parametrize("empty", ["", "-1", "1 0"])
@pytest.mark.parametrize("kind", ["image", "class", "instance"])
def test_a_mask_without_foreground_is_one_token(tmp_path: Path, kind: str, empty: str) -> None:
    text, knobs = "id,rle\na,1 1\n", {"task": "binary", "classes": 1}
    if kind == "class":
        text, knobs = "id,class,rle\na,0,1 1\na,1,1 1\n", {"classes": 2}
    answer = answer_of(tmp_path, text, rle_empty=empty, submission_rows=kind, **knobs)
    texts = cells_of(np.zeros((knobs["classes"], 9, 9), np.uint8), answer)
    assert texts == [empty] * (2 if kind == "class" else 1)
    assert {row[-1] for row in submit(tmp_path, answer.plan, {"a": texts})} == {empty}


@pytest.mark.parametrize("min_area", [0, 1, 2, 5, 40, 10_000])
def test_small_parts_are_dropped(tmp_path: Path, min_area: int) -> None:
    mask = blobs(9)
    labels, count = ndimage.label(mask, CORNERS)
    areas = ndimage.sum_labels(mask, labels, np.arange(count + 1))
    expected = mask * (areas >= min_area)[labels]
    assert np.array_equal(drop_small(mask, min_area), expected)
    answer = one_class(tmp_path, submission_rows="instance")
    texts = cells_of(drop_small(mask, min_area)[None], answer)
    kept = int((areas[1:] >= min_area).sum())
    assert len(texts) == max(kept, 1)
    assert sum(rle_decode(text, mask.shape).sum() for text in texts) == expected.sum()


def test_objects_take_as_many_rows_as_they_need(tmp_path: Path) -> None:
    knobs = {"task": "binary", "classes": 1, "submission_rows": "instance"}
    plan = answer_of(tmp_path, "ImageId,EncodedPixels\nb.png,\na.png,\n", **knobs).plan
    rows = submit(tmp_path, plan, {"a": ["1 1", "3 1", "5 1"], "b": [""]})
    assert rows == [["b.png", ""], ["a.png", "1 1"], ["a.png", "3 1"], ["a.png", "5 1"]]


def test_rows_of_an_image_that_are_apart_come_together_for_objects(tmp_path: Path) -> None:
    knobs = {"task": "binary", "classes": 1, "submission_rows": "instance"}
    plan = answer_of(tmp_path, "id,rle\na,\nb,\na,\n", **knobs).plan
    rows = submit(tmp_path, plan, {"a": ["1 1"], "b": ["2 2", "6 2"]})
    assert rows == [["a", "1 1"], ["b", "2 2"], ["b", "6 2"]]


# ---------------------------------------------------------------- the file that survives a kill

TEXTS = {"a": [Row("1 2")], "ü,\"b'": [Row("3 4", 1, 0.25), Row("", 2)], "c": [Row("")]}


def write_part(path: Path, key: str = "key") -> int:
    """Writes what is missing of TEXTS; returns how many images that was."""
    with PartFile(path, key) as part:
        missing = [img for img in TEXTS if img not in part.done]
        for img in missing:
            part.write(img, TEXTS[img])
    assert {img: part.read(img) for img in part.done} == TEXTS
    return len(missing)


def test_a_part_cut_at_any_byte_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "part.jsonl"
    assert write_part(path) == 3
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        lines = sum(end <= cut for end in ends)
        assert write_part(path) == 3 - max(0, lines - 1)
        assert path.read_bytes() == whole


def test_what_was_cut_off_is_gone_whatever_comes_next(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    write_part(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"img": "d", "rows": [["' + b"1 1 " * 100)
    with PartFile(path, "key") as part:
        part.write("e", [Row("7 7")])
    assert path.read_bytes() == whole + b'{"img": "e", "rows": [["7 7", 0, 1.0]]}\n'


def test_a_part_of_another_key_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    write_part(path, "a longer key than the other")
    assert PartFile(path, "key").done == {}
    assert write_part(path) == 3
    assert path.read_text().count("\n") == 4


def test_a_reader_leaves_a_part_alone_that_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    with PartFile(path, "key") as writer:
        writer.write("a", [Row("1 2")])
        writer.sync()
        writer._stream.write(b'{"img": "half')
        writer.sync()
        before = path.read_bytes()
        for key in ("key", "another"):
            PartFile(path, key)
        reader = PartFile(path, "key")
        assert list(reader.done) == ["a"]
        assert reader.read("a") == [Row("1 2")]
        assert path.read_bytes() == before
        writer._stream.write(b'", "rows": [["3 4", 0, 1.0]]}\n')
    assert PartFile(path, "key").read("half") == [Row("3 4")]


def test_parts_of_several_processes_make_one_file(tmp_path: Path) -> None:
    plan = answer_of(tmp_path, "id,rle\na,\nb,\nc,\n", task="binary", classes=1).plan
    parts = []
    for name, images in (("even", "ac"), ("odd", "b")):
        with PartFile(tmp_path / name, "key") as part:
            for img in images:
                part.write(img, [Row(f"of {img}")])
        parts.append(PartFile(tmp_path / name, "key"))
    for ordered in (parts, parts[::-1]):
        CsvFile().assemble(tmp_path / "submission.csv", plan, finished_rows(ordered))
        text = (tmp_path / "submission.csv").read_text()
        assert text == "id,rle\na,of a\nb,of b\nc,of c\n"
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock")
    assert left == ["even", "odd", "sample_submission.csv", "submission.csv"]


def test_a_key_follows_files_by_content(tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("id\na\n")
    key = fingerprint({"threshold": 0.5}, sample)
    assert key == fingerprint({"threshold": 0.5}, sample)
    assert key != fingerprint({"threshold": 0.4}, sample)
    sample.write_text("id\nb\n")
    assert key != fingerprint({"threshold": 0.5}, sample)
