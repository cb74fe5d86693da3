"""Files by pattern: where they lie under a folder, and which parts of their paths make the id."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import SHOWN, UserError, raise_all
from core.gates import is_whole_number
from imaging.images import page_count
from imaging.sources import BAND, PAGE, SLICE
from streaming.files import walk_files

TOKEN = re.compile(r"\*\*/|\*|\{([A-Za-z_]\w*)\}")
EXCLUDE = " !"
# Each page is an image, counted from 0 or, /{page:1}, from 1.
PAGES = re.compile(rf"/\{{{PAGE}(?::([01]))?\}}$")
SPECIAL = re.compile(r"[*{]")
# Of a template: {id}, and its number with zeros before it or without: {id:05}, {id:d}.
FIELD = re.compile(r"\{([A-Za-z_]\w*)(?::(?:0[1-9]\d?|d))?\}")
PART = re.compile(r"\{([A-Za-z_]\w*)(=[^{}/]*)?\}")


class Found(NamedTuple):
    """An image of a pattern.

    Attributes:
        path: posix, from the folder; with marks where the pattern has {band} or {slice}, see
            `imaging.sources`.
        parts: what stands in the pattern's places, without the band.
    """

    path: str
    parts: dict[str, str]


class Part(str):
    """What stands in a pattern's place; a template may ask for its number with so many digits."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec and is_whole_number(self) else str(self)


