"""A fold's best and last network mixed into one, and whether that is better out of fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import UserError
from postprocessing.rules import Rule, decide_by, label_by
from runs.experiment import build_predictor, check_same_folds, load_folds, mask_source, run_folder
from runs.predictions import open_oof
from runs.reports import check_same_task
from scoring.gains import paired_gain
from scoring.objective import WholeScore
from scoring.oof import OofImages
from scoring.oof_scores import oof_values, read_truth
from training.checkpoints import write_checkpoint

Weights = Mapping[str, torch.Tensor]


def take_soup(config: Any) -> bool:
    """Leaves soup.ckpt in every fold of RUN if the soup is better; says whether it did.

    Raises:
        UserError: the run is not scored, or a fold lacks best.ckpt or last.ckpt.
    """
    table = load_folds(config)
    check_same_folds(config)
    images, report = open_oof(config, table, config.RUN, mask_source(config))
    check_same_task(config, report.spec)
    if any(fold.checkpoint.endswith("soup.ckpt") for fold in report.folds):
        print(f"run {config.RUN!r} has its soup: delete soup.ckpt and score it again to go back")
        return False
    whole = WholeScore(config.METRIC, task=config.TASK, classes=config.CLASSES)
    folder = run_folder(config)
    trials = [folder.checkpoints(fold.fold) / "soup.trial" for fold in report.folds]
    try:
        taken = weigh_soup(config, images, whole)
        for trial in trials if taken else []:
            trial.replace(trial.with_suffix(".ckpt"))
    finally:
        for trial in trials:
            trial.unlink(missing_ok=True)
    return taken


def mix(first: Weights, second: Weights) -> dict[str, torch.Tensor]:
    """The mean of two networks' weights; counters are the second's.

    BatchNorm's running means and variances are averaged like weights. That is not what a pass over
    the training images would find, which is why the mix has to prove itself out of fold.

    Source: Wortsman et al. 2022, Model soups.
    """
    return {
        name: (first[name] + value) / 2 if value.is_floating_point() else value
        for name, value in second.items()
    }


def write_soup(folder: Path, target: Path) -> None:
    """Writes the mean of best.ckpt and last.ckpt of a fold's `folder` as a checkpoint.

    Raises:
        UserError: one of them is missing.
    """
    paths = [folder / name for name in ("best.ckpt", "last.ckpt")]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"no {missing[0]}: a soup needs best.ckpt and last.ckpt of every fold")
    best, last = (torch.load(path, map_location="cpu", weights_only=True) for path in paths)
    mixed = mix(best["state_dict"], last["state_dict"])
    write_checkpoint(target, {**best, "state_dict": mixed})


def plain_rules(config: Any) -> list[Rule]:
    """The decision of every class before anything is tuned."""
    return [Rule(config.THRESHOLD, split=config.INSTANCES == "border")] * config.CLASSES


def soup_values(
    config: Any, rows: Sequence[dict[str, Any]], checkpoint: Path, masks: Any, *, whole: WholeScore
) -> dict[str, torch.Tensor]:
    """(V,) values by image of a fold's validation images, as stored predictions would score."""
    from imaging.levels import to_levels

    predictor = build_predictor(config, [[checkpoint]], views=[config.TTA])
    by_img = {row["img"]: row for row in rows}
    images = [(row["img"], config.INPUT / row["image"]) for row in rows]
    rules = plain_rules(config)
    decided = label_by if whole.kind == "instances" else decide_by
    values = {}
    for img, size, probs in predictor.images(images):
        rounded = to_levels(probs).cpu().float() / 255
        mask = torch.from_numpy(decided(rules, rounded, task=config.TASK))[None]
        truth = read_truth(config, by_img[img], masks, whole=whole, size=size)
        values[img] = whole.values(mask, truth)
    return values


def weigh_soup(config: Any, images: OofImages, whole: WholeScore) -> bool:
    """Writes every fold's soup and scores it beside the stored predictions; is it better?"""
    before = oof_values([images], plain_rules(config), whole, weights=[[1.0]])[:, 0]
    after: dict[str, torch.Tensor] = {}
    for fold in sorted(set(images.folds)):
        folder = run_folder(config).checkpoints(fold)
        write_soup(folder, folder / "soup.trial")
        rows = [row for row in images.rows if row["fold"] == fold]
        after |= soup_values(config, rows, folder / "soup.trial", images.masks, whole=whole)
    stacked = torch.stack([after[row["img"]] for row in images.rows])
    gain = paired_gain(before, stacked, whole.score, groups=np.array(images.groups))
    scores = [float(whole.score(values.sum(0))) for values in (before, stacked)]
    word = "taken" if gain.real else "noise, not taken"
    print(
        f"{config.METRIC} of {len(images)} images: best.ckpt {scores[0]:.4f}, mean with last.ckpt "
        f"{scores[1]:.4f}, {gain}: {word}"
    )
    return gain.real
