"""One prediction from several: means of probabilities, of logits, or votes."""

from collections.abc import Sequence

import torch
from torch import Tensor

KINDS = ("probs", "logits", "votes")
# Logits of 0 and 1 would be infinite: half of an 8-bit level away from the ends.
EDGE = 0.5 / 255


def mean_probs(probs: Sequence[Tensor], weights: Sequence[float], kind: str = "probs") -> Tensor:
    """float32 (K, H, W) in 0-1: the weighted mean of several predictions of one image.

    Args:
        probs: (K, H, W), 0-1, of each run.
        weights: one a run; their sum does not matter.
        kind: "probs" (arithmetic), "logits" (what a doubtful run says counts less) or "votes" (of
            masks decided above one half; where classes exclude each other, of the likeliest).
    """
    if len(probs) == 1 and kind == "probs":
        return probs[0]
    share = [weight / sum(weights) for weight in weights]
    if kind == "logits":
        probs = [torch.logit(one.clamp(EDGE, 1 - EDGE)) for one in probs]
    if kind == "votes":
        probs = [_vote(one) for one in probs]
    mean = torch.stack([one * part for one, part in zip(probs, share, strict=True)]).sum(0)
    return mean.sigmoid() if kind == "logits" else mean


def _vote(probs: Tensor) -> Tensor:
    # Levels of many classes are rounded one by one: their sum is off by so much.
    off = max(0.05, EDGE * len(probs))
    if len(probs) > 1 and bool((probs.sum(0) - 1).abs().max() <= off):
        return torch.zeros_like(probs).scatter_(0, probs.argmax(0, keepdim=True), 1.0)
    return (probs > 0.5).to(probs.dtype)


def weight_grid(count: int) -> list[tuple[float, ...]]:
    """Weightings of two or three runs that sum to 1: equal ones, then steps of a tenth or a fifth.

    Every run alone is among them. More runs than three are weighed by `climb_bags`.
    """
    parts = {2: 10, 3: 5}[count]
    grid: list[tuple[int, ...]] = [()]
    for _ in range(count - 1):
        grid = [(*one, step) for one in grid for step in range(parts - sum(one) + 1)]
    return [
        tuple([1 / count] * count),
        *(tuple(step / parts for step in (*one, parts - sum(one))) for one in grid),
    ]
