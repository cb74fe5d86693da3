"""One arm of the quality benchmark, in a process of its own: ours, a notebook's loop, fastai's.

python benchmarks/quality_arms.py notebook BEGAN flags...   prints "score SECONDS VALUE" at each
validation. BEGAN is the time at which the process was started; flags are Lightning_trainer.py's.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

# What torch's Adam and fastai's Learner take when nobody says anything.
RATE = 1e-3


def main(argv: Sequence[str]) -> int:
    arm, began, words = argv[0], float(argv[1]), list(argv[2:])
    from core.flags import load_config

    config, _ = load_config(words)
    {"ours": by_us, "notebook": by_notebook, "fastai": by_fastai}[arm](config, began)
    return 0


def told(began: float, score: float) -> None:
    """One line for the benchmark."""
    print(f"score {time.time() - began:.2f} {score:.5f}", flush=True)


def by_us(config: Any, began: float) -> None:
    """Our trainer as it is, with an ear on the validation score."""
    from pytorch_lightning.callbacks import LambdaCallback

    from runs import fitting
    from runs.experiment import fit_of, run_of
    from runs.prepared import prepare_data
    from runs.training import train_fold

    def listen(trainer: Any, module: Any) -> None:
        told(began, float(trainer.callback_metrics[f"val_{config.METRIC}"]))

    inner = fitting.build_callbacks
    ear = LambdaCallback(on_validation_end=listen)
    fitting.build_callbacks = lambda *words, **how: [ear, *inner(*words, **how)]
    run = run_of(config)
    cache = prepare_data(run, cache=config.CACHE)
    train_fold(fit_of(config), run, config.TRAIN_FOLDS[0], cache=cache)


class Material:
    """What both other arms train: our samples, network and loss, decoded every epoch.

    Args:
        config: the configuration.
    """

    def __init__(self, config: Any):
        import torch

        from Lightning_datamodule import SegmentationDataModule, split_rows
        from losses import build_loss
        from model_dispatcher import build_model
        from runs.experiment import run_of

        run = run_of(config)
        self.config, self.spec = config, run.spec
        train, val = split_rows(run.table, config.TRAIN_FOLDS[0], holdout=run.holdout)
        self.data = SegmentationDataModule(
            train,
            val,
            root=run.input,
            masks=run.masks,
            spec=self.spec,
            loader=run.loader,
        )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.SEED)
        net = build_model(
            config.MODEL_NAME,
            weights=config.ENCODER_WEIGHTS,
            channels=self.spec.channels,
            classes=self.spec.classes,
        )
        self.model = normalised(net, self.spec).to(self.device)
        self.loss = build_loss(config.LOSS, task=self.spec.task, classes=self.spec.classes)

    def loader(self, collate: Callable[..., Any] | None = None) -> Any:
        """The usual training loader, one worker."""
        from torch.utils.data import DataLoader

        return DataLoader(
            self.data.dataset("train"),
            self.config.TRAIN_BATCH_SIZE,
            shuffle=True,
            drop_last=True,
            num_workers=1,
            collate_fn=collate,
        )

    def score(self) -> float:
        """The competition's metric on the validation images."""
        import torch

        from metrics import build_metric, decide

        task = self.spec.task
        metric = build_metric(self.config.METRIC, task=task, classes=self.spec.classes)
        self.model.eval()
        with torch.inference_mode():
            for batch in self.data.val_dataloader():
                logits = self.model(batch["image"].to(self.device)).cpu()
                probs = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
                metric.update(decide(probs, task=task, threshold=0.5), batch["mask"])
        return float(metric.compute())


def normalised(net: Any, spec: Any) -> Any:
    """The network behind the normalisation of uint8 images."""
    import torch

    class Normalised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            for name, values in (("mean", spec.mean), ("std", spec.std)):
                self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.net((image.float() / 255 - self.mean) / self.std)

    return Normalised()


def by_notebook(config: Any, began: float) -> None:
    """The usual notebook: float32, AdamW at one rate, a loop over batches."""
    import torch

    made = Material(config)
    loader, optimizer = made.loader(), torch.optim.AdamW(made.model.parameters(), lr=RATE)
    for _ in range(config.EPOCHS):
        made.model.train()
        for batch in loader:
            logits = made.model(batch["image"].to(made.device))
            loss = made.loss(logits, batch["mask"].to(made.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        told(began, made.score())


def by_fastai(config: Any, began: float) -> None:
    """fastai's Learner and one-cycle schedule on the same loaders; fp16 where there is CUDA."""
    import torch
    from fastai.callback.schedule import Learner  # the import adds fit_one_cycle to it
    from fastai.data.core import DataLoaders
    from fastai.learner import Callback

    made = Material(config)

    def pairs(samples: Sequence[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = (torch.stack([one[key] for one in samples]) for key in ("image", "mask"))
        return image, mask

    class Ear(Callback):
        def after_epoch(self) -> None:
            told(began, made.score())

    loader = made.loader(pairs)
    # Our own validation scores each epoch: the Learner's has nothing to do.
    loaders = DataLoaders(loader, [], device=made.device)
    learner = Learner(loaders, made.model, loss_func=made.loss, lr=RATE, cbs=[Ear()])
    if made.device.type == "cuda":
        from fastai.callback import fp16  # noqa: F401  adds to_fp16

        learner = learner.to_fp16()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(config.EPOCHS, RATE)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
