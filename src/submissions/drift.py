"""Does a submission look like the out-of-fold predictions, and those like the truth?"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from imaging.mask_files import IGNORE
from postprocessing.rules import Rule, decide_by, decide_levels
from scoring.oof import OofImages

# A shift that chance makes once in ten thousand files, and of a size worth a look.
RARE, LARGE = 1e-4, 0.1


@dataclass(frozen=True)
class Shares:
    """Foreground shares 0-1 of images: the truth's and the out-of-fold decision's."""

    truth: np.ndarray
    decided: np.ndarray


def oof_shares(images: OofImages, rules: Sequence[Rule], *, first: int = 1) -> Shares:
    """Foreground shares of each stored image; several classes are averaged.

    Args:
        images: what the tester left.
        rules: of the decision, one a class.
        first: multiclass: the first class that a submission has rows of.
    """

    def both(at: int) -> tuple[float, float]:
        levels = images.levels(at)
        truth = images.truth(at, levels.shape[1:])
        if images.task == "multiclass":
            import torch

            mask = decide_by(rules, torch.from_numpy(levels).float(), task=images.task)
            return _foreground(truth, first), _foreground(mask, first)
        mask = decide_levels(rules, levels, images.gates(at))
        return float(truth.mean()), float(mask.mean())

    pairs = np.array(images.each(both)).reshape(-1, 2)
    return Shares(pairs[:, 0], pairs[:, 1])


def _foreground(ids: np.ndarray, first: int) -> float:
    return float(((ids >= first) & (ids < IGNORE)).mean())


def drift_lines(submitted: np.ndarray, known: Shares) -> list[str]:
    """Warnings about a submission's foreground shares (N,), none when they look alike.

    None either where the out-of-fold masks are as far from the truth, which is the networks' doing,
    or farther.
    """
    lines = []
    empty, theirs, decided = (
        float((shares == 0).mean()) for shares in (submitted, known.truth, known.decided)
    )
    table = [[(group == 0).sum(), (group > 0).sum()] for group in (submitted, known.truth)]
    beyond = abs(empty - theirs) - abs(decided - theirs)
    if beyond > LARGE and stats.fisher_exact(table).pvalue < RARE:
        lines.append(
            f"{empty:.1%} of the images are empty, of the training masks {theirs:.1%}, out of fold "
            f"{decided:.1%}: is the threshold or the gate right, is it the right test folder?"
        )
    shift = _apart(submitted, known.decided)
    own = _apart(known.decided, known.truth).statistic
    off = _apart(submitted, known.truth).statistic
    if shift.statistic > 2 * LARGE and shift.pvalue < RARE and off > own:
        lines.append(
            f"the median image is {np.median(submitted):.2%} foreground, out of fold "
            f"{np.median(known.decided):.2%}, in truth {np.median(known.truth):.2%}: test images "
            "differ, or are read differently; or it is the mean of networks that are sure of "
            "different things, as weak ones are"
        )
    return lines


def _apart(one: np.ndarray, two: np.ndarray) -> Any:
    """How far samples lie apart, by Kolmogorov and Smirnov; of ties the p-value is asymptotic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy says so each time
        return stats.ks_2samp(one, two)
