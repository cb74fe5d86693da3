"""How the names of a file set make ids: as patterns of IMAGE_PATTERN and ID_TEMPLATE."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from competition.mask_file_lists import CLASS_PART
from competition.patterns import EXCLUDE, FilePattern
from core.errors import UserError
from imaging.sources import BAND
from looking.file_sets import FileSet

# Words that all names begin with, which may be no part of the id.
MOST_WORDS = 3
# What all names end with in nnU-Net's folders of images of one file each.
CHANNEL = "_0000"
# Numbers without zeros before them, and with.
PLAIN, PADDED = re.compile(r"0|[1-9]\d*"), re.compile(r"0\d+")


@dataclass(frozen=True)
class Scheme:
    """One reading of a file set's names.

    Attributes:
        files: the set.
        pattern: of the files, from `files.root`; as IMAGE_PATTERN.
        template: of the ids; as ID_TEMPLATE.
        paths: the file of each id, posix from the survey's root.
        clashes: (id, path) of files whose id another file has.
        kinds: values of the part {band}, or {class}, of the pattern: an image has a file of each.
        pieces: whether all files of an id are pieces of its mask.
    """

    files: FileSet
    pattern: str
    template: str
    paths: dict[str, str]
    clashes: list[tuple[str, str]]
    kinds: tuple[str, ...] = ()
    pieces: bool = False

    @property
    def plain(self) -> bool:
        """Whether the files lie in one folder and are called by their ids: no pattern is needed."""
        named = self.template == "{id}" and self.pattern[:4] == "{id}"
        return named and not (self.files.nested or self.kinds or self.pieces)

    @property
    def text(self) -> str:
        """The pattern without what is left out by it."""
        return self.pattern.partition(EXCLUDE)[0]


def schemes_of(files: FileSet, others: Sequence[FileSet]) -> list[Scheme]:
    """The ways to read the names of a set, the simplest first.

    Args:
        files: the set.
        others: all sets of the survey: what lies in the same folders is left out by the pattern.
    """
    names, varying = folder_names(files)
    base = "/".join(names)
    if files.fixed:
        bases = dict.fromkeys([base, "/".join(folder_names(files, forms=True)[0])])
        read = [read_scheme(files, f"{one}/{files.tail}", join_parts(varying)) for one in bases]
        return [one for one in read if one]
    short = f"{files.head}{{id}}{files.tail}"
    full = f"{{id}}{files.tail[files.tail.rfind('.') :]}"
    ways = [(short, "{id}"), (full, "{id}")] if short != full and not files.head else [(short, "")]
    if files.head:
        ways = [(short, f"{files.head}{{id}}"), (short, "{id}")]
    else:
        ways += [(f"{head}{{id}}{files.tail}", "{id}") for head in common_words(files)]
        if all(key[-1].endswith(CHANNEL) for key in files.files):
            ways.append((f"{{id}}{CHANNEL}{files.tail}", "{id}"))
    ways = [(name, template or "{id}") for name, template in ways]
    if varying:
        ways += [(name, f"{join_parts(varying)}_{template}") for name, template in ways]
        ways += _numbered(files, varying)
    excludes = _excludes(files, others)
    found = []
    for name, template in ways:
        pattern = f"{base}/{name}" if base else name
        kept = excludes if name != short or not files.tail[: files.tail.rfind(".")] else ""
        if scheme := read_scheme(files, pattern + kept, template):
            found.append(scheme)
    return found


def join_parts(names: Sequence[str]) -> str:
    """The template of an id of these parts."""
    return "_".join(f"{{{name}}}" for name in names)


def folder_names(files: FileSet, *, forms: bool = False) -> tuple[list[str], list[str]]:
    """Parts of the pattern for folders below the root, and the names of those that differ.

    Args:
        files: the set.
        forms: words that all of these folders have are no part of the name.
    """
    depth = len(files.root.split("/")) if files.root else 0
    rows = list(files.files)
    names: list[str] = []
    varying: list[str] = []
    for folder in files.folders[depth:]:
        if folder is not None:
            names.append(folder)
            continue
        at = sum("{" in name for name in names)
        same = all(row[at] == row[-1] for row in rows)
        alone = files.fixed and files.folders.count(None) == 1
        name = "id" if same or alone else f"folder{len(varying) + 1 if varying else ''}"
        if not same:
            varying.append(name)
        form = files.forms[at]
        if same or not (files.marked or (forms and re.search(r"[_\-. ]#", form))):
            form = "#"
        names.append(form.replace("#", f"{{{name}}}"))
    return names, varying


def _numbered(files: FileSet, varying: Sequence[str]) -> list[tuple[str, str]]:
    """Names such as slice_0001_266_266: a word and a number, and what else they say."""
    stems = [row[-1] for row in files.files]
    head = re.match(r"[A-Za-z]+[_-](?=\d)", stems[0])
    if head is None or not all(stem.startswith(head[0]) for stem in stems):
        return []
    suffix = files.tail[files.tail.rfind(".") :]
    last = varying[-1]
    return [(f"{head[0]}{{id}}_*{suffix}", f"{{{last}}}_{head[0]}{{id}}")]


def common_words(files: FileSet) -> list[str]:
    """What all names of a set begin with, word by word: RGB-, RGB-PanSharpen_."""
    names = [key[-1] for key in files.files]
    ends = zip(min(names), max(names), strict=False)  # what these share, all in between do
    common = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    cuts = [match.end() for match in re.finditer(r"(?<=[A-Za-z])[_-](?=.)", common + "0")]
    heads = [common[:cut] for cut in cuts if cut <= len(common) and common[:cut] not in names]
    return [head for head in heads[:MOST_WORDS] if re.fullmatch(r"[A-Za-z_-]+", head)]


def padded(scheme: Scheme, widths: Iterable[int]) -> Iterator[Scheme]:
    """A reading whose ids are numbers, 7, as other files may write them: 00007."""
    if scheme.template != "{id}" or not all(PLAIN.fullmatch(img) for img in scheme.paths):
        return
    for width in sorted(widths):
        template = f"{{id:0{width}}}"
        if way := read_scheme(scheme.files, scheme.pattern, template):
            yield way


def unpadded(scheme: Scheme) -> Iterator[Scheme]:
    """A reading whose ids are numbers with zeros before them, 007, as tables may write them: 7."""
    if scheme.template == "{id}" and all(map(str.isdigit, scheme.paths)):
        way = read_scheme(scheme.files, scheme.pattern, "{id:d}")
        if way and way.paths.keys() != scheme.paths.keys() and not way.clashes:
            yield way


def widths_of(sets: Iterable[FileSet]) -> set[int]:
    """Digits of the numbers that names begin with, where they have zeros before them."""
    starts = (PADDED.match(key[-1]) for files in sets for key in files.files)
    return {len(match[0]) for match in starts if match}


def widths_of_ids(ids: Iterable[str]) -> set[int]:
    """Digits of the ids that are numbers with zeros before them."""
    return {len(img) for img in ids if PADDED.fullmatch(img)}


def with_head(scheme: Scheme) -> Scheme:
    """A reading whose ids begin as the names do, by a template for other beginnings, too."""
    files = scheme.files
    pattern = f"{{set={files.head}}}{scheme.pattern}"
    return read_scheme(files, pattern, "{set}{id}") or scheme


def same_template(one: str, other: str) -> bool:
    """Whether ids are made of the same parts, their digits apart."""
    plain = [re.sub(r":[0-9d]+\}", "}", template) for template in (one, other)]
    return plain[0] == plain[1]


def _excludes(files: FileSet, others: Sequence[FileSet]) -> str:
    """Names in the same folders that are another set's: ` !*_anno.bmp`, ` !mask_*`."""
    suffix = files.tail[files.tail.rfind(".") :].lower()
    tails = {
        other.tail
        for other in others
        if other.folders == files.folders
        and other.tail != files.tail
        and (suffix == ".*" or other.tail.lower().endswith(suffix))
        and len(other.tail) > len(files.tail)
    }
    heads = {
        other.head
        for other in others
        if other.folders == files.folders and other.head and not files.head
    }
    places = {_place(other) for other in others if files.marked and other.folders == files.folders}
    places = {place for place in places - {_place(files)} if place.strip("*/")}
    found = [f"*{tail}" for tail in sorted(tails)] + [f"{head}*" for head in sorted(heads)]
    return "".join(f" !{part}" for part in [*found, *sorted(places)])


