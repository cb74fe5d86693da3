"""Weighted sums of metrics that take masks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from core.errors import UserError
from measures.pixels import MaskMetric
from measures.shapes import DistanceMetric, ShapeMetric


class WeightedSum(Metric):
    """The sum of the scores of several metrics over the data set, each times its weight.

    Args:
        parts: metrics of pixels or of whole masks.
        weights: one a part.

    Raises:
        UserError: a part that takes something else, or of which less is better.
    """

    higher_is_better = True
    full_state_update = False
    needs = "mask"
    sums: Tensor

    def __init__(self, parts: Sequence[Metric], weights: Sequence[float]) -> None:
        super().__init__()
        for part in parts:
            if isinstance(part, DistanceMetric) or not isinstance(part, MaskMetric | ShapeMetric):
                raise UserError(
                    f"a sum cannot take {type(part).__name__}: it must be a score of masks of "
                    "which more is better"
                )
        # A list that torch does not look into: the parts' own states stay empty.
        self.parts: list[Any] = list(parts)
        self.weights = list(weights)
        self.sizes = [part.width for part in self.parts]
        self.width = sum(self.sizes)
        self.add_state("sums", torch.zeros(self.width), dist_reduce_fx="sum")

    def image_values(self, mask: Tensor, target: Tensor) -> Tensor:
        """(B, V) float64 values of all parts, side by side."""
        return torch.cat([part.image_values(mask, target) for part in self.parts], -1)

    def per_image(self, mask: Tensor, target: Tensor) -> Tensor:
        """(B,) scores of the images; nan where a part has none."""
        return self.score_sums(self.image_values(mask, target)).float()

    def update(self, mask: Tensor, target: Tensor) -> None:
        """Adds a batch."""
        self.sums += self.image_values(mask, target).sum(0).to(self.sums)

    def compute(self) -> Tensor:
        """Scalar; nan before every part has a score."""
        return self.score_sums(self.sums)

    def score_sums(self, sums: Tensor) -> Tensor:
        """Scores (...) of summed values (..., V)."""
        split = zip(self.weights, self.parts, sums.split(self.sizes, -1), strict=True)
        return torch.stack([weight * part.score_sums(one) for weight, part, one in split]).sum(0)
