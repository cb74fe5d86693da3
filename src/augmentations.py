"""Training augmentation: a table of policies, which data/augment.py draws from.

Transforms of albumentations fit into a row, too; it is asked for only there.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2

from core.errors import UserError
from core.rows import pick
from imaging.distortions import Elastic, GridDistortion
from imaging.pixels import (
    BrightnessContrast,
    ColorJitter,
    GaussianBlur,
    GaussNoise,
    HueSaturationValue,
    Invert,
    ToGray,
)
from imaging.tones import (
    ChannelShift,
    ColorPCA,
    Gamma,
    LocalContrast,
    Sharpen,
)

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network


@dataclass(frozen=True)
class Policy:
    """What may happen to a training image.

    Attributes:
        hflip, vflip, turn: chances of a left-right flip, an up-down flip, a quarter turn.
        shift: largest move, as a share of the side.
        scale: smallest and largest zoom factor, drawn evenly in its logarithm.
        rotate: largest angle, degrees.
        p: chance of shift, scale and rotation together.
        distortions: fields of imaging/distortions.py, in the same warp.
        chance: that an image is changed at all.
        pixels: steps of imaging/pixels.py after the warp, on the image alone; after them transforms
            of albumentations, on image and mask.
    """

    hflip: float = 0.0
    vflip: float = 0.0
    turn: float = 0.0
    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0
    p: float = 1.0
    pixels: tuple[Any, ...] = ()
    distortions: tuple[Any, ...] = ()
    chance: float = 1.0


def _light() -> Policy:
    pixels = (BrightnessContrast(p=0.5, brightness=0.2, contrast=0.2),)
    return Policy(hflip=0.5, shift=0.0625, scale=(0.9, 1.1), rotate=15, p=0.9, pixels=pixels)


def _scenes() -> Policy:
    far = (0.7, 1.3)
    pixels = (
        ColorJitter(p=0.7, brightness=far, contrast=far, saturation=far, hue=(-0.04, 0.04)),
        GaussianBlur(p=0.1),
    )
    return Policy(hflip=0.5, scale=(0.7, 1.6), rotate=6, pixels=pixels)


def _cells() -> Policy:
    pixels = (
        Invert(p=0.1),
        ToGray(p=0.15),
        HueSaturationValue(p=0.4, hue=30, saturation=0.1, value=0.06),
        BrightnessContrast(p=0.5, brightness=0.25, contrast=0.3),
        GaussNoise(p=0.15, std=(0.01, 0.05)),
        GaussianBlur(p=0.1),
    )
    return Policy(0.5, 0.5, 0.5, scale=(0.6, 1.6), rotate=20, pixels=pixels)


def _medium() -> Policy:
    far = (0.75, 1.25)
    pixels = (
        ColorJitter(p=0.6, brightness=far, contrast=far, saturation=far, hue=(-0.03, 0.03)),
        Gamma(p=0.2),
        GaussNoise(p=0.15, std=(0.01, 0.03)),
        GaussianBlur(p=0.1),
    )
    return Policy(hflip=0.5, shift=0.0625, scale=(0.8, 1.25), rotate=20, p=0.9, pixels=pixels)


def _strong() -> Policy:
    """gim_cv's list, each with its own chance, four images of five."""
    pixels = (
        ColorPCA(p=0.3, std=0.3),
        ChannelShift(p=0.2),
        GaussNoise(p=0.2, std=(0.01, 0.05)),
        GaussianBlur(p=0.2),
        Sharpen(p=0.2),
        LocalContrast(p=0.2),
        BrightnessContrast(p=0.4, brightness=0.2, contrast=0.2),
        HueSaturationValue(p=0.3, hue=20, saturation=0.15, value=0.08),
        Gamma(p=0.3),
    )
    bent = (Elastic(p=0.1), GridDistortion(p=0.2))
    whole: dict[str, Any] = {
        "shift": 0.0625,
        "scale": (0.7, 1.4),
        "rotate": 45,
        "distortions": bent,
    }
    return Policy(0.5, 0.5, 0.5, pixels=pixels, chance=0.8, **whole)


