"""Lightning's searches for a learning rate and a batch size, on a network that is thrown away."""

import copy
import tempfile
from dataclasses import replace
from typing import Any

# Steps of the search for a rate, and the range that they climb through.
STEPS, LOWEST, HIGHEST = 100, 1e-7, 1.0
# Doublings of the batch at most.
DOUBLINGS = 8


def find_rate(module: Any, data: Any, machine: dict[str, Any]) -> float | None:
    """The rate at which the loss falls fastest while it climbs; None where that is not seen.

    It is the decoder's: each group climbs at its own share, ENCODER_LR_FACTOR and LAYER_DECAY.

    Args:
        module: the network, as new; a copy of it is trained.
        data: SegmentationDataModule.
        machine: arguments of the Trainer that say where it runs.

    Source: Smith 2017, Cyclical Learning Rates.
    """
    from pytorch_lightning.tuner.tuning import Tuner

    trial = copy.deepcopy(module)
    trial.lr = trial.recipe.lr
    _keep_shares(trial)
    with tempfile.TemporaryDirectory() as folder:
        found = Tuner(_trainer(machine, folder)).lr_find(
            trial,
            datamodule=data,
            min_lr=LOWEST,
            max_lr=HIGHEST,
            num_training=STEPS,
            update_attr=False,
        )
    return found.suggestion() if found else None


def _keep_shares(module: Any) -> None:
    """Lightning's search gives all groups one rate: each steps at its share of it instead."""
    module.recipe = replace(module.recipe, scheduler="none")
    configure = module.configure_optimizers

    def configured() -> Any:
        optimizers, schedules = configure()
        groups = optimizers[0].param_groups
        shares = [group["initial_lr"] / module.recipe.lr for group in groups]

        def take_shares(*_: Any) -> None:
            for group, share in zip(groups, shares, strict=True):
                group["searched"] = group["lr"]
                group["lr"] *= share

        def give_back(*_: Any) -> None:
            for group in groups:
                group["lr"] = group.pop("searched")

        optimizers[0].register_step_pre_hook(take_shares)
        optimizers[0].register_step_post_hook(give_back)
        return optimizers, schedules

    module.configure_optimizers = configured


def find_batch_size(module: Any, data: Any, machine: dict[str, Any]) -> int:
    """The largest batch with which two steps fit into memory, doubled from that of `data` on.

    There are never more images in it than in the training.

    Args:
        module, data, machine: as for `find_rate`.
    """
    from pytorch_lightning.tuner.tuning import Tuner

    before, images = data.batch_size, len(data.rows["train"])
    doublings = min(DOUBLINGS, max(0, (images // before).bit_length() - 1))
    with tempfile.TemporaryDirectory() as folder:
        found = Tuner(_trainer(machine, folder)).scale_batch_size(
            copy.deepcopy(module),
            datamodule=data,
            steps_per_trial=2,
            init_val=before,
            max_trials=doublings + 1,
            batch_arg_name="batch_size",
        )
    data.batch_size = before
    return min(found or before, images)


def _trainer(machine: dict[str, Any], folder: str) -> Any:
    import pytorch_lightning as pl

    return pl.Trainer(
        **machine,
        max_epochs=1000,  # with few, Lightning's search ends before it has seen enough
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
