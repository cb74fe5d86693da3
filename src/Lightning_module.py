"""The LightningModule: model, loss, metric and optimiser of one fold, and one shared step."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from core.advice import command
from core.errors import UserError, reason_of
from core.gates import json_value
from criteria.base import StagedLoss
from data.specs import DataSpec
from losses import build_loss
from measures.evidence import Evidence, slices_of
from measures.pixels import blank_ignored, leave_out_ignored
from metrics import build_metric, decide
from model_dispatcher import build_model, encoder_of
from networks.inputs import normalise
from networks.outputs import logits_of, probs_of
from postprocessing.rules import Rule, label_by
from training.batch_loss import batch_loss, blended_loss
from training.batches import draw_for, mix_batch, resize_batch
from training.finite import check_weights
from training.groups import parameter_groups
from training.optimizers import build_optimizer
from training.recipe import Recipe as Recipe
from training.schedules import build_scheduler
from training.sharding import sharded_root


class SegmentationModule(pl.LightningModule):
    """A segmentation network with its training; `.model` is the plain network.

    Args:
        model_name: a row of MODELS or smp_<architecture>_<encoder>.
        data: DataSpec as plain values: task, classes, channels, mean, std, size...
        recipe: Recipe as plain values; not needed to predict.
        encoder_weights: imagenet, None or a file; never kept in a checkpoint, so that loading
            one downloads nothing.
        notes: anything plain that the checkpoint should carry (run, fold, config).
    """

    def __init__(
        self,
        model_name: str,
        data: Mapping[str, Any],
        *,
        recipe: Mapping[str, Any] | None = None,
        encoder_weights: str | None = None,
        notes: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["encoder_weights"])
        self.spec = DataSpec.from_dict(data)
        self.recipe = Recipe(**(recipe or {}))
        self.configure_model_and_loss(model_name, encoder_weights)
        self.configure_metrics()
        self.memory_format = torch.contiguous_format
        shape = (1, self.spec.channels, 1, 1)
        self.register_buffer("mean", torch.tensor(self.spec.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(self.spec.std).view(shape), persistent=False)

    def configure_model_and_loss(self, model_name: str, encoder_weights: str | None) -> None:
        """Builds the network and the loss; override to use your own."""
        self.model = build_model(
            model_name,
            weights=encoder_weights,
            channels=self.spec.channels,
            classes=self.spec.outputs,
            size=self.spec.size,
            gate=self.spec.gate,
            sides=self.spec.sides,
        )
        self.loss: nn.Module = build_loss(
            self.recipe.loss,
            task=self.spec.task,
            classes=self.spec.classes,
            class_weights=self.recipe.weights,
        )

    def configure_metrics(self) -> None:
        """Builds the competition's metric, and Dice and IoU beside it; override to log more."""
        self.metric_names = list(dict.fromkeys([self.recipe.metric, "dice", "iou"]))
        # A list: a name such as fbeta:beta=0.5 has a point, which no module's name may have.
        self.metrics = nn.ModuleList(
            build_metric(
                name,
                task=self.spec.task,
                classes=self.spec.classes,
                class_names=self.spec.class_names,
            )
            for name in self.metric_names
        )

    @property
    def metric(self) -> Any:
        """The competition's own metric, which best.ckpt follows."""
        return self.metrics[0]

    def configure_optimizers(self) -> Any:
        """OPTIMIZER with the encoder at its own rate, and SCHEDULER."""
        groups = self._parameter_groups()
        # A fused step unscales fp16 gradients inside itself, after they would have been clipped.
        fused = self.trainer.precision != "16-mixed" or not self.trainer.gradient_clip_val
        optimizer = build_optimizer(
            self.recipe.optimizer,
            groups,
            lr=self.recipe.lr,
            weight_decay=self.recipe.weight_decay,
            fused=fused,
        )
        schedule = build_scheduler(
            self.recipe.scheduler,
            optimizer,
            steps=int(self.trainer.estimated_stepping_batches),
            warmup=self.recipe.warmup,
            monitor=f"val_{self.recipe.metric}",
            mode="max" if self.metric.higher_is_better else "min",
            val_every=self.trainer.check_val_every_n_epoch or 1,
        )
        return [optimizer], [schedule]

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Each weight with its rate and decay; tells of a network without an encoder."""
        recipe, encoder = self.recipe, encoder_of(self.model)
        if encoder is None and recipe.encoder_lr_factor != 1 and self.trainer.is_global_zero:
            name = self.hparams["model_name"]
            print(f"{name} has no .encoder: all of it is trained at LR={recipe.lr:g}")
        return parameter_groups(
            self,
            encoder,
            lr=recipe.lr,
            encoder_lr_factor=recipe.encoder_lr_factor,
            layer_decay=recipe.layer_decay,
            weight_decay=recipe.weight_decay,
            decay_norms=recipe.decay_norms,
        )

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips gradients; Lightning refuses with a fused optimiser even where nothing scales."""
        if gradient_clip_val and (root := sharded_root(self.trainer)) is not None:
            root.clip_grad_norm_(gradient_clip_val)  # of all parts together
        elif optimizer.defaults.get("fused") and gradient_clip_val:
            by_value = gradient_clip_algorithm == "value"
            clip: Any = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
            clip(self.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) image as the loader ships it to raw logits (B, K, H, W).

        With a border (see DataSpec) it is channel K: (B, K + 1, H, W). With a gate K channels
        follow, each of one value. In training with sides, all that stages of the decoder say, too.
        """
        return logits_of(self.model(self._scaled(image)))

    def _scaled(self, image: torch.Tensor) -> torch.Tensor:
        """The image as the network takes it: normalised, in its memory layout."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        scaled = normalise(image, mean, std, self.spec.bits)
        # Batches come in channels_last; convolutions would follow them, whatever the weights have.
        return scaled.contiguous(memory_format=self.memory_format)

    def set_channels_last(self, on: bool) -> None:
        """Puts weights and what flows through them into channels_last memory, or the usual one."""
        self.memory_format = torch.channels_last if on else torch.contiguous_format
        self.model.to(memory_format=self.memory_format)

    def probs(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits to probabilities of the same channels in float32."""
        return probs_of(logits, self.spec.task)

    def _step(self, batch: Mapping[str, Any], stage: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and logits of a batch; logs the loss, and feeds the metric outside training."""
        logits = self(batch["image"])
        loss = self._loss(logits, batch)
        training = stage == "train"
        self.log(
            f"{stage}_loss",
            loss.detach(),
            on_step=training,
            on_epoch=not training,
            prog_bar=training,
            batch_size=len(logits),
            sync_dist=not training,
        )
        if not training:
            self._update_metrics(logits, batch, stage)
        return loss, logits

    def _loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """The loss of all that the network says, see `batch_loss` and `blended_loss`."""
        spec = self.spec
        return blended_loss(
            lambda batch: batch_loss(
                self.loss,
                logits,
                batch,
                classes=spec.classes,
                border=spec.border,
                gate=spec.gate,
                side_weight=self.recipe.side_weight,
            ),
            batch,
        )

    def _update_metrics(self, logits: torch.Tensor, batch: Mapping[str, Any], stage: str) -> None:
        probs = self.probs(logits)
        mask = decide(
            probs[:, : self.spec.classes], task=self.spec.task, threshold=self.recipe.threshold
        )
        mask, target = leave_out_ignored(mask, batch["mask"], task=self.spec.task)
        sure = probs[:, : self.spec.classes].amax(1)
        evidence = Evidence(
            mask,
            target,
            task=self.spec.task,
            classes=self.spec.classes,
            objects=lambda: (self._objects(probs, mask, batch["mask"]), batch["instances"], sure),
            slices=slices_of(batch),
        )
        metric: Any
        for name, metric in zip(self.metric_names, self.metrics, strict=True):
            evidence.add_to(metric)
            shown = name == self.recipe.metric
            self.log(f"{stage}_{name}", metric, on_epoch=True, on_step=False, prog_bar=shown)

    def _objects(self, probs: torch.Tensor, mask: torch.Tensor, target: torch.Tensor) -> Any:
        """What a metric of objects takes: labels when there is a border, else the mask."""
        if not self.spec.border:
            return mask
        rules = [Rule(self.recipe.threshold, split=True)]
        return [label_by(rules, one, task=self.spec.task) for one in blank_ignored(probs, target)]

    def on_validation_epoch_end(self) -> None:
        """Logs the score of each class by name; nan where a class is absent everywhere."""
        if self.spec.classes > 1 and hasattr(self.metric, "per_class"):
            with self.metric.sync_context():
                values = self.metric.per_class()
            for name, value in values.items():
                self.log(f"val_{self.recipe.metric}_{name}", value, rank_zero_only=True)

    def on_train_epoch_start(self) -> None:
        """Tells a loss of several stages where the training is."""
        if isinstance(self.loss, StagedLoss):
            self.loss.epoch = self.current_epoch + 1

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> torch.Tensor:
        scale = self._window_scale(batch_idx)
        draw = draw_for(self.global_step, batch_idx)
        batch = resize_batch(batch, tuple(self.recipe.train_scales), draw)
        batch = mix_batch(batch, self.recipe.mixup, draw)
        if not hasattr(self.model, "own_loss"):
            return self._step(batch, "train")[0] * scale
        image = self._scaled(batch["image"])
        loss = blended_loss(lambda batch: self._own_loss(image, batch), batch)
        self.log("train_loss", loss.detach(), prog_bar=True, batch_size=len(batch["image"]))
        return loss * scale

    def _own_loss(self, image: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """The loss that the network was published with."""
        network: Any = self.model
        target = batch["mask"]
        if self.spec.border:
            target = torch.cat([target, batch["border"]], 1)
        loss: torch.Tensor = network.own_loss(image, target)
        return loss

    def _window_scale(self, batch_idx: int) -> float:
        """Lightning divides by the whole accumulation window, also in an epoch's short last one."""
        window = self.trainer.accumulate_grad_batches
        batches = int(self.trainer.num_training_batches)
        rest = batches % window
        return window / rest if rest and batch_idx >= batches - rest else 1.0

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> torch.Tensor:
        """Logs loss and metric; returns probabilities (B, K, h, w), the border after them."""
        return self.probs(self._step(batch, "test")[1])

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int = 0) -> torch.Tensor:
        """Probabilities (B, K, h, w) at the network's size, the border after them."""
        return self.probs(self(batch["image"]))


def build_module(
    model_name: str,
    spec: DataSpec,
    *,
    recipe: Recipe,
    encoder_weights: str | None,
    notes: Mapping[str, Any] | None = None,
) -> SegmentationModule:
    """A fresh module whose hyperparameters are plain values."""
    return SegmentationModule(
        model_name,
        spec.to_dict(),
        recipe={key: list(v) if isinstance(v, tuple) else v for key, v in asdict(recipe).items()},
        encoder_weights=encoder_weights,
        notes=dict(notes or {}),
    )


def load_module(path: Path) -> SegmentationModule:
    """A module from a checkpoint alone: no config, no download, ready to predict.

    A .safetensors file is one that kernel.py exported, with its .json beside it.

    Raises:
        UserError: no such file, not a checkpoint of this project, or weights that are no numbers.
    """
    if not path.is_file():
        raise UserError(
            f"no checkpoint {path}. Train this fold first: {command('Lightning_trainer')}"
        )
    try:
        if path.suffix == ".safetensors":
            module = _load_exported(path)
        else:
            module = SegmentationModule.load_from_checkpoint(
                path, map_location="cpu", weights_only=True
            )
    except Exception as error:
        raise UserError(
            f"{path} does not load: {reason_of(error, path)}. It must be a best.ckpt or "
            "last.ckpt of this project, or an export of kernel.py, whole and unchanged"
        ) from error
    check_weights(module, str(path))
    return module.eval()


def _load_exported(path: Path) -> SegmentationModule:
    from safetensors.torch import load_file

    described = json_value(path.with_suffix(".json").read_text(encoding="utf-8"))
    module = SegmentationModule(**described["module"])
    module.load_state_dict(load_file(path), strict=True)
    return module
