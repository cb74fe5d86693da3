"""Pixel changes of augmentation, each against its formula in NumPy or colorsys."""

import colorsys

import numpy as np
import pytest
from scipy import ndimage

from imaging.pixels import (
    BrightnessContrast,
    ColorJitter,
    GaussianBlur,
    GaussNoise,
    HueSaturationValue,
    Invert,
    PixelStep,
    ToGray,
    linear,
    saturate,
    shift_hsv,
)

STEPS = [
    BrightnessContrast(),
    ColorJitter(brightness=(0.5, 1.5), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.1, 0.1)),
    HueSaturationValue(),
    Invert(),
    ToGray(),
    GaussNoise(),
    GaussianBlur(),
]
TYPES = [np.uint8, np.uint16]


def image_of(dtype: type, channels: int = 3, seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (24, 31, channels)).astype(dtype)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", TYPES)
def test_any_channels_of_either_type(dtype: type, channels: int, step: PixelStep) -> None:
    image = image_of(dtype, channels)
    before = image.copy()
    image.flags.writeable = False
    changed = step(image, np.random.default_rng(1))
    assert (changed.dtype, changed.shape) == (image.dtype, image.shape)
    np.testing.assert_array_equal(image, before)
    assert (channels == 1 and isinstance(step, ToGray)) or (changed != image).any()
    np.testing.assert_array_equal(changed, step(image, np.random.default_rng(1)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("gain", "share"), [(1.2, 0.1), (0.7, -0.3), (2.0, 0.5)])
def test_linear(dtype: type, gain: float, share: float) -> None:
    image, top = image_of(dtype), np.iinfo(dtype).max
    twin = np.clip(image.astype(float) * gain + share * top, 0, top)
    assert np.abs(linear(image, gain, share * top) - twin).max() <= 0.51


@pytest.mark.parametrize("dtype", TYPES)
def test_invert(dtype: type) -> None:
    image = image_of(dtype)
    changed = Invert()(image, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, np.iinfo(dtype).max - image)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels", [3, 5])
def test_grey(dtype: type, channels: int) -> None:
    image = image_of(dtype, channels)
    weights = (0.299, 0.587, 0.114) if channels == 3 else (1 / channels,) * channels
    grey = ToGray()(image, np.random.default_rng(0))
    assert (grey == grey[:, :, :1]).all()
    off = np.abs(grey[:, :, 0] - image.astype(float) @ weights).max()
    assert off <= max(1, np.iinfo(dtype).max / 2**15)  # OpenCV counts in fixed point


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.4])
def test_saturation(dtype: type, factor: float) -> None:
    image, top = image_of(dtype), np.iinfo(dtype).max
    grey = (image.astype(float) @ (0.299, 0.587, 0.114))[..., None]
    twin = np.clip(image * factor + grey * (1 - factor), 0, top)
    assert np.abs(saturate(image, factor) - twin).max() <= 2


@pytest.mark.parametrize(("dtype", "off"), [(np.uint8, 0.04), (np.uint16, 1e-3)])
def test_hue_saturation_and_value(dtype: type, off: float) -> None:
    """Twin: Python's colorsys, pixel by pixel; bytes keep hue in 256 steps."""
    image, top = image_of(dtype), np.iinfo(dtype).max
    changed = shift_hsv(image, 40, 0.1, -0.05) / top
    for pixel, new in zip(image.reshape(-1, 3) / top, changed.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        shifted = np.clip([saturation + 0.1, value - 0.05], 0, 1)
        twin = colorsys.hsv_to_rgb((hue + 40 / 360) % 1, *shifted)
        assert np.abs(new - twin).max() < off


@pytest.mark.parametrize("dtype", TYPES)
def test_noise_has_its_deviation(dtype: type) -> None:
    top = np.iinfo(dtype).max
    image = np.full((200, 200, 2), top // 2, dtype)
    noise = GaussNoise(std=(0.03, 0.03))(image, np.random.default_rng(0)).astype(float) - image
    assert noise.std() == pytest.approx(0.03 * top, rel=0.02)
    assert abs(noise.mean()) < 0.001 * top
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("dtype", TYPES)
def test_blur_is_scipys(dtype: type) -> None:
    image = image_of(dtype, 6)
    changed = GaussianBlur(sigma=(1.0, 1.0))(image, np.random.default_rng(0))
    twin = ndimage.gaussian_filter(image.astype(float), (1, 1, 0), mode="mirror", radius=(2, 2, 0))
    assert np.abs(changed - twin).max() <= 0.01 * np.iinfo(dtype).max


def test_chances_are_kept() -> None:
    image, rng = image_of(np.uint8), np.random.default_rng(0)
    share = np.mean([Invert(p=0.3)(image, rng) is not image for _ in range(2000)])
    assert share == pytest.approx(0.3, abs=0.04)
