"""Ends of names that are parts of them: 01_dr and 01_h of images and masks alike."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from looking.file_sets import FileSet
from looking.words import MASK, are_times

# A set has the files of another when it has so much of them.
HALF = 0.5


def join_ends(sets: Sequence[FileSet]) -> list[FileSet]:
    """Sets of one folder as one, where masks have the same ends: they tell no kinds of files."""
    places: dict[object, dict[str, FileSet]] = defaultdict(dict)
    for files in sets:
        if not files.fixed:
            places[files.folders, files.head][_end(files)] = files
    joined = list(sets)
    for images in places.values():
        ends = [end for end in images if end]
        masked = any(one.words & MASK for one in images.values())
        if len(ends) < 2 or are_times(ends) or masked:
            continue
        for others in places.values():
            rest = None if others is images else _rest(images, others, ends)
            if rest is not None:
                masks = {end: others[end + rest] for end in ends}
                for kind, more in ((images, ""), (masks, rest)):
                    own = [one for one in kind.values() if one in joined]
                    if own:
                        joined = [one for one in joined if one not in own]
                        joined.append(_join(own, more))
    return sorted(joined, key=lambda found: -len(found.files))


def _end(files: FileSet) -> str:
    """What names end with before the file type: _dr of _dr.jpg."""
    return files.tail.rpartition(".")[0]


def _rest(
    images: Mapping[str, FileSet], others: Mapping[str, FileSet], ends: Sequence[str]
) -> str | None:
    """What follows the ends of images in those of masks, _mask of _dr_mask; None of other files."""
    for name in others:
        rest = name.removeprefix(ends[0])
        if not name.startswith(ends[0]) or not all(end + rest in others for end in ends):
            continue
        pairs = [(images[end].files.keys(), others[end + rest]) for end in ends]
        same = all(len(keys & one.files.keys()) >= HALF * len(keys) for keys, one in pairs)
        if same and all(one.words & MASK for _, one in pairs):
            return rest
    return None


def _join(sets: Sequence[FileSet], rest: str) -> FileSet:
    """One set of files whose names have their own end, and all `rest` behind it."""
    files: dict[tuple[str, ...], str] = {}
    for one in sets:
        own = _end(one).removesuffix(rest) if rest else _end(one)
        files |= {(*key[:-1], key[-1] + own): path for key, path in one.files.items()}
    types = {one.suffix for one in sets}
    tail = f"{rest}{types.pop()}" if len(types) == 1 else ".*"
    doubles = tuple(path for one in sets for path in one.doubles)
    return replace(sets[0], tail=tail, files=dict(sorted(files.items())), doubles=doubles)
