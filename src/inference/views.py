"""Test-time augmentation: a network that looks several times and brings its views back."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.rows import pick

# Probabilities are averaged, then handed on as logits: nearer to 0 and 1 than this they are cut.
EPSILON = 1e-6


class View(NamedTuple):
    """A change of an image (B, C, H, W), and its inverse for probabilities (B, K, h, w).

    Attributes:
        apply: image to view.
        invert: (probabilities of the view, size of the image) to those of the image.
    """

    apply: Callable[[Tensor], Tensor]
    invert: Callable[[Tensor, tuple[int, int]], Tensor]


def flip(*axes: int) -> View:
    """Mirrored along axes; its own inverse."""
    return View(lambda image: image.flip(axes), lambda probs, size: probs.flip(axes))


def turn(quarters: int, *, mirrored: bool = False) -> View:
    """Turned by quarters of a circle, against the clock, mirrored left to right before."""

    def apply(image: Tensor) -> Tensor:
        return (image.flip(-1) if mirrored else image).rot90(quarters, (-2, -1))

    def invert(probs: Tensor, size: tuple[int, int]) -> Tensor:
        back = probs.rot90(-quarters, (-2, -1))
        return back.flip(-1) if mirrored else back

    return View(apply, invert)


def scale(factor: float) -> View:
    """Resized by a factor; the inverse resizes back, which is not exact."""

    def apply(image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        size = (max(32, round(height * factor / 32) * 32), max(32, round(width * factor / 32) * 32))
        return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)

    def invert(probs: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(probs, size, mode="bilinear", align_corners=False)

    return View(apply, invert)


VIEWS: dict[str, View] = {
    "flip_h": flip(-1),
    "flip_v": flip(-2),
    "rot180": flip(-2, -1),
    "rot90": turn(1),
    "rot270": turn(3),
    "transpose": turn(1, mirrored=True),
    "antitranspose": turn(3, mirrored=True),
    "scale_0.75": scale(0.75),
    "scale_1.25": scale(1.25),
    "scale_1.5": scale(1.5),
}

# What tune.py tta weighs against each other, the cheapest first.
SETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "flip": ("flip_h",),
    "flips": ("flip_h", "flip_v", "rot180"),
    "turns": ("flip_h", "flip_v", "rot180", "rot90", "rot270", "transpose", "antitranspose"),
    "scales": ("scale_0.75", "scale_1.25"),
    "flip+scales": ("flip_h", "scale_0.75", "scale_1.25"),
}


class TestTimeModel(nn.Module):
    """A network whose logits are those of its mean probabilities over the image and its views.

    Args:
        model: (B, C, H, W) to logits (B, K, H, W).
        names: rows of VIEWS.
        task: "multiclass" averages softmax, else sigmoid.
        plain: the image as it is counts as one more.

    Raises:
        UserError: an unknown view.
    """

    __test__ = False  # not a test class, whatever its name begins with

    def __init__(self, model: nn.Module, names: Sequence[str], *, task: str, plain: bool = True):
        super().__init__()
        self.model, self.task = model, task
        self.views = [pick(VIEWS, name, "view of TTA") for name in names]
        if plain:
            self.views.insert(0, View(lambda image: image, lambda probs, size: probs))

    def forward(self, image: Tensor) -> Tensor:
        size = (image.shape[-2], image.shape[-1])
        shown = [view.invert(self._probs(view.apply(image)), size) for view in self.views]
        mean = torch.stack(shown).mean(0).clamp(EPSILON, 1 - EPSILON)
        return mean.log() if self.task == "multiclass" else torch.logit(mean)

    def _probs(self, image: Tensor) -> Tensor:
        logits = self.model(image).float()
        return logits.softmax(1) if self.task == "multiclass" else logits.sigmoid()


def add_views(module: nn.Module, names: Sequence[str], *, task: str) -> None:
    """Makes a SegmentationModule look several times; nothing changes without names."""
    if names:
        network: Any = module.model
        module.model = TestTimeModel(network, names, task=task)
