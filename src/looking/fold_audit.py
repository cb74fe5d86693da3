"""Do folds leak: look-alikes on both sides of a split, groups that it tears, and its balance."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from competition.sequences import neighbours
from core.quantities import counted
from looking.likeness import Looks, nearest_apart
from looking.near import pairs_apart

# Columns of a table that name what images have in common.
GROUP_NAME = re.compile(
    r"patient|subject|case|person|slide|scan|scene|video|sequence|clip|flight|plate|scroll|fragment"
    r"|flood|event|site|place|location|region|tile_of|parent|source_image|group",
    re.IGNORECASE,
)
# Images whose look-alike is searched; the rest is like them.
ASKED = 1000
# Fewer look-alikes tell nothing.
TELLING = 8
# How much oftener than by chance the look-alike is of the own group, 0 never, 1 always.
SURE = 0.5
# Share of all images that are more like one than its neighbour is: by chance a half.
RANK = 0.15
# The largest fold in images, or the share of foreground, against the smallest.
UNEVEN = 1.5
SHOWN = 3
# All images are of few groups where there are less, of TELLING images at least.
FEW = 10


@dataclass(frozen=True)
class FoldAudit:
    """What is wrong with folds; see `verdict`.

    Attributes:
        images: how many are in the table; `unknown` of them could not be looked at.
        near: how many pairs of near-duplicates lie in two folds; `pairs` are the first.
        torn: a line for each grouping that the folds tear.
        uneven: a line for each lack of balance.
        few: a line for each grouping into few groups, no fold without one.
    """

    images: int
    unknown: int = 0
    near: int = 0
    pairs: list[tuple[str, str]] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    uneven: list[str] = field(default_factory=list)
    few: list[str] = field(default_factory=list)

    @property
    def leaks(self) -> bool:
        """Whether scores on these folds would be too good."""
        return bool(self.near or self.torn)

    def verdict(self) -> str:
        """The audit in one line."""
        parts = list(self.torn)
        if self.near:
            shown = ", ".join(f"{one} and {other}" for one, other in self.pairs)
            more = ", ..." if self.near > len(self.pairs) else ""
            parts.append(
                f"{counted(self.near, 'pair')} of near-duplicates in two folds ({shown}{more})"
            )
        word = "LEAK" if self.leaks else "no leak found"
        if not self.leaks:
            parts = [
                f"no near-duplicates and no group in two folds, {counted(self.images, 'image')}"
            ]
        if self.unknown:
            parts.append(f"{self.unknown} flat or unreadable images were not looked at")
        balance = f"; balance: {', '.join(self.uneven)}" if self.uneven else ""
        few = "".join(f"; {line}" for line in self.few)
        return f"fold audit: {word}: {'; '.join(parts)}{balance}{few}"


def audit_folds(
    names: Sequence[str],
    folds: np.ndarray,
    looks: Looks,
    *,
    groupings: Mapping[str, np.ndarray],
    declared: str = "",
    shares: np.ndarray | None = None,
) -> FoldAudit:
    """The audit of a fold table.

    Args:
        names: ids of the images.
        folds: int64 (N,); -1 is always trained.
        looks: of the images.
        groupings: a name to the group of each image; those of more than one image count.
        declared: the grouping that the user named: that one must not be torn, look-alikes or not.
        shares: foreground share of each image, float64 (N,), where it is known.
    """
    near, pairs = pairs_apart(looks, folds, SHOWN)
    torn, few = [], []
    for name, groups in groupings.items():
        if line := _torn_line(name, groups, folds, looks, sure=name == declared):
            torn.append(line)
        elif line := _few_line(name, groups, folds):
            few.append(line)
    if line := _neighbours_line(names, folds, looks):
        torn.append(line)
    return FoldAudit(
        images=len(names),
        unknown=int((~looks.known).sum()),
        near=near,
        pairs=[(names[i], names[j]) for i, j in pairs],
        torn=torn,
        uneven=_balance(folds, shares),
        few=few,
    )


def guess_groupings(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of a table that may say which images belong together."""
    return {name: cells for name, cells in columns.items() if GROUP_NAME.search(name)}


def _torn_line(
    name: str, groups: np.ndarray, folds: np.ndarray, looks: Looks, *, sure: bool
) -> str:
    """What is wrong with a grouping; "" where folds keep it, or nothing shows that it matters."""
    codes = np.unique(groups, return_inverse=True)[1]
    pairs = np.unique(np.stack([codes, folds], axis=1), axis=0)
    torn = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    if not len(torn):
        return ""
    some = [str(groups[codes == code][0]) for code in torn[:SHOWN]]
    shown = ", ".join(some) + (", ..." if len(torn) > SHOWN else "")
    count = f"{len(torn)} group{'s lie' if len(torn) > 1 else ' lies'} in more than one fold"
    told = f"{count} ({name}: {shown})"
    share, lift = _likeness_in_groups(codes, folds, looks)
    if lift >= SURE:
        return f"{told}, and of {share:.0%} of their images the nearest look-alike is there"
    return told if sure else ""


