"""How many optimiser steps a training has, and when they are few."""

from dataclasses import dataclass

# Fewer steps than this in all train hardly any network: they are told.
FEW = 200


def limited(batches: int, limit: int | float) -> int:
    """Batches of so many that LIMIT_BATCHES leaves: a number, or a share; one at least."""
    return min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))


@dataclass(frozen=True)
class Steps:
    """Optimiser steps of one fold.

    Attributes:
        images: of the fold's training side.
        batch: TRAIN_BATCH_SIZE, of one device.
        accumulate: ACCUMULATE_GRAD_BATCHES.
        devices: that share the images.
        crops: CROPS_PER_IMAGE.
        epochs: EPOCHS.
        limit: LIMIT_BATCHES.
    """

    images: int
    batch: int
    accumulate: int
    devices: int
    crops: int
    epochs: int
    limit: int | float = 1.0

    @property
    def share(self) -> int:
        """Crops that one device sees in an epoch."""
        return -(-self.images * self.crops // self.devices)

    @property
    def loaded(self) -> int:
        """Batches that one device has."""
        return -(-self.share // self.batch)

    @property
    def batches(self) -> int:
        """Batches of an epoch of one device."""
        return limited(self.loaded, self.limit)

    @property
    def epoch(self) -> int:
        """Steps of an epoch."""
        return -(-self.batches // self.accumulate)

    @property
    def total(self) -> int:
        """Steps of the training."""
        return self.epoch * self.epochs

    def words(self) -> str:
        """Such as `20 epochs of 13 steps (260 in all)`."""
        return f"{self.epochs} epochs of {self.epoch} steps ({self.total} in all)"

    def notes(self) -> list[str]:
        """A line on few steps, and one on fewer images than a batch."""
        notes = []
        if self.share < self.batch:
            told = f"TRAIN_BATCH_SIZE={self.batch} is more than the {self.share} there are"
            notes.append(f"{told}: a step has all {self.share}, an epoch is one step")
        if self.total < FEW:
            crops = self.crops * -(-FEW // self.total)
            notes.append(
                f"{self.total} optimiser steps in all are few, a network needs some hundreds: "
                f"--crops-per-image {crops}, more --epochs, or a smaller --train-batch-size"
            )
        return notes
