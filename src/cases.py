"""cases.png: the worst images of a run and the best, truth and prediction drawn over them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset import DataSpec
from images import read_image
from metrics import decide
from pictures import PREDICTION, TRUTH, draw_contours, tile, to_rgb, write_sheet
from postprocess import Rule, label_levels
from probs import read_probs

CASES = 8


def draw_cases(config: Any, masks: Any, ranked: Any, table: Any) -> Path:
    """Writes the worst images, then the best: truth in green and prediction in red.

    Args:
        config: the configuration.
        masks: the truth.
        ranked: scores of images (a DataFrame), the worst first.
        table: of `load_folds`.
    """
    from experiment import data_spec

    spec = data_spec(config)
    count = min(CASES, len(ranked))
    cases = list(ranked.head(count).itertuples()) + list(ranked.tail(count)[::-1].itertuples())
    rows = {row["img"]: row for row in table.to_dict("records")}
    tiles = []
    for case in cases:
        row, score = rows[case.img], getattr(case, config.METRIC)
        image = read_image(config.INPUT / row["image"], channels=spec.channels, bits=spec.bits)
        path = config.INPUT / row["mask"] if row["mask"] else None
        truth = masks.read(case.img, path, image.shape[:2])
        if spec.border:
            truth = masks.instances(case.img, path, image.shape[:2])
        levels = read_probs(config.RUN_OUTPUT / "oof" / f"{case.img}.png", spec.outputs)
        mask = shown(levels, spec, config.THRESHOLD)
        drawn = draw_contours(draw_contours(to_rgb(image), truth, TRUTH), mask, PREDICTION)
        tiles.append(tile(drawn, f"{float(score or 0):.3f} {case.img}"))
    path = config.RUN_OUTPUT / "cases.png"
    write_sheet(path, tiles)
    return path


def shown(levels: np.ndarray, spec: DataSpec, threshold: float) -> np.ndarray:
    """What is drawn of stored levels (K, H, W): the mask, or with a border the objects (H, W)."""
    if spec.border:
        return label_levels(levels, Rule(threshold, split=True))
    probs = torch.from_numpy(levels / np.float32(255))[None]
    return decide(probs, task=spec.task, threshold=threshold)[0].numpy()
