"""Which images belong together: groups that names, folders and tables tell, held against looks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from competition.groups import AUTO, bracket_of
from looking.fold_audit import (
    ASKED,
    SURE,
    TELLING,
    are_alike,
    guess_groupings,
    known_neighbours,
)
from looking.layout import Layout
from looking.likeness import Looks, nearest_apart
from looking.lines import Line
from looking.listing import constant_columns
from looking.sequences import SEQUENCE

# Regular expressions whose bracket may be a group, the plainest first.
PATTERNS = {
    AUTO: "what stands before a numbered part, a place or a date, else before the last number",
    r"(.+?)[_-][a-z]+[_-]?\d+(?:[_.-].*)?$": "what stands before a word and a number",
    r"([^_-]+)[_-]": "what stands before the first _",
    r"([A-Za-z]+)\d+$": "the letters before a number",
}
# The image that a labelling tool has cut up, or augmented, under names of its own:
# IMG_0718_scaled_1_png_jpg.rf.9d2c of IMG_0718.
RENAMED = r"(?i)(.+?)(?:[_-][a-z]+[_-]?\d+)?(?:_(?:png|jpe?g|bmp|webp|tiff?))+\.rf\.[0-9a-f]+$"
# The stack that a page is of.
PAGES = r"(.+)_\d+$"
# Words of a column that is a split already.
SPLIT_WORDS = (
    {"train", "training", "trn"},
    {"val", "valid", "validation"},
)
FOLDS = 5


class Grouping(NamedTuple):
    """One way to group the images.

    Attributes:
        knob: GROUP_COLUMN or GROUP_PATTERN.
        value: of the knob.
        told: in words.
        groups: of each image.
        share, lift: how often the look-alike is of the own group, and that above chance, 0 to 1.
    """

    knob: str
    value: str
    told: str
    groups: np.ndarray
    share: float
    lift: float


def find_grouping(names: Sequence[str], looks: Looks, layout: Layout) -> Grouping | None:
    """The grouping that matters: a column named so, else what the pictures bear out.

    What AUTO finds stands where it can be dealt to the folds, too: to keep groups whole costs
    little, to tear them a score that is too good.
    """
    if layout.twins:
        stems = np.array([Path(layout.train.paths[name]).stem for name in names], object)
        return Grouping("GROUP_COLUMN", "id", "pictures before and after", stems, 0.0, 0.0)
    columns = _table_columns(names, layout)
    named = guess_groupings(columns)
    found = []
    for column, cells in named.items():
        if _is_grouping(cells):
            share, lift = likeness_in_groups(cells, looks)
            found.append(Grouping("GROUP_COLUMN", column, f"column {column!r}", cells, share, lift))
    if found:
        return max(found, key=lambda one: (one.lift >= SURE, -len(set(one.groups))))
    if "/{page}" in layout.train.pattern:
        cells = _matched(PAGES, names)
        if _is_grouping(cells):
            share, lift = likeness_in_groups(cells, looks)
            return Grouping("GROUP_PATTERN", PAGES, "stacks of pages", cells, share, lift)
    if layout.train.template.startswith(f"{{{SEQUENCE}}}_"):
        cells = np.array([name.partition("_")[0] for name in names], object)
        share, lift = likeness_in_groups(cells, looks)
        return Grouping("GROUP_COLUMN", SEQUENCE, "folders of sequences", cells, share, lift)
    cells = _matched(RENAMED, names)
    if _is_grouping(cells):
        share, lift = likeness_in_groups(cells, looks)
        told = "the image before .rf. and its number"
        return Grouping("GROUP_PATTERN", RENAMED, told, cells, share, lift)
    for pattern, told in PATTERNS.items():
        cells = _matched(pattern, names)
        if _is_grouping(cells):
            share, lift = likeness_in_groups(cells, looks)
            found.append(Grouping("GROUP_PATTERN", pattern, told, cells, share, lift))
    sure = [one for one in found if one.lift >= SURE]
    even = [one for one in sure if _can_be_dealt(one.groups)]
    usual = [one for one in found if one.value == AUTO and _can_be_dealt(one.groups)]
    return min(even or sure or usual, key=lambda one: len(set(one.groups)), default=None)


def _can_be_dealt(groups: np.ndarray) -> bool:
    """Whether most images are in groups that fill all folds, none of more than two folds' share."""
    counts = np.unique(groups.astype(str), return_counts=True)[1]
    fills = len(counts) >= FOLDS and counts.max() * FOLDS <= 2 * len(groups)
    return bool(fills and 2 * counts[counts > 1].sum() > len(groups))


