"""Files by pattern: ids from parts of paths, masks beside images, names that mean one file."""

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from competition.listings import find_test_images, find_train_names
from competition.masks import build_masks
from competition.training_images import collect_images
from competitions import competition_in
from core.errors import UserError


def write(folder: Path, *names: str, value: int = 0) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # PNG whatever the name says: content decides what is read.
        path.write_bytes(cv2.imencode(".png", np.full((4, 6), value, np.uint8))[1].tobytes())


def names(folder: Path, **changes: Any) -> dict[str, str]:
    return find_train_names(competition_in(folder, train_path=folder / "train", **changes))


@pytest.mark.parametrize(
    ("file", "pattern", "template", "img"),
    [
        (
            "a1/a1_d2/slice_07_80_64.png",
            "{a}/{a}_{day}/slice_{s}_*.png",
            "{a}_{day}_{s}",
            "a1_d2_07",
        ),
        ("x/images/x.png", "{id}/images/{id}.png", "", "x"),
        ("aachen/aachen_01_left.png", "*/{id}_left.png", "", "aachen_01"),
        ("Rural/images/0.png", "{scene}/images/{n}.png", "", "Rural_0"),
        ("p/q/r/v_1.2.png", "**/{id}.png", "", "v_1.2"),
        ("7.PNG", "{id}.png", "", "7"),
        ("7.png", "{kind=forged}{case}.png", "", "forged_7"),
        ("(a)+[b].png", "({x})+[{y}].png", "{y}-{x}", "b-a"),
        ("p7/0031.png", "p{p}/{n}.png", "{p:03}_{n:d}", "007_31"),
        ("x1.png", "{id}.png", "{id:05}", "x1"),
    ],
)
def test_ids_are_parts_of_paths(
    tmp_path: Path, file: str, pattern: str, template: str, img: str
) -> None:
    write(tmp_path / "train", file, "._other.png", "notes.txt")
    found = names(tmp_path, image_pattern=pattern, id_template=template)
    assert found == {img: file}


def test_a_repeated_part_must_be_the_same(tmp_path: Path) -> None:
    write(tmp_path / "train", "x/images/x.png", "y/images/z.png")
    found = names(tmp_path, image_pattern="{id}/images/{id}.png")
    assert found == {"x": "x/images/x.png"}


def test_files_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train", "1.png", "1_mask.png", "old/2.png", "new/2.png")
    for excludes in ("!*_mask.png !old/*", "!*_mask.png !old/"):
        found = names(tmp_path, image_pattern=f"**/{{id}}.png {excludes}")
        assert found == {"1": "1.png", "2": "new/2.png"}


def test_two_files_never_become_one_image(tmp_path: Path) -> None:
    write(tmp_path / "train", "Rural/0.png", "Urban/0.png", "Urban/1.png")
    with pytest.raises(UserError, match=r"ID_TEMPLATE .*\n  0: Rural/0\.png and Urban/0\.png"):
        names(tmp_path, image_pattern="*/{id}.png")
    assert len(names(tmp_path, image_pattern="{scene}/{id}.png")) == 3


@pytest.mark.parametrize(
    ("pattern", "template", "told"),
    [
        ("*/x.png", "", "no part names the image"),
        ("{id}.png", "{case}", r"made of \{id\}"),
        ("{a}/{b}.png", "{a}/{b}", "a name without folders"),
        ("{id}.tif", "", r"no image in it that fits '\{id\}\.tif': set IMAGE_PATTERN"),
    ],
)
def test_a_wrong_pattern_is_one_line(
    tmp_path: Path, pattern: str, template: str, told: str
) -> None:
    write(tmp_path / "train", "a/x.png")
    with pytest.raises(UserError, match=told):
        names(tmp_path, image_pattern=pattern, id_template=template)