def _few_line(name: str, groups: np.ndarray, folds: np.ndarray) -> str:
    """What folds cannot tell of a grouping into few groups, all of them on several sides.

    "" where groups are many, or a fold holds one that training has not seen.
    """
    known, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if not 2 <= len(known) < FEW or sizes.min() < TELLING:
        return ""
    pairs = np.unique(np.stack([codes, folds], axis=1), axis=0)
    if np.bincount(pairs[:, 0]).min() < 2:
        return ""
    shown = ", ".join(map(str, known[:SHOWN])) + (", ..." if len(known) > SHOWN else "")
    return (
        f"all images are of {len(known)} groups ({name}: {shown}), each in several folds: the "
        "score says nothing of a new one, groups kept whole do"
    )


def _likeness_in_groups(codes: np.ndarray, folds: np.ndarray, looks: Looks) -> tuple[float, float]:
    """How often the look-alike in another fold is of the own group, and by how much above chance.

    Only images are asked whose group lies in another fold, too. The second number is 0 where the
    share is chance's, 1 where it is always so.
    """
    size = np.bincount(codes)[codes]
    table = np.zeros((codes.max() + 1, len(np.unique(folds))), np.int64)
    sides = np.unique(folds, return_inverse=True)[1]
    np.add.at(table, (codes, sides), 1)
    elsewhere = size - table[codes, sides]
    asked = np.flatnonzero((elsewhere > 0) & looks.known)
    asked = asked[:: -(-len(asked) // ASKED) or 1]
    nearest = nearest_apart(looks, asked, sides)
    asked, nearest = asked[nearest >= 0], nearest[nearest >= 0]
    if len(asked) < TELLING:
        return 0.0, 0.0
    share = float((codes[asked] == codes[nearest]).mean())
    others = len(codes) - np.bincount(sides)[sides[asked]]
    chance = float((elsewhere[asked] / others).mean())
    return share, (share - chance) / max(1 - chance, 1e-9)


def _neighbours_line(names: Sequence[str], folds: np.ndarray, looks: Looks) -> str:
    """What is wrong with folds of numbered ids; "" where neighbours share one or differ."""
    pairs = known_neighbours(names, looks)
    torn = [(i, j) for i, j in pairs if folds[i] != folds[j]]
    if len(torn) < max(TELLING, len(pairs) // 2) or not are_alike(torn, looks):
        return ""
    shown = ", ".join(f"{names[i]} and {names[j]}" for i, j in torn[:SHOWN])
    more = ", ..." if len(torn) > SHOWN else ""
    return (
        f"ids follow each other and look alike, and {len(torn)} of {len(pairs)} neighbours lie in "
        f"two folds ({shown}{more}): SPLIT=blocks keeps most together"
    )


def known_neighbours(names: Sequence[str], looks: Looks) -> list[tuple[int, int]]:
    """Index pairs of ids that follow each other in a sequence, both with a look."""
    return [(i, j) for i, j in neighbours(names) if looks.known[i] and looks.known[j]]


def are_alike(pairs: Sequence[tuple[int, int]], looks: Looks) -> bool:
    """Whether of all other images few are more like the first of a pair than the second is."""
    asked = pairs[:: -(-len(pairs) // ASKED) or 1]
    ranks, known = [], looks.thumbs[looks.known]
    for i, j in asked:
        alike = known @ looks.thumbs[i]
        ranks.append(float((alike > looks.thumbs[j] @ looks.thumbs[i] + 1e-6).mean()))
    return bool(ranks) and float(np.median(ranks)) <= RANK


def _balance(folds: np.ndarray, shares: np.ndarray | None) -> list[str]:
    """Lines on folds that are much larger, or fuller, than others."""
    numbers = [fold for fold in np.unique(folds) if fold >= 0]
    if len(numbers) < 2:
        return []
    lines = []
    sizes = [int((folds == fold).sum()) for fold in numbers]
    if max(sizes) > UNEVEN * min(sizes) and max(sizes) - min(sizes) > 1:
        lines.append(f"folds of {min(sizes)} to {max(sizes)} images")
    if shares is not None:
        means = [float(shares[folds == fold].mean()) for fold in numbers]
        if max(means) > UNEVEN * min(means):
            lines.append(f"mean foreground of {min(means):.2%} to {max(means):.2%}, see --split")
    return lines
