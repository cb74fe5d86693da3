"""COCO files of several parts, numbered sequences, folders that are counted: read as one set."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from competition.listings import find_test_images
from competition.masks import build_masks
from competition.training_images import collect_images
from competitions import competition_in
from core.errors import UserError
from core.flags import load_config
from layouts import SIZE, ids, image, rings, save, union
from looking.groups import find_grouping
from looking.layout import find_layout
from looking.likeness import join_looks
from looking.lines import words_of
from looking.steps import first_lines, flat
from looking.survey import survey
from runs.experiment import competition_of
from submissions.answer import read_answer
from submissions.results_file import category_labels


def look_lines(root: Path) -> Any:
    lines = flat(first_lines(find_layout(survey(root)), {}))
    return load_config(["--input", str(root), *words_of(lines)])[0]


def write_coco(path: Path, names: dict[str, int], called: dict[int, str] | None = None) -> None:
    """A COCO file of images by name, each with the rings of its number, all of category 1."""
    images = [
        {"id": at, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
        for at, name in enumerate(names)
    ]
    outlines = [
        {"image_id": at, "category_id": 1, "segmentation": [np.ravel(ring).tolist()]}
        for at, number in enumerate(names.values())
        for ring in rings(number)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "images": images,
                "annotations": outlines,
                "categories": [
                    {"id": one, "name": name} for one, name in (called or {1: "cell"}).items()
                ],
            }
        )
    )


def exported(root: Path) -> None:
    """As labelling tools export: a folder and a file a part, ids of a category a part."""
    for part, numbers in (("train", range(6)), ("valid", range(6, 9)), ("test", range(9, 12))):
        for at in numbers:
            save(root / f"{part}/pot_{at}.png", image(at))
        write_coco(root / f"{part}/_annotations.coco.json", {f"pot_{at}.png": at for at in numbers})


def one_folder(root: Path) -> None:
    """As LIVECell: images of train and val in one folder, files beside."""
    for at in range(12):
        part = "train_val" if at < 9 else "test"
        save(root / f"images/cells_{part}_images/A7_{at}.png", image(at))
    for part, numbers in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        write_coco(root / f"cells_coco_{part}.json", {f"A7_{at}.png": at for at in numbers})


@pytest.mark.parametrize("draw", [exported, one_folder])
def test_coco_files_of_all_parts_are_read(draw: Any, tmp_path: Path) -> None:
    draw(tmp_path)
    competition = competition_of(look_lines(tmp_path))
    table = collect_images(competition).table
    masks = build_masks(competition)
    assert len(table) == 9
    assert len(find_test_images(competition)) == 3
    for row in table.to_dict("records"):
        at = int(row["img"].rpartition("_")[2])
        np.testing.assert_array_equal(masks.read(row, SIZE), union(at) // 255)


def test_an_image_of_two_coco_files_is_told(tmp_path: Path) -> None:
    write_coco(tmp_path / "notes/a.json", {"1.png": 1, "2.png": 2})
    write_coco(tmp_path / "notes/b.json", {"2.png": 2, "3.png": 3})
    competition = competition_in(tmp_path, mask_path=tmp_path / "notes", mask_format="coco")
    with pytest.raises(UserError, match=r"two COCO files list(?s:.)*2: a\.json and b\.json"):
        build_masks(competition)


@pytest.mark.parametrize(
    ("knobs", "first", "second"),
    [
        ({"task": "multiclass", "classes": 3, "class_names": ("ground", "car", "dog")}, 1, 2),
        ({"class_names": ("car",)}, 1, 0),
    ],
    ids=["multiclass", "binary"],
)
def test_coco_files_that_number_categories_in_their_own_way(
    knobs: dict[str, Any], first: int, second: int, tmp_path: Path
) -> None:
    """In each file the outlines are of category 1: cars in the one, dogs in the other."""
    write_coco(tmp_path / "notes/a.json", {"1.png": 1}, {1: "car", 2: "dog"})
    write_coco(tmp_path / "notes/b.json", {"2.png": 2}, {1: "dog", 2: "car"})
    competition = competition_in(
        tmp_path, mask_path=tmp_path / "notes", mask_format="coco", **knobs
    )
    masks = build_masks(competition)
    for img, value in (("1", first), ("2", second)):
        truth = union(int(img)) // 255 * value
        np.testing.assert_array_equal(masks.read({"img": img}, SIZE), truth)


def test_sequences_and_their_numbered_masks_are_one_set(tmp_path: Path) -> None:
    for number in ("01", "02"):
        for at in range(4):
            labels = ids(at + 5 * int(number))
            save(tmp_path / f"cells/{number}/t{at:03d}.png", image(at))
            save(tmp_path / f"cells/{number}_ST/SEG/man_seg{at:03d}.png", labels)
            save(tmp_path / f"cells/{number}_GT/TRA/man_track{at:03d}.png", 0 * labels + 1)
    competition = competition_of(look_lines(tmp_path))
    table = collect_images(competition).table
    masks = build_masks(competition)
    assert sorted(table["sequence"]) == ["01"] * 4 + ["02"] * 4
    for row in table.to_dict("records"):
        at = int(row["img"][-3:]) + 5 * int(row["sequence"])
        np.testing.assert_array_equal(masks.read(row, SIZE), ids(at))
    grouping = find_grouping(
        list(table["img"]), join_looks([None] * 8), find_layout(survey(tmp_path))
    )
    assert grouping is not None
    assert (grouping.knob, grouping.value) == ("GROUP_COLUMN", "sequence")


def test_few_folders_that_are_counted_are_images(tmp_path: Path) -> None:
    for at in range(6):
        save(tmp_path / f"Case_Training_{at:03d}/Case_Training_{at:03d}_t1.png", image(at))
        save(tmp_path / f"Case_Training_{at:03d}/Case_Training_{at:03d}_seg.png", union(at))
    competition = competition_of(look_lines(tmp_path))
    assert len(collect_images(competition).table) == 6


def test_one_city_of_val_is_of_the_published_split(tmp_path: Path) -> None:
    for at in range(12):
        place = ("train/aachen", "train/bremen", "val/bonn")[at % 3]
        save(tmp_path / f"leftImg8bit/{place}/{at}_left.png", image(at))
        save(tmp_path / f"gtFine/{place}/{at}_labels.png", union(at))
    config = look_lines(tmp_path)
    assert set(collect_images(competition_of(config)).table["split"]) == {"train", "val"}


def test_an_empty_table_is_none(tmp_path: Path) -> None:
    for at in range(4):
        save(tmp_path / f"images/{at}.png", image(at))
        save(tmp_path / f"masks/{at}.png", union(at))
    competition = competition_in(
        tmp_path, train_csv=tmp_path, train_path=tmp_path / "images", mask_path=tmp_path / "masks"
    )
    from competition.run_layout import recognise_layout

    assert recognise_layout(competition).notes == []


def notes_of_categories(root: Path, called: dict[int, str]) -> Any:
    """look.py's configuration of a COCO file; its n-th outline is of the n-th category."""
    files = {f"{at:03d}.png": at for at in range(min(len(called), 8))}
    for name, at in files.items():
        save(root / f"images/{name}", image(at))
    write_coco(root / "notes.json", files, called)
    content = json.loads((root / "notes.json").read_text())
    first = content["annotations"][:: len(rings(0))]
    content["annotations"] = [
        {**first[at % len(first)], "category_id": number} for at, number in enumerate(called)
    ]
    (root / "notes.json").write_text(json.dumps(content))
    return competition_of(look_lines(root))


