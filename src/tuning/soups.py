"""A fold's best and last network mixed into one, and whether that is better out of fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.advice import command
from core.errors import UserError, reason_of
from core.quantities import counted
from data.specs import Row
from postprocessing.rules import decide_by, label_by
from runs.baseline import beside, best_trivial
from runs.identity import check_own_fold, check_same_folds
from runs.predictions import open_oof
from runs.reports import check_same_task, checkpoints_of
from runs.run import Run
from scoring.gains import paired_gain
from scoring.objective import WholeScore
from scoring.oof import OofImages
from scoring.oof_scores import oof_values, read_truth
from training.checkpoints import SOUP_OF, weights_digest, write_checkpoint

Weights = Mapping[str, torch.Tensor]
# A soup that is being judged; what a kill leaves of it goes as all parts do.
TRIAL = "soup.ckpt.part"


def take_soup(run: Run) -> bool:
    """Leaves soup.ckpt in every fold of RUN if the soup is better; says whether it did.

    Raises:
        UserError: the run is not scored, or a fold lacks best.ckpt or last.ckpt.
    """
    check_same_folds(run)
    images, report = open_oof(run, run.name)
    check_same_task(run, report.spec)
    if any(fold.checkpoint.endswith("soup.ckpt") for fold in report.folds):
        print(f"run {run.name!r} has its soup: delete soup.ckpt and score it again to go back")
        return False
    folds, trained = [fold.fold for fold in report.folds], run.folder.trained()
    if trained != folds:
        raise UserError(
            f"a soup is for all folds: {trained} are trained, {folds} are scored. Score them all: "
            f"{command('Lightning_tester', run=run.name)}"
        )
    checkpoints_of(report, run.logs, None)
    for fold in folds:
        check_own_fold(run, fold, run.folder.last(fold))
    whole = WholeScore(run.metric, task=run.spec.task, classes=run.spec.classes, by_image=True)
    trials = {fold: run.folder.checkpoints(fold) / TRIAL for fold in folds}
    try:
        taken = weigh_soup(run, images, whole)
        # Until the last of them is renamed none of them counts, see `scored_checkpoint`.
        for fold, trial in trials.items() if taken else []:
            trial.replace(run.folder.soup(fold))
    finally:
        for trial in trials.values():
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
        UserError: one of them is missing or broken, or they are two networks.
    """
    paths = [folder / name for name in ("best.ckpt", "last.ckpt")]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"no {missing[0]}: a soup needs best.ckpt and last.ckpt of every fold")
    best, last = map(_read_weights, paths)
    if {name: value.shape for name, value in best["state_dict"].items()} != {
        name: value.shape for name, value in last["state_dict"].items()
    }:
        raise UserError(f"{paths[1]} holds another network than best.ckpt: put its own back")
    mixed = mix(best["state_dict"], last["state_dict"])
    write_checkpoint(target, {**best, "state_dict": mixed, SOUP_OF: weights_digest(paths[0])})


def _read_weights(path: Path) -> dict[str, Any]:
    """A checkpoint of this project as it is on disk.

    Raises:
        UserError: it cannot be read, or its weights are no numbers.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        finite = all(bool(torch.isfinite(v).all()) for v in checkpoint["state_dict"].values())
    except Exception as error:  # torch has a kind of its own for every way a file can be broken
        raise UserError(
            f"{path} does not load: {reason_of(error, path)}. Put it back, or train the fold again"
        ) from error
    if not finite:
        raise UserError(f"{path} holds nan or infinity: a soup of it is none")
    return checkpoint


def soup_values(
    run: Run, rows: Sequence[Row], checkpoint: Path, *, whole: WholeScore
) -> dict[str, torch.Tensor]:
    """(V,) values by image of a fold's validation images, as stored predictions would score."""
    from imaging.levels import to_levels

    predictor = run.predictor([[checkpoint]], views=[run.tta])
    by_img = {row["img"]: row for row in rows}
    images = [(row["img"], run.input / row["image"]) for row in rows]
    decided = label_by if whole.kind == "instances" else decide_by
    values = {}
    for img, size, probs in predictor.images(images):
        rounded = to_levels(probs).cpu().float() / 255
        mask = torch.from_numpy(decided(run.plain_rules, rounded, task=run.spec.task))[None]
        truth = read_truth(by_img[img], run.masks, whole=whole, size=size)
        values[img] = whole.values(mask, truth)
    return values


def weigh_soup(run: Run, images: OofImages, whole: WholeScore) -> bool:
    """Writes every fold's soup and scores it beside the stored predictions; is it better?"""
    before = oof_values([images], run.plain_rules, whole, weights=[[1.0]])[:, 0]
    after: dict[str, torch.Tensor] = {}
    for fold in sorted(set(images.folds)):
        folder = run.folder.checkpoints(fold)
        write_soup(folder, folder / TRIAL)
        rows = [row for row in images.rows if row["fold"] == fold]
        after |= soup_values(run, rows, folder / TRIAL, whole=whole)
    stacked = torch.stack([after[row["img"]] for row in images.rows])
    gain = paired_gain(before, stacked, whole.score, groups=np.array(images.groups))
    scores = [float(whole.score(values.sum(0))) for values in (before, stacked)]
    word = "the soup is taken" if gain.real else "the soup is not taken: noise"
    print(
        f"{word}: {run.metric} of {counted(len(images), 'image')}, best.ckpt {scores[0]:.4f}, mean "
        "with "
        f"last.ckpt {scores[1]:.4f}, {gain}{beside(best_trivial(run))}"
    )
    return gain.real
