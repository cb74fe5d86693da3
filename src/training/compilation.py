"""torch.compile where it pays: what it saves in the steps to come against what it costs."""

import time
from typing import Any

from pytorch_lightning.callbacks import Callback

# What published tables promise at least for convolutional networks in channels-last and AMP.
# Source: timm's benchmark csv, ResNets and EfficientNets, eager against compiled.
GAIN = 0.15
# Seconds that compiling a U-Net's forward and backward takes on a typical host.
COST = 120.0
# Eager steps before the clock starts, and steps that it measures.
COLD, MEASURED = 10, 20


def saved_seconds(steps: int, step_seconds: float) -> float:
    """Seconds that compiling saves in `steps` steps; negative when it cannot pay back."""
    return steps * step_seconds * GAIN - COST


class Compile(Callback):
    """Compiles the network: at once ("on"), or after some steps if that pays ("auto").

    The weights keep their names: checkpoints are those of an uncompiled run.
    """

    def __init__(self, mode: str):
        self.mode = mode
        self.began: float | None = None

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        if self.mode == "on":
            module.model.compile()

    def on_train_batch_start(
        self, trainer: Any, module: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Looks at the clock twice, then decides."""
        step = trainer.fit_loop.total_batch_idx + 1
        if self.mode != "auto" or (self.began is None and step != COLD):
            return
        if module.device.type != "cuda":
            print("compile auto: only for a GPU, left out")
            self.mode = "off"
        elif step == COLD:
            self.began = _now(module.device)
        elif self.began is not None and step == COLD + MEASURED:
            self._decide(trainer, module, (_now(module.device) - self.began) / MEASURED)

    def _decide(self, trainer: Any, module: Any, seconds: float) -> None:
        self.mode = "off"
        steps = trainer.max_epochs * trainer.num_training_batches - COLD - MEASURED
        saved = saved_seconds(steps, seconds)
        told = f"{steps} steps of {seconds * 1000:.0f} ms to come, {GAIN:.0%} faster for {COST:g} s"
        print(f"compile auto: {told}: {'compiling' if saved > 0 else 'not worth it'}", flush=True)
        if saved > 0:
            module.model.compile()


def _now(device: Any) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
