"""Fitting images to the network's size and back, against OpenCV, SciPy and plain indexing."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from imaging.geometry import Fit, fit_image, fit_mask, fit_of, restore_probs, warp

RNG = np.random.default_rng(0)
MODES = ["stretch", "pad", "crop"]
NATIVES = [(64, 80), (80, 64), (33, 47), (200, 31), (64, 64), (1, 90)]
SIZE = (64, 96)


def smooth(size: tuple[int, int], channels: int = 1) -> np.ndarray:
    noise = RNG.random((*size, channels))
    blurred = ndimage.gaussian_filter(noise, (4, 4, 0))
    span = blurred.max() - blurred.min()
    return (255 * (blurred - blurred.min()) / span).astype(np.uint8)


# ---------------------------------------------------------------- there


@pytest.mark.parametrize("native", NATIVES)
@pytest.mark.parametrize("mode", MODES)
def test_sizes_and_types(mode: str, native: tuple[int, int]) -> None:
    out = native if mode == "crop" else SIZE
    for dtype, channels in ((np.uint8, 3), (np.uint16, 1), (np.uint8, 6)):
        image = RNG.integers(0, 255, (*native, channels)).astype(dtype)
        fitted = fit_image(image, SIZE, mode)
        assert (fitted.shape, fitted.dtype) == ((*out, channels), dtype)
    ids = RNG.integers(0, 9, native).astype(np.uint8)
    assert fit_mask(ids, SIZE, mode).shape == out
    planes = RNG.integers(0, 2, (*native, 7)).astype(np.uint8)
    assert fit_mask(planes, SIZE, mode).shape == (*out, 7)


def test_same_size_is_untouched() -> None:
    image = RNG.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    for mode in MODES:
        np.testing.assert_array_equal(fit_image(image, SIZE, mode), image)


def test_pad_keeps_the_aspect_and_centres() -> None:
    assert fit_of((100, 50), (64, 96), "pad") == Fit((64, 32), 0, 32)
    assert fit_of((10, 90), (64, 96), "pad") == Fit((11, 96), 26, 0)
    # A hair of an image still has a row.
    assert fit_of((1, 900), (64, 96), "pad").inner == (1, 96)
    fitted = fit_image(np.full((100, 50, 3), 200, np.uint8), (64, 96), "pad")
    assert (fitted[:, 32:64] == 200).all()
    assert not fitted[:, :32].any()
    assert not fitted[:, 64:].any()


def test_padding_of_ids_is_ignored() -> None:
    fitted = fit_mask(np.full((100, 50), 3, np.uint8), (64, 96), "pad", fill=255)
    assert (fitted[:, 32:64] == 3).all()
    assert (np.delete(fitted, np.s_[32:64], axis=1) == 255).all()


def test_shrinking_averages() -> None:
    # Every other column white: a resize that skips pixels gives stripes or a flat black or white.
    image = np.zeros((64, 128, 1), np.uint8)
    image[:, ::2] = 200
    np.testing.assert_allclose(fit_image(image, (32, 64), "stretch"), 100, atol=1)


def test_channels_beyond_four_match_one_by_one() -> None:
    image = smooth((50, 70), 7)
    fitted = fit_image(image, SIZE, "stretch")
    for at in range(7):
        alone = fit_image(image[..., at : at + 1], SIZE, "stretch")
        np.testing.assert_array_equal(fitted[..., at], alone[..., 0])


# Even ratios are left out: there the centre lies between two pixels and one of them is taken.
@pytest.mark.parametrize(
    ("native", "size"),
    [((64, 15), (64, 8)), ((41, 23), (32, 64)), ((200, 33), (64, 64)), ((96, 1918), (32, 512))],
)
def test_mask_resize_is_flip_symmetric(native: tuple[int, int], size: tuple[int, int]) -> None:
    mask = RNG.integers(0, 200, native).astype(np.uint8)
    for axis in (0, 1):
        flipped = fit_mask(np.ascontiguousarray(np.flip(mask, axis)), size, "stretch")
        np.testing.assert_array_equal(flipped, np.flip(fit_mask(mask, size, "stretch"), axis))


def test_opencvs_default_is_not_flip_symmetric() -> None:
    # The reason for the nearest-exact resize; when this fails, either will do.
    mask = (np.arange(15) < 7).astype(np.uint8)[None].repeat(4, 0)
    there = cv2.resize(mask, (7, 4), interpolation=cv2.INTER_NEAREST)
    back = cv2.resize(mask[:, ::-1].copy(), (7, 4), interpolation=cv2.INTER_NEAREST)
    assert (there != back[:, ::-1]).any()


@pytest.mark.parametrize("mode", MODES)
def test_masks_keep_their_values(mode: str) -> None:
    mask = RNG.choice(np.array([0, 3, 7, 255], np.uint8), (51, 77))
    assert set(np.unique(fit_mask(mask, SIZE, mode, fill=255))) <= {0, 3, 7, 255}


def test_image_and_mask_meet() -> None:
    mask = (smooth((120, 150))[..., 0] > 128).astype(np.uint8)
    for mode in MODES:
        image = fit_image(mask[..., None] * np.uint8(255), SIZE, mode)[..., 0] > 127
        # Only pixels on the border of the shape may differ.
        border = ndimage.binary_dilation(image) ^ ndimage.binary_erosion(image)
        assert not ((image != fit_mask(mask, SIZE, mode)) & ~border).any()


# ---------------------------------------------------------------- and back


@pytest.mark.parametrize("native", NATIVES)
@pytest.mark.parametrize("mode", MODES)
def test_probabilities_come_back_to_the_images_size(mode: str, native: tuple[int, int]) -> None:
    frame = fit_image(np.zeros((*native, 1), np.uint8), SIZE, mode).shape[:2]
    probs = torch.rand(3, *frame)
    restored = restore_probs(probs, native, mode)
    assert restored.shape == (3, *native)
    assert 0 <= restored.min() <= restored.max() <= 1


@pytest.mark.parametrize("native", [(64, 80), (128, 100), (57, 191)])
@pytest.mark.parametrize("mode", MODES)
def test_round_trip_restores_a_smooth_image(mode: str, native: tuple[int, int]) -> None:
    image = smooth(native)
    fitted = fit_image(image, (128, 128), mode)
    probs = torch.from_numpy(fitted.astype(np.float32) / 255).permute(2, 0, 1)
    restored = restore_probs(probs, native, mode)[0].numpy() * 255
    assert np.abs(restored - image[..., 0]).mean() < 2.5
    # Half a pixel of shift would cost more than the resize does.
    shifted = ndimage.shift(restored, (0.5, 0.5), mode="nearest", order=1)
    assert np.abs(restored - image[..., 0]).mean() < np.abs(shifted - image[..., 0]).mean()


@pytest.mark.parametrize("native", NATIVES)
def test_on_a_cpu_it_is_the_bilinear_of_the_gpu(native: tuple[int, int]) -> None:
    probs = torch.rand(3, 40, 56)[:, 2:-3, 1:]
    twin = F.interpolate(probs[None], native, mode="bilinear", align_corners=False)[0]
    with torch.inference_mode():
        restored = restore_probs(probs.half(), native, "stretch")
    # A level of 8 bits is 0.004; fp16 itself is off by 0.0005.
    np.testing.assert_allclose(restored, twin, atol=1e-3)
    np.testing.assert_allclose(restore_probs(probs, native, "stretch"), twin, atol=2e-4)


def test_padding_is_cut_off_before_restoring() -> None:
    probs = torch.ones(1, 64, 96)
    probs[:, :, 32:64] = 0.25
    restored = restore_probs(probs, (100, 50), "pad")
    np.testing.assert_allclose(restored, 0.25)


# ---------------------------------------------------------------- warp


def test_warp_moves_by_whole_pixels() -> None:
    mask = RNG.integers(0, 9, (20, 30)).astype(np.uint8)
    matrix = np.array([[1.0, 0, 4], [0, 1, -3]])
    moved = warp(mask, matrix, (20, 30), nearest=True)
    np.testing.assert_array_equal(moved[:17, 4:], mask[3:, :26])


@pytest.mark.parametrize("nearest", [True, False])
def test_what_lies_outside_is_the_mirror_image(nearest: bool) -> None:
    image = RNG.integers(0, 255, (12, 9, 3)).astype(np.uint8)
    matrix = np.array([[1.0, 0, 20], [0, 1, 15]])
    warped = warp(image, matrix, (42, 49), nearest=nearest)
    mirrored = np.pad(image, ((15, 15), (20, 20), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(warped, mirrored)
