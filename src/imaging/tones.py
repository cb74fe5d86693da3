"""Tones of an image for augmentation: gamma, local contrast, sharpness, shifts of its channels.

Steps as those of pixels.py: any channels, 8 or 16 bits.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from imaging.pixels import Array, PixelStep, Range, clip_to, grey_of, top_of

# Pixels of an image that its colours are learnt of.
SAMPLED = 4096


@dataclass(frozen=True)
class Gamma(PixelStep):
    """(value / top)^gamma * top, gamma drawn evenly in its logarithm.

    Attributes:
        gamma: lowest and highest.
    """

    gamma: Range = (0.7, 1.4)

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        top = np.float32(top_of(image))
        gamma = np.float32(np.exp(rng.uniform(*np.log(self.gamma))))
        if image.dtype == np.uint8:
            table = clip_to((np.arange(256, dtype=np.float32) / top) ** gamma * top, image)
            return cv2.LUT(image, table).reshape(image.shape)
        return clip_to((image / top) ** gamma * top, image)


@dataclass(frozen=True)
class LocalContrast(PixelStep):
    """Histograms of tiles made even (CLAHE), on the grey value; its change is every channel's.

    Attributes:
        clip: lowest and highest limit of contrast.
        tiles: along each side.
    """

    clip: Range = (1.0, 4.0)
    tiles: int = 8

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        grey = np.ascontiguousarray(grey_of(image))
        clahe = cv2.createCLAHE(float(rng.uniform(*self.clip)), (self.tiles, self.tiles))
        change = clahe.apply(grey).astype(np.float32) - grey
        return clip_to(image + change[:, :, None], image)


@dataclass(frozen=True)
class Sharpen(PixelStep):
    """value + amount * (value - blurred value).

    Attributes:
        amount: lowest and highest.
    """

    amount: Range = (0.2, 0.7)

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        amount = float(rng.uniform(*self.amount))
        blurred = cv2.GaussianBlur(image, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT_101)
        sharp = cv2.addWeighted(image, 1 + amount, blurred.reshape(image.shape), -amount, 0)
        return sharp.reshape(image.shape)


@dataclass(frozen=True)
class ChannelShift(PixelStep):
    """value + shift, a shift for each channel drawn evenly from -limit to limit.

    Attributes:
        limit: a share of the value range.
    """

    limit: float = 0.08

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        shifts = rng.uniform(-self.limit, self.limit, image.shape[2]) * top_of(image)
        return clip_to(image + shifts.astype(np.float32), image)


@dataclass(frozen=True)
class ColorPCA(PixelStep):
    """One colour added to every pixel: principal colours times their variance times N(0, std).

    Source: Krizhevsky et al. 2012; as gim_cv has it, of the training set.

    Attributes:
        std: deviation of the factors.
        covariance: rows of (C, C) of the training images' channels, values 0...1; empty = of the
            image itself.
    """

    std: float = 0.3
    covariance: tuple[tuple[float, ...], ...] = ()

    def change(self, image: Array, rng: np.random.Generator) -> Array:
        covariance = self.covariance or color_covariance([image])
        variances, colours = np.linalg.eigh(np.array(covariance))
        added = colours @ (variances * rng.normal(0, self.std, len(variances))) * top_of(image)
        return clip_to(image + added.astype(np.float32), image)


def color_covariance(images: Iterable[Array]) -> tuple[tuple[float, ...], ...]:
    """Rows of the covariance (C, C) of channels, of values scaled to 0...1."""
    samples = []
    for image in images:
        pixels = image.reshape(-1, image.shape[2])
        samples.append(pixels[:: -(-len(pixels) // SAMPLED)] / top_of(image))
    covariance = np.atleast_2d(np.cov(np.concatenate(samples), rowvar=False, bias=True))
    return tuple(tuple(map(float, row)) for row in covariance)
