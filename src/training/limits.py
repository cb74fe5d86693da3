"""Where a training ends, and that it never ends without a validation."""

from typing import Any

from pytorch_lightning.callbacks import Callback, EarlyStopping

from training.steps import limited

# What schedules of torch remember of their own length.
LENGTHS = ("total_steps", "_schedule_phases", "T_max", "total_iters")


class OwnLength(Callback):
    """Gives a schedule that is resumed the length of this call, which may have more epochs."""

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        for state in checkpoint.get("lr_schedulers", ()):
            for name in LENGTHS:
                state.pop(name, None)


class LastValidation(Callback):
    """Ends every training with a validation: VAL_EVERY need not divide EPOCHS.

    Lightning itself leaves an epoch that max_steps cuts off without one, and the rest of one that
    val_check_interval divides.
    """

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True
        if trainer.should_stop:
            trainer.check_val_every_n_epoch = 1
        if trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.val_check_batch = 1


def leave_a_batch(trainer: Any, share: int | float, *, train: int, val: int) -> None:
    """Has a trainer count batches in the place of a share: of less than one it makes an error.

    Args:
        trainer: that has the share where nothing else limits it.
        share: LIMIT_BATCHES.
        train, val: batches that there are.
    """
    for name, batches in (("limit_train_batches", train), ("limit_val_batches", val)):
        if getattr(trainer, name) == share:
            setattr(trainer, name, limited(batches, share))


def build_stop(
    monitor: str, mode: str, *, patience: int | None, least_gain: float
) -> list[EarlyStopping]:
    """Lightning's early stopping, if any.

    Args:
        monitor: logged score.
        mode: max or min, whichever is better of it.
        patience: validations in a row without a gain; None = never.
        least_gain: of the score, for it to count as one.
    """
    if patience is None:
        return []
    return [
        EarlyStopping(
            monitor,
            min_delta=least_gain,
            patience=patience,
            mode=mode,
            check_finite=False,  # a metric may be nan where nothing was found yet
            check_on_train_epoch_end=False,
        )
    ]
