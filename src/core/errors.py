"""How a mistake is told: one clear line, all problems of one pass together, exit code 2."""

import difflib
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
SHOWN = 20


class UserError(ValueError):
    """A mistake the user can mend: says what is wrong, got X, need Y, do Z."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name` as " Did you mean X?", or "" when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def raise_all(problems: Sequence[str], headline: str) -> None:
    """Raises one error that lists every problem of a pass; returns when there is none.

    Raises:
        UserError: `headline` and the first problems, a line each, with a count of the rest.
    """
    if not problems:
        return
    lines = [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more of the same pass")
    raise UserError("\n".join([headline, *lines]))


def pick(table: Mapping[str, T], name: str, what: str) -> T:
    """The row `name` of a table such as MODELS or LOSSES, those of the recipe included.

    Raises:
        UserError: no such row; lists the known names and the nearest.
    """
    from core.recipes import load_recipe

    load_recipe()
    if name in table:
        return table[name]
    known = ", ".join(sorted(table))
    raise UserError(f"unknown {what} {name!r}.{nearest(name, table)} Known: {known}")


def script(main: Callable[..., int]) -> Callable[..., int]:
    """Wraps a script's main(argv): a UserError becomes its message on stderr and exit code 2."""

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return wrapped
