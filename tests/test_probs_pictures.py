"""Probabilities on disk, and the pictures people look at."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from core.errors import UserError
from imaging.drawings import (
    PREDICTION,
    TRUTH,
    draw_contours,
    tile,
    to_rgb,
    write_picture,
    write_sheet,
)
from imaging.images import read_image
from imaging.levels import read_probs, to_levels, write_probs

RNG = np.random.default_rng(0)


def read_back(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


# ---------------------------------------------------------------- probabilities


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("size", [(7, 5), (1, 1), (64, 80)])
def test_probabilities_come_back_within_half_a_grey_level(
    tmp_path: Path, classes: int, size: tuple[int, int]
) -> None:
    probs = torch.rand(classes, *size)
    probs[0, 0, 0], probs[-1, -1, -1] = 0, 1
    write_probs(tmp_path / "v1.2.png", probs)
    back = read_probs(tmp_path / "v1.2.png", classes)
    assert (back.dtype, back.shape) == (np.uint8, (classes, *size))
    assert np.abs(back / 255 - probs.numpy()).max() <= 0.5 / 255 + 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["v1.2.png"]


def test_a_view_and_half_precision_are_written_too(tmp_path: Path) -> None:
    probs = torch.rand(2, 8, 6).to(torch.bfloat16)[:, 1:7, ::2]
    write_probs(tmp_path / "x.png", probs)
    back = read_probs(tmp_path / "x.png", 2)
    assert np.abs(back / 255 - probs.float().numpy()).max() < 0.01


def test_what_is_no_file_of_probabilities(tmp_path: Path) -> None:
    write_probs(tmp_path / "two.png", torch.rand(2, 5, 5))
    write_picture(tmp_path / "colour.png", np.zeros((6, 6, 3), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "two.png").read_bytes()[:20])
    for name in ("two.png", "colour.png", "cut.png", "none.png"):
        with pytest.raises(UserError, match=f"{name}.*3 classes"):
            read_probs(tmp_path / name, 3)


# ---------------------------------------------------------------- contours


def blob() -> np.ndarray:
    """A mask with an object that has a hole, one at the edge, and a single pixel."""
    mask = np.zeros((40, 50), np.uint8)
    cv2.ellipse(mask, (20, 20), (14, 10), 20, 0, 360, 1, -1)
    mask[17:23, 16:24] = 0
    mask[30:, 40:] = 1
    mask[3, 45] = 1
    return mask


def test_the_outline_is_the_masks_own_border() -> None:
    mask = blob()
    image = RNG.integers(0, 255, (*mask.shape, 3), np.uint8)
    before = image.copy()
    drawn = draw_contours(image, mask, (1, 2, 3))
    changed = (drawn == (1, 2, 3)).all(2)
    # Where the mask touches the border of the image, that is no outline.
    border = (mask > 0) & ~ndimage.binary_erosion(mask, border_value=1)
    inside = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
    assert changed[border].all()
    assert not changed[(mask == 0) | inside].any()
    assert np.array_equal(drawn[~changed], before[~changed])
    assert np.array_equal(image, before)  # the caller's picture is not drawn on


def test_ids_and_planes_are_drawn_alike_and_void_is_not() -> None:
    mask = blob()
    ids = np.where(mask > 0, 2, 0).astype(np.uint8)
    ids[5:9, 2:9] = 255
    image = np.zeros((*mask.shape, 3), np.uint8)
    planes = np.stack([np.zeros_like(mask), np.zeros_like(mask), mask])
    assert np.array_equal(draw_contours(image, ids, TRUTH), draw_contours(image, planes, TRUTH))
    assert not draw_contours(image, ids, TRUTH)[5:9, 2:9].any()


@pytest.mark.parametrize("value", [0, 1])
def test_an_empty_and_a_full_mask(value: int) -> None:
    drawn = draw_contours(
        np.zeros((9, 8, 3), np.uint8), np.full((9, 8), value, np.uint8), PREDICTION
    )
    assert not drawn.any()  # a full mask has no outline but the image's own border


def test_lines_of_a_large_picture_are_thicker() -> None:
    mask = np.zeros((1200, 1600), np.uint8)
    mask[400:800, 500:1000] = 1
    drawn = draw_contours(np.zeros((*mask.shape, 3), np.uint8), mask, TRUTH)
    assert drawn[:, 700].any(1).sum() > 4


# ---------------------------------------------------------------- pictures of any kind, sheets


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("bits", [8, 16])
def test_any_image_as_eight_bit_colour(channels: int, bits: int) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    image = RNG.integers(0, 2**bits, (5, 7, channels)).astype(dtype)
    rgb = to_rgb(image)
    assert (rgb.shape, rgb.dtype) == ((5, 7, 3), np.uint8)
    shown = image[..., :3] if channels >= 3 else image[..., [0, 0, 0]]
    assert np.abs(rgb.astype(float) * 257 / (257 if bits == 8 else 1) - shown).max() < 257
    assert draw_contours(rgb, np.eye(5, 7, dtype=np.uint8), TRUTH).shape == rgb.shape


def test_files_of_16_bits_and_of_grey_can_be_drawn_on(tmp_path: Path) -> None:
    deep = RNG.integers(0, 2**16, (20, 30), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    for channels, bits in ((1, 16), (3, 16), (1, 8), (3, 8)):
        image = read_image(tmp_path / "deep.png", channels=channels, bits=bits)
        mask = np.zeros((20, 30), np.uint8)
        mask[5:9, 5:9] = 1
        write_picture(tmp_path / "new" / "x.png", draw_contours(to_rgb(image), mask, TRUTH))
        back = read_back(tmp_path / "new" / "x.png")
        assert (back[5, 5] == TRUTH).all()
        assert np.abs(back[15].astype(int) - (deep[15] / 257)[:, None]).max() <= 1


def test_tiles_keep_the_shape_of_a_picture() -> None:
    wide = tile(np.full((100, 400, 3), 7, np.uint8), "short", side=200)
    tall = tile(np.full((400, 100, 3), 7, np.uint8), "0.123 " + "x" * 200, side=200)
    assert wide.shape[1] == tall.shape[1]
    assert len(wide) < len(tall)
    for card, size in ((wide, (50, 200)), (tall, (200, 50))):
        rows, columns = np.nonzero((card == 7).all(2))
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == size
        assert (card[:24] < 128).any()  # the title
        assert (card[-1] == 255).all()


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_sheet_holds_every_tile_once(tmp_path: Path, count: int) -> None:
    tiles = [np.full((6, 5, 3), 10 * (i + 1), np.uint8) for i in range(count)]
    write_sheet(tmp_path / "new" / "sheet.png", tiles)
    sheet = read_back(tmp_path / "new" / "sheet.png")
    assert sheet.shape == (6 * -(-count // 4), 20, 3)
    for i in range(count):
        top, left = 6 * (i // 4), 5 * (i % 4)
        assert (sheet[top : top + 6, left : left + 5] == 10 * (i + 1)).all()
    assert (sheet == 255).sum() == (-count % 4) * 6 * 5 * 3


@pytest.mark.parametrize("classes", [1, 3])
def test_levels_are_rounded_to_the_nearest_even(classes: int) -> None:
    probs = torch.rand(classes, 40, 60, generator=torch.Generator().manual_seed(1))
    ties = (torch.arange(255) + 0.5) / 255
    for row, value in enumerate((ties, ties.nextafter(torch.ones(255)), torch.arange(255) / 255)):
        probs[-1, 4 * row : 4 * row + 4] = value[:240].reshape(4, 60)
    probs[0, -1, :2] = torch.tensor([0.0, 1.0])
    levels = to_levels(probs)
    assert levels.dtype == torch.uint8
    assert np.array_equal(levels.numpy(), np.rint(probs.numpy() * np.float32(255)))
