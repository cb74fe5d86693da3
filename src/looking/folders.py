"""Paths by the folders that they lie in: folders of one kind are one."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from looking.words import ROLES, TEST, TRAIN, VAL, words_in

# A set of files is told from a stray one.
FEW = 3
DOZEN = 12
# Names of folders from the root; None where they differ from file to file.
Folders = tuple[str | None, ...]
# The names that differ, the file's name, its path.
Files = Sequence[tuple[tuple[str, ...], str, str]]
Group = tuple[Folders, Files]


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


def _merge(
    tree: Sequence[tuple[tuple[str, ...], tuple[str, ...], str]], folders: Folders
) -> list[Group]:
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
    merged = plain if len(plain) > 1 and _same_kind([below[name] for name in plain]) else []
    if merged:
        rest = [
            (parts, (*vary, name), path) for name in merged for parts, vary, path in below[name]
        ]
        groups += _merge(rest, (*folders, None))
    for name in below:
        if name not in merged:
            groups += _merge(below[name], (*folders, name))
    return groups


def without_numbers(name: str) -> str:
    """What folders that are counted are called alike: Case_Training_# of Case_Training_007."""
    return re.sub(r"\d+", "#", name)


def _same_kind(branches: Sequence[Sequence[tuple[tuple[str, ...], tuple[str, ...], str]]]) -> bool:
    """Whether more than half of the folders hold the same kinds of files at the same depths."""
    kinds: Counter[frozenset[tuple[int, str]]] = Counter()
    for branch in branches:
        kinds[
            frozenset((len(parts), Path(parts[-1]).suffix.lower()) for parts, _, _ in branch)
        ] += 1
    return 2 * kinds.most_common(1)[0][1] > len(branches)
