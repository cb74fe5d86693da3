"""How the names of a file set make ids: as patterns of IMAGE_PATTERN and ID_TEMPLATE."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from competition.patterns import FilePattern
from core.errors import UserError
from looking.survey import FileSet


@dataclass(frozen=True)
class Scheme:
    """One reading of a file set's names.

    Attributes:
        files: the set.
        pattern: of the files, from `files.root`; as IMAGE_PATTERN.
        template: of the ids; as ID_TEMPLATE.
        paths: the file of each id, posix from the survey's root.
        clashes: (id, path) of files whose id another file has.
    """

    files: FileSet
    pattern: str
    template: str
    paths: dict[str, str]
    clashes: list[tuple[str, str]]

    @property
    def plain(self) -> bool:
        """Whether the files lie in one folder and are called by their ids: no pattern is needed."""
        return not self.files.nested and self.template == "{id}" and self.pattern[:4] == "{id}"


def schemes_of(files: FileSet, others: Sequence[FileSet]) -> list[Scheme]:
    """The ways to read the names of a set, the simplest first.

    Args:
        files: the set.
        others: all sets of the survey: what lies in the same folders is left out by the pattern.
    """
    depth = len(files.root.split("/")) if files.root else 0
    folders = files.folders[depth:]
    names, varying = _name_folders(files, folders)
    base = "/".join(names)
    short = f"{files.head}{{id}}{files.tail}"
    full = f"{{id}}{files.tail[files.tail.rfind('.') :]}"
    ways = [(short, "{id}"), (full, "{id}")] if short != full and not files.head else [(short, "")]
    if files.head:
        ways = [(short, f"{files.head}{{id}}")]
    ways = [(name, template or "{id}") for name, template in ways]
    if varying:
        joined = "_".join(f"{{{name}}}" for name in varying)
        ways += [(name, f"{joined}_{template}") for name, template in ways]
        ways += _numbered(files, varying)
    excludes = _excludes(files, others)
    found = []
    for name, template in ways:
        pattern = f"{base}/{name}" if base else name
        kept = excludes if name != short or not files.tail[: files.tail.rfind(".")] else ""
        if scheme := _read(files, pattern + kept, template):
            found.append(scheme)
    return found


def _name_folders(files: FileSet, folders: Sequence[str | None]) -> tuple[list[str], list[str]]:
    """Parts of the pattern for folders below the root, and the names of those that differ."""
    rows = list(files.files)
    names: list[str] = []
    varying: list[str] = []
    at = 0
    for folder in folders:
        if folder is not None:
            names.append(folder)
            continue
        same = all(row[at] == row[-1] for row in rows)
        name = "id" if same else "folder" if not varying else f"folder{len(varying) + 1}"
        if not same:
            varying.append(name)
        names.append(f"{{{name}}}")
        at += 1
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


def _excludes(files: FileSet, others: Sequence[FileSet]) -> str:
    """Ends of names in the same folders that are another set's: ` !*_anno.bmp`."""
    tails = {
        other.tail
        for other in others
        if other.folders == files.folders
        and other.tail != files.tail
        and other.tail.lower().endswith(files.tail[files.tail.rfind(".") :].lower())
        and len(other.tail) > len(files.tail)
    }
    return "".join(f" !*{tail}" for tail in sorted(tails))


def _doubles(files: FileSet) -> list[tuple[tuple[str, ...], str]]:
    stems = {path.rpartition(".")[0]: key for key, path in files.files.items()}
    return [(stems[path.rpartition(".")[0]], path) for path in files.doubles]


def _read(files: FileSet, pattern: str, template: str) -> Scheme | None:
    try:
        rule = FilePattern(pattern, template, knobs=("IMAGE_PATTERN", "ID_TEMPLATE"))
    except UserError:
        return None
    cut = len(files.root) + 1 if files.root else 0
    paths: dict[str, str] = {}
    clashes = [(key[-1], path) for key, path in _doubles(files)]
    for key, path in files.files.items():
        # Names of one folder are cut at their last point, whatever the suffix.
        img = key[-1] if pattern == "{id}.*" else rule.id_of(path[cut:])
        if img is None:
            continue
        if img in paths:
            clashes.append((img, path))
        paths.setdefault(img, path)
    if 2 * len(paths) < len(files.files):
        return None
    return Scheme(files, pattern, template, paths, clashes)