def _matched(pattern: str, names: Sequence[str]) -> np.ndarray:
    found = zip(names, bracket_of(names, pattern), strict=True)
    return np.array([name if group is None else group for name, group in found], object)


def _is_grouping(cells: np.ndarray) -> bool:
    """Whether there is more than one group, and a good part of the images is not alone."""
    counts = np.unique(cells.astype(str), return_counts=True)[1]
    return len(counts) > 1 and counts[counts > 1].sum() > 0.2 * len(cells)


def likeness_in_groups(cells: np.ndarray, looks: Looks) -> tuple[float, float]:
    """How often an image's look-alike is of its group, and by how much above chance (0 to 1)."""
    codes = np.unique(cells.astype(str), return_inverse=True)[1]
    others = np.bincount(codes)[codes] - 1
    asked = np.flatnonzero((others > 0) & looks.known)
    asked = asked[:: -(-len(asked) // ASKED) or 1]
    if len(asked) < TELLING:
        return 0.0, 0.0
    nearest = nearest_apart(looks, asked, np.arange(len(codes)))
    share = float((codes[asked] == codes[nearest])[nearest >= 0].mean())
    chance = float((others[asked] / (len(codes) - 1)).mean())
    return share, (share - chance) / max(1 - chance, 1e-9)


def _table_columns(names: Sequence[str], layout: Layout) -> Mapping[str, np.ndarray]:
    """Columns of the tables, in the order of the images; "" for an image without a row."""
    columns: dict[str, np.ndarray] = {}
    for listed in (layout.meta, layout.listed):
        if listed is not None:
            table = constant_columns(listed, layout.train.paths).set_index("img")
            table = table.reindex(list(names), fill_value="")
            columns |= {str(name): table[name].to_numpy(object) for name in table}
    return columns


def split_lines(
    names: Sequence[str],
    grouping: Grouping | None,
    layout: Layout,
    *,
    shares: np.ndarray,
    looks: Looks,
) -> Iterator[Line]:
    """SPLIT and what it needs: the competition's own split, groups, or strata of foreground.

    Args:
        names: ids of the images.
        grouping: what belongs together.
        layout: for the tables.
        shares: foreground share of each image, nan where it is not known.
        looks: of the images.
    """
    columns = _table_columns(names, layout)
    published = next((name for name, cells in columns.items() if _is_split(cells)), None)
    if layout.split:
        told = "the data's own split: the names of folders, train and val, are a column"
        yield Line("SPLIT", "column", told)
        yield Line("SPLIT_COLUMN", layout.split, "")
    elif published:
        told = f"the competition's own split is in column {published!r}"
        yield Line("SPLIT", "column", told)
        yield Line("SPLIT_COLUMN", published, "")
    elif grouping is not None:
        count = len(set(grouping.groups.tolist()))
        told = f"{count} groups, {grouping.told}"
        if grouping.lift >= SURE:
            told += f"; {grouping.share:.0%} of images look most like one of their own group"
        yield Line("SPLIT", "group", told)
        if count < FOLDS:
            yield Line("N_FOLDS", str(count), f"no more folds than groups: {count}")
    elif _is_film(names, looks):
        told = "no groups found, but ids count frames or slices, and neighbours look alike"
        yield Line("SPLIT", "blocks", told)
    elif np.isfinite(shares).all() and len(shares) >= 4 * FOLDS:
        yield Line(
            "SPLIT", "stratified", "no groups found; every fold gets its share of foreground"
        )
    else:
        read = np.isfinite(shares).all()
        why = "too few images" if read else "masks that were not read, so nothing"
        yield Line("SPLIT", "kfold", f"no groups found, and {why} to balance")
        if len(names) < FOLDS:
            yield Line("N_FOLDS", str(max(2, len(names))), "")
    if grouping is not None:
        own = layout.split or published
        yield Line(grouping.knob, grouping.value, grouping.told if own else "")


def _is_film(names: Sequence[str], looks: Looks) -> bool:
    """Whether most ids follow each other in sequences, and look like their neighbours."""
    pairs = known_neighbours(names, looks)
    return len(pairs) >= max(TELLING, len(names) // 2) and are_alike(pairs, looks)


def _is_split(cells: np.ndarray) -> bool:
    words = {str(cell).strip().lower() for cell in cells}
    kinds = [bool(words & kind) for kind in SPLIT_WORDS]
    return all(kinds) and words <= set().union(*SPLIT_WORDS)
