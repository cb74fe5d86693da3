"""A training that diverges stops and says where; half precision that overflows is counted."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from core.errors import UserError
from core.quantities import counted

# Steps between two looks on a GPU, where each look waits for it.
GPU_STEPS = 20
# Gradient scaling halves its factor at each overflow: this many in a row are no accident.
OVERFLOWS = 25
SHOWN = 8


def check_weights(module: nn.Module, what: str) -> None:
    """Makes sure that every weight is a number.

    Args:
        module: whose parameters and buffers are looked at.
        what: that holds them, for the message.

    Raises:
        UserError: some are nan or infinite; counts them.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    wrong = [name for name, value in tensors if not bool(torch.isfinite(value).all())]
    if wrong:
        raise UserError(
            f"{what}: {len(wrong)} of {len(tensors)} tensors hold nan or infinity (first: "
            f"{wrong[0]}): a training that diverged, or a broken file. A lower LR helps the first"
        )


class Finite(Callback):
    """Stops a fold whose loss is no number, before a checkpoint of that state is written.

    On a CPU every step is looked at, on a GPU every GPU_STEPS. With fp16 a loss may overflow now
    and then, gradient scaling leaves such a step out: it is counted.

    Args:
        name: of what is trained, such as "fold 0".
    """

    def __init__(self, name: str):
        self.name, self.overflows, self.in_a_row = name, 0, 0
        self.seen: list[tuple[Tensor, list[str], list[str]]] = []

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Mapping[str, Any], index: int
    ) -> None:
        """Remembers the loss, and which images made it."""
        # A loader of your own may name none: their places in the batch stand for them.
        images = list(map(str, batch.get("img", range(len(batch["image"])))))
        self.seen.append((outputs["loss"].detach(), images, _broken_images(batch, images)))
        if module.device.type == "cpu" or len(self.seen) >= GPU_STEPS:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Looks at what is left, and at the weights that the epoch's checkpoint will hold."""
        self._look(trainer)
        check_weights(module, f"{self.name}, epoch {trainer.current_epoch + 1}")

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        """Scores of a network that is no number would look like scores."""
        if not trainer.sanity_checking:
            self._look(trainer)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Says how often half precision overflowed."""
        if self.overflows and trainer.is_global_zero:
            print(f"{self.name}: {counted(self.overflows, 'step')} overflowed in fp16: left out")

    def _look(self, trainer: Any) -> None:
        seen, self.seen = self.seen, []
        scaled = trainer.precision == "16-mixed" and trainer.strategy.root_device.type == "cuda"
        if not seen:
            return
        finite = torch.isfinite(torch.stack([loss for loss, _, _ in seen])).tolist()
        for good, (loss, images, broken) in zip(finite, seen, strict=True):
            self.in_a_row = 0 if good else self.in_a_row + 1
            if good:
                continue
            self.overflows += 1
            if broken or not scaled or self.in_a_row > OVERFLOWS:
                raise UserError(self._problem(trainer, float(loss), images, broken))

    def _problem(
        self, trainer: Any, loss: float, images: Sequence[str], broken: Sequence[str]
    ) -> str:
        where = f"{self.name}, epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
        if broken:
            return (
                f"{where}: pixels of {', '.join(broken[:SHOWN])} are nan or infinite: mend these "
                "files, or leave them out"
            )
        return (
            f"{where}: the loss is {loss} (images {', '.join(images[:SHOWN])}). A lower LR helps "
            "a training that diverges. What was kept before goes on with other knobs only under "
            "another --run, or with --overwrite"
        )


def _broken_images(batch: Mapping[str, Any], images: Sequence[str]) -> list[str]:
    """Images of a batch with pixels that are no numbers; integers always are."""
    pixels = batch["image"]
    if not pixels.is_floating_point():
        return []
    good = torch.isfinite(pixels).flatten(1).all(1).tolist()
    return [img for img, fine in zip(images, good, strict=True) if not fine]
