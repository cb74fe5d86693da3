"""Layouts of further competitions in miniature: look.py reads images and masks as drawn."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from competition.listings import find_test_images
from competition.masks import build_masks
from competition.training_images import collect_images
from core.flags import load_config
from imaging.images import read_image
from imaging.rle import rle_encode
from layouts import SIZE, ids, image, planes, save, union
from looking.groups import find_grouping
from looking.layout import find_layout
from looking.likeness import join_looks
from looking.lines import words_of
from looking.steps import first_lines, flat
from looking.survey import survey
from runs.experiment import competition_of, data_spec
from submissions.answer import read_answer

COLOURS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
PARTS = (("train", range(8)), ("val", range(8, 12)), ("test", range(12, 16)))
# The number of each training image by its path, and the test images.
Drawn = tuple[dict[str, int], int]


def change_pairs(root: Path) -> Drawn:
    """LEVIR-CD: A and B are one place at two times."""
    found = {}
    for part, numbers in PARTS:
        for at in numbers:
            save(root / f"{part}/A/{part}_{at}.png", image(at))
            save(root / f"{part}/B/{part}_{at}.png", image(at + 50))
            save(root / f"{part}/label/{part}_{at}.png", union(at))
            if part != "test":
                found[f"{part}/A/{part}_{at}.png"] = at
    return found, 4


def kinds_of_truth(root: Path) -> Drawn:
    """KITTI: folders of classes, of objects and of colours, none called masks."""
    for at in range(8):
        name = f"{at:06d}_10.png"
        save(root / f"training/image_2/{name}", image(at))
        save(root / f"training/semantic/{name}", ids(at))
        save(root / f"training/semantic_rgb/{name}", COLOURS[ids(at)])
        save(root / f"training/instance/{name}", ids(at) * np.uint8(2))
        save(root / f"testing/image_2/{name}", image(at + 20))
    return {f"training/image_2/{at:06d}_10.png": at for at in range(8)}, 8


def colour_maps(root: Path) -> Drawn:
    """BDD100K: colours for the eye lie before numbers of classes."""
    found = {}
    for part, numbers in PARTS:
        for at in numbers:
            path = f"{part}/{at:04x}-{at}"
            save(root / f"images/10k/{path}.jpg", image(at))
            if part != "test":
                found[f"images/10k/{path}.jpg"] = at
                save(root / f"labels/sem_seg/colormaps/{path}.png", COLOURS[ids(at)])
                save(root / f"labels/sem_seg/masks/{path}.png", ids(at))
    return found, 4


def two_cameras(root: Path) -> Drawn:
    """EndoVis: left and right frames of sequences, truth of the left ones."""
    found = {}
    for at in range(12):
        name = f"seq_{at // 3}/{{}}/frame{at % 3:03d}.png"
        save(root / name.format("left_frames"), image(at))
        save(root / name.format("right_frames"), image(at + 40))
        save(root / name.format("labels"), ids(at))
        found[name.format("left_frames")] = at
    return found, 0


def folder_a_patient(root: Path) -> Drawn:
    """LGG brains: masks beside slices in folders of patients, a table of patients."""
    found = {}
    for at in range(12):
        name = f"TCGA_CS_49{at // 4}_1996090{at // 4}"
        save(root / f"kaggle_3m/{name}/{name}_{at % 4 + 1}.tif", image(at))
        save(root / f"kaggle_3m/{name}/{name}_{at % 4 + 1}_mask.tif", union(at))
        found[f"kaggle_3m/{name}/{name}_{at % 4 + 1}.tif"] = at
    (root / "kaggle_3m/data.csv").write_text("Patient,cluster\nTCGA_CS_490,1\nTCGA_CS_491,2\n")
    return found, 0


def part_twice(root: Path) -> Drawn:
    """FloodNet: train/train-org-img and train/train-label-img."""
    found = {}
    for part, numbers in PARTS:
        for at in numbers:
            path = f"v1.0/{part}/{part}-org-img/{6000 + 3 * at}.jpg"
            save(root / path, image(at))
            save(root / f"v1.0/{part}/{part}-label-img/{6000 + 3 * at}_lab.png", ids(at))
            if part != "test":
                found[path] = at
    return found, 4


def whole_words(root: Path) -> Drawn:
    """ADE20K: images/training and annotations/training, ids that say the part, too."""
    found = {}
    for part, word, numbers in (("training", "train", range(8)), ("validation", "val", range(3))):
        for number in numbers:
            at, name = number + 8 * (word == "val"), f"{part}/ADE_{word}_{number + 1:08d}"
            save(root / f"ADE/images/{name}.jpg", image(at))
            save(root / f"ADE/annotations/{name}.png", ids(at))
            found[f"ADE/images/{name}.jpg"] = at
            save(root / f"release_test/testing/ADE_test_{at + 1:08d}.jpg", image(at))
    return found, 11


def two_columns(root: Path) -> Drawn:
    """Ultrasound nerves: masks as files and in a table whose ids are two columns."""
    found, rows, answer = {}, ["subject,img,pixels"], ["img,pixels"]
    for at in range(12):
        name = f"{at // 4 + 1}_{at % 4 + 1}"
        save(root / f"train/{name}.tif", image(at))
        save(root / f"train/{name}_mask.tif", union(at))
        rows.append(f"{name.replace('_', ',')},{rle_encode(union(at) > 0, order='column')}")
        found[f"train/{name}.tif"] = at
        save(root / f"test/{at + 1}.tif", image(at))
        answer.append(f"{at + 1},1 1")
    (root / "train_masks.csv").write_text("\n".join(rows))
    (root / "sample_submission.csv").write_text("\n".join(answer))
    return found, 12


DRAWN: dict[Callable[[Path], Drawn], str] = {
    change_pairs: "binary",
    kinds_of_truth: "multiclass",
    colour_maps: "multiclass",
    two_cameras: "multiclass",
    folder_a_patient: "binary",
    part_twice: "multiclass",
    whole_words: "multiclass",
    two_columns: "binary",
}


@pytest.mark.parametrize("draw", DRAWN)
def test_a_competition_is_read_as_it_was_drawn(
    draw: Callable[[Path], Drawn], tmp_path: Path
) -> None:
    numbers, tests = draw(tmp_path)
    lines = flat(first_lines(find_layout(survey(tmp_path)), {}))
    config = load_config(["--input", str(tmp_path), *words_of(lines)])[0]
    competition, pixels = competition_of(config), data_spec(config).pixels
    table = collect_images(competition).table
    masks = build_masks(competition)
    found = {}
    for row in table.to_dict("records"):
        path = re.sub(r"\{band:(\w+)\}", r"\1", row["image"])
        at = found[path] = numbers[path]
        truth = ids(at) if DRAWN[draw] == "multiclass" else planes(at).any(0)
        np.testing.assert_array_equal(masks.read(row, SIZE), truth)
    assert (found, config.TASK) == (numbers, DRAWN[draw])
    assert len(find_test_images(competition) if tests else {}) == tests
    if draw is change_pairs:
        pair = read_image(tmp_path / table["image"][0], **pixels)
        assert pair.shape == (*SIZE, 6)
        first = numbers[re.sub(r"\{band:(\w+)\}", r"\1", table["image"][0])]
        np.testing.assert_array_equal(pair, np.dstack([image(first), image(first + 50)]))


def test_a_table_with_a_row_a_volume_groups_its_pages(tmp_path: Path) -> None:
    rows = ["volume,scroll_id"]
    for volume in range(6):
        pages = [volume * 4 + page for page in range(4)]
        save(tmp_path / f"images/v{volume}.tif", np.stack([image(at, 1) for at in pages]))
        save(tmp_path / f"labels/v{volume}.tif", np.stack([union(at) for at in pages]))
        rows.append(f"v{volume},{volume // 2}")
    (tmp_path / "train.csv").write_text("\n".join(rows))
    layout = find_layout(survey(tmp_path))
    lines = flat(first_lines(layout, {}))
    config = load_config(["--input", str(tmp_path), *words_of(lines)])[0]
    table = collect_images(competition_of(config)).table
    assert table["scroll_id"].tolist() == [str(at // 8) for at in range(24)]
    grouping = find_grouping(list(table["img"]), join_looks([None] * 24), layout)
    assert grouping is not None
    assert (grouping.value, len(set(grouping.groups))) == ("scroll_id", 3)


def look_lines(root: Path) -> Any:
    lines = flat(first_lines(find_layout(survey(root)), {}))
    return load_config(["--input", str(root), *words_of(lines)])[0]


def test_a_table_that_writes_numbers_with_zeros_before_them(tmp_path: Path) -> None:
    rows = ["id,rle"]
    for at in range(8):
        save(tmp_path / f"train/{at}.png", image(at))
        rows.append(f"{at:05d},{rle_encode(union(at) // 255)}")
    for at in range(8, 11):
        save(tmp_path / f"test/{at}.png", image(at))
    (tmp_path / "train.csv").write_text("\n".join(rows))
    asked = "".join(f"{at:05d},1 1\n" for at in range(8, 11))
    (tmp_path / "sample_submission.csv").write_text(f"id,rle\n{asked}")
    competition = competition_of(look_lines(tmp_path))
    masks = build_masks(competition)
    for row in collect_images(competition).table.to_dict("records"):
        np.testing.assert_array_equal(masks.read(row, SIZE), union(int(row["img"])) // 255)
    assert sorted(find_test_images(competition)) == ["00008", "00009", "00010"]


def test_numbers_of_classes_are_not_taken_for_those_of_images(tmp_path: Path) -> None:
    """Images 0 to 7 are trained on; the sample asks for classes 1 and 2 of the images 8 to 10."""
    rows = ["id,class,rle"]
    for at in range(8):
        save(tmp_path / f"train/{at}.png", image(at))
        rows += [f"{at},{k},{rle_encode(plane)}" for k, plane in enumerate(planes(at), 1)]
    for at in range(8, 11):
        save(tmp_path / f"test/{at}.png", image(at))
    (tmp_path / "train.csv").write_text("\n".join(rows))
    asked = "".join(f"{at},{k},\n" for at in range(8, 11) for k in (1, 2))
    (tmp_path / "sample_submission.csv").write_text(f"id,class,rle\n{asked}")
    competition = competition_of(look_lines(tmp_path))
    assert sorted(find_test_images(competition)) == ["10", "8", "9"]


def test_a_comma_in_a_class_of_a_table(tmp_path: Path) -> None:
    rows, names = ["image,label,encoded"], ("fish, raw", "cat")
    for at in range(8):
        save(tmp_path / f"train/{at:03d}.png", image(at))
        for name, plane in zip(names, planes(at), strict=True):
            rows.append(f'{at:03d}.png,"{name}",{rle_encode(plane)}')
    save(tmp_path / "test/100.png", image(9))
    (tmp_path / "train.csv").write_text("\n".join(rows))
    asked = "".join(f'100.png,"{name}",1 1\n' for name in names)
    (tmp_path / "sample_submission.csv").write_text(f"image,label,encoded\n{asked}")
    competition = competition_of(look_lines(tmp_path))
    masks = build_masks(competition)
    for row in collect_images(competition).table.to_dict("records"):
        np.testing.assert_array_equal(masks.read(row, SIZE)[::-1], planes(int(row["img"])))
    answer = read_answer(competition, find_test_images(competition))
    assert answer.plan.class_of == {"cat": 0, "fish, raw": 1}
