"""What an epoch costs beside its steps: workers, checkpoints, logs, metrics."""

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from core.flags import load_config
from frames import frames, rows, scratch
from harness import Line, Target, gate
from runs import fitting
from runs.experiment import fit_of, run_of
from runs.prepared import prepare_data
from runs.training import train_fold
from training.console import quiet_lightning


def run(*, toy: bool) -> list[Line]:
    """Wall time of each epoch of a real training less that of its training and validation steps."""
    epochs = 2 if toy else 8
    network, side = ("smp_unet_resnet18", 64) if toy else ("smp_unet_resnet34", 128)
    folder, root = frames(toy=True), scratch("epoch")
    config, _ = load_config(
        [
            *("--input", str(folder), "--output", str(root / "output"), "--logs", str(root)),
            *("--model-name", network, "--encoder-weights", "none", "--crop-size", str(side)),
            *("--epochs", str(epochs), "--train-batch-size", "4", "--run", "bench"),
        ]
    )
    config.OUTPUT.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows(folder)).to_csv(config.FOLDS_CSV, index=False)
    quiet_lightning()
    clock = build_clock()
    with quiet([clock]):
        own = run_of(config)
        cache = prepare_data(own, cache=config.CACHE)
        train_fold(fit_of(config), own, 0, cache=cache)
    beside = [(wall - steps) * 1000 for wall, steps in clock.epochs[1:]] or [0.0]
    last = root / "bench" / "fold_0" / "checkpoints" / "last.ckpt"
    line = Line(
        f"epoch overhead, {network[4:]}",
        "ms an epoch",
        {"ours": beside, "floor": [save_seconds(last) * 1000 for _ in beside]},
        gate(len(clock.epochs) == epochs, f"{epochs} epochs trained and validated"),
    )
    share = line.median("ours") / 60_000
    line.targets = [Target("share of a 60 s epoch", share, 0.03, at_least=False)]
    line.notes = (
        f"Validation, best.ckpt and last.ckpt ({last.stat().st_size / 1e6:.0f} MB) every epoch. "
        "Waits for the loader count. Floor: torch.save of one such checkpoint, which follows."
    )
    print(f"{line.name}: {line.median('ours'):.0f} ms an epoch", flush=True)
    return [line]


@contextlib.contextmanager
def quiet(extra: Sequence[Any] = ()) -> Iterator[list[Any]]:
    """The trainer without a word, with extra callbacks; yields all that it has."""
    inner, found = fitting.build_callbacks, list[Any]()

    def build(*words: Any, **how: Any) -> list[Any]:
        found[:] = [*inner(*words, **how), *extra]
        return list(found)

    fitting.build_callbacks = build
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield found
    finally:
        fitting.build_callbacks = inner


def build_clock() -> Any:
    """A callback with `epochs`: (seconds of an epoch, seconds inside its steps)."""
    from pytorch_lightning.callbacks import Callback

    class Clock(Callback):
        def __init__(self) -> None:
            self.epochs: list[tuple[float, float]] = []
            self.inside = self.began = self.step = 0.0

        def on_train_epoch_start(self, *_: Any) -> None:
            now = time.perf_counter()
            if self.began:
                self.epochs.append((now - self.began, self.inside))
            self.began, self.inside = now, 0.0

        def on_train_batch_start(self, *_: Any) -> None:
            self.step = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            self.inside += time.perf_counter() - self.step

        on_validation_batch_start = on_train_batch_start
        on_validation_batch_end = on_train_batch_end

        def on_fit_end(self, *_: Any) -> None:
            self.on_train_epoch_start()

    return Clock()


def save_seconds(path: Path) -> float:
    """Seconds to write the content of a checkpoint again."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    copy = path.with_name("again.ckpt")
    begin = time.perf_counter()
    torch.save(content, copy)
    seconds = time.perf_counter() - begin
    copy.unlink()
    return seconds
