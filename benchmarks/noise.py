"""Networks of noise for benchmarks: speed does not depend on what the weights have learned."""

import copy
from pathlib import Path
from typing import Any

import torch

from data.specs import DataSpec
from inference.predictor import choose_device
from Lightning_module import Recipe, SegmentationModule, build_module
from runs.reports import FoldReport, Report

DEVICE = choose_device("auto")


def noise_module(name: str, side: int, seed: int = 0) -> SegmentationModule:
    """A module whose masks cover half of a picture, with edges as sharp as a trained one's."""
    torch.manual_seed(seed)
    spec = DataSpec(size=(side, side))
    recipe = Recipe(encoder_lr_factor=1.0)
    module = build_module(name, spec, recipe=recipe, encoder_weights=None)
    with torch.inference_mode():
        logits = copy.deepcopy(module).eval()(torch.randint(0, 256, (1, 3, side, side)).byte())
    head = [m for m in module.model.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    scale = 4 / float(logits.std())
    head.weight.data *= scale
    if head.bias is not None:
        head.bias.data = (head.bias.data - float(logits.median())) * scale
    return module


def write_run(root: Path, name: str, side: int, *, folds: int, views: tuple[str, ...] = ()) -> None:
    """Checkpoints under root/logs/bench and root/output/bench/report.json, as if trained."""
    records = []
    for fold in range(folds):
        module = noise_module(name, side, seed=fold)
        path = root / "logs" / "bench" / f"fold_{fold}" / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
        torch.save({**content, "pytorch-lightning_version": "2.6.0"}, path)
        where = path.relative_to(root / "logs").as_posix()
        records.append(FoldReport(fold=fold, checkpoint=where))
    spec = DataSpec(size=(side, side))
    report = Report(run="bench", metric="dice", score=None, spec=spec, folds=records, tta=views)
    report.write(root / "output" / "bench" / "report.json")


def finish(value: Any = None) -> Any:
    """Waits until the device has done what it was told."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return value
