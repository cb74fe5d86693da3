"""Runs beside each other, image by image: is one better, and which two are final submissions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from core.errors import UserError
from core.quantities import counted
from runs.baseline import beside, best_trivial
from runs.finalists import advise
from runs.folder import RunFolder
from runs.predictions import open_oof
from runs.run import Run
from scoring.gains import Gain, paired_gain
from scoring.objective import WholeScore
from scoring.oof_scores import common_images, oof_values


def run_values(run: Run, names: Sequence[str]) -> tuple[dict[str, Tensor], WholeScore, np.ndarray]:
    """(values (N, V) by run, the metric, groups) of the images that all runs predicted.

    Each run is decided by its own rules.

    Raises:
        UserError: a run is not scored, or they are of different tasks or classes.
    """
    opened = [open_oof(run, name) for name in names]
    if len({(images.task, images.classes) for images, _ in opened}) > 1:
        raise UserError(f"{', '.join(names)} are of different tasks or classes: compare like runs")
    common = common_images([images for images, _ in opened])
    whole = WholeScore(run.metric, task=common[0].task, classes=common[0].classes)
    values = {
        name: oof_values([images], report.decision, whole, weights=[[1.0]])[:, 0]
        for name, images, (_, report) in zip(names, common, opened, strict=True)
    }
    return values, whole, np.array(common[0].groups)


def compare_pair(run: Run, names: Sequence[str]) -> str:
    """The difference of two runs in words.

    Raises:
        UserError: as `run_values`.
    """
    values, whole, groups = run_values(run, names)
    gain = paired_gain(values[names[0]], values[names[1]], whole.score, groups=groups)
    scores = [float(whole.score(values[name].sum(0))) for name in names]
    told = gain.low > 0 or gain.high < 0  # neither of nan
    word = f"{names[gain.gain > 0]} is better" if told else "noise"
    verdict = pseudo_verdict(run.logs, names, gain)
    return (
        f"{run.metric} of {counted(len(groups), 'image')}: {names[0]} {scores[0]:.4f}, "
        f"{names[1]} {scores[1]:.4f}, difference {gain}: {word}{verdict}"
        f"{beside(best_trivial(run))}"
    )


def pseudo_verdict(logs: Path, names: Sequence[str], gain: Gain) -> str:
    """Whether to go on, where the second run was trained on pseudo-labels of the first; or ""."""
    begun = RunFolder(logs, names[1]).read_begun()
    if begun is None or begun.knobs.get("PSEUDO") != names[0]:
        return ""
    if gain.real:
        return f". Pseudo-labels helped: {names[1]} may teach another round"
    return f". Pseudo-labels did not help: stop here and keep {names[0]}"


def advise_pair(run: Run, names: Sequence[str]) -> str:
    """Which two of the runs to submit as final ones, with the reasons.

    Raises:
        UserError: as `run_values`.
    """
    values, whole, groups = run_values(run, names)
    best, others = advise(values, whole, groups)
    score = float(whole.score(values[best].sum(0)))
    lines = [
        f"{run.metric} of {counted(len(groups), 'image')}",
        f"first:  {best} {score:.4f}, the best",
    ]
    lines.append(f"second: {others[0]}")
    return "\n".join(lines + [f"not:    {one}" for one in others[1:]])
