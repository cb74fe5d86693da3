"""Fold numbers for images, by scikit-learn: balanced over strata, never a group in two folds."""

import heapq
import warnings
from typing import Any

import numpy as np

from core.errors import UserError

BINS = 5
# Fold of images that are never validated.
ALWAYS_TRAINED = -1
# What helps beside fewer folds.
REMEDIES = {
    "image": "add images",
    "group": "mend GROUP_COLUMN or GROUP_PATTERN, or pass --split kfold",
    "filled fold": "pass another --split",
}


def split_images(count: int, n_folds: int, seed: int) -> np.ndarray:
    """Fold of each of `count` images, int64 (N,); fold sizes differ by at most 1."""
    from sklearn.model_selection import KFold

    need_enough(count, n_folds, "image")
    return _folds(KFold(n_folds, shuffle=True, random_state=seed), np.zeros(count, np.int64))


def split_strata(strata: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Fold of each image, int64 (N,), strata (N,) balanced."""
    from sklearn.model_selection import StratifiedKFold

    need_enough(len(strata), n_folds, "image")
    if np.bincount(strata).max() < n_folds:  # too few of each kind to spread
        return split_images(len(strata), n_folds, seed)
    return _folds(StratifiedKFold(n_folds, shuffle=True, random_state=seed), strata)


def split_groups(groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Fold of each image, int64 (N,); group codes (N,) stay whole, fold sizes come out close."""
    from sklearn.model_selection import GroupKFold

    need_enough(int(groups.max()) + 1, n_folds, "group")
    return _folds(GroupKFold(n_folds), groups, _shuffled(groups, seed))


def split_group_strata(
    groups: np.ndarray, strata: np.ndarray, n_folds: int, seed: int
) -> np.ndarray:
    """Fold of each image, int64 (N,): groups (N,) stay whole, strata (N,) as even as can be."""
    from sklearn.model_selection import StratifiedGroupKFold

    need_enough(int(groups.max()) + 1, n_folds, "group")
    if np.bincount(strata).max() < n_folds:
        return split_groups(groups, n_folds, seed)
    return _folds(StratifiedGroupKFold(n_folds), strata, _shuffled(groups, seed))


def _shuffled(groups: np.ndarray, seed: int) -> np.ndarray:
    """Group codes (N,) under other numbers: which of two equal groups comes first is the seed's.

    scikit-learn's own shuffles will not do: GroupKFold's forgets sizes, and StratifiedGroupKFold's
    dealt groups at random before 1.8 (https://github.com/scikit-learn/scikit-learn/pull/32540).
    """
    return np.random.default_rng(seed).permutation(int(groups.max()) + 1)[groups]


def _folds(splitter: Any, strata: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    folds = np.empty(len(strata), np.int64)
    with warnings.catch_warnings():
        # A stratum with fewer images than folds is spread as far as it goes.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for fold, (_, held_out) in enumerate(splitter.split(strata, strata, groups)):
                folds[held_out] = fold
        except ValueError as error:
            raise UserError(f"these images cannot be split so: {error}") from error
    need_enough(len(np.unique(folds)), splitter.get_n_splits(), "filled fold")
    return folds


def area_bins(shares: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Strata 0..bins of foreground shares (N,): 0 is empty, the rest equally full bins by rank."""
    strata = np.zeros(len(shares), np.int64)
    filled = np.flatnonzero(shares > 0)
    ranks = np.argsort(np.argsort(shares[filled], kind="stable"), kind="stable")
    strata[filled] = 1 + ranks * bins // max(1, len(filled))
    return strata


def need_enough(count: int, n_folds: int, what: str) -> None:
    """Raises when some fold would stay empty.

    Raises:
        UserError: fewer images or groups than folds.
    """
    if count >= n_folds:
        return
    fewer = f"pass --n-folds {count}{' or fewer' if count > 2 else ''}, or " if count >= 2 else ""
    raise UserError(
        f"{count} {what}{'s' * (count != 1)} cannot fill {n_folds} folds: {fewer}{REMEDIES[what]}"
    )


def join_folds(before: np.ndarray, groups: np.ndarray, *, closed: int | None = None) -> np.ndarray:
    """Fold of each image, int64 (N,), where some have one: those keep it.

    Others go where their group is, and new groups, the largest first, to the fold of fewest images.
    Where one fold is validated beside images that are always trained on, they are trained on, too.

    Args:
        before: float64 (N,), nan for images without a fold.
        groups: codes from 0, (N,).
        closed: fold that takes no new group.

    Raises:
        UserError: there are new groups, and no fold takes any.
    """
    known = ~np.isnan(before)
    numbers, places = np.unique(before[known].astype(np.int64), return_inverse=True)
    counts = np.zeros((groups.max() + 1, len(numbers)), np.int64)
    np.add.at(counts, (groups[known], places), 1)
    homes, sizes = numbers[counts.argmax(1)], np.bincount(groups)
    folds = np.where(known, before, homes[groups]).astype(np.int64)
    is_new = counts.sum(1) == 0
    held = folds[~is_new[groups]]
    takers = [fold for fold in numbers.tolist() if fold not in (ALWAYS_TRAINED, closed)]
    if is_new.any() and not takers:
        raise UserError(
            f"--join: {is_new.sum()} new groups, and no fold of train_folds.csv is open to them: "
            f"the folds are {numbers.tolist()}, HOLDOUT is {closed}. Leave --join out"
        )
    if len(takers) == 1 and ALWAYS_TRAINED in numbers:
        takers = [ALWAYS_TRAINED]
    filling = [(int((held == fold).sum()), fold) for fold in takers]
    heapq.heapify(filling)
    waiting = np.flatnonzero(is_new)
    for group in waiting[np.argsort(-sizes[waiting], kind="stable")]:
        size, fold = filling[0]
        homes[group] = fold
        heapq.heapreplace(filling, (size + int(sizes[group]), fold))
    return np.where(is_new[groups], homes[groups], folds)


def count_leaks(folds: np.ndarray, groups: np.ndarray) -> int:
    """How many groups lie in more than one fold."""
    pairs = np.unique(np.stack([groups, folds], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0]) > 1).sum())
