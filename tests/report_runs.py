"""Scored runs that no network made, for the tests of report.html."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from competition.mask_source import MaskSource
from core.errors import script
from core.flags import load_config
from core.knobs import knob_values
from reporting.build import write_page
from runs.experiment import run_of
from runs.fold_records import FoldRecord
from runs.run import Run
from runs.scored import build_scorer, write_report

TASKS = {"binary": 1, "multiclass": 3, "multilabel": 2}
NASTY = '<script>x</script>&amp;"z'
SIZES = ((30, 40), (25, 33))
VOID = 255


@script
def write(argv: Sequence[str]) -> int:
    """Writes the page of a run, as Lightning_tester.py and tune.py do."""
    config, _ = load_config(argv)
    write_page(run_of(config), knob_values(config))
    return 0


class Fake(NamedTuple):
    """A scored run that no network made."""

    flags: list[str]
    folder: Path
    logs: Path
    truth: dict[str, np.ndarray]
    levels: dict[str, np.ndarray]

    def page(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")

    def shown(self) -> dict[str, Any]:
        """The figures of the page, for programs."""
        (text,) = re.findall(
            r'<script type="application/json" id="figures">(.*?)</script>', self.page(), re.S
        )
        return json.loads(text)

    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_text())

    def write(self, **changes: Any) -> None:
        path = self.folder / "report.json"
        path.write_text(json.dumps({**self.report(), **changes}))


class Truth(MaskSource):
    """Masks from memory."""

    has_objects = False

    def __init__(self, masks: dict[str, np.ndarray]):
        self.masks = masks

    def read(self, row: Any, size: tuple[int, int]) -> np.ndarray:
        mask = self.masks[row["img"]]
        return mask[0] if len(mask) == 1 else mask

    def objects(self, row: Any, size: tuple[int, int]) -> None:
        return None


def draw(rng: np.random.Generator, task: str, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """(truth, levels): a blob a class, and probabilities that follow it with much noise."""
    field = cv2.GaussianBlur(rng.normal(size=(*size, TASKS[task])), (0, 0), 4)
    planes = np.atleast_3d(field).transpose(2, 0, 1)
    noisy = planes / planes.std() + rng.normal(0, 0.7, planes.shape)
    if task != "multiclass":
        return (planes > 0).astype(np.uint8), (255 / (1 + np.exp(-2 * noisy))).astype(np.uint8)
    share = np.exp(2 * noisy)
    truth = planes.argmax(0).astype(np.uint8)
    truth[:5] = VOID
    return truth, (255 * share / share.sum(0)).astype(np.uint8)


def fake_run(root: Path, task: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> Fake:
    """Files of a run as trainer and tester leave them; one image has an empty mask."""
    rng = np.random.default_rng(5)
    imgs = [f"g&{group}_{view}" for group in range(5) for view in range(2)]
    for folder in ("input", "output/baseline/oof"):
        (root / folder).mkdir(parents=True)
    truth, levels = {}, {}
    for at, img in enumerate(imgs):
        truth[img], levels[img] = draw(rng, task, SIZES[at % 2])
        if at == 3 and task != "multiclass":
            truth[img][:] = 0
        picture = rng.integers(0, 255, (*levels[img].shape[1:], 3), np.uint8)
        cv2.imwrite(str(root / "input" / f"{img}.png"), picture)
        stacked = levels[img].reshape(-1, levels[img].shape[-1])
        cv2.imwrite(str(root / "output" / "baseline" / "oof" / f"{img}.png"), stacked)
    table = pd.DataFrame({"img": imgs, "image": [f"{img}.png" for img in imgs], "mask": ""})
    table["group"], table["kfold"] = table["img"].str[:-2], np.arange(10) // 2 % 2
    table.to_csv(root / "output" / "train_folds.csv", index=False)
    names = ",".join([NASTY, "red", "blue"][: TASKS[task]])
    flags = [
        *("--input", str(root / "input"), "--output", str(root / "output")),
        *("--logs", str(root / "logs"), "--task", task, "--classes", str(TASKS[task])),
        *("--class-names", names, "--epochs", "3", "--model-name", "tiny"),
        *("--metric", "miou" if task == "multiclass" else "dice", *more),
    ]
    monkeypatch.setattr(Run, "masks", Truth(truth))
    config, _ = load_config(flags)
    run = run_of(config)
    records = [fold_record(run, fold, levels) for fold in (0, 1)]
    scorer = build_scorer(run)
    scorer.pool(records)
    write_report(run, scorer, records, holdout={}, worst=False)
    for fold in (0, 1):
        write_logs(root / "logs" / "baseline" / f"fold_{fold}", fold, run.metric)
    return Fake(flags, root / "output" / "baseline", root / "logs", truth, levels)


def fold_record(run: Run, fold: int, levels: Any) -> FoldRecord:
    scorer = build_scorer(run)
    rows = run.table[run.table["kfold"] == fold].to_dict("records")
    for row in rows:
        scorer.add(row, torch.from_numpy(levels[row["img"]]) / 255, fold=fold)
    return FoldRecord(
        fold=fold,
        checkpoint=f"baseline/fold_{fold}/checkpoints/best.ckpt",
        images=len(rows),
        state={},
        spec=run.spec.to_dict(),
        recipe={},
        scores=scorer.scores(),
        **vars(scorer.scored()),
    )


def write_logs(folder: Path, fold: int, metric: str) -> None:
    folder.mkdir(parents=True)
    done = {"fold": fold, "seconds": 90.0 + fold, "epochs": 3, "steps": 9, "score": 0.5}
    (folder / "finished.json").write_text(json.dumps(done))
    (folder / "config.json").write_text(json.dumps({"EPOCHS": 3, "LR": 0.5}))
    steps = pd.DataFrame({"epoch": [0, 0, 1, 1, 2, 2], "step": range(6)})
    steps["lr-AdamW/head"] = 0.1
    steps["train_loss"] = [4.0, 2.0, np.nan, 1.0, 0.5, 0.5]
    steps["val_loss"] = [np.nan, 2.0, np.nan, 1.5, np.nan, 1.25 + fold]
    steps[f"val_{metric}"] = [np.nan, 0.25, np.nan, 0.5, np.nan, 0.75]
    steps.to_csv(folder / "metrics.csv", index=False)
