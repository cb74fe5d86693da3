"""Files by pattern: where they lie under a folder, and which parts of their paths make the id."""

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from core.errors import UserError, raise_all

TOKEN = re.compile(r"\*\*/|\*|\{([A-Za-z_]\w*)\}")
EXCLUDE = " !"
SPECIAL = re.compile(r"[*{]")


class FilePattern:
    """Paths under a folder as one text: `{case}/{day}/scans/slice_{slice}_*.png !*_mask.png`.

    `{name}` is a part of one folder's or file's name, as short as fits, and the same wherever it
    repeats; `*` is anything within a name, `**/` any folders; what fits a ` !` part is left out
    (a part without a slash is tried on the file's name). The last suffix may be in capitals.

    Args:
        text: the pattern.
        template: an id made of the parts, `{case}_{day}`; empty = all parts, joined by _.
        knobs: names of the knobs of both, for messages.

    Raises:
        UserError: no part in it, a template of other parts, or one that makes paths.
    """

    def __init__(self, text: str, template: str = "", *, knobs: tuple[str, str]):
        wanted, *excludes = text.strip().split(EXCLUDE)
        self.text, self.knobs = wanted.strip(), knobs
        self.rule = _compile(self.text)
        self.excludes = [(_compile(part.strip()), "/" in part) for part in excludes]
        names = list(self.rule.groupindex)
        self.template = template or "_".join(f"{{{name}}}" for name in names)
        self._check(names)

    def find(self, folder: Path, *, is_wanted: Callable[[str], bool]) -> dict[str, str]:
        """Posix paths from the folder by id, in the order of the paths.

        Args:
            folder: where the pattern starts.
            is_wanted: whether a file of this name can be meant.

        Raises:
            UserError: lists the files of one id.
        """
        found: dict[str, str] = {}
        problems = []
        for path in self._walk(folder, is_wanted):
            img = self.id_of(path)
            if img is None:
                continue
            if img in found:
                problems.append(f"{img}: {found[img]} and {path}")
            found.setdefault(img, path)
        raise_all(
            problems,
            f"{folder}: two files have one id. Need ids that differ: put the part that tells them "
            f"apart into {self.knobs[1]} ({self.template!r}), or leave files out of "
            f"{self.knobs[0]} with ' !':",
        )
        return found

    def id_of(self, path: str) -> str | None:
        """The id of a posix path from the folder, None where it does not fit."""
        match = self.rule.fullmatch(path)
        if match is None:
            return None
        name = path.rpartition("/")[2]
        if any(rule.fullmatch(path if whole else name) for rule, whole in self.excludes):
            return None
        return same_name(self.template.format_map(match.groupdict()))

    def _check(self, names: list[str]) -> None:
        pattern, template = self.knobs
        if not names:
            raise UserError(
                f"{pattern} {self.text!r}: no part names the image. Need one in braces where the "
                "id stands: {id}"
            )
        asked = [match[1] for match in TOKEN.finditer(self.template) if match[1]]
        unknown = [name for name in asked if name not in names]
        rest = TOKEN.sub("", self.template)
        if unknown or not asked or set("{}/*\\") & set(rest) or "*" in self.template:
            raise UserError(
                f"{template} {self.template!r}: need a name without folders, made of "
                f"{', '.join(f'{{{name}}}' for name in names)} of {pattern} {self.text!r}"
            )

    def _walk(self, folder: Path, is_wanted: Callable[[str], bool]) -> list[str]:
        """Posix paths of files from the folder, sorted; no deeper than the pattern."""
        depth = None if "**/" in self.text else self.text.count("/")
        head = SPECIAL.split(self.text)[0].rpartition("/")[0]
        found = []
        for base, folders, names in os.walk(folder / head, followlinks=True):
            here = Path(base).relative_to(folder).as_posix()
            prefix = "" if here == "." else f"{here}/"
            if depth is not None and prefix.count("/") >= depth:
                folders.clear()
            found += [prefix + name for name in names if is_wanted(name)]
        return sorted(found)


def same_name(name: str) -> str:
    """A name as every file system's spelling of it: macOS writes é as e and an accent."""
    return unicodedata.normalize("NFC", name)


def _compile(text: str) -> re.Pattern[str]:
    """The regular expression of a pattern's text."""
    stem, dot, suffix = text.rpartition(".")
    if not dot or not suffix.isalnum():
        stem, suffix = text, ""
    parts: list[str] = []
    seen: set[str] = set()
    at = 0
    for match in TOKEN.finditer(stem):
        parts += [re.escape(stem[at : match.start()]), _piece(match, seen)]
        at = match.end()
    end = rf"(?i:\.{suffix})" if suffix else ""
    return re.compile("".join(parts) + re.escape(stem[at:]) + end)


def _piece(match: re.Match[str], seen: set[str]) -> str:
    name = match[1]
    if not name:
        return "(?:.*/)?" if match[0] == "**/" else "[^/]*"
    if name in seen:
        return f"(?P={name})"
    seen.add(name)
    return f"(?P<{name}>[^/]+?)"
