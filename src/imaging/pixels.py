"""Pixel changes of augmentation: brightness, colour, noise, blur, for any channels, 8 or 16 bits.

Every step is called as step(image, rng) with an image (H, W, C) of uint8 or uint16 and gives one of
the same kind. What only RGB has (hue) is something like it for other channels.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Range: TypeAlias = tuple[float, float]
# Shares of red, green and blue in a grey value, ITU-R 601.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class PixelStep:
    """A change of pixel values that comes with chance `p`.

    Attributes:
        p: chance, 0-1.
    """

    p: float = 1.0

    def __call__(self, image: Array, rng: np.random.Generator) -> Array:
        """The image, changed or as it is; the one handed in is never written to."""
        return self.change(image, rng) if rng.random() < self.p else image

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        """The changed image."""
        raise NotImplementedError


@dataclass(frozen=True)
class BrightnessContrast(PixelStep):
    """value * (1 + c) + b * top, with c and b drawn evenly from -limit to limit.

    Attributes:
        brightness, contrast: limits, shares of the value range.
    """

    brightness: float = 0.2
    contrast: float = 0.2

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        gain = 1 + rng.uniform(-self.contrast, self.contrast)
        return linear(image, gain, rng.uniform(-self.brightness, self.brightness) * top_of(image))


@dataclass(frozen=True)
class ColorJitter(PixelStep):
    """Brightness, contrast, saturation and hue, one after the other in drawn order.

    Attributes:
        brightness, contrast, saturation: lowest and highest factor: of the value, of its distance
            to the image's mean, to the pixel's own grey.
        hue: turn of the colour circle, as a share of it; other channels than RGB are multiplied
            by 1 + such a number each.

    Source: torchvision's ColorJitter.
    """

    brightness: Range = (1.0, 1.0)
    contrast: Range = (1.0, 1.0)
    saturation: Range = (1.0, 1.0)
    hue: Range = (0.0, 0.0)

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        for kind in rng.permutation(4).tolist():
            if kind == 0:
                image = linear(image, rng.uniform(*self.brightness), 0)
            elif kind == 1:
                factor = rng.uniform(*self.contrast)
                image = linear(image, factor, (1 - factor) * float(grey_of(image).mean()))
            elif kind == 2:
                image = saturate(image, rng.uniform(*self.saturation))
            elif image.shape[2] == 3:
                image = shift_hsv(image, rng.uniform(*self.hue) * 360, 0, 0)
            else:
                image = scale_channels(image, 1 + rng.uniform(*self.hue, image.shape[2]))
        return image


@dataclass(frozen=True)
class HueSaturationValue(PixelStep):
    """Shifts in HSV, each drawn evenly from -limit to limit; other channels than RGB by value.

    Attributes:
        hue: degrees of 360.
        saturation, value: shares of their range.
    """

    hue: float = 30.0
    saturation: float = 0.1
    value: float = 0.06

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        limits = (self.hue, self.saturation, self.value)
        hue, saturation, value = (float(rng.uniform(-limit, limit)) for limit in limits)
        if image.shape[2] == 3:
            return shift_hsv(image, hue, saturation, value)
        shifts = rng.uniform(-self.value, self.value, image.shape[2]) * top_of(image)
        return clip_to(image.astype(np.float32) + shifts.astype(np.float32), image)


@dataclass(frozen=True)
class Invert(PixelStep):
    """top - value: black becomes white."""

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        return np.bitwise_not(image)


@dataclass(frozen=True)
class ToGray(PixelStep):
    """Every channel is the grey value: ITU-R 601 for RGB, else the mean of the channels."""

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        return np.repeat(grey_of(image)[:, :, None], image.shape[2], 2)


@dataclass(frozen=True)
class GaussNoise(PixelStep):
    """Independent normal noise on every value.

    Attributes:
        std: lowest and highest deviation, shares of the value range.
    """

    std: Range = (0.01, 0.05)

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        deviation = np.float32(rng.uniform(*self.std) * top_of(image))
        noise = np.asarray(rng.standard_normal(image.shape, np.float32))
        return clip_to(noise * deviation + image, image)


@dataclass(frozen=True)
class GaussianBlur(PixelStep):
    """A Gaussian window.

    Attributes:
        sigma: lowest and highest deviation, pixels; the window reaches two of them.
    """

    sigma: Range = (0.5, 1.0)

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        sigma = float(rng.uniform(*self.sigma))
        side = 2 * max(1, round(2 * sigma)) + 1
        blurred = cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)
        return blurred.reshape(image.shape)


def top_of(image: Array) -> int:
    """The largest value of the image's type: 255 or 65535."""
    return int(np.iinfo(image.dtype).max)


def clip_to(values: Array, image: Array) -> Array:
    """Floats, rounded and cut to the value range and type of the image."""
    np.rint(values, out=values)
    np.clip(values, 0, top_of(image), out=values)
    return values.astype(image.dtype)


def linear(image: Array, gain: float, offset: float) -> Array:
    """value * gain + offset, rounded and cut to the value range."""
    # Rounds and saturates in one pass, twice as fast as a look-up table.
    return cv2.addWeighted(image, gain, image, 0, offset).reshape(image.shape)


def grey_of(image: Array) -> Array:
    """(H, W) grey value of each pixel: ITU-R 601 for RGB, else the mean of the channels."""
    if image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return clip_to(image.mean(2, dtype=np.float32), image)


def saturate(image: Array, factor: float) -> Array:
    """value * factor + grey * (1 - factor): 0 is grey, above 1 more colourful."""
    if image.shape[2] == 1:
        return image
    grey = np.repeat(grey_of(image)[:, :, None], image.shape[2], 2)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0).reshape(image.shape)


def scale_channels(image: Array, factors: Array) -> Array:
    """Each channel times its own factor (C,)."""
    return clip_to(image.astype(np.float32) * factors.astype(np.float32), image)


def shift_hsv(image: Array, hue: float, saturation: float, value: float) -> Array:
    """An RGB image with its hue turned by degrees, saturation and value moved by shares.

    8 bits go through OpenCV's bytes, where the circle has 256 steps.
    """
    if image.dtype == np.uint8:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        turned = cv2.extractChannel(hsv, 0) + np.uint8(round(hue / 360 * 256) % 256)
        hsv = cv2.add(hsv, np.array([0.0, saturation * 255, value * 255, 0.0]))
        return cv2.cvtColor(cv2.insertChannel(turned, hsv, 0), cv2.COLOR_HSV2RGB_FULL)
    hsv = cv2.cvtColor(image.astype(np.float32) / top_of(image), cv2.COLOR_RGB2HSV)
    hsv[:, :, 0] = (hsv[:, :, 0] + hue) % 360
    for channel, share in ((1, saturation), (2, value)):
        hsv[:, :, channel] = np.clip(hsv[:, :, channel] + share, 0, 1)
    return clip_to(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * np.float32(top_of(image)), image)