class FilePattern:
    """Paths under a folder as one text: `{case}/{day}/scans/slice_{slice}_*.png !*_mask.png`.

    `{name}` is a part of one folder's or file's name, as short as fits, and the same wherever it
    repeats; `*` is anything within a name, `**/` any folders; what fits a ` !` part is left out
    (a part without a slash is tried on the file's name, `old/` is all of a folder). The last
    suffix may be in capitals. `{name=text}` stands for nothing in the path, it is a part of that
    value: of masks or test images whose paths lack it. `/{page}` at the end makes each page of a
    stack an image; their ids count from 0, those of `/{page:1}` from 1. Files that differ in
    `{band}` alone are one image; `{slice}` is an image's place in its series.

    Args:
        text: the pattern.
        template: an id made of the parts, `{case}_{day}`; empty = all parts but the band, joined
            by _. Numbers may have zeros before them in one folder and none in another: `{id:05}` is
            00007 of both, `{id:d}` is 7.
        knobs: names of the knobs of both, for messages.
        bands: values of {band} that make an image, the first one's file stands for it.
        axes: of files whose pages are images.

    Raises:
        UserError: no part in it, a template of other parts, or one that makes paths.
    """

    def __init__(
        self,
        text: str,
        template: str = "",
        *,
        knobs: tuple[str, str],
        bands: Sequence[str] = (),
        axes: str = "",
    ):
        wanted, *excludes = text.strip().split(EXCLUDE)
        pages = PAGES.search(wanted.strip())
        self.paged, self.first_page = pages is not None, int((pages and pages[1]) or 0)
        wanted = PAGES.sub(f"/{{{PAGE}}}", wanted.strip())
        parts = {match[1]: match[2] for match in PART.finditer(wanted)}
        self.fixed = {name: value[1:] for name, value in parts.items() if value}
        self.text = PART.sub(lambda match: "" if match[2] else match[0], wanted)
        self.text = PAGES.sub("", self.text)
        self.knobs, self.bands, self.axes = knobs, bands, axes
        self.rule = _compile(self.text, bands)
        self.excludes = [(_compile(_whole(part.strip())), "/" in part) for part in excludes]
        names = [name for name in parts if name != BAND]
        self.template = template or "_".join(f"{{{name}}}" for name in names)
        self._check(names)

    def find(self, folder: Path, *, is_wanted: Callable[[str], bool]) -> dict[str, str]:
        """Paths by id, in the order of the files, see `find_images`."""
        return {img: image.path for img, image in self.find_images(folder, is_wanted).items()}

    def find_all(self, folder: Path, *, is_wanted: Callable[[str], bool]) -> dict[str, list[str]]:
        """All paths of each id, in the order of the files."""
        found: dict[str, list[str]] = {}
        for path in self._walk(folder, is_wanted):
            match = self._match(path)
            if match is not None:
                found.setdefault(self._id(match), []).append(path)
        return found

    def find_images(self, folder: Path, is_wanted: Callable[[str], bool]) -> dict[str, Found]:
        """Images by id, in the order of their files.

        Args:
            folder: where the pattern starts.
            is_wanted: whether a file of this name can be meant.

        Raises:
            UserError: lists the files of one id, or images without all of their bands.
        """
        found: dict[str, dict[str, tuple[str, re.Match[str]]]] = {}
        problems = []
        for path in self._walk(folder, is_wanted):
            match = self._match(path)
            if match is None:
                continue
            band = match.groupdict().get(BAND, "")
            files = found.setdefault(self._id(match), {})
            if band in files:
                problems.append(f"{self._id(match)}: {files[band][0]} and {path}")
            files.setdefault(band, (path, match))
        raise_all(
            problems,
            f"{folder}: two files have one id. Need ids that differ: put the part that tells them "
            f"apart into {self.knobs[1]} ({self.template!r}), or leave files out of "
            f"{self.knobs[0]} with ' !'; mask files of an object each: MASK_FORMAT=instances:",
        )
        self._check_bands(found, folder, is_wanted)
        first = self.bands[0] if BAND in self.rule.groupindex else ""
        images = {img: self._found(*files[first]) for img, files in found.items()}
        return self._pages(images, folder) if self.paged else images

    def _pages(self, stacks: Mapping[str, Found], folder: Path) -> dict[str, Found]:
        """Each page of stacks as an image."""
        images = {}
        for path, parts in stacks.values():
            count = page_count(folder / path, self.axes)
            digits = len(str(count - 1 + self.first_page))
            for page in range(count):
                named = parts | {PAGE: f"{page + self.first_page:0{digits}d}"}
                img = self._name(named)
                images[img] = Found(f"{path}{{{PAGE}:{page}}}", named)
        return images

    def _check_bands(
        self,
        found: Mapping[str, Mapping[str, object]],
        folder: Path,
        is_wanted: Callable[[str], bool],
    ) -> None:
        if BAND not in self.rule.groupindex:
            return
        if not (self.bands and found):
            rule = _compile(self.text)
            matches = map(rule.fullmatch, self._walk(folder, is_wanted))
            there = sorted({match[BAND] for match in matches if match})
            told = f"{', '.join(there[:SHOWN])}{'...' if len(there) > SHOWN else ''}"
            raise UserError(
                f"{folder}: {self.knobs[0]} has the part {{band}}, whose files are the channels of "
                f"one image, BANDS is {','.join(self.bands)!r}: need some of {told or 'none found'}"
            )
        problems = [
            f"{img}: no {band}"
            for img, files in found.items()
            for band in self.bands
            if band not in files
        ]
        raise_all(problems, f"{folder}: images lack files of BANDS={','.join(self.bands)}:")

    def _found(self, path: str, match: re.Match[str]) -> Found:
        values = self.fixed | {
            name: text for name, text in match.groupdict().items() if name in _names(self.text)
        }
        marked = {BAND, SLICE} & set(values)
        parts = {name: text for name, text in values.items() if name != BAND}
        return Found(_mark(self.text, match) if marked else path, parts)

    def read(self, path: str) -> tuple[str, Found] | None:
        """The id and the image of a posix path from the folder, None where it does not fit."""
        match = self._match(path)
        return None if match is None else (self._id(match), self._found(path, match))

    def _id(self, match: re.Match[str]) -> str:
        return self._name({PAGE: ""} | match.groupdict() | self.fixed)

    def _name(self, parts: Mapping[str, str]) -> str:
        named = {name: Part(text) for name, text in parts.items()}
        return same_name(self.template.format_map(named))

    def _match(self, path: str) -> re.Match[str] | None:
        """Of a posix path from the folder, None where it does not fit."""
        match = self.rule.fullmatch(path)
        if match is None:
            return None
        name = path.rpartition("/")[2]
        if any(rule.fullmatch(path if whole else name) for rule, whole in self.excludes):
            return None
        return match

    def _check(self, names: list[str]) -> None:
        pattern, template = self.knobs
        if not names:
            raise UserError(
                f"{pattern} {self.text!r}: no part names the image. Need one in braces where the "
                "id stands: {id}"
            )
        asked = FIELD.findall(self.template)
        unknown = [name for name in asked if name not in names]
        rest = FIELD.sub("", self.template)
        if unknown or not asked or set("{}/*\\") & set(rest) or "*" in self.template:
            raise UserError(
                f"{template} {self.template!r}: need a name without folders, made of "
                f"{', '.join(f'{{{name}}}' for name in names)} of {pattern} {self.text!r}"
            )

    def _walk(self, folder: Path, is_wanted: Callable[[str], bool]) -> list[str]:
        """Posix paths of files from the folder, sorted; no deeper than the pattern."""
        depth = None if "**/" in self.text else self.text.count("/")
        head = SPECIAL.split(self.text)[0].rpartition("/")[0]
        prefix = f"{head}/" if head else ""
        below = walk_files(folder / head, None if depth is None else depth - prefix.count("/"))
        return sorted(prefix + path for path in below if is_wanted(path.rpartition("/")[2]))


