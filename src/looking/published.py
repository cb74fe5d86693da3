"""Training and validation images in folders of their own: one set, whose split is a column."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from competition.patterns import FilePattern
from looking.file_sets import FileSet
from looking.listing import HALF, Listed
from looking.schemes import Scheme
from looking.words import TRAIN, VAL

# The part of the pattern, and so the column, that says train or val.
SPLIT = "split"
Folders = tuple[str | None, ...]


def join_parts_of_split(
    train: Scheme,
    masks: Scheme | None,
    readings: Mapping[int, Sequence[Scheme]],
    *,
    named: Sequence[Listed],
    drawn: Collection[str] = (),
    asked: bool,
) -> tuple[Scheme, Scheme | None] | None:
    """Images and masks of both folders, train/ and val/; None where there are no two such.

    Ids that both folders have get the folder's word before them.

    Args:
        train, masks: of one of the folders; no masks where a table has them.
        readings: of all sets, by the set's identity.
        named: tables of the images.
        drawn: images that annotation files of both parts list.
        asked: whether a sample asks for test images by ids without such a word.
    """
    sets = [scheme for ways in readings.values() for scheme in ways]
    other = _like(train, sets)
    if other is None:
        return None
    clash = bool(train.paths.keys() & other.paths.keys())
    if clash and asked:
        return None
    images = _join(train, other, sets, clash=clash)
    if masks is None:
        listed = named[0].best_column(other.paths)[1] if named else 0
        drawn_on = len(other.paths.keys() & set(drawn))
        whole = max(listed, drawn_on) >= HALF * len(other.paths)
        return (images, None) if whole and not clash else None
    if more := _like(masks, sets):
        masks = _join(masks, more, sets, clash=clash)
    covered = len(masks.paths.keys() & images.paths.keys()) - len(masks.paths.keys() & train.paths)
    return (images, masks) if covered >= HALF * len(other.paths) else None


def test_beside(test: Scheme, template: str) -> Scheme:
    """Test images whose ids have the folder's word before them, as those of `template`."""
    paths = {f"test_{img}": path for img, path in test.paths.items()}
    return replace(test, pattern=f"{{{SPLIT}=test}}{test.pattern}", template=template, paths=paths)


def _like(scheme: Scheme, others: Sequence[Scheme]) -> Scheme | None:
    """The same reading of a folder that is called val instead of train, or the other way round."""
    for other in others:
        same = (other.pattern, other.template) == (scheme.pattern, scheme.template)
        if same and _differing(scheme.files.folders, other.files.folders):
            return other
    return None


def _differing(one: Folders, other: Folders) -> dict[int, tuple[str, str]]:
    """Where folders are called train and val, and what stands around the word; else nothing."""
    if len(one) != len(other):
        return {}
    found = {}
    for at, (name, like) in enumerate(zip(one, other, strict=True)):
        if name == like:
            continue
        around = next(_around(name or "", like or ""), None)
        if around is None:
            return {}
        found[at] = around
    return found


def _around(name: str, like: str) -> Iterator[tuple[str, str]]:
    """What stands before and behind the word: `("", "_masks")` of train_masks and val_masks."""
    for words, likes in ((TRAIN, VAL), (VAL, TRAIN)):
        for word in sorted(words, key=len, reverse=True):
            before, found, behind = name.lower().partition(word)
            if found:
                ends = name[: len(before)], name[len(name) - len(behind) :]
                inner = like.removeprefix(ends[0]).removesuffix(ends[1])
                if inner.lower() in likes and "".join((ends[0], inner, ends[1])) == like:
                    yield ends


def _join(one: Scheme, other: Scheme, sets: Sequence[Scheme], *, clash: bool) -> Scheme:
    """Both readings as one, by a pattern with the part {split}."""
    around = _differing(one.files.folders, other.files.folders)
    first, depth = min(around), len(one.files.root.split("/"))
    names = [
        f"{around[at][0]}{{{SPLIT}}}{around[at][1]}" if at in around else str(name)
        for at, name in enumerate(one.files.folders[:depth])
    ]
    pattern = "/".join([*names[first:], one.pattern])
    template = f"{{{SPLIT}}}_{one.template}" if clash else one.template
    members = {
        (*(str(part.files.folders[at]) for at in around), *key): path
        for part in (one, other)
        for key, path in part.files.files.items()
    }
    folders = tuple(None if at in around else name for at, name in enumerate(one.files.folders))
    files = replace(one.files, folders=folders, files=members)
    paths: dict[str, str] = {}
    for part in (one, other):
        word = _word(str(part.files.folders[first]), around[first])
        paths |= {f"{word}_{i}" if clash else i: path for i, path in part.paths.items()}
    kinds = tuple(dict.fromkeys((*one.kinds, *other.kinds)))
    pattern += _excludes(pattern, template, files, (one, other), sets)
    return Scheme(files, pattern, template, paths, [*one.clashes, *other.clashes], kinds)


def _word(folder: str, around: tuple[str, str]) -> str:
    return folder[len(around[0]) : len(folder) - len(around[1])]


def _excludes(
    pattern: str, template: str, files: FileSet, own: Sequence[Scheme], sets: Sequence[Scheme]
) -> str:
    """Further folders that fit the pattern, `test`, left out by it: ` !test/`."""
    rule = FilePattern(pattern, template, knobs=("IMAGE_PATTERN", "ID_TEMPLATE"))
    cut = len(files.root) + 1 if files.root else 0
    depth = files.folders.index(None) + 1

    def folders_of(schemes: Sequence[Scheme]) -> set[str]:
        once = {id(scheme.files): scheme.files.files.values() for scheme in schemes}
        fitting = (
            path
            for paths in once.values()
            for path in paths
            if path.startswith(files.root) and rule.read(path[cut:])
        )
        return {"/".join(path.split("/")[:depth])[cut:] for path in fitting}

    found = folders_of(sets) - folders_of(own)
    return "".join(f" !{folder}/" for folder in sorted(found))
