"""Near-duplicates among many pictures: found by parts of their hashes, not all against all.

Source: Norouzi et al. 2012, multi-index hashing: two hashes that differ in NEAR bits at most agree
in one of NEAR + 1 parts, so only those with a part in common are compared.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np

from looking.likeness import NEAR, Looks


class Hashed(NamedTuple):
    """Pictures by their hashes.

    Attributes:
        members: indices of the pictures of each hash, ascending.
        near: int64 (P, 2), numbers of two hashes, the smaller first, that differ in NEAR bits at
            most.
    """

    members: list[np.ndarray]
    near: np.ndarray


def near_pairs(looks: Looks) -> list[tuple[int, int]]:
    """Index pairs i < j of pictures that look alike, sorted."""
    members, near = _by_hash(looks)
    found = [pair for same in members for pair in combinations(same.tolist(), 2)]
    for a, b in near.tolist():
        others = members[b].tolist()
        found += [(min(i, j), max(i, j)) for i in members[a].tolist() for j in others]
    return sorted(found)


def pairs_apart(looks: Looks, sides: np.ndarray, shown: int) -> tuple[int, list[tuple[int, int]]]:
    """How many of `near_pairs` lie on two sides, and the first of them.

    They are counted without a list: a thousand copies of one picture make half a million pairs.

    Args:
        looks: of N pictures.
        sides: int64 (N,), the fold of each.
        shown: how many are wanted.
    """
    hashed = _by_hash(looks)
    codes = np.unique(sides, return_inverse=True)[1]
    number = int(codes.max(initial=0)) + 1
    counts = np.array([np.bincount(codes[same], minlength=number) for same in hashed.members])
    counts = counts.reshape(-1, number)
    whole, (a, b) = counts.sum(1), hashed.near.T
    within = (whole**2 - (counts**2).sum(1)) // 2
    between = whole[a] * whole[b] - (counts[a] * counts[b]).sum(1)
    first = islice(_apart(hashed, codes, counts), shown)
    return int(within.sum() + between.sum()), list(first)


def _apart(hashed: Hashed, codes: np.ndarray, counts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs on two sides in order; `counts` (hashes, sides) passes by what has none."""
    alike = defaultdict(list, {at: [at] for at in range(len(hashed.members))})
    for a, b in hashed.near.tolist():
        alike[a].append(b)
        alike[b].append(a)
    hash_of = {i: at for at, same in enumerate(hashed.members) for i in same.tolist()}
    for i in sorted(hash_of):
        own = codes[i]
        open_to = [at for at in alike[hash_of[i]] if counts[at].sum() > counts[at, own]]
        others = [hashed.members[at] for at in open_to]
        for j in sorted(j for some in others for j in some[codes[some] != own].tolist() if j > i):
            yield i, j


def _by_hash(looks: Looks) -> Hashed:
    known = np.flatnonzero(looks.known)
    words = np.packbits(looks.hashes[known].astype(bool), axis=1).view(np.uint64)
    unique, which = np.unique(words, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(which.ravel(), minlength=len(unique)))
    return Hashed(np.split(known[order], ends[:-1]) if len(known) else [], _near(unique))


def _near(words: np.ndarray) -> np.ndarray:
    """Pairs int64 (P, 2) of different hashes, uint64 (U, 4), that differ in NEAR bits at most."""
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    found = [np.empty((0, 2), np.int64)]
    for part in range(NEAR + 1):
        # Bits far from each other: neighbours in a smooth picture say the same.
        own = bits[:, part :: NEAR + 1].astype(np.int64)
        keys = own @ (1 << np.arange(own.shape[1]))
        order = np.argsort(keys, kind="stable")
        keys, at, step = keys[order], np.arange(len(order)), 1
        while len(at := at[at + step < len(keys)]):
            at = at[keys[at] == keys[at + step]]
            pairs = np.stack([order[at], order[at + step]], axis=1)
            apart = np.bitwise_count(words[pairs[:, 0]] ^ words[pairs[:, 1]]).sum(1)
            found.append(np.sort(pairs[apart <= NEAR], axis=1))
            step += 1
    return np.unique(np.concatenate(found), axis=0)