def same_name(name: str) -> str:
    """A name as every file system's spelling of it: macOS writes é as e and an accent."""
    return unicodedata.normalize("NFC", name)


def small_type(name: str) -> str:
    """A file's name with its type in small letters: 7.png of 7.PNG."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}{dot}{suffix.lower()}"


def _whole(text: str) -> str:
    """A part to leave out; a folder, `test/`, means all that lies in it."""
    return f"{text}**/*" if text.endswith("/") else text


def _names(text: str) -> list[str]:
    """Names of a pattern's parts, each once."""
    return list(dict.fromkeys(match[1] for match in TOKEN.finditer(text) if match[1]))


def _compile(text: str, bands: Sequence[str] = ()) -> re.Pattern[str]:
    """The regular expression of a pattern's text; a * at n is its group _n."""
    stem, dot, suffix = text.rpartition(".")
    if not dot or not suffix.isalnum():
        stem, suffix = text, ""
    parts: list[str] = []
    seen: set[str] = set()
    at = 0
    for match in TOKEN.finditer(stem):
        parts += [re.escape(stem[at : match.start()]), _piece(match, seen, bands)]
        at = match.end()
    end = rf"(?P<_end>(?i:\.{suffix}))" if suffix else "(?P<_end>)"
    try:
        return re.compile("".join(parts) + re.escape(stem[at:]) + end)
    except re.error as error:
        raise UserError(f"pattern {text!r}: {error}: need parts of other names") from None


def _piece(match: re.Match[str], seen: set[str], bands: Sequence[str]) -> str:
    name = match[1]
    if not name:
        return f"(?P<_{match.start()}>{'(?:.*/)?' if match[0] == '**/' else '[^/]*'})"
    if name in seen:
        return f"(?P={name})"
    seen.add(name)
    # Of names that hold the separator, too: a_b_vv.tif is band vv of a_b.
    known = "|".join(map(re.escape, bands)) if name == BAND else ""
    return f"(?P<{name}>{known or '[^/]+?'})"


def _mark(text: str, match: re.Match[str]) -> str:
    """The path of a match with marks for its band and slice; * stays beside and behind a mark.

    What a * stands for may differ from slice to slice, as a height in the file's name.
    """
    first = min(text.find(f"{{{part}}}") for part in (BAND, SLICE) if f"{{{part}}}" in text)
    loose = text.rfind("/", 0, first)
    stem = text[: -len(match["_end"])] if match["_end"] else text

    def written(token: re.Match[str]) -> str:
        name = token[1]
        if name in (BAND, SLICE):
            return f"{{{name}:{match[name]}}}"
        if token[0] == "*" and token.start() > loose:
            return "*"
        return match[name or f"_{token.start()}"]

    return TOKEN.sub(written, stem) + match["_end"]