def test_test_images_may_lie_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "train", "a/1.png")
    write(tmp_path / "test", "2.png")
    competition = competition_in(
        tmp_path, test_path=tmp_path / "test", image_pattern="*/{id}.png", test_pattern="{id}.png"
    )
    assert find_test_images(competition) == {"2": tmp_path / "test/2.png"}
    write(tmp_path / "other", "3.png")
    assert list(find_test_images(competition, tmp_path / "other")) == ["3"]


def test_masks_by_pattern_belong_to_their_images(tmp_path: Path) -> None:
    write(tmp_path / "train", "Rural/images/0.png", "Urban/images/0.png")
    write(tmp_path / "train", "Rural/masks/0.png", value=0)
    write(tmp_path / "train", "Urban/masks/0.png", value=255)
    competition = competition_in(
        tmp_path,
        train_path=tmp_path / "train",
        mask_path=tmp_path / "train",
        image_pattern="{scene}/images/{n}.png",
        mask_pattern="{scene}/masks/{n}.png",
    )
    table, masks = collect_images(competition).table, build_masks(competition)
    shares = {row["img"]: masks.read(row, (4, 6)).mean() for row in table.to_dict("records")}
    assert shares == {"Rural_0": 0, "Urban_0": 1}
    (tmp_path / "train/Urban/masks/0.png").unlink()
    with pytest.raises(UserError, match="Urban_0"):
        collect_images(competition)


def test_slices_counted_from_one_are_pages_from_the_first(tmp_path: Path) -> None:
    stack = np.arange(1, 4, dtype=np.uint8)[:, None, None] * np.ones((3, 4, 6), np.uint8)
    for study in "pq":
        write(tmp_path / f"train/{study}", *(f"slice_{at:03d}.png" for at in (1, 2, 3)))
        np.save(tmp_path / f"{study}.npy", stack)
    knobs = {
        "train_path": tmp_path / "train",
        "mask_path": tmp_path,
        "image_pattern": "{study}/slice_{page}.png",
        "id_template": "{study}_{page:d}",
    }
    for absent in ("skip", "drop"):
        with pytest.raises(UserError, match=r"no image is p_0, and p_3 has no .*/\{page:1\}"):
            collect_images(
                competition_in(tmp_path, **knobs, mask_pattern="{study}.npy/{page}", absent=absent)
            )
    competition = competition_in(tmp_path, **knobs, mask_pattern="{study}.npy/{page:1}")
    table = collect_images(competition).table
    assert dict(zip(table["img"], table["mask"], strict=True))["q_3"] == "q.npy{page:2}"
    with pytest.raises(UserError, match=r"MASK_PATTERN finds p_1, p_2, .*ID_TEMPLATE"):
        collect_images(replace(competition, id_template=""))


def test_a_mask_beside_its_image_is_not_to_be_deleted(tmp_path: Path) -> None:
    write(tmp_path / "train", "x.jpg", "x.png", "y.JPG", "y.png")
    with pytest.raises(UserError, match=r"the other its mask.*set IMAGE_SUFFIX") as caught:
        names(tmp_path)
    assert "x.jpg and x.png" in str(caught.value)
    assert "y.JPG and y.png" in str(caught.value)
    assert names(tmp_path, image_suffix=".jpg") == {"x": "x.jpg", "y": "y.JPG"}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_accent_is_one_letter_however_spelled(tmp_path: Path, form: Any) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    write(tmp_path / "train", unicodedata.normalize(form, "é.png"))
    write(tmp_path / "masks", unicodedata.normalize(form, "é_mask.gif"))
    csv = tmp_path / "t.csv"
    pd.DataFrame({"img": [unicodedata.normalize(other, "é.png")]}).to_csv(csv, index=False)
    table = collect_images(
        competition_in(
            tmp_path,
            train_path=tmp_path / "train",
            mask_path=tmp_path / "masks",
            train_csv=csv,
            table_chosen=True,
        )
    ).table
    assert (tmp_path / table["image"][0]).is_file()
    assert (tmp_path / table["mask"][0]).is_file()