def _aerial() -> Policy:
    """From above nothing is upright; light and haze change, shapes do not."""
    near = (0.8, 1.2)
    pixels = (
        ColorJitter(p=0.6, brightness=near, contrast=near, saturation=near, hue=(-0.03, 0.03)),
        ChannelShift(p=0.2, limit=0.05),
        Gamma(p=0.2),
        GaussianBlur(p=0.1),
    )
    return Policy(0.5, 0.5, 0.5, scale=(0.75, 1.33), rotate=45, p=0.7, pixels=pixels)


def _microscopy() -> Policy:
    """One stain, any orientation, tissue that gives way; for many stains there is cells."""
    pixels = (
        HueSaturationValue(p=0.4, hue=10, saturation=0.1, value=0.05),
        BrightnessContrast(p=0.5, brightness=0.15, contrast=0.25),
        Gamma(p=0.3),
        GaussNoise(p=0.2, std=(0.01, 0.04)),
        GaussianBlur(p=0.2, sigma=(0.5, 1.5)),
    )
    bent = (Elastic(p=0.3),)
    return Policy(0.5, 0.5, 0.5, scale=(0.7, 1.4), rotate=45, pixels=pixels, distortions=bent)


def _medical() -> Policy:
    """Slices and X-rays: upright, of one grey, soft."""
    pixels = (
        BrightnessContrast(p=0.5, brightness=0.15, contrast=0.2),
        Gamma(p=0.4),
        GaussNoise(p=0.2, std=(0.01, 0.03)),
        GaussianBlur(p=0.15),
    )
    whole: dict[str, Any] = {"shift": 0.0625, "scale": (0.8, 1.25), "rotate": 20, "p": 0.8}
    return Policy(hflip=0.5, pixels=pixels, distortions=(Elastic(p=0.3, strength=0.015),), **whole)


def _thin() -> Policy:
    """Vessels, roads, cracks: bent, but hardly smaller, which would break them."""
    pixels = (
        BrightnessContrast(p=0.5, brightness=0.15, contrast=0.25),
        LocalContrast(p=0.2),
        Gamma(p=0.3),
        Sharpen(p=0.1),
    )
    bent = (Elastic(p=0.3), GridDistortion(p=0.3))
    whole: dict[str, Any] = {"scale": (0.9, 1.4), "rotate": 45, "p": 0.8}
    return Policy(0.5, 0.5, 0.5, pixels=pixels, distortions=bent, **whole)


AUGMENTATIONS: dict[str, Callable[[], Policy]] = {
    "none": lambda: Policy(),
    "flips": lambda: Policy(hflip=0.5, vflip=0.5, turn=0.5),
    "original": lambda: Policy(shift=0.0625, scale=(0.9, 1.1), rotate=15, p=0.9),
    "light": _light,
    "scenes": _scenes,
    "cells": _cells,
    "medium": _medium,
    "strong": _strong,
    "aerial": _aerial,
    "microscopy": _microscopy,
    "medical": _medical,
    "thin": _thin,
}


def build_policy(name: str) -> Policy:
    """The policy of a row of AUGMENTATIONS.

    Raises:
        UserError: an unknown row, or an argument that albumentations would silently drop.
    """
    builder = pick(AUGMENTATIONS, name, "augmentation")
    cv2.setNumThreads(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            policy = builder()
        except TypeError as error:
            raise UserError(f"augmentation {name!r}: {error}") from error
        except UserWarning as warning:
            raise UserError(
                f"augmentation {name!r}: {warning}. albumentations drops what it does not know: "
                "mend the row"
            ) from None
    if not isinstance(policy, Policy):
        raise UserError(
            f"augmentation {name!r} makes a {type(policy).__name__}, no Policy: put it into the "
            'pixels of one, AUGMENTATIONS["mine"] = lambda: Policy(pixels=(...,)), in a '
            "recipe's .py"
        )
    return policy
