"""What is seen of a training beside its numbers: predicted images, histograms of weights."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback

from imaging.drawings import paint_classes, to_rgb, write_picture
from metrics import decide

GAP = 6


class BestImages(Callback):
    """Image, truth and prediction of fixed validation images, drawn at each new best score.

    They go into the fold's images/epoch_<n>.png, a row an image, and to the loggers that take
    pictures. It must stand before the callback that averages weights: those are what is drawn.

    Args:
        folder: of the fold.
        monitor, mode: the score, and max or min, whichever is better.
        count: images, spread evenly over the validation images.
    """

    def __init__(self, folder: Path, monitor: str, mode: str, count: int):
        self.folder, self.monitor, self.count = folder, monitor, count
        self.sign = 1.0 if mode == "max" else -1.0
        self.best = -math.inf
        self.rows: list[np.ndarray] = []

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        """Predicts with the weights that were scored; their score is not known yet."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        dataset = trainer.datamodule.dataset("val")
        chosen = np.linspace(0, len(dataset) - 1, min(self.count, len(dataset))).round().astype(int)
        self.rows = [_panels(module, dataset[(int(at), 0)]) for at in chosen]

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        score = self.sign * float(trainer.callback_metrics.get(self.monitor, math.nan))
        if not self.rows or not score > self.best:
            return
        self.best = score
        sheet = _stack(self.rows)
        epoch = trainer.current_epoch
        write_picture(self.folder / "images" / f"epoch_{epoch:03d}.png", sheet)
        for logger in trainer.loggers:
            _show(logger, sheet, epoch)


class Histograms(Callback):
    """Histograms of weights and gradients of each parameter, once an epoch, for TensorBoard."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """Keeps the gradients of an epoch's last steps: they are gone when it ends."""
        if trainer.is_last_batch and trainer.is_global_zero:
            named = module.model.named_parameters()
            self.gradients = {name: p.grad.detach() for name, p in named if p.grad is not None}

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        weights = dict(module.model.named_parameters())
        for logger in trainer.loggers:
            if not hasattr(logger.experiment, "add_histogram"):
                continue
            for kind, tensors in (("weights", weights), ("gradients", self.gradients)):
                for name, value in tensors.items():
                    drawn = value.detach().float().cpu()
                    logger.experiment.add_histogram(f"{kind}/{name}", drawn, trainer.current_epoch)
        self.gradients = {}


def build_sights(
    folder: Path, monitor: str, mode: str, *, images: int, histograms: bool
) -> list[Callback]:
    """The callbacks of LOG_IMAGES and LOG_HISTOGRAMS, if any."""
    drawn: list[Callback] = [BestImages(folder, monitor, mode, images)] if images else []
    return [*drawn, Histograms()] if histograms else drawn


def _panels(module: Any, sample: dict[str, Any]) -> np.ndarray:
    """RGB uint8 of image, truth and prediction side by side."""
    spec, batch = module.spec, sample["image"][None].to(module.device)
    with torch.inference_mode():
        probs = module.probs(module(batch))[:, : spec.classes]
    mask = decide(probs, task=spec.task, threshold=module.recipe.threshold)[0].cpu().numpy()
    image = to_rgb(np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy()))
    painted = [_painted(image, plane) for plane in (sample["mask"].numpy(), mask)]
    gap = np.full((len(image), GAP, 3), 255, np.uint8)
    return np.hstack([image, gap, painted[0], gap, painted[1]])


def _painted(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image in the colours of its classes; of masks that overlap the last one is seen."""
    if mask.ndim == 2:
        return paint_classes(image, mask.astype(np.uint8))
    ids = np.zeros(mask.shape[1:], np.uint8)
    for number, plane in enumerate(mask, start=1):
        ids[plane == 1] = number
        ids[plane == 255] = 255
    return np.where((ids > 0)[..., None], paint_classes(image, ids), image)


def _stack(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrower ones with white at their right."""
    widest = max(row.shape[1] for row in rows)
    edges = ((0, GAP), (0, 0))
    padded = [
        np.pad(row, (edges[0], (0, widest - row.shape[1]), edges[1]), constant_values=255)
        for row in rows
    ]
    return np.vstack(padded)


def _show(logger: Any, sheet: np.ndarray, epoch: int) -> None:
    """Hands a picture to a logger that takes any."""
    if hasattr(logger.experiment, "add_image"):
        logger.experiment.add_image("images/best", sheet, epoch, dataformats="HWC")
    elif hasattr(logger, "log_image"):
        logger.log_image("images/best", [sheet])