@pytest.mark.parametrize("called", [{2: "fish, raw", 1: "cat"}, {2: "cat", 1: "fish, raw"}])
def test_names_of_categories_with_commas(called: dict[int, str], tmp_path: Path) -> None:
    competition = notes_of_categories(tmp_path, called)
    masks = build_masks(competition)
    for at, name in enumerate(called.values()):
        found = masks.read({"img": f"{at:03d}"}, SIZE).max()
        assert competition.class_names[found] == name.replace(",", " ")


def test_more_categories_than_a_network_has_classes_are_one_foreground(tmp_path: Path) -> None:
    competition = notes_of_categories(tmp_path, {at: f"kind {at}" for at in range(1, 255)})
    assert (competition.task, competition.classes) == ("binary", 1)
    assert build_masks(competition).read({"img": "007"}, SIZE).max() == 1


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize(
    ("knobs", "asked"),
    [
        ({"class_names": ("ground", "dog", "cat")}, ["0", "9", "7"]),
        ({"mask_values": {"cat": 2, "dog": 1}}, ["0", "9", "7"]),
        ({"mask_values": {"cat": 1, "dog": 1}}, ["0", "1", "2"]),
        ({"task": "binary", "classes": 1, "class_names": ("dog",)}, ["9"]),
        ({"task": "binary", "classes": 1}, ["1"]),
    ],
    ids=["names", "values", "two in one", "binary of one", "binary of both"],
)
def test_classes_of_an_answer_are_the_categories_that_were_trained_on(
    knobs: dict[str, Any], asked: list[str], folder: bool, tmp_path: Path
) -> None:
    called = {3: "animal", 7: "cat", 9: "dog"}
    for part in ("all",) if not folder else ("train", "val"):
        write_coco(tmp_path / f"notes/{part}.json", {f"{part}.png": 1}, called)
        content = json.loads((tmp_path / f"notes/{part}.json").read_text())
        numbers = {"all": (7, 9), "train": (7, 7), "val": (9, 9)}[part]
        for one, number in zip(content["annotations"], numbers, strict=True):
            one["category_id"] = number
        (tmp_path / f"notes/{part}.json").write_text(json.dumps(content))
    save(tmp_path / "test/1.png", image(1))
    knobs = {"task": "multiclass", "classes": 3, "mask_format": "coco", **knobs}
    competition = competition_in(
        tmp_path,
        mask_path=tmp_path / ("notes" if folder else "notes/all.json"),
        test_path=tmp_path / "test",
        submission="coco",
        **knobs,
    )
    assert list(read_answer(competition, find_test_images(competition)).plan.labels) == asked


@pytest.mark.parametrize("beside", ["classes.txt", "README.txt"])
def test_numbers_of_classes_are_categories_where_outlines_are_no_coco(
    tmp_path: Path, beside: str
) -> None:
    """YOLO's files, and a text that comes before them."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / beside).write_text("Drawn by hand, see the manual.\n")
    (tmp_path / "labels" / "q.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n")
    kind: dict[str, Any] = {"task": "multiclass", "classes": 3, "mask_suffix": ".txt"}
    competition = competition_in(
        tmp_path, mask_path=tmp_path / "labels", mask_format="polygons", **kind
    )
    assert category_labels(competition, ["0", "1", "2"]) == ("0", "1", "2")
