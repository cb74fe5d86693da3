"""Several files an image: a band each, or a class each, told apart by names or folders."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.errors import UserError
from imaging.images import PixelRules, read_values, shape_of
from looking.census import read_mask_values
from looking.file_sets import FileSet
from looking.schemes import Scheme, common_words, folder_names, join_parts, read_scheme
from looking.words import MASK, NUMBER, TEST, are_times

# Bands, or classes, that an image can have.
MOST = 128
# Of all images, the share that has each band.
NEARLY_ALL = 0.9
# Masks of a class that are looked at, and classes that are held against each other.
LOOKED_AT, FEW = 8, 6
# Files that a class has in the mean; objects have one each.
LEAST = 3
# Two annotators of one thing share more of their foreground than this.
SAME = 0.7
# An image and the number of its channel.
CHANNEL = re.compile(r"(.+)_(\d{4})")
Key = tuple[str, ...]


class Family(NamedTuple):
    """Sets of files that may be the bands, or the classes, of the same images.

    Attributes:
        pattern: from the root, with `{kind}`; as IMAGE_PATTERN.
        template: of the ids.
        kinds: by the text in the place of {kind}: what an image is known by, and its file.
        like: folders, head and suffix of all.
    """

    pattern: str
    template: str
    kinds: dict[str, dict[Key, str]]
    like: FileSet

    def scheme(self, part: str) -> Scheme | None:
        """The family as one reading, {kind} called `part`; None where a kind holds a comma.

        BANDS and CLASS_NAMES are joined by commas.
        """
        if any("," in kind for kind in self.kinds):
            return None
        united = {
            key: path for files in reversed(self.kinds.values()) for key, path in files.items()
        }
        whole = FileSet(self.like.folders, self.like.suffix, dict(sorted(united.items())))
        pattern = self.pattern.replace("{kind}", f"{{{part}}}")
        return read_scheme(whole, pattern, self.template, part=part, kinds=tuple(self.kinds))


def band_schemes(files: FileSet, others: Sequence[FileSet], root: Path) -> Iterator[Scheme]:
    """Readings in which files that differ in their band alone are one image.

    Args:
        files: a set of pictures of one channel, or of two times, or of arrays.
        others: all sets of the survey.
        root: folder of the survey.
    """
    pictures = [one for one in others if not one.words & MASK]
    families = [*_by_tails(files, pictures), *_by_heads(files, pictures), *_by_channels(files)]
    for family in [*families, *_by_folders(files), *_by_names(files)]:
        sizes = [len(keys) for keys in family.kinds.values()]
        whole = {key for keys in family.kinds.values() for key in keys}
        complete = min(sizes) >= NEARLY_ALL * len(whole)
        fit = complete and (_is_one_channel(family, root) or are_times(family.kinds))
        scheme = family.scheme("band") if fit else None
        if scheme:
            yield scheme


def class_schemes(files: FileSet, others: Sequence[FileSet], root: Path) -> Iterator[Scheme]:
    """Readings in which mask files that differ in their class alone are one image's.

    Args:
        files: a set of mask files.
        others: all sets of the survey.
        root: folder of the survey.
    """
    masks = [one for one in others if one.words & MASK]
    hidden = {one.tail for one in masks if one.words & TEST and one.fixed}
    if files.tail in hidden:  # of the test images, too: where there is data, no class
        return
    masks = [one for one in masks if one.tail not in hidden]
    for family in [*_by_tails(files, masks), *_by_folders(files)]:
        if pieces := _as_pieces(family):
            yield pieces
            continue
        files_a_class = sum(map(len, family.kinds.values())) / len(family.kinds)
        scheme = family.scheme("class") if files_a_class >= LEAST else None
        if scheme and _are_classes([_foregrounds(kind, root) for kind in family.kinds.values()]):
            yield scheme


def _as_pieces(family: Family) -> Scheme | None:
    """Files that are counted, mask, mask_1, mask_2, are pieces of one mask; None of any other."""
    words = {NUMBER.sub("", kind) for kind in family.kinds}
    word = words.pop() if len(words) == 1 else ""
    if not word or word not in family.kinds:
        return None
    united = {
        (*key[:-1], f"{key[-1]} {kind}"): path
        for kind, files in family.kinds.items()
        for key, path in files.items()
    }
    whole = FileSet(family.like.folders, family.like.suffix, dict(sorted(united.items())))
    pattern = family.pattern.replace("{kind}", f"{word}*")
    scheme = read_scheme(whole, pattern, family.template)
    return replace(scheme, pieces=True) if scheme else None


def _foregrounds(files: dict[Key, str], root: Path) -> dict[Key, np.ndarray]:
    """Foreground bool (H, W) of some masks of a kind; {} where one has more than two values."""
    found = {}
    for key in sorted(files)[:LOOKED_AT]:
        read = read_mask_values(root / files[key])
        pixels = None if read is None else np.squeeze(read[0])
        if pixels is not None and pixels.ndim == 3 and pixels.shape[2] in (3, 4):
            pixels = pixels[..., :3].max(2)  # one colour on black
        if pixels is None or pixels.ndim != 2 or len(np.unique(pixels)) > 2:
            return {}
        found[key] = pixels != 0
    return found


def _are_classes(kinds: Sequence[dict[Key, np.ndarray]]) -> bool:
    """Whether masks of two values, a kind each, are of different things, not of annotators."""
    if not all(kinds):
        return False
    for one, other in combinations(kinds[:FEW], 2):
        pairs = [(one[key], other[key]) for key in one.keys() & other.keys()]
        pairs = [(a, b) for a, b in pairs if a.shape == b.shape]
        shared = sum(int((a & b).sum()) for a, b in pairs)
        if shared and shared > SAME * sum(int((a | b).sum()) for a, b in pairs):
            return False
    return True


def _by_tails(files: FileSet, others: Sequence[FileSet]) -> Iterator[Family]:
    """The family that a set is the first of: 1_vv.tif and 1_vh.tif, or 1/vv.tif and 1/vh.tif."""
    tails = sorted((one for one in others if _is_like(one, files)), key=lambda one: one.tail)
    marks = {"" if one.fixed else one.tail[0] for one in tails}
    if not 2 <= len(tails) <= MOST or tails[0] is not files or len(marks) > 1:
        return
    names, varying = folder_names(files)
    if _a_folder_each(tails):  # says no more than the end of the name
        names, varying = ["*" if "{" in name else name for name in names], []
    kinds = {one.tail.rpartition(".")[0][not one.fixed :]: dict(one.files) for one in tails}
    name = "{kind}" if files.fixed else f"{files.head}{{id}}{tails[0].tail[0]}{{kind}}"
    template = join_parts(varying if files.fixed else [*varying, "id"])
    pattern = "/".join([*names, name + files.suffix])
    yield Family(pattern, template, kinds, files)
    if files.fixed:
        names, _ = folder_names(files, forms=True)
        yield Family("/".join([*names, name + files.suffix]), template, kinds, files)
    if varying and not files.fixed:  # folders of so many files each, which say nothing
        yield Family(pattern, "{id}", kinds, files)


def _by_heads(files: FileSet, others: Sequence[FileSet]) -> Iterator[Family]:
    """The family that a set is the first of, of kinds that begin names: red/red_1.tif, red_1.tif.

    Folders may have the kind in their name, too: train_red/red_1.tif.
    """
    own = _named_by_kind(files)
    if own is None:
        return
    kind, folders, mark = own
    alike = {kind: files}
    for one in others:
        named = _named_by_kind(one)
        if named and named[1:] == (folders, mark) and one.tail == files.tail:
            alike[named[0]] = one
    if not 2 <= len(alike) <= MOST or min(alike) != kind:
        return
    kinds = {
        name: {(*key[:-1], _without(key[-1], one, name + mark)): path for key, path in rows}
        for name, one in sorted(alike.items())
        for rows in [one.files.items()]
    }
    fixed = tuple(None if "{kind}" in name else name for name in folders)
    like = replace(files, folders=fixed, head="")
    depth = len(like.root.split("/")) if like.root else 0
    pattern = "/".join([*folders[depth:], f"{{kind}}{mark}{{id}}{files.tail}"])
    yield Family(pattern, "{id}", kinds, like)


def _named_by_kind(files: FileSet) -> tuple[str, tuple[str, ...], str] | None:
    """(the word that all names begin with, folders with {kind} in its place, what follows it)."""
    heads = [files.head] if files.head else common_words(files)
    if files.nested or files.fixed or not heads or heads[0][-1] not in "_-":
        return None
    kind, mark = heads[0][:-1], heads[0][-1]
    word = rf"(?<![A-Za-z0-9]){re.escape(kind)}(?![A-Za-z0-9])"
    return kind, tuple(re.sub(word, "{kind}", str(name)) for name in files.folders), mark


def _without(name: str, files: FileSet, head: str) -> str:
    """A name without what it begins with, which a set with a head has lost already."""
    return name if files.head else name.removeprefix(head)


def _a_folder_each(tails: Sequence[FileSet]) -> bool:
    """Whether files of one end lie in one folder, and each end has its own: MA/7_MA.tif."""
    folders = [{key[:-1] for key in one.files} for one in tails]
    return (
        () not in folders[0]
        and all(len(one) == 1 for one in folders)
        and len(set().union(*folders)) == len(tails)
    )


def _is_like(one: FileSet, files: FileSet) -> bool:
    """Whether two sets lie in the same folders, and differ in what their names end with."""
    same = one.folders == files.folders and one.head == files.head and one.fixed == files.fixed
    return same and one.suffix == files.suffix and bool(one.tail.rpartition(".")[0])


def _by_folders(files: FileSet) -> Iterator[Family]:
    """A kind a folder: vv/1.tif and vh/1.tif."""
    kinds, images, below = _in_folders(files)
    if 2 <= len(kinds) <= MOST and len(files.files) > len(images):
        name = f"{files.head}{{id}}{files.tail}"
        yield Family("/".join(["{kind}", *below, name]), "{id}", kinds, files)


def _by_names(files: FileSet) -> Iterator[Family]:
    """An image a folder, whose files are numbered: 1/00.tif and 1/01.tif."""
    images, kinds, below = _in_folders(files)
    if 2 <= len(kinds) <= MOST and len(files.files) > len(images):
        name = f"{files.head}{{kind}}{files.tail}"
        yield Family("/".join(["{id}", *below, name]), "{id}", kinds, files)


def _by_channels(files: FileSet) -> Iterator[Family]:
    """Channels as nnU-Net numbers them: 7_0000.png and 7_0001.png."""
    kinds: Files = defaultdict(dict)
    for (*_, name), path in files.files.items():
        match = CHANNEL.fullmatch(name)
        if match is None or files.nested or files.fixed:
            return
        kinds[match[2]][(match[1],)] = path
    if sorted(kinds) == [f"{at:04d}" for at in range(len(kinds))] and 1 < len(kinds) <= MOST:
        yield Family(f"{files.head}{{id}}_{{kind}}{files.tail}", "{id}", kinds, files)


Files = dict[str, dict[Key, str]]


def _in_folders(files: FileSet) -> tuple[Files, Files, list[str]]:
    """(files by the one folder that differs, by their names, the folders below it)."""
    by_folder: Files = defaultdict(dict)
    by_name: Files = defaultdict(dict)
    if files.fixed or files.folders.count(None) != 1:
        return by_folder, by_name, []
    for (folder, name), path in sorted(files.files.items()):
        by_folder[folder][(name,)] = path
        by_name[name][(folder,)] = path
    below = files.folders[files.folders.index(None) + 1 :]
    return by_folder, by_name, [str(one) for one in below]


def _is_one_channel(family: Family, root: Path) -> bool:
    """Whether files hold one channel: pictures of several are no bands; arrays may be of times."""
    for files in family.kinds.values():
        path = next(iter(files.values()))
        try:
            if path.endswith(".npy"):
                shape_of(root / path)  # numbers, at least
                continue
            if read_values(root / path, PixelRules()).ndim == 2:
                continue
        except UserError:
            pass
        return False
    return True
