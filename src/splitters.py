"""Fold numbers for images: shuffled, balanced over strata, never a group in two folds.

Own code and not scikit-learn's: its import costs more than a second, its GroupKFold shuffles only
since 1.6 and then ignores group sizes, and its StratifiedGroupKFold takes 10 s for 100,000 groups.
"""

import heapq

import numpy as np

from errors import UserError

BINS = 5
# Greedy filling depends on the order of equals: small tables can afford a few orders.
TRIES = 8
FEW_GROUPS = 10_000


def split_images(count: int, n_folds: int, seed: int) -> np.ndarray:
    """Fold of each of `count` images, int64 (N,); fold sizes differ by at most 1."""
    return split_strata(np.zeros(count, np.int64), n_folds, seed)


def split_strata(strata: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Fold of each image, int64 (N,), strata (N,) balanced.

    Images of one stratum, and images in all, differ by at most 1 between folds.
    """
    need_enough(len(strata), n_folds, "images")
    shuffled = np.random.default_rng(seed).permutation(len(strata))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    folds = np.empty(len(strata), np.int64)
    folds[order] = np.arange(len(strata)) % n_folds
    return folds


def split_groups(groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Fold of each image, int64 (N,); group codes (N,) stay whole, the lightest fold takes next.

    Large groups go first, equal ones in random order, so that fold sizes come out close.
    """
    sizes = np.bincount(groups)
    need_enough(len(sizes), n_folds, "groups")
    heap = [(0, fold) for fold in range(n_folds)]
    fold_of = np.empty(len(sizes), np.int64)
    for group in largest_first(sizes, seed):
        size, fold = heap[0]
        fold_of[group] = fold
        heapq.heapreplace(heap, (size + int(sizes[group]), fold))
    return fold_of[groups]


def split_group_strata(
    groups: np.ndarray, strata: np.ndarray, n_folds: int, seed: int
) -> np.ndarray:
    """Fold of each image, int64 (N,): groups (N,) stay whole, strata (N,) balanced as they allow.

    Greedy on the variance of each stratum's share over folds. Putting group g into fold f
    adds sum_c w_c (2 n_fc g_c + g_c^2); only the first term depends on f, so that a group
    costs one small product. An empty fold costs least, hence no fold stays empty.
    """
    n_groups, n_strata = int(groups.max()) + 1, int(strata.max()) + 1
    need_enough(n_groups, n_folds, "groups")
    table = np.bincount(groups * n_strata + strata, minlength=n_groups * n_strata)
    table = table.reshape(n_groups, n_strata).astype(np.float64)
    # Last column: the size of a fold counts like one more stratum.
    table = np.column_stack([table, table.sum(axis=1)])
    weights = 1.0 / np.maximum(table.sum(axis=0), 1) ** 2
    spread = (table[:, :-1] ** 2 * weights[:-1]).sum(axis=1)
    tries = TRIES if n_groups <= FEW_GROUPS else 1
    found = [
        fill_folds(table, weights, largest_first(order, at), n_folds)
        for at in range(seed, seed + tries)
        for order in ((spread,) if tries == 1 else (spread, table[:, -1]))
    ]
    best = min(found, key=lambda pair: pair[0])
    return best[1][groups]


def fill_folds(
    table: np.ndarray, weights: np.ndarray, order: list[int], n_folds: int
) -> tuple[float, np.ndarray]:
    """Mean spread of the strata's shares over folds, and the fold of each group, int64 (G,).

    Args:
        table: images of each group and stratum, last column the group's size (G, S + 1).
        weights: 1 / total^2 of each column (S + 1,).
        order: groups as they are handed out.
        n_folds: number of folds.
    """
    held = np.zeros((n_folds, table.shape[1]))
    fold_of = np.empty(len(table), np.int64)
    weighted = table * weights
    for group in order:
        fold = int((held @ weighted[group]).argmin())
        fold_of[group] = fold
        held[fold] += table[group]
    return float((held * np.sqrt(weights))[:, :-1].std(axis=0).mean()), fold_of


def largest_first(sizes: np.ndarray, seed: int) -> list[int]:
    """Positions by falling size, equal sizes shuffled."""
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    return shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist()


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
    if count < n_folds:
        raise UserError(
            f"{count} {what} cannot fill {n_folds} folds: pass --n-folds {max(2, count)} or fewer, "
            f"or another --split"
        )


def count_leaks(folds: np.ndarray, groups: np.ndarray) -> int:
    """How many groups lie in more than one fold."""
    pairs = np.unique(np.stack([groups, folds], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0]) > 1).sum())
