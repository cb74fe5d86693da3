"""Images of several files: bands, slices before and after, pairs; against NumPy."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from competition.listings import find_test_images, find_train_images
from competition.masks import build_masks
from competition.training_images import collect_images
from competitions import competition_in
from core.errors import UserError
from imaging.images import image_size, read_image
from imaging.sources import image_files, own_file, stored_files
from inference.stream import files_of

RNG = np.random.default_rng(8)


def write_grey(path: Path, value: int, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size, value, np.uint8)
    cv2.imwrite(str(path), pixels)
    return pixels


def found(folder: Path, **changes: Any) -> dict[str, Path]:
    """Training images by id, as paths that readers take."""
    competition = competition_in(folder, train_path=folder / "train", **changes)
    return {img: folder / "train" / one.path for img, one in find_train_images(competition).items()}


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{id}_{band}.png", "{id}_{band}.png"),
        ("{id}/{band}.png", "{id}/{band}.png"),
        ("{band}/{id}.png", "{band}/{id}.png"),
        ("{id}/*_{band}_*.png", "{id}/T31_{band}_{at}0m.PNG"),
        ("**/{id}-{band}.png", "some/where/{id}-{band}.png"),
    ],
)
def test_files_that_differ_in_the_band_are_one_image(
    tmp_path: Path, pattern: str, name: str
) -> None:
    values = {}
    for at, (img, band) in enumerate((i, b) for i in ("a_b", "c") for b in ("vv", "vh", "more")):
        write_grey(tmp_path / "train" / name.format(id=img, band=band, at=at), at + 1)
        values[img, band] = at + 1
    images = found(tmp_path, image_pattern=pattern, bands=("vh", "vv"))
    assert sorted(images) == ["a_b", "c"]
    for img, path in images.items():
        assert image_size(path) == (6, 8)
        for bands in (("vh", "vv"), ("vv",), ("more", "vv", "vh")):
            read = read_image(path, channels=len(bands), bands=bands)
            assert read[2, 3].tolist() == [values[img, band] for band in bands]
        assert len(stored_files(path)) == 3
        assert own_file(path) == image_files(path, ("vh",))[0]


def test_bands_are_asked_for_and_must_be_there(tmp_path: Path) -> None:
    for name in ("a_vv", "a_vh", "b_vv"):
        write_grey(tmp_path / "train" / f"{name}.png", 1)
    with pytest.raises(UserError, match=r"BANDS is '': need some of vh, vv"):
        found(tmp_path, image_pattern="{id}_{band}.png")
    with pytest.raises(UserError, match=r"BANDS is 'hv': need some of vh, vv"):
        found(tmp_path, image_pattern="{id}_{band}.png", bands=("hv",))
    with pytest.raises(UserError, match=r"lack files of BANDS=vv,vh:\n  b: no vh"):
        found(tmp_path, image_pattern="{id}_{band}.png", bands=("vv", "vh"))
    assert list(found(tmp_path, image_pattern="{id}_{band}.png", bands=("vv",))) == ["a", "b"]
    with pytest.raises(UserError, match=r"BANDS=vv: need numbers .* a part \{band\}"):
        read_image(tmp_path / "train/a_vv.png", bands=("vv",))


def test_channels_of_a_file_by_number(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (9, 7, 5), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", pixels, planarconfig="contig", photometric="minisblack")
    read = read_image(tmp_path / "x.tif", bands=("5", "1", "1"))
    np.testing.assert_array_equal(read, pixels[..., [4, 0, 0]])
    with pytest.raises(UserError, match="has 5 bands, BANDS asks for 6"):
        read_image(tmp_path / "x.tif", channels=1, bands=("6",))
    cv2.imwrite(str(tmp_path / "y.png"), pixels[..., :4])
    np.testing.assert_array_equal(
        read_image(tmp_path / "y.png", channels=2, bands=("4", "1")), pixels[..., [3, 2]]
    )


def test_pairs_of_colours_and_a_coarser_band(tmp_path: Path) -> None:
    before, after = RNG.integers(0, 256, (2, 12, 16, 3), np.uint8)
    for band, pixels in (("pre", before), ("post", after)):
        (tmp_path / "train" / band).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "train" / band / "x.png"), pixels[..., ::-1])
    path = found(tmp_path, image_pattern="{band}/{id}.png", bands=("pre", "post"))["x"]
    read = read_image(path, channels=6, bands=("pre", "post"))
    np.testing.assert_array_equal(read, np.dstack([before, after]))
    small = cv2.resize(after, (8, 6))
    cv2.imwrite(str(tmp_path / "train/post/x.png"), small[..., ::-1])
    read = read_image(path, channels=6, bands=("pre", "post"))
    np.testing.assert_array_equal(read[..., 3:], cv2.resize(small, (16, 12)))
    # The size is that of the file that stands for the image, in any order of the bands.
    assert read_image(path, channels=6, bands=("post", "pre")).shape == (12, 16, 6)
    cv2.imwrite(str(tmp_path / "train/post/x.png"), small[:3])
    with pytest.raises(UserError, match=r"x\.png: is \(3, 8\), .* need files of one shape"):
        read_image(path, channels=6, bands=("pre", "post"))
    with pytest.raises(UserError, match="has 3 channels, CHANNELS is 6"):
        read_image(path, channels=6, bands=("pre",))


def test_slices_before_and_after(tmp_path: Path) -> None:
    """Numbered 8, 9, 10, 12: by number, not by name; at the ends the last is repeated."""
    for case in (1, 2):
        for at in (8, 9, 10, 12):
            write_grey(tmp_path / f"train/case{case}/slice_{at}_z{at / 2}.png", 20 * case + at)
    images = found(tmp_path, image_pattern="{case}/slice_{slice}_*.png")
    assert sorted(images)[:2] == ["case1_10", "case1_12"]

    def values(img: str, *stack: int) -> list[int]:
        return read_image(images[img], channels=len(stack), stack=stack)[0, 0].tolist()

    assert values("case1_9", -1, 0, 1) == [28, 29, 30]
    assert values("case2_10", -2, 0, 2) == [48, 50, 52]
    assert values("case1_8", -1, 0, 1) == [28, 28, 29]
    assert values("case2_12", -1, 0, 2) == [50, 52, 52]
    assert read_image(images["case1_9"], channels=1)[0, 0] == 29
    write_grey(tmp_path / "train/x.png", 1)
    with pytest.raises(UserError, match=r"STACK needs a part \{slice\} in IMAGE_PATTERN"):
        read_image(tmp_path / "train/x.png", stack=(0, 1))


def test_slices_of_bands(tmp_path: Path) -> None:
    for at in range(3):
        for n, band in enumerate("ab"):
            write_grey(tmp_path / f"train/{band}/v_{at}.png", 10 * at + n)
    path = found(tmp_path, image_pattern="{band}/{id}_{slice}.png", bands=("a", "b"))["v_1"]
    read = read_image(path, channels=6, bands=("a", "b"), stack=(-1, 0, 1))
    assert read[0, 0].tolist() == [0, 1, 10, 11, 20, 21]
    spec: Any = SimpleNamespace(bands=("b",), stack=(-1, 0))
    assert files_of(path, [spec]) == {tmp_path / f"train/b/v_{at}.png" for at in (0, 1)}


def test_the_table_has_a_row_an_image_and_the_parts(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        for at in range(2):
            write_grey(tmp_path / f"train/{case}/{at}_vv.png", at)
            write_grey(tmp_path / f"train/{case}/{at}_vh.png", at + 5)
            write_grey(tmp_path / f"masks/{case}_{at}.png", 255)
    competition = competition_in(
        tmp_path,
        train_path=tmp_path / "train",
        test_path=tmp_path / "train",
        mask_path=tmp_path / "masks",
        mask_suffix=".png",
        image_pattern="{case}/{slice}_{band}.png",
        bands=("vv", "vh"),
    )
    table = collect_images(competition).table
    assert table["img"].tolist() == ["p1_0", "p1_1", "p2_0", "p2_1"]
    assert table["case"].tolist() == ["p1", "p1", "p2", "p2"]
    assert table["slice"].tolist() == ["0", "1", "0", "1"]
    assert table["image"][3] == "train/p2/{slice:1}_{band:vv}.png"
    masks = build_masks(competition)
    for row in table.to_dict("records"):
        size = image_size(tmp_path / row["image"])
        assert masks.read(row, size).all()
        path = find_test_images(competition)[row["img"]]
        assert path == tmp_path / row["image"]
        read = read_image(path, channels=4, bands=("vv", "vh"), stack=(0, 1))
        assert read[0, 0].tolist() == [int(row["slice"]), int(row["slice"]) + 5, 1, 6]
