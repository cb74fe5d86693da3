"""How many optimiser steps a training has, and when they are few."""

from dataclasses import dataclass

from core.quantities import counted

# Fewer steps than this in all train hardly any network: they are told.
FEW = 200
# Fewer than this, in batches of more images than SMALL, and other batches may learn more.
SHORT, SMALL = 1000, 4


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
        limit: LIMIT_BATCHES, or what TRAINER_KWARGS has in its place.
        most: max_steps of TRAINER_KWARGS; -1 = as many as there are.
        trial: TRAINER_KWARGS ask for a few batches again and again, or for one look at each stage.
    """

    images: int
    batch: int
    accumulate: int
    devices: int
    crops: int
    epochs: int
    limit: int | float = 1.0
    most: int = -1
    trial: bool = False

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
        asked = self.epoch * self.epochs
        return min(asked, self.most) if self.most >= 0 else asked

    def words(self) -> str:
        """Such as `20 epochs of 13 steps (260 in all)`."""
        epochs, steps = counted(self.epochs, "epoch"), counted(self.epoch, "step")
        return f"{epochs} of {steps} ({self.total} in all)"

    def notes(self) -> list[str]:
        """A line on few steps or a short training, and one on fewer images than a batch."""
        notes = []
        if self.share < self.batch:
            told = f"TRAIN_BATCH_SIZE={self.batch} is more than the {self.share} there are"
            notes.append(f"{told}: a step has all {self.share}, an epoch is one step")
        if self.trial:
            return notes
        if self.total < FEW:
            told = f"{counted(self.total, 'optimiser step')} in all"
            told += " is few" if self.total == 1 else " are few"
            notes.append(f"{told}, a network needs some hundreds: {self._remedy()}")
        elif self.total < SHORT and self.batch > SMALL and not self._cut_off:
            notes.append(
                f"{self.total} optimiser steps in all are a short training: --train-batch-size "
                f"{SMALL} and --augmentation light learned more in one of CamVid, not in one of "
                "DSB2018 (docs/cookbook.md)"
            )
        return notes

    @property
    def _cut_off(self) -> bool:
        """Whether a number of steps or batches is asked for, which smaller ones make no more."""
        few_batches = isinstance(self.limit, int) or self.limit < 1
        return few_batches or 0 <= self.most < self.epoch * self.epochs

    def _remedy(self) -> str:
        """What makes FEW steps, or more."""
        if 0 <= self.most < self.epoch * self.epochs:
            return "a larger max_steps in TRAINER_KWARGS"
        if self._cut_off:
            return "more --limit-batches, or more --epochs"
        others = (-(-FEW // self.epochs) - 1) * self.accumulate * self.batch * self.devices
        smaller = "--train-batch-size" + " or --accumulate-grad-batches" * (self.accumulate > 1)
        return (
            f"--crops-per-image {others // self.images + 1}, more --epochs, or a smaller {smaller}"
        )
