"""JSON that others may have written: read into values of the declared kinds, or one line."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from competition.polygon_files import read_coco_masks
from competitions import competition_in
from core.errors import UserError
from core.records import NewerRecord
from core.typed import misfits
from data.specs import DataSpec
from fuzzing import Dice, bent, damaged, fuzz
from postprocessing.rules import Rule
from runs.folder import RunFolder
from runs.reports import Blend, FoldReport, Report
from runs.seals import was_edited

SIZE = (6, 7)
FOLDER = Path()


COMPETITION: Any = None


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FOLDER, COMPETITION
    FOLDER = tmp_path_factory.mktemp("json")
    COMPETITION = competition_in(FOLDER, mask_path=FOLDER / "x.json")


def draw_file(values: Any, dice: Dice) -> Path:
    """A JSON file of these values, bent, or damaged as bytes."""
    path = FOLDER / "x.json"
    if dice.below(4):
        for _ in range(1 + dice.below(2)):
            values = bent(values, dice)
        path.write_text(json.dumps(values), encoding="utf-8")
    else:
        path.write_bytes(damaged(json.dumps(values).encode(), dice))
    return path


REPORT = Report(
    run="a",
    metric="dice",
    score=0.5,
    spec=DataSpec(task="multilabel", classes=2, class_names=("a", "b"), size=(32, 64)),
    images=3,
    scores={"dice": 0.5, "loss": None},
    folds=[FoldReport(fold=0, checkpoint="a/fold_0/checkpoints/best.ckpt", scores={"dice": 0.5})],
    rules=[Rule(0.4), Rule(0.6, gate=0.1)],
    tuning={"classes": [[{"step": "threshold"}]]},
    blend=Blend(weights=[0.5, 0.5], kind="probs", runs=["a", "b"], oof_keys=["x", None]),
).to_dict()


@fuzz(1000)
def test_a_report_is_of_the_declared_kinds(dice: Dice) -> None:
    try:
        report = Report.read(draw_file(json.loads(json.dumps(REPORT)), dice))
    except UserError:
        return
    # What the stages do with it.
    assert all(rule.min_area >= 0 for rule in report.decision)
    assert all(isinstance(fold.fold + 0, int) for fold in report.folds)
    logs = Path("/logs")
    assert all(logs in Path(os.path.normpath(logs / f.checkpoint)).parents for f in report.folds)
    assert DataSpec.from_dict(report.spec.to_dict()) == report.spec
    assert not misfits(report, {"Rule": Rule, "DataSpec": DataSpec})
    path = FOLDER / "again.json"
    report.write(path)
    again = Report.read(path).to_dict()
    written = json.loads(path.read_text())
    assert not was_edited(path)
    assert json.loads(json.dumps(again)) == {key: written[key] for key in written if key != "seal"}


RECORDS: dict[str, Any] = {
    "run.json": {"version": 1, "knobs": {"LR": 0.1, "TTA": ["flip_h"]}, "folds": "x", "data": None},
    "fold_0/finished.json": {"version": 1, "fold": 0, "score": 0.5, "epochs": 3, "seconds": 1.5},
}


@fuzz(500)
def test_what_the_trainer_left_is_of_the_declared_kinds(dice: Dice) -> None:
    run = RunFolder(FOLDER, "run")
    for name, values in RECORDS.items():
        path = run.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_file(values, dice).replace(path)
    try:
        begun, done = run.read_begun(), run.read_finished(0)
    except NewerRecord:
        return
    assert begun is None or not misfits(begun)
    if done and math.isnan(done.score):  # of a metric that was never a number
        done = replace(done, score=0.0)
    assert done is None or (not misfits(done) and done.fold == 0)


DISC = np.zeros(SIZE, np.uint8)
DISC[1:4, 2:5] = 1
PACKED = coco.encode(np.asfortranarray(DISC))
OUTLINES: list[Any] = [
    [[1, 1, 4, 1, 4, 3, 1, 3]],
    {"size": list(SIZE), "counts": PACKED["counts"].decode()},
    {"size": list(SIZE), "counts": [13, 3, 3, 3, 3, 3, 14]},
]
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
    "categories": [{"id": 1, "name": "car"}],
    "annotations": [{"image_id": 1, "category_id": 1, "segmentation": o} for o in OUTLINES],
}


@fuzz(1000)
def test_coco_is_masks_of_the_images_size(dice: Dice) -> None:
    draw_file(COCO, dice)
    try:
        masks = read_coco_masks(COMPETITION, [COMPETITION.mask_path])
        mask, objects = (read({"img": "a"}, SIZE) for read in (masks.read, masks.objects))
    except UserError:
        return
    assert mask.shape == objects.shape == SIZE
    assert set(np.unique(mask)) <= {0, 1}
    assert ((objects > 0) <= (mask > 0)).all()
