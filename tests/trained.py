"""What a training has left on disk, for the tests of every stage that looks there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from competition.file_masks import FileMasks
from conftest import Competition
from imaging.mask_files import MaskRules
from Lightning_datamodule import LoaderSpec, SegmentationDataModule, split_rows


def fold_of(competition: Competition, run: str = "baseline", fold: int = 0) -> Path:
    return competition.logs / run / f"fold_{fold}"


def finished(competition: Competition, run: str = "baseline", fold: int = 0) -> dict[str, Any]:
    return json.loads((fold_of(competition, run, fold) / "finished.json").read_text())


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def same_weights(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def score_of(competition: Competition, module: Any) -> float:
    """Mean Dice of the validation images of fold 0, by NumPy."""
    train, val = split_rows(competition.table, 0)
    data = SegmentationDataModule(
        train,
        val,
        root=competition.input,
        spec=module.spec,
        masks=FileMasks(MaskRules("binary"), competition.input),
        loader=LoaderSpec(val_batch_size=1, num_workers=0),
    )
    scores = []
    for batch in data.val_dataloader():
        with torch.inference_mode():
            pred = (module.eval()(batch["image"]).sigmoid() > 0.5).numpy()
        mask = batch["mask"].numpy() > 0
        scores.append(2 * (pred & mask).sum() / (pred.sum() + mask.sum()))
    return float(np.mean(scores))
