"""Paths by the folders that they lie in: folders of one kind are one."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from looking.words import (
    MASK,
    ROLES,
    TEST,
    TRAIN,
    VAL,
    common_ends,
    without_numbers,
    words_in,
)

# A set of files is told from a stray one.
FEW = 3
DOZEN = 12
# Names of folders from the root; None where they differ from file to file.
Folders = tuple[str | None, ...]
# The names that differ, the file's name, its path.
Files = Sequence[tuple[tuple[str, ...], str, str]]
Group = tuple[Folders, Files]
# The rest of each path, the names of folders that differ, the path.
Tree = Sequence[tuple[tuple[str, ...], tuple[str, ...], str]]


def find_alike(paths: Sequence[str]) -> list[Group]:
    """Paths by the folders that they lie in; folders of one kind are one."""
    tree = [(tuple(path.split("/")), (), path) for path in paths]
    groups = _merge(tree, ())
    wide = [folders for folders, _ in groups if None in folders]
    return [_as_wide(group, wide) for group in groups]


def _as_wide(group: Group, wide: Sequence[Folders]) -> Group:
    """A group whose one folder, val/bonn, is of those that differ in another part: train/*."""
    folders, files = group
    for like in wide:
        places = _places_of_one(folders, like)
        for at in places:
            before = folders[:at].count(None)
            files = [((*v[:before], str(folders[at]), *v[before:]), n, p) for v, n, p in files]
            folders = (*folders[:at], None, *folders[at + 1 :])
        if places:
            break
    return folders, files


def _places_of_one(one: Folders, like: Folders) -> list[int]:
    """Where `like` differs from file to file and `one` does not, if else their parts alone do."""
    if len(one) != len(like):
        return []
    parts = TRAIN | VAL | TEST
    rest = [(a or "", b or "") for a, b in zip(one, like, strict=True) if a != b and b is not None]
    if not rest or not all(words_in(a) & parts and words_in(b) & parts for a, b in rest):
        return []
    pairs = enumerate(zip(one, like, strict=True))
    return [at for at, (a, b) in pairs if b is None and a is not None and not words_in(a) & ROLES]


def _merge(tree: Tree, folders: Folders) -> list[Group]:
    """Groups below a folder; `tree` holds the rest of each path, and folders that differ."""
    here = [(vary, parts[0], path) for parts, vary, path in tree if len(parts) == 1]
    groups: list[Group] = [(folders, here)] if here else []
    below = defaultdict(list)
    for parts, vary, path in tree:
        if len(parts) > 1:
            below[parts[0]].append((parts[1:], vary, path))
    # Train, test, images and masks do not come by the dozen: those are ids.
    counted = Counter(map(without_numbers, below))
    plain = [
        name
        for name in below
        if len(below) > DOZEN or not words_in(name) & ROLES or counted[without_numbers(name)] > FEW
    ]
    common = set.intersection(*map(words_in, below)) if len(below) > 2 * FEW else set()
    plain += [name for name in below if name not in plain and not (words_in(name) - common) & ROLES]
    merged: list[str] = []
    for names in _twins(plain, list(below)):
        if len(names) > 1 and _same_kind([below[name] for name in names]):
            groups += _merge(_below(names, below), (*folders, None))
            merged += names
    for names in _parts([name for name in below if name not in merged], below):
        groups += _merge(_below(names, below), (*folders, None))
        merged += names
    for name in below:
        if name not in merged:
            groups += _merge(below[name], (*folders, name))
    return groups


def _below(names: Sequence[str], below: Mapping[str, Tree]) -> Tree:
    return [(parts, (*vary, name), path) for name in names for parts, vary, path in below[name]]


def _twins(plain: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    """Folders of images, and of masks that are called as they are but for a word: GT_1 of Slide_1.

    All that are `plain` as one where there are no such.
    """
    masks = [name for name in names if words_in(name) & MASK]
    images = [name for name in names if name not in masks]
    parted = any(words_in(name) & (TRAIN | VAL | TEST) for name in images)
    if len(masks) > 1 and not parted and _own_parts(masks) == _own_parts(images):
        return [images, masks]
    return [list(plain)]


def _own_parts(names: Sequence[str]) -> set[str]:
    start, end = common_ends(names)
    return {name[len(start) : len(name) - len(end)] for name in names}


def _parts(names: Sequence[str], below: Mapping[str, Tree]) -> list[list[str]]:
    """Folders that are counted and hold other files of a kind: images_part_1, images_part_2."""
    alike = defaultdict(list)
    for name in names:
        if not name[0].isdigit():  # 01_GT of 01: sequences
            alike[without_numbers(name)].append(name)
    found = []
    for several in alike.values():
        files = [parts for name in several for parts, _, _ in below[name]]
        apart = len(set(files)) == len(files)
        if len(several) > 1 and apart and _same_kind([below[name] for name in several]):
            found.append(several)
    return found


def _same_kind(branches: Sequence[Tree]) -> bool:
    """Whether more than half of the folders hold the same kinds of files at the same depths."""
    kinds: Counter[frozenset[tuple[int, str]]] = Counter()
    for branch in branches:
        kinds[
            frozenset((len(parts), Path(parts[-1]).suffix.lower()) for parts, _, _ in branch)
        ] += 1
    return 2 * kinds.most_common(1)[0][1] > len(branches)
