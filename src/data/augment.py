"""The augmentation of a sample: one warp for the geometry, then pixel changes.

Every draw comes from a generator that the caller seeds, so workers never repeat each other
and the number of workers changes nothing.
"""

import copy
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from augmentations import Policy, build_policy
from core.errors import UserError
from imaging.crops import centre_on, draw_foreground
from imaging.distortions import remap
from imaging.geometry import Size, warp
from imaging.pixels import PixelStep
from imaging.tones import ColorPCA, color_covariance

NOTHING = Policy()


class Augment:
    """Calls as augment(image, mask, rng) -> image (H, W, C), mask (H, W) or (H, W, K) at `size`.

    Args:
        name: a row of AUGMENTATIONS.
        size: (H, W) of what comes out.
        crop: a random window at the image's own scale instead of the whole image.
        foreground: share of these windows, 0-1, whose middle is a pixel of the mask: of a class
            that it holds, all alike, then of its pixels.
        channels, bits: of the images, to refuse at once what cannot take them.
    """

    def __init__(
        self,
        name: str,
        size: Size,
        *,
        crop: bool = False,
        foreground: float = 0.0,
        channels: int = 3,
        bits: int = 8,
    ):
        self.policy = build_policy(name)
        self.size = size
        self.crop, self.foreground = crop, foreground
        own = [step for step in self.policy.pixels if isinstance(step, PixelStep)]
        self.pixels = own
        self.foreign = _compose(
            name,
            [step for step in self.policy.pixels if not isinstance(step, PixelStep)],
            channels=channels,
            bits=bits,
        )

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        policy, middle = self.policy, None
        if policy.chance < 1 and rng.random() >= policy.chance:
            policy = NOTHING
        if self.crop and self.foreground and rng.random() < self.foreground:
            middle = draw_foreground(mask, rng)
        matrix = self._matrix(policy, (image.shape[0], image.shape[1]), rng, middle)
        bent = [bend(self.size, rng) for bend in policy.distortions]
        fields = [field for field in bent if field is not None]
        if fields:
            move = partial(remap, matrix=matrix, field=np.asarray(sum(fields)))
            image, mask = move(image, nearest=False), move(mask, nearest=True)
        elif not np.array_equal(matrix, np.eye(2, 3)) or image.shape[:2] != self.size:
            image = warp(image, matrix, self.size, nearest=False)
            mask = warp(mask, matrix, self.size, nearest=True)
        elif self.foreign is not None and not image.flags.writeable:
            image = image.copy()  # of a cache
        for step in self.pixels if policy is self.policy else ():
            image = step(image, rng)
        if self.foreign is not None and policy is self.policy:
            self.foreign.set_random_seed(int(rng.integers(2**31)))
            changed = self.foreign(image=image, mask=mask)
            image, mask = changed["image"], changed["mask"]
        return image, mask

    @property
    def asks_colors(self) -> bool:
        """Whether a step waits for the training images' colours."""
        return any(isinstance(step, ColorPCA) and not step.covariance for step in self.pixels)

    def learn_colors(self, images: Iterable[np.ndarray]) -> None:
        """Gives the colours of training images (H, W, C) to the steps that wait for them."""
        known = color_covariance(images)
        self.pixels = [
            replace(step, covariance=known) if isinstance(step, ColorPCA) else step
            for step in self.pixels
        ]

    def _matrix(
        self,
        policy: Policy,
        native: Size,
        rng: np.random.Generator,
        middle: np.ndarray | None = None,
    ) -> np.ndarray:
        """One 2x3 matrix from source to target pixels: window, flips, turn, zoom, angle, shift."""
        height, width = self.size
        flips = np.diag([-1.0 if rng.random() < p else 1.0 for p in (policy.hflip, policy.vflip)])
        turned = rng.random() < policy.turn
        linear = flips @ ([[0, 1], [1, 0]] if turned else np.eye(2))
        zoom, angle, shift = 1.0, 0.0, np.zeros(2)
        if rng.random() < policy.p:
            zoom = math.exp(rng.uniform(math.log(policy.scale[0]), math.log(policy.scale[1])))
            angle = math.radians(rng.uniform(-policy.rotate, policy.rotate))
            shift = rng.uniform(-policy.shift, policy.shift, 2) * (width, height)
        cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
        linear = np.array([[cosine, -sine], [sine, cosine]]) @ linear
        window = np.array((height, width) if turned else (width, height)) / zoom
        centre = self._centre(np.array(native[::-1]), window, rng)
        if middle is not None:
            centre = centre_on(middle, np.array(native[::-1]), window, centre)
        offset = np.array([width - 1, height - 1]) / 2 + shift - linear @ centre
        return np.column_stack([linear, offset])

    def _centre(
        self, native: np.ndarray, window: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Source pixel (x, y) that lands in the middle: the image's, or a random window's."""
        if not self.crop:
            return (native - 1) / 2
        room = np.floor(native - window)
        # Whole pixels: a window of an image that is not zoomed or turned is a copy, not a blur.
        start = np.where(room > 0, np.floor(rng.random(2) * (room + 1)), np.floor(room / 2))
        return start + (window - 1) / 2


def _compose(name: str, transforms: Sequence[Any], *, channels: int, bits: int) -> Any:
    """albumentations' Compose of transforms that take such images; None without any.

    Raises:
        UserError: lists the transforms that fail or give another type.
    """
    if not transforms:
        return None
    import albumentations as A

    image = np.zeros((32, 32, channels), np.uint8 if bits == 8 else np.uint16)
    image[::2] = 200

    def works(transform: Any) -> bool:
        always = copy.deepcopy(transform)
        always.p = 1.0
        try:
            with warnings.catch_warnings(action="ignore"):
                changed = A.Compose([always])(image=image)["image"]
        except Exception:
            return False
        return changed.dtype == image.dtype and changed.shape == image.shape

    refused = [type(t).__name__ for t in transforms if not works(t)]
    if refused:
        raise UserError(
            f"augmentation {name!r}: {', '.join(refused)} of albumentations cannot take images of "
            f"{channels} channels and {bits} bits: choose another row, or mend this one"
        )
    return A.Compose(list(transforms))
