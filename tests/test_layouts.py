"""look.py says of many layouts what images and masks are: they are read as they were drawn."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from competition.listings import find_test_images
from competition.masks import build_masks
from competition.polygon_files import load_document
from competition.training_images import collect_images
from core.flags import load_config
from imaging.images import read_image
from imaging.rle import rle_encode
from layouts import (
    COUNT,
    LAYOUTS,
    SIZE,
    class_folders,
    ids,
    image,
    object_table,
    padded_numbers,
    planes,
    published_names,
    published_within,
    rings,
    save,
    union,
    wkt,
    write,
)
from looking import outline_lines
from looking.census import take_census
from looking.groups import find_grouping, split_lines
from looking.layout import find_layout
from looking.likeness import join_looks
from looking.lines import Line, words_of
from looking.steps import first_lines, flat
from looking.survey import survey
from looking.words import TEST, TRAIN, words_in
from runs.experiment import competition_of, data_spec
from submissions.answer import read_answer


def look_lines(root: Path) -> Any:
    """The configuration that look.py makes of a folder's files."""
    lines = flat(first_lines(find_layout(survey(root)), {}))
    return load_config(["--input", str(root), *words_of(lines)])[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_of_a_layout_are_read_as_they_were_drawn(name: str, tmp_path: Path) -> None:
    draw, channels, task = LAYOUTS[name]
    for at in range(COUNT):
        draw(tmp_path, at)
    config = look_lines(tmp_path)
    competition, pixels = competition_of(config), data_spec(config).pixels
    table = collect_images(competition).table
    pages = len(table) // COUNT
    assert (len(table), config.TASK, config.CHANNELS) == (COUNT * pages, task, channels)
    assert pages == (2 if "pages that are images" in name else 1)
    masks = build_masks(competition)
    for at, row in enumerate(table.sort_values("img").to_dict("records")):
        truth = {"binary": union(at // pages) // 255, "multiclass": ids(at // pages)}
        wanted = planes(at) if task == "multilabel" else truth[task]
        np.testing.assert_array_equal(masks.read(row, SIZE), wanted)
        assert read_image(tmp_path / row["image"], **pixels).shape == (*SIZE, channels)


def plain(root: Path, at: int) -> None:
    save(root / f"images/{at:02d}x.png", image(at))
    save(root / f"masks/{at:02d}x.png", union(at))


def coco(root: Path, at: int) -> None:
    save(root / f"train/{at:02d}x.png", image(at))
    path = root / "train.json"
    known = json.loads(path.read_text()) if at else {"images": [], "annotations": []}
    known["images"].append({"id": at, "file_name": f"{at:02d}x.png", "height": 40, "width": 48})
    outlines = [[value for corner in ring for value in corner] for ring in rings(at)]
    known["annotations"].append({"image_id": at, "category_id": 1, "segmentation": outlines})
    write(root, "train.json", known | {"categories": [{"id": 1, "name": "thing"}]})


AGES = "id,age\n" + "".join(f"{at:02d}x,{at + 20}\n" for at in range(COUNT))
RUNS = "id,rle\n" + "".join(f"{at:02d}x,{rle_encode(union(at))}\n" for at in range(COUNT))
# name -> (what writes an image and its mask, a table beside them, SUBMISSION).
ANSWERS: dict[str, tuple[Any, str, str]] = {
    "mask files": (plain, "", "files"),
    "mask files, and a table of their run lengths": (plain, RUNS, "auto"),
    "COCO, and a table of other things": (coco, AGES, "files"),
    "a folder a class": (class_folders, "", "rle"),
    "a folder a class, and a table of other things": (class_folders, AGES, "rle"),
    "a table with a file an object": (object_table, "", "rle"),
    "WKT in a table": (wkt, "", "auto"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_without_a_sample_any_masks_have_an_answer(name: str, tmp_path: Path) -> None:
    """A row an image, and class where classes may share pixels."""
    draw, table, wanted = ANSWERS[name]
    for at in range(COUNT):
        draw(tmp_path, at)
        save(tmp_path / f"test/{at + 50}x.png", image(at))
    if table:
        write(tmp_path, "train.csv", table)
    config = look_lines(tmp_path)
    competition = competition_of(config)
    plan = read_answer(competition, find_test_images(competition)).plan
    rows = COUNT * (config.CLASSES if config.TASK == "multilabel" else 1)
    assert (config.SUBMISSION, len(plan.rows)) == (wanted, rows)
    told = {"SUBMISSION": Line("SUBMISSION", "coco", "")}
    assert not first_lines(find_layout(survey(tmp_path)), told)["Answer"]


def test_numbers_are_padded_and_kinds_of_few_files_are_classes(tmp_path: Path) -> None:
    for at in range(COUNT):
        padded_numbers(tmp_path, at)
    config = look_lines(tmp_path)
    assert config.CLASS_NAMES == ("hair", "hat", "l_brow", "mouth", "nose", "skin")
    competition = competition_of(config)
    rows = collect_images(competition).table.set_index("img", drop=False)
    assert list(rows.index) == [f"{at:05d}" for at in range(COUNT)]
    masks = build_masks(competition).read(rows.loc["00007"], SIZE)
    np.testing.assert_array_equal(masks[[0, 2]], planes(7))


@pytest.mark.parametrize("sample", [True, False])
def test_a_published_split_is_a_column(sample: bool, tmp_path: Path) -> None:
    """Ids that both folders have are told apart, but not where a sample asks for such ids."""
    for at in range(COUNT):
        published_names(tmp_path, at)
        save(tmp_path / f"test_img/{at:02d}.png", image(at))
    if sample:
        write(
            tmp_path,
            "sample_submission.csv",
            "id,rle\n" + "".join(f"{at:02d},\n" for at in range(COUNT)),
        )
    config = look_lines(tmp_path)
    competition = competition_of(config)
    rows = collect_images(competition).table
    tests = find_test_images(competition)
    if sample:
        assert (len(rows), sorted(tests)) == (8, [f"{at:02d}" for at in range(COUNT)])
        return
    layout = find_layout(survey(tmp_path))
    assert dict(rows["split"].value_counts()) == {"train": 8, "valid": 4}
    assert sorted(tests) == [f"test_{at:02d}" for at in range(COUNT)]
    names, looks = list(rows["img"]), join_looks([None] * COUNT)
    shares = np.zeros(COUNT)
    lines = {
        line.knob: line for line in split_lines(names, None, layout, shares=shares, looks=looks)
    }
    assert {knob: line.value for knob, line in lines.items()} == {
        "SPLIT": "column",
        "SPLIT_COLUMN": "split",
    }


def test_attributes_behind_a_class_are_left_out(tmp_path: Path) -> None:
    """iMaterialist: 3_12_45 is class 3."""
    rows = ["id,rle,ClassId"]
    for at in range(COUNT):
        save(tmp_path / f"train/{at:02d}x.png", image(at))
        cells = ("0_14", "0_9_3", "1")[at % 3], "2"
        pairs = zip(planes(at), cells, strict=True)
        rows += [f"{at:02d}x,{rle_encode(plane)},{cell}" for plane, cell in pairs]
    write(tmp_path, "train.csv", "\n".join(rows))
    config = look_lines(tmp_path)
    assert (config.CLASSES, config.CLASS_BASE, config.CLASS_PATTERN) == (3, 0, r"(\d+)")
    competition = competition_of(config)
    (row, *_) = collect_images(competition).table.to_dict("records")
    mask = build_masks(competition).read(row, SIZE)
    np.testing.assert_array_equal(mask[[0, 2]], planes(0))


def test_tables_of_one_part_of_a_published_split_leave_the_other_in(tmp_path: Path) -> None:
    for at in range(COUNT):
        published_within(tmp_path, at)
    write(tmp_path, "train.csv", "id,age\n" + "".join(f"{at:02d}x,1\n" for at in (0, 1, 3, 4, 6)))
    table = collect_images(competition_of(look_lines(tmp_path))).table
    assert dict(table["split"].value_counts()) == {"training": 8, "validation": 4}


def test_layers_of_objects_are_told_as_such(tmp_path: Path) -> None:
    for at in range(COUNT):
        save(tmp_path / f"images/{at:02d}x.png", image(at))
        save(tmp_path / f"masks/{at:02d}x.npy", planes(at))
    lines = flat(first_lines(find_layout(survey(tmp_path)), {}))
    assert lines["TASK"].why == f"{COUNT} of {COUNT} mask files hold several layers: each an object"


def test_folders_whose_names_hold_a_comma_are_no_bands(tmp_path: Path) -> None:
    """BANDS and CLASS_NAMES are joined by commas."""
    draw, _, _ = LAYOUTS["a folder a band"]
    for at in range(COUNT):
        draw(tmp_path, at)
    assert look_lines(tmp_path).BANDS == ("nir", "red")
    (tmp_path / "red").rename(tmp_path / "red, 660 nm")
    assert look_lines(tmp_path).BANDS == ()


def test_a_file_of_all_outlines_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def load(path: Path) -> Any:
        asked.append(path)
        return load_document(path)

    monkeypatch.setattr(outline_lines, "load_document", load)
    for at in range(COUNT):
        LAYOUTS["VIA"][0](tmp_path, at)
    assert look_lines(tmp_path).MASK_FORMAT == "polygons"
    assert asked == [tmp_path / "train" / "via.json"]


def test_pictures_before_and_after_are_one_group(tmp_path: Path) -> None:
    """Forgeries: two pictures of one name, and a mask of what was changed."""
    for at in range(COUNT):
        for kind in ("authentic", "forged"):
            save(tmp_path / f"images/{kind}/{at:02d}x.png", image(at))
        save(tmp_path / f"masks/{at:02d}x.png", union(at))
        save(tmp_path / f"test_images/{at + 50:02d}x.png", image(at + 50))
    layout = find_layout(survey(tmp_path))
    config = look_lines(tmp_path)
    competition = competition_of(config)
    rows = collect_images(competition).table.set_index("img", drop=False)
    masks, places = build_masks(competition), find_test_images(competition)
    np.testing.assert_array_equal(masks.read(rows.loc["forged_03x"], SIZE), union(3) // 255)
    assert not masks.read(rows.loc["authentic_03x"], SIZE).any()
    assert sorted(places) == [f"{at + 50:02d}x" for at in range(COUNT)]
    grouping = find_grouping(list(rows["img"]), join_looks([None] * len(rows)), layout)
    assert grouping is not None
    assert (grouping.knob, grouping.value) == ("GROUP_COLUMN", "id")
    assert list(grouping.groups) == list(rows["id"])


def test_suffixes_that_look_like_flags_and_values_below_0(tmp_path: Path) -> None:
    """MoNuSeg's A-DX1.tif; Sen1Floods11's -1 where nobody knows."""
    for at in range(COUNT):
        save(tmp_path / f"images/{at:02d}x-DX1.png", image(at))
        mask = (union(at) > 0).astype(np.int16)
        mask[:, :5] = -1
        save(tmp_path / f"labels/{at:02d}x-DX1_label.tif", mask)
    config = look_lines(tmp_path)
    assert (config.TASK, config.IGNORE_INDEX) == ("binary", -1)
    competition = competition_of(config)
    (row, *_) = collect_images(competition).table.to_dict("records")
    assert row["img"] in ("00x", "00x-DX1")
    mask = build_masks(competition).read(row, SIZE)
    np.testing.assert_array_equal(mask[:, 5:], union(0)[:, 5:] > 0)
    assert (mask[:, :5] == 255).all()


def test_pages_of_a_stack_are_one_group(tmp_path: Path) -> None:
    for at in range(COUNT):
        LAYOUTS["pages that are images"][0](tmp_path, at)
    layout = find_layout(survey(tmp_path))
    names = list(layout.train.paths)
    grouping = find_grouping(names, join_looks([None] * len(names)), layout)
    assert grouping is not None
    assert list(grouping.groups) == [name.rpartition("_")[0] for name in names]


def test_a_training_table_that_names_no_images_is_left_out(tmp_path: Path) -> None:
    """TRAIN_CSV's own name, and columns that make the ids together."""
    for at in range(COUNT):
        plain(tmp_path, at)
    write(tmp_path, "train_masks.csv", "patient,img,pixels\n1,1,1 2\n1,2,\n")
    config = look_lines(tmp_path)
    assert len(collect_images(competition_of(config)).table) == COUNT


def test_of_two_sets_of_outlines_the_one_asked_for_is_read(tmp_path: Path) -> None:
    """HuBMAP: glomeruli in x.json, and what tissue they lie in in x-anatomical-structure.json."""
    for at in range(COUNT):
        save(tmp_path / f"train/{at:02d}x.png", image(at))
        for name, (ring, *_) in (("", rings(at)), ("-anatomical-structure", rings(at)[::-1])):
            shape = {"type": "Polygon", "coordinates": [ring]}
            write(tmp_path, f"train/{at:02d}x{name}.json", {"type": "Feature", "geometry": shape})
    config = look_lines(tmp_path)
    assert config.MASK_SUFFIX == ".json"
    row = {"img": "03x", "image": "train/03x.png"}
    for suffix, plane in zip((".json", "-anatomical-structure.json"), planes(3), strict=True):
        competition = replace(competition_of(config), mask_suffix=suffix)
        np.testing.assert_array_equal(build_masks(competition).read(row, SIZE), plane)


def test_masks_nearer_to_the_images_come_first(tmp_path: Path) -> None:
    """NuInsSeg: vague areas have masks of their own, most of them empty."""
    for at in range(COUNT):
        organ = f"organ {at // 4}"
        save(tmp_path / f"{organ}/tissue images/{at:02d}x.png", image(at))
        save(tmp_path / f"{organ}/mask binary/{at:02d}x.png", union(at))
        save(tmp_path / f"{organ}/vague areas/mask binary/{at:02d}x.png", union(at) * 0)
        save(tmp_path / f"{organ}/vague areas/overlay/{at:02d}x.png", image(at))
    assert look_lines(tmp_path).MASK_PATTERN == "{folder}/mask binary/{id}.png"


def test_the_end_of_a_word_in_capitals_is_no_word() -> None:
    assert words_in("BraTS20_Training_001") & (TRAIN | TEST) == {"training"}
    assert words_in("imagesTs") & TEST
    assert words_in("imagesTr") & TRAIN


def test_colours_of_classes_that_an_image_lacks_are_no_objects(tmp_path: Path) -> None:
    """Mapillary: classes of one part each."""
    colours = np.array([[70, 60, 50], [9, 80, 3], [3, 5, 9]], np.uint8)
    for at in range(COUNT):
        save(tmp_path / f"images/{at:02d}x.png", image(at))
        shown = ids(at) if at % 4 else ids(at) % 2
        save(tmp_path / f"masks/{at:02d}x.png", colours[shown])
    assert look_lines(tmp_path).TASK == "multiclass"


def test_arrays_of_many_axes_are_no_masks_of_values(tmp_path: Path) -> None:
    """PanNuke: (N, H, W, 6) of a whole fold."""
    path = tmp_path / "masks.npy"
    np.save(path, np.zeros((4, *SIZE, 6)))
    assert len(take_census([path]).layers) == 1
