"""Metrics of volumes: slices that come in any batches are gathered, and scored volume by volume."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from core.errors import UserError

# Volume and name of a slice.
Slice = tuple[str, str]


class GatheredVolumes(Metric):
    """A metric of masks that takes the slices of a volume together, whatever batches they come in.

    Args:
        metric: whose `image_values` take all slices of one volume.
    """

    higher_is_better = True
    full_state_update = False
    needs = "volumes"
    slices: list[Tensor]

    def __init__(self, metric: Any) -> None:
        super().__init__()
        # A list that torch does not look into: the metric's own states stay empty.
        self._metric = [metric]
        self.add_state("slices", [], dist_reduce_fx="cat")

    @property
    def metric(self) -> Any:
        """The metric of one volume's slices."""
        return self._metric[0]

    def update(self, mask: Tensor, target: Tensor, slices: Sequence[Slice]) -> None:
        """Adds slices.

        Args:
            mask: (B, H, W) ids or (B, K, H, W) of {0, 1}.
            target: the truth, shaped likewise, with ignored pixels left out of both.
            slices: volume and name of each; names in their natural order are the slices' order.

        Raises:
            UserError: a slice of no volume.
        """
        for found, real, (volume, name) in zip(mask, target, slices, strict=True):
            if not volume:
                raise UserError(
                    f"{name}: is of no volume, METRIC scores volumes: set VOLUME_COLUMN or "
                    "VOLUME_PATTERN, and run folds.py again"
                )
            self.slices.append(_pack(volume, name, found, real))

    def image_values(self, mask: Tensor, target: Tensor) -> Tensor:
        """(D, V) values of the slices of one volume, in their order; they add up."""
        return self.metric.image_values(mask, target)

    def score_sums(self, sums: Tensor) -> Tensor:
        """Scores (...) of summed values (..., V)."""
        return self.metric.score_sums(sums)

    def compute(self) -> Tensor:
        """Scalar; nan before any volume has a score."""
        device = self.slices[0].device if len(self.slices) else None
        packed = dim_zero_cat(self.slices).cpu() if len(self.slices) else torch.zeros(0).long()
        # Ranks may hold a slice twice, to be of one length.
        known = {where: (found, real) for where, found, real in _unpack(packed)}
        sums = torch.zeros(self.metric.width, dtype=torch.double)
        for slices in group_slices(known):
            pairs = [known[where] for where in slices]
            found, real = (torch.stack(planes) for planes in zip(*pairs, strict=True))
            sums += self.image_values(found, real).sum(0)
        return self.score_sums(sums).float().to(device)


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """What sorts slice_2 before slice_10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def group_slices(slices: Iterable[Slice]) -> list[list[Slice]]:
    """The slices of each volume, by their names' natural order."""
    by_volume: dict[str, list[Slice]] = {}
    for volume, name in slices:
        by_volume.setdefault(volume, []).append((volume, name))
    return [sorted(them, key=lambda one: natural_key(one[1])) for them in by_volume.values()]


def _pack(volume: str, name: str, found: Tensor, real: Tensor) -> Tensor:
    """A slice as one list of numbers, masks in runs: they are mostly empty."""
    text = torch.tensor(list(f"{volume}\n{name}".encode()), dtype=torch.long)
    parts = [text]
    for plane in (found, real):
        flat = plane.reshape(-1).long().cpu()
        ends = torch.nonzero(flat[1:] != flat[:-1]).flatten() + 1
        ends = torch.cat([ends, ends.new_tensor([len(flat)])])
        parts += [ends, flat[ends - 1]]
    head = [len(text), len(parts[1]), len(parts[3]), found.ndim, *found.shape]
    return torch.cat([torch.tensor(head, dtype=torch.long), *parts]).to(found.device)


def _unpack(packed: Tensor) -> Iterator[tuple[Slice, Tensor, Tensor]]:
    """(volume and name, found, real) of each slice of joined lists."""
    at = 0

    def take(count: int) -> Tensor:
        nonlocal at
        at += count
        return packed[at - count : at]

    while at < len(packed):
        letters, *runs, axes = take(4).tolist()
        shape = take(axes).tolist()
        volume, _, name = bytes(take(letters).tolist()).decode().partition("\n")
        planes = []
        for count in runs:
            ends, values = take(count), take(count)
            lengths = torch.diff(ends, prepend=ends.new_zeros(1))
            planes.append(torch.repeat_interleave(values, lengths).reshape(shape))
        yield (volume, name), planes[0], planes[1]
