"""Pictures a network learns in seconds, and modules and trainers small enough for them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from data.specs import DataSpec
from Lightning_module import Recipe, build_module

TASKS = {"binary": 1, "multiclass": 3, "multilabel": 2}
SIZE = 16


def spec_of(task: str = "binary", **more: Any) -> DataSpec:
    return DataSpec(task=task, classes=TASKS[task], size=(SIZE, SIZE), **more)


def samples(task: str, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Noise with a bright left part that is the foreground (class 1, or the first channel)."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for at in range(count):
        edge = int(torch.randint(4, SIZE - 4, (), generator=generator))
        inside = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
        inside[:, :edge] = 1
        noise = torch.randint(0, 90, (3, SIZE, SIZE), generator=generator)
        mask = inside if task == "multiclass" else torch.stack([inside, 1 - inside])[: TASKS[task]]
        image = (noise + 150 * inside).to(torch.uint8)
        made.append({"image": image, "mask": mask, "img": f"x{at}"})
    return made


def collated(made: list[dict[str, Any]]) -> dict[str, Any]:
    return next(iter(loader(made, len(made))))


def loader(made: list[dict[str, Any]], batch: int, *, shuffle: bool = False) -> DataLoader:
    return DataLoader(made, batch_size=batch, shuffle=shuffle)


def module_of(task: str = "binary", spec: DataSpec | None = None, **recipe: Any) -> Any:
    torch.manual_seed(0)
    recipe = {"encoder_lr_factor": 1.0, "loss": "ce" if task == "multiclass" else "bce", **recipe}
    return build_module(
        "tiny", spec or spec_of(task), recipe=Recipe(**recipe), encoder_weights=None
    )


def trainer_of(folder: Path, *, epochs: int = 1, callbacks: Sequence[Any] = (), **more: Any) -> Any:
    options = {"logger": False, "enable_checkpointing": False, "precision": "32-true", **more}
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


class Spy(pl.Callback):
    """What each optimiser step was made with: rates, gradients, their norm after clipping."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.gradients: list[list[torch.Tensor]] = []
        self.norms: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            self.rates.append([group["lr"] for group in optimizer.param_groups])
            grads = [p.grad for p in module.parameters() if p.grad is not None]
            self.gradients.append([grad.clone() for grad in grads])
            self.norms.append(math.sqrt(sum(float((g**2).sum()) for g in self.gradients[-1])))

        trainer.optimizers[0].register_step_post_hook(look)
