"""Import paths where a row's name could stand: losses, metrics, optimisers, networks, callbacks."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from augmentations import build_policy
from conftest import SRC, Competition
from core import imports
from core.errors import UserError
from imaging.mixes import build_mix
from kernel_build.bundle import add_wheels
from kernel_build.image import missing_distributions
from Lightning_module import load_module
from losses import build_loss
from metrics import build_metric
from model_dispatcher import build_model
from stages import call, errors_of
from trained import checkpoint, fold_of
from training.optimizers import build_optimizer
from training.schedules import build_scheduler

PACKAGE = """
import pytorch_lightning as pl
import torch
from torch import nn

WIDTH = 4


class Net(nn.Module):
    def __init__(self, *, weights, channels, classes):
        super().__init__()
        self.body = nn.Conv2d(channels, classes, 3, padding=1)

    def forward(self, image):
        return self.body(image)


class Plain(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()


class Powers(nn.Module):
    def __init__(self, exponent=2.0):
        super().__init__()
        self.exponent = exponent

    def forward(self, logits, target):
        return (logits.sigmoid() - target).abs().pow(self.exponent).mean()


class Steps(torch.optim.SGD):
    pass


class Saw(pl.Callback):
    seen = []

    def on_train_batch_end(self, trainer, module, *args):
        self.seen.append(type(trainer.optimizers[0]).__name__)
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package own_parts with a module nets, as one that is installed."""
    (tmp_path / "site" / "own_parts").mkdir(parents=True)
    (tmp_path / "site" / "own_parts" / "nets.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(imports, "LOADED", {})
    yield
    for name in ("own_parts", "own_parts.nets"):
        sys.modules.pop(name, None)


def test_a_run_of_parts_by_their_import_paths(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model-name", "own_parts.nets.Net", "--loss", "own_parts.nets.Powers:exponent=3"]
    words += ["--optimizer", "own_parts.nets.Steps:momentum=0.5", "--lr", "0.1"]
    words += ["--metric", "torchmetrics.classification.BinaryJaccardIndex"]
    words += ["--callbacks", "own_parts.nets.Saw", "--fold", "0", "--epochs", "1"]
    flags = competition.flags(*words)
    assert call("Lightning_trainer", flags) == 0, capsys.readouterr().err
    from own_parts.nets import Saw  # type: ignore[import-not-found]

    assert Saw.seen == ["Steps"] * 3
    group = checkpoint(fold_of(competition), "last")["optimizer_states"][0]["param_groups"][0]
    assert group["momentum"] == 0.5
    imports.LOADED.clear()
    module = load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    assert type(module.model).__name__ == "Net"
    # What a network was made of travels in its kernel, if it is a package that can.
    assert missing_distributions(SRC, []) == ["own_parts"]
    with pytest.raises(UserError, match="own_parts is not installed here, and Kaggle's image"):
        add_wheels(missing_distributions(SRC, []), competition.root, None)


def test_a_loss_of_torch_is_handed_its_arguments() -> None:
    loss = build_loss("2*torch.nn.SmoothL1Loss:beta=0.5+dice", task="binary", classes=1)
    logits, target = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 1, 8, 8))
    gap = np.abs(logits.numpy() - target.numpy())
    smooth = np.where(gap < 0.5, gap**2, gap - 0.25).mean()
    dice = build_loss("dice", task="binary", classes=1)(logits, target)
    assert loss(logits, target).item() == pytest.approx(2 * smooth + dice.item(), rel=1e-5)


def test_a_metric_of_torchmetrics_scores_decisions() -> None:
    name = "torchmetrics.classification.MulticlassJaccardIndex:num_classes=3,ignore_index=255"
    metric = build_metric(name, task="multiclass", classes=3)
    rng = np.random.default_rng(0)
    mask, target = rng.integers(0, 3, (2, 2, 9, 9))
    target[0, :4] = 255
    metric.update(torch.from_numpy(mask), torch.from_numpy(target))
    known = target != 255
    expected = jaccard_score(target[known], mask[known], average="macro")
    assert metric.compute().item() == pytest.approx(expected)


def build(what: str, name: str) -> Any:
    if what == "model":
        return build_model(name)
    if what == "augmentation":
        return build_policy(name)
    if what == "mix":
        return build_mix(name)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    if what == "optimizer":
        return build_optimizer(name, optimizer.param_groups, lr=0.1, weight_decay=0, fused=False)
    if what == "scheduler":
        timing = {"steps": 9, "warmup": 0, "monitor": "", "mode": "max", "val_every": 1}
        return build_scheduler(name, optimizer, **timing)
    make: Any = build_loss if what == "loss" else build_metric
    return make(name, task="binary", classes=1)


@pytest.mark.parametrize(
    ("what", "name", "told"),
    [
        ("model", "own_parts.nets.Nets", "AttributeError: .*An import path is package.module.name"),
        ("model", "no_such_package.Net", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("model", "own_parts.nets.Plain", "takes in_channels, out_channels, need weights"),
        ("model", "own_parts.nets.WIDTH", "is a int, need a class or function"),
        ("loss", "torch.nn.SmoothL1Loss:betta=1", "unexpected keyword argument 'betta'"),
        ("loss", "torch.nn.L1Losss", "AttributeError"),
        ("metric", "torchmetrics.classification.BinaryJaccardIndex:x=1", "x"),
        ("metric", "torchmetrics.SumMetric", "does not say whether more is better"),
        ("metric", "builtins.dict", "does not say what it takes"),
        ("metric", "fractions.Fraction", "no Metric of torchmetrics"),
        ("loss", "torch.relu", "does not say what it takes"),
        ("model", "torch.relu", "does not say what it takes"),
        ("optimizer", "torch.relu", "does not say what it takes"),
        ("scheduler", "torch.relu", "does not say what it takes"),
        ("scheduler", "torch.optim.lr_scheduler.StepLR:step_size=3", "make torch's a row in a rec"),
        ("augmentation", "albumentations.HorizontalFlip", "makes a HorizontalFlip, no Policy: put"),
        ("augmentation", "torch.relu", "argument"),
        ("mix", "fractions.Fraction", "makes a Fraction, no Mix"),
        ("mix", "torch.relu", "does not say what it takes"),
        ("metric", "ap:iou=2", "iou is 2, need 0 to 1"),
        ("metric", "ap:most=0.5", "most is 0.5, need a whole number, 1 or more"),
        ("scheduler", "cosine:cycles=1.5", "cycles is 1.5, need a whole number, 1 or more"),
    ],
)
def test_paths_that_lead_nowhere_are_told(what: str, name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        build(what, name)


def test_wrong_paths_are_told_before_any_image(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--optimizer", "own_parts.nets.Net", "--loss", "own_parts.nett.Powers"]
    assert call("Lightning_trainer", competition.flags(*words, "--model-name", "small_unet")) == 2
    text = "\n".join(errors_of(capsys))
    assert "OPTIMIZER: optimiser 'own_parts.nets.Net': " in text
    assert "LOSS: loss 'own_parts.nett.Powers': AttributeError" in text
    assert not competition.logs.exists()
