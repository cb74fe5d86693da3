"""COCO annotation files: every kind of outline, annotators, classes, and what is no COCO file."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from skimage.draw import polygon2mask

import folds
from competition.masks import build_masks
from competitions import competition_in
from core.errors import UserError

SIZE = (20, 30)


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def polygon(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def plain_counts(mask: np.ndarray) -> dict[str, Any]:
    """Alternating run lengths down the columns, the first of background, by a plain loop."""
    counts, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(SIZE), "counts": counts}


def packed_counts(mask: np.ndarray) -> dict[str, Any]:
    packed = coco.encode(np.asfortranarray(mask))
    return {"size": list(SIZE), "counts": packed["counts"].decode()}


def write(folder: Path, *annotations: tuple, files: tuple[str, ...] = ("a.jpg", "b.jpg")) -> None:
    """(entry, category, outline) rows; entry n is the image id 'n-x', as some write strings."""
    data = {
        "images": [
            {"id": f"{at}-x", "file_name": f"train/{name}", "height": 20, "width": 30}
            for at, name in enumerate(files)
        ],
        "annotations": [
            {"id": at, "image_id": f"{entry}-x", "category_id": category, "segmentation": outline}
            for at, (entry, category, outline) in enumerate(annotations)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (folder / "coco.json").write_text(json.dumps(data))


def source_of(folder: Path, **changes: Any) -> Any:
    return build_masks(competition_in(folder, mask_path=folder / "coco.json", **changes))


@pytest.mark.parametrize("outline", [plain_counts, packed_counts])
def test_run_lengths_of_both_kinds(tmp_path: Path, outline) -> None:
    mask = (np.random.default_rng(0).random(SIZE) < 0.4).astype(np.uint8)
    write(tmp_path, (0, 1, outline(mask)))
    source = pickle.loads(pickle.dumps(source_of(tmp_path)))
    np.testing.assert_array_equal(source.read({"img": "a"}, SIZE), mask)
    assert not source.read({"img": "b"}, SIZE).any()


def test_polygons(tmp_path: Path) -> None:
    star = [3.0, 2.0, 26.0, 5.0, 20.0, 18.0, 12.0, 9.0, 4.0, 17.0]
    write(tmp_path, (0, 1, polygon(2, 3, 9, 12)), (1, 1, [star]))
    source = source_of(tmp_path)
    np.testing.assert_array_equal(source.read({"img": "a"}, SIZE), box(2, 3, 9, 12))
    ours = source.read({"img": "b"}, SIZE).astype(bool)
    # COCO's pixel 0 lies from 0 to 1, scikit-image's around 0; they differ on the outline only.
    twin = polygon2mask(SIZE, np.array(star).reshape(-1, 2)[:, ::-1] - 0.5)
    assert (ours & twin).sum() / (ours | twin).sum() > 0.9


def test_two_corners_are_no_box(tmp_path: Path) -> None:
    """pycocotools takes four numbers for a box of that width and height."""
    write(tmp_path, (0, 1, [[5, 4, 25, 16]]), (0, 1, [[1, 1, 20, 15], *polygon(2, 3, 9, 12)]))
    mask = source_of(tmp_path).read({"img": "a"}, SIZE)
    np.testing.assert_array_equal(mask, box(2, 3, 9, 12))


@pytest.mark.parametrize("outline", [[], None, [[5, 4, 25, 16]]])
def test_boxes_alone_are_no_masks(tmp_path: Path, outline: Any) -> None:
    write(tmp_path, (0, 1, outline), (1, 1, outline))
    with pytest.raises(UserError, match=r"none of 2 annotations has an outline, they are boxes"):
        source_of(tmp_path)


def test_files_that_were_joined_without_new_numbers_are_told(tmp_path: Path) -> None:
    write(tmp_path, (0, 1, polygon(2, 3, 9, 12)))
    data = json.loads((tmp_path / "coco.json").read_text())
    other = {"id": "0-x", "file_name": "c.jpg", "height": 20, "width": 30}
    joined = {**data, "images": [*data["images"], other]}
    (tmp_path / "coco.json").write_text(json.dumps(joined))
    with pytest.raises(UserError, match=r"(?s)an id of several images.*'0-x': train/a.jpg and c"):
        source_of(tmp_path)
    joined = {**data, "categories": [*data["categories"], {"id": 1, "name": "horse"}]}
    (tmp_path / "coco.json").write_text(json.dumps(joined))
    with pytest.raises(UserError, match=r"(?s)an id of several categories.*1: cat and horse"):
        source_of(tmp_path)


def test_images_of_several_folders_are_no_annotators_of_one(tmp_path: Path) -> None:
    write(tmp_path, (0, 1, polygon(2, 3, 9, 12)), files=("a.jpg", "../cam2/a.jpg"))
    with pytest.raises(UserError, match=r"(?s)several folders have one id.*a: train/a.jpg and"):
        source_of(tmp_path)


def test_objects_that_touch_stay_apart(tmp_path: Path) -> None:
    write(tmp_path, (0, 1, polygon(2, 3, 9, 12)), (0, 2, polygon(2, 12, 9, 15)))
    source = source_of(tmp_path)
    assert source.has_objects
    labels = source.objects({"img": "a"}, SIZE)
    np.testing.assert_array_equal(labels, box(2, 3, 9, 12) + 2 * box(2, 12, 9, 15))


def test_annotators_vote(tmp_path: Path) -> None:
    marks = [box(0, 0, 10, 10), box(0, 5, 10, 15), box(0, 8, 10, 20)]
    rows = [(at, 1, plain_counts(mask)) for at, mask in enumerate(marks)]
    write(tmp_path, *rows, files=("a.jpg", "a.jpg", "a.jpg"))
    mask = source_of(tmp_path).read({"img": "a"}, SIZE)
    np.testing.assert_array_equal(mask, np.sum(marks, 0) >= 2)


def test_classes_by_name_or_number(tmp_path: Path) -> None:
    inner, outer = box(4, 4, 8, 8), box(2, 2, 12, 12)
    write(tmp_path, (0, 2, plain_counts(inner)), (0, 1, plain_counts(outer)))
    row = {"img": "a"}
    ids = source_of(tmp_path, task="multiclass", classes=3).read(row, SIZE)
    np.testing.assert_array_equal(ids, outer + inner)
    names = source_of(
        tmp_path, task="multiclass", classes=3, class_names=("none", "dog", "cat")
    ).read(row, SIZE)
    np.testing.assert_array_equal(names, 2 * outer - inner)
    planes = source_of(tmp_path, task="multilabel", classes=2, class_base=1).read(row, SIZE)
    np.testing.assert_array_equal(planes, [outer, inner])
    with pytest.raises(UserError, match=r"(?s)none of the 2 classes.*category 2 .dog."):
        source_of(tmp_path, task="multiclass", classes=2)


def test_a_category_without_a_name_is_not_taken_for_the_class_of_its_number(tmp_path: Path) -> None:
    """Category 1 is the cat; class 1 is the dog, which CLASS_NAMES says of category 2."""
    write(tmp_path, (0, 2, polygon(2, 3, 9, 12)), (0, 1, polygon(2, 13, 9, 22)))
    for names in (("none", "dog", "bird"), ("none", "dog", "cat, small")):
        with pytest.raises(UserError, match=r"(?s)none of the 3 classes.*category 1 .cat."):
            source_of(tmp_path, task="multiclass", classes=3, class_names=names)
    same = source_of(tmp_path, task="multiclass", classes=3, class_names=("none", "lynx", "dog"))
    assert np.unique(same.read({"img": "a"}, SIZE)).tolist() == [0, 1, 2]


def test_names_in_other_capitals_are_told(tmp_path: Path) -> None:
    """By their ids they would be each other's classes."""
    write(tmp_path, (0, 2, polygon(2, 3, 9, 12)), (0, 1, polygon(2, 13, 9, 22)))
    for task, names in (("multiclass", ("none", "Dog", "Cat")), ("binary", ("Dog",))):
        with pytest.raises(UserError, match=r"(?s)spells otherwise.*'dog': CLASS_NAMES has 'Dog'"):
            source_of(tmp_path, task=task, classes=len(names), class_names=names)


