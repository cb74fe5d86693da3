"""Which images make a batch: the order of an epoch, even batches, batches of one size."""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, groupby, islice
from typing import Any

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """(index, pass) pairs, shuffled by both: a resumed run sees what an unbroken one saw.

    An epoch is `passes` passes over the images, numbered through all epochs. Each rank takes its
    share; shares are of one length, so the last may repeat a few images.

    Args:
        length: images.
        seed, epoch: of the order.
        rank, world: of this process, and how many there are.
        passes: over the images, an epoch.
        weights: one an image, to draw with replacement as often as each says; or what gives them
            for an epoch.
        fixed: every epoch is the first, crops and augmentation included.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        passes: int = 1,
        weights: Sequence[float] | Callable[[int], Sequence[float]] | None = None,
        fixed: bool = False,
    ):
        self.length, self.seed, self.epoch, self.passes = length, seed, epoch, passes
        self.rank, self.world, self.weights, self.fixed = rank, world, weights, fixed

    def __len__(self) -> int:
        return -(-self.length * self.passes // self.world)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = self.epoch if self.fixed else epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        numbers = range(self.epoch * self.passes, (self.epoch + 1) * self.passes)
        order = [(index, number) for number in numbers for index in self._shuffled(number)]
        order = list(islice(cycle(order), len(self) * self.world))
        return iter(order[self.rank :: self.world])

    def _shuffled(self, number: int) -> list[int]:
        generator = torch.Generator().manual_seed(hash((self.seed, number)) % 2**63)
        if self.weights is None:
            drawn = torch.randperm(self.length, generator=generator)
        else:
            known = self.weights
            known = known(number // self.passes) if callable(known) else known
            weights = torch.as_tensor(known, dtype=torch.float64)
            drawn = torch.multinomial(weights, self.length, replacement=True, generator=generator)
        order: list[int] = drawn.tolist()
        return order


class EvenBatches(Sampler[list[Any]]):
    """Batches of what a sampler gives, as few as hold at most `batch` each, sizes even by one.

    Nothing is left out of an epoch. Batch statistics need two images: where a batch of one would
    be left, the first image comes twice.

    Args:
        sampler: Lightning tells it the epoch.
        batch: images of one at most.
        start: (epoch, batches of it that were seen by an earlier session).
    """

    def __init__(self, sampler: EpochSampler, batch: int, *, start: tuple[int, int] = (0, 0)):
        self.sampler, self.batch, self.start = sampler, batch, start

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch)

    def __iter__(self) -> Iterator[list[Any]]:
        count = len(self)
        total = max(len(self.sampler), min(2, self.batch) * count)
        epoch, seen = self.start
        self.start = (0, 0)  # who asks again, for batch statistics, is given the whole epoch
        first = seen if self.sampler.epoch == epoch else 0
        order = islice(cycle(self.sampler), total * first // count, None)
        for at in range(first, count):
            yield list(islice(order, total * (at + 1) // count - total * at // count))


class SizeBatches(Sampler[list[int]]):
    """Batches of images of one size, every image once; ranks take batches in turn, none twice."""

    def __init__(self, sizes: Sequence[Any], batch: int, *, rank: int = 0, world: int = 1):
        order = sorted(range(len(sizes)), key=lambda index: (sizes[index], index))
        # A rank without any batch would leave the others waiting.
        batch = min(batch, max(1, len(sizes) // world))
        runs = [list(run) for _, run in groupby(order, key=lambda index: sizes[index])]
        batches = [run[i : i + batch] for run in runs for i in range(0, len(run), batch)]
        self.batches = batches[rank::world]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
