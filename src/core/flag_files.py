"""Files of flags: @recipes/x.args, and --recipe x, read into words."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.errors import UserError, nearest
from core.knobs import ROOT
from core.recipes import find_recipe

# A recipe has some fifty words.
MOST_WORDS = 5000
# Recipes that are named where one is not found.
NAMED = 8
# What is in quotes, a letter behind a backslash, or any other letter.
PIECE = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'|\\.|.""")
LARGEST = 1 << 20


def expand_flag_files(words: Sequence[str]) -> list[str]:
    """The words with those of every @file in its place, and of --recipe before all, so others win.

    Raises:
        UserError: a file that is not there, is no text, includes itself or holds too much.
    """
    recipes = [f"@{path}" for path in _recipes_in(words)]
    expanded: list[str] = []
    for word in _expand([*recipes, *words], ()):
        expanded.append(word)
        if len(expanded) > MOST_WORDS:
            raise UserError(f"more than {MOST_WORDS} words of flags: a recipe has some fifty")
    return expanded


def _recipes_in(words: Sequence[str]) -> Iterator[Path]:
    for at, word in enumerate(words):
        flag, _, name = word.partition("=")
        if flag == "--recipe":
            name = name or next(iter(words[at + 1 : at + 2]), "")
            path = Path(f"{find_recipe(name)}.args") if name else None
            if path and path.is_file():
                yield path


def _expand(words: Sequence[str], inside: tuple[Path, ...]) -> Iterator[str]:
    for word in words:
        if word.startswith("@"):
            path = _find(word[1:])
            if path in inside:
                chain = " -> ".join(file.name for file in (*inside, path))
                raise UserError(f"{path}: a file of flags includes itself: {chain}")
            words_of_file = (word for _, _, words in word_lines(path) for word in words)
            yield from _expand(list(words_of_file), (*inside, path))
        else:
            yield word


def told_in(words: Sequence[str], flag: str) -> str:
    """In which of a command's files of flags a word stands, ` (in recipes/x.args)`, or nothing."""
    recipes = [f"@{path}" for path in _recipes_in(words)]
    for word in [*recipes, *words]:
        if word.startswith("@") and flag in _expand([word], ()):
            return f" (in {word[1:]})"
    return ""


def _find(name: str) -> Path:
    """A file as it is named, or from the repository root, so that any working directory will do."""
    for path in (Path(name), ROOT / name):
        if path.is_file():
            return path.resolve()
    known = sorted(path.name for path in (ROOT / "recipes").glob("*.args"))
    near = nearest(Path(name).stem, [Path(one).stem for one in known])
    meant = near and near.replace("?", ".args?")
    held = ", ".join(known[:NAMED]) + (f" and {len(known) - NAMED} more" * (len(known) > NAMED))
    raise UserError(f"@{name}: no such file of flags.{meant or f' recipes/ holds {held}'}")


def word_lines(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(number, line, its words) of each line of a text of flags; # begins a comment.

    Raises:
        UserError: it is no text, or too large a one, a quote has no end, or # is within a word.
    """
    data = path.read_bytes()
    if len(data) > LARGEST:
        raise UserError(f"{path}: {len(data)} bytes are no file of flags")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}): save it as UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path}: holds a zero byte, it is no text (or UTF-16: save it as UTF-8)")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            _check_comment(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}: {line.strip()[:80]!r}") from None
        yield number, line, words


def _check_comment(line: str) -> None:
    """Raises ValueError where # stands within a word: shlex drops all that follows it."""
    hashes = (match for match in PIECE.finditer(line) if match[0] == "#")
    first = next(hashes, None)
    if first and first.start() and not line[first.start() - 1].isspace():
        raise ValueError("# within a word: put the word in quotes, or a blank before a comment")