def test_folds_find_the_file_by_its_name(tmp_path: Path, capsys) -> None:
    (tmp_path / "train").mkdir()
    for name in ("a", "b", "c"):
        Image.new("L", SIZE[::-1]).save(tmp_path / f"train/{name}.jpg")
    write(tmp_path, (0, 1, polygon(2, 3, 9, 12)))
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--train-path", "train"]
    flags += ["--mask-path", "coco.json", "--split", "kfold", "--n-folds", "2"]
    assert folds.main(flags) == 2
    assert "c: not in coco.json" in capsys.readouterr().err
    assert folds.main([*flags, "--absent", "empty"]) == 0
    assert "have no outline" not in capsys.readouterr().out


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_folds_tells_what_a_file_does_not_draw_and_whom_it_lists_twice(
    tmp_path: Path, capsys, task: str
) -> None:
    (tmp_path / "train").mkdir()
    for name in ("a", "b", "c"):
        Image.new("L", SIZE[::-1]).save(tmp_path / f"train/{name}.jpg")
    bare = [(1, 1, []), (1, 1, [[5, 4, 25, 16]])]
    shown = [(at, 1, polygon(2, 3, 9, 12)) for at in range(4)]
    write(tmp_path, *shown, *bare, files=("a.jpg", "b.jpg", "c.jpg", "a.jpg"))
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--train-path", "train"]
    flags += ["--mask-path", "coco.json", "--split", "kfold", "--n-folds", "2"]
    flags += ["--task", task, "--classes", "3" if task == "multiclass" else "1"]
    assert folds.main(flags) == 0
    out = capsys.readouterr().out
    assert out.count("note: coco.json: 2 of 6 annotations have no outline, a box at most") == 1
    (line,) = [line for line in out.splitlines() if "several times" in line]
    assert line.startswith("note: coco.json lists 1 image several times, a for one")
    assert ("the first of them counts" in line) == (task == "multiclass")


