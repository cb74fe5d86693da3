"""Training samples made of several: CutMix, objects pasted, mosaics.

A mix is called as mix(samples, rng) with 1 + `others` pairs of image (H, W, C) and mask (H, W) or
(H, W, K) of one size, and gives such a pair; values of masks stay what they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import cv2
import numpy as np

from core.arguments import Share, check_arguments, read_name
from core.errors import UserError
from core.rows import pick
from imaging.mask_files import IGNORE
from imaging.objects import IGNORED
from imaging.pixels import Array

Pair: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True)
class Mix:
    """What comes of several samples with chance `p`.

    Attributes:
        p: chance, 0-1.
        others: samples beside the first that it takes.
    """

    p: Share = 0.5
    others: ClassVar[int] = 1

    def __call__(self, samples: Sequence[Pair], rng: np.random.Generator) -> Pair:
        """Image and mask; those handed in are never written to."""
        raise NotImplementedError


@dataclass(frozen=True)
class CutMix(Mix):
    """A rectangle of the second sample in the first, in the same place.

    Source: Yun et al. 2019, French et al. 2020 for masks.

    Attributes:
        most: largest share of the area that the rectangle takes.
    """

    most: Share = 0.5

    def __call__(self, samples: Sequence[Pair], rng: np.random.Generator) -> Pair:
        (image, mask), (other, its_mask) = samples
        share = rng.uniform(0, self.most)
        aspect = np.exp(rng.uniform(-0.7, 0.7))
        sides = np.sqrt([share * aspect, share / aspect]).clip(0, 1) * image.shape[:2]
        high, wide = np.maximum(1, np.rint(sides)).astype(int).tolist()
        top = int(rng.integers(image.shape[0] - high + 1))
        left = int(rng.integers(image.shape[1] - wide + 1))
        inside = np.zeros(image.shape[:2], bool)
        inside[top : top + high, left : left + wide] = True
        return _put(image, other, inside), _put(mask, _apart(its_mask, mask), inside)


@dataclass(frozen=True)
class Paste(Mix):
    """Objects of the second sample on the first: each connected part with its own chance.

    Source: Ghiasi et al. 2021.

    Attributes:
        each: chance of an object.
    """

    each: Share = 0.5

    def __call__(self, samples: Sequence[Pair], rng: np.random.Generator) -> Pair:
        (image, mask), (other, its_mask) = samples
        labels = _objects(its_mask)
        chosen = rng.random(int(labels.max()) + 1) < self.each
        chosen[0] = False
        inside = chosen[labels]
        return _put(image, other, inside), _put(mask, _apart(its_mask, mask), inside)


@dataclass(frozen=True)
class Mosaic(Mix):
    """Four samples around a drawn point, each with the corner that lies there.

    Source: Bochkovskiy et al. 2020.
    """

    p: Share = 0.3
    others: ClassVar[int] = 3

    def __call__(self, samples: Sequence[Pair], rng: np.random.Generator) -> Pair:
        image, mask = samples[0]
        height, width = image.shape[:2]
        down = int(rng.integers(height // 4, height - height // 4))
        right = int(rng.integers(width // 4, width - width // 4))
        for at, (other, its_mask) in enumerate(samples[1:], 1):
            inside = np.zeros((height, width), bool)
            inside[slice(down, None) if at & 2 else slice(down)][
                :, slice(right, None) if at & 1 else slice(right)
            ] = True
            moved = _apart(its_mask, mask)
            image, mask = _put(image, other, inside), _put(mask, moved, inside)
        return image, mask


# Samples made of several, after the augmentation of each: name -> Mix; arguments stand in MIX:
# cutmix:p=0.3.
MIXES: dict[str, Callable[..., Mix]] = {"cutmix": CutMix, "paste": Paste, "mosaic": Mosaic}


def build_mix(text: str) -> Mix:
    """The mix of a row of MIXES with arguments in its name, such as paste:p=0.3.

    Raises:
        UserError: an unknown row or argument, or a chance that is none.
    """
    name, arguments = read_name(text, "mix")
    row = pick(MIXES, name, "mix")
    check_arguments(row, arguments, text, "mix")
    try:
        mix = row(**arguments)
    except TypeError as error:
        raise UserError(f"mix {text!r}: {error}") from error
    if not isinstance(mix, Mix):
        raise UserError(f"mix {text!r} makes a {type(mix).__name__}, no Mix of imaging/mixes.py")
    return mix


def _put(under: Array, over: Array, inside: Array) -> Array:
    """`over` where inside (H, W), else `under`."""
    return np.where(inside if under.ndim == 2 else inside[..., None], over, under)


def _apart(over: Array, under: Array) -> Array:
    """`over` with other object numbers than `under`; masks of classes as they are."""
    if over.dtype != np.uint16:
        return over
    most = under[under != IGNORED].max(initial=0)
    return np.where((over > 0) & (over != IGNORED), over + most, over).astype(np.uint16)


def _objects(mask: Array) -> Array:
    """int32 (H, W) numbers of a mask's objects, 0 outside; ignored pixels are of none."""
    if mask.dtype == np.uint16:
        return np.where(mask == IGNORED, 0, mask)[..., 0].astype(np.int32)
    planes = mask if mask.ndim == 3 else mask[..., None]
    inside = ((planes > 0) & (planes != IGNORE)).any(-1)
    return np.asarray(cv2.connectedComponents(inside.view(np.uint8), connectivity=8)[1])