def _place(files: FileSet) -> str:
    """Folders from the root, a * for what differs: *_GT/."""
    names, forms = [], iter(files.forms)
    for name in files.folders[len(files.root.split("/")) if files.root else 0 :]:
        names.append(next(forms).replace("#", "*") if name is None else name)
    return "/".join(names) + "/"


def _doubles(files: FileSet) -> list[tuple[tuple[str, ...], str]]:
    stems = {path.rpartition(".")[0]: key for key, path in files.files.items()}
    return [(stems[path.rpartition(".")[0]], path) for path in files.doubles]


def read_scheme(
    files: FileSet,
    pattern: str,
    template: str,
    *,
    part: str = "",
    kinds: tuple[str, ...] = (),
) -> Scheme | None:
    """The files by a pattern; None where it does not fit half of them.

    Args:
        files: the set.
        pattern, template: as of a Scheme.
        part: band or class, what `kinds` are the values of.
        kinds: as of a Scheme.
    """
    how: Any = {"knobs": ("IMAGE_PATTERN", "ID_TEMPLATE"), "bands": kinds if part == BAND else ()}
    texts = [pattern.replace(CLASS_PART, kind) for kind in kinds] if part == "class" else [pattern]
    try:
        rules = [FilePattern(text, template, **how) for text in texts]
    except UserError:
        return None
    cut = len(files.root) + 1 if files.root else 0
    paths: dict[str, str] = {}
    clashes = [(key[-1], path) for key, path in _doubles(files)]
    fitting = 0
    for key, path in files.files.items():
        found = next((read for rule in rules if (read := rule.read(path[cut:]))), None)
        if found is None:
            continue
        fitting += bool(kinds)
        # Names of one folder are cut at their last point, whatever the suffix.
        img = key[-1] if pattern == "{id}.*" else found[0]
        if img in paths and not kinds:
            clashes.append((img, path))
        paths.setdefault(img, path[:cut] + found[1].path)
    if 2 * max(fitting, len(paths)) < len(files.files):
        return None
    return Scheme(files, pattern, template, paths, clashes, kinds)