def test_files_whose_numbers_lack_the_zeros_of_coco(tmp_path: Path, capsys) -> None:
    (tmp_path / "train").mkdir()
    for name in ("7", "12"):
        Image.new("L", SIZE[::-1]).save(tmp_path / f"train/{name}.jpg")
    write(tmp_path, (0, 1, polygon(2, 3, 9, 12)), files=("007.jpg", "012.jpg"))
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "--train-path", "train"]
    flags += ["--mask-path", "coco.json", "--split", "kfold", "--n-folds", "2"]
    assert folds.main(flags) == 2
    told = "7: not in coco.json; 007 is: set ID_TEMPLATE={id:03}, and IMAGE_PATTERN"
    assert told in capsys.readouterr().err
    assert folds.main([*flags, "--id-template", "{id:03}", "--image-pattern", "{id}.jpg"]) == 0
    (tmp_path / "train_masks.csv").write_text("img\n7\n12\n")
    assert folds.main(flags) == 2
    assert "7: not in coco.json; 007 is: call it so in train_masks.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "no COCO annotations"),
        ("{", "no COCO annotations"),
        ('{"images": []}', "KeyError: 'annotations'"),
        (
            '{"images": [], "annotations": [{"image_id": 7, "category_id": 1, '
            '"segmentation": [[0, 0, 1, 1, 2, 0]]}]}',
            "images that it does not list:.*7",
        ),
    ],
)
def test_what_is_no_coco_file(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "coco.json").write_text(text)
    with pytest.raises(UserError, match=f"(?s)coco.json: .*{told}"):
        source_of(tmp_path)


@pytest.mark.parametrize(
    "outline",
    [
        {"size": [30, 20], "counts": [600]},
        {"size": list(SIZE), "counts": [7]},
        {"counts": "abc"},
        [["x", "y"]],
        [[1.0, 2.0]],
    ],
)
def test_an_outline_that_is_none_is_told(tmp_path: Path, outline: Any) -> None:
    write(tmp_path, (0, 1, outline))
    with pytest.raises(UserError, match=r"a: coco.json holds an outline that is no COCO polygon"):
        source_of(tmp_path).read({"img": "a"}, SIZE)


def test_outlines_of_another_version_of_the_image(tmp_path: Path) -> None:
    write(tmp_path, (0, 1, polygon(2, 3, 9, 12)))
    with pytest.raises(UserError, match=r"says \(H, W\) \(20, 30\), image is \(30, 20\)"):
        source_of(tmp_path).read({"img": "a"}, (30, 20))
