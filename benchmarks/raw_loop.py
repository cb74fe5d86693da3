"""One arm of the quality benchmark, in a process of its own: "ours" or the "raw" notebook loop.

python benchmarks/raw_loop.py raw BEGAN flags...    prints "seconds score" after each validation

BEGAN is the time at which the process was started; flags are those of Lightning_trainer.py.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


def main(argv: Sequence[str]) -> int:
    arm, began, words = argv[0], float(argv[1]), list(argv[2:])
    from overrides import load_config

    config, _ = load_config(words)
    (by_us if arm == "ours" else by_notebook)(config, began)
    return 0


def told(began: float, score: float) -> None:
    """One line for the benchmark."""
    print(f"score {time.time() - began:.2f} {score:.5f}", flush=True)


def by_us(config: Any, began: float) -> None:
    """Our trainer as it is, with an ear on the validation score."""
    from pytorch_lightning.callbacks import LambdaCallback

    import Lightning_trainer
    from experiment import load_folds

    def listen(trainer: Any, module: Any) -> None:
        told(began, float(trainer.callback_metrics[f"val_{config.METRIC}"]))

    inner = Lightning_trainer.build_callbacks
    ear = LambdaCallback(on_validation_end=listen)
    Lightning_trainer.build_callbacks = lambda *words: [ear, *inner(*words)]
    table = load_folds(config)
    cache = Lightning_trainer.prepare_data(config, table)
    Lightning_trainer.train_fold(config, table, config.TRAIN_FOLDS[0], cache=cache)


def by_notebook(config: Any, began: float) -> None:
    """The usual notebook on the same samples: float32, AdamW at one rate, decoded every epoch."""
    import torch
    from torch.utils.data import DataLoader

    from competition import mask_source
    from experiment import data_spec, load_folds, loader_spec
    from Lightning_datamodule import SegmentationDataModule, split_rows
    from losses import build_loss
    from metrics import build_metric, decide
    from model_dispatcher import build_model

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.SEED)
    spec = data_spec(config)
    table = load_folds(config)
    train, val = split_rows(table, config.TRAIN_FOLDS[0], holdout=config.HOLDOUT)
    data = SegmentationDataModule(
        train, val, root=config.INPUT, masks=mask_source(config), spec=spec,
        loader=loader_spec(config),
    )  # fmt: skip
    loader = DataLoader(
        data.dataset("train"), config.TRAIN_BATCH_SIZE, shuffle=True, drop_last=True, num_workers=1
    )
    model = build_model(
        config.MODEL_NAME, weights=config.ENCODER_WEIGHTS, channels=spec.channels,
        classes=spec.classes,
    ).to(device)  # fmt: skip
    loss_of = build_loss(config.LOSS, task=spec.task, classes=spec.classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.LR)
    mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (spec.mean, spec.std))

    def logits_of(image: Any) -> Any:
        return model((image.to(device).float() / 255 - mean) / std)

    for _ in range(config.EPOCHS):
        model.train()
        for batch in loader:
            loss = loss_of(logits_of(batch["image"]), batch["mask"].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        metric = build_metric(config.METRIC, task=spec.task, classes=spec.classes)
        with torch.no_grad():
            for batch in data.val_dataloader():
                logits = logits_of(batch["image"]).cpu()
                probs = logits.softmax(1) if spec.task == "multiclass" else logits.sigmoid()
                metric.update(decide(probs, task=spec.task, threshold=0.5), batch["mask"])
        told(began, float(metric.compute()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
