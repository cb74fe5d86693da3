"""Tables such as MODELS and LOSSES: a name finds its row."""

from collections.abc import Mapping
from typing import TypeVar

from core.errors import UserError, nearest
from core.imports import is_import_path, load_object
from core.recipes import load_recipe

T = TypeVar("T")


def pick(table: Mapping[str, T], name: str, what: str, *, also: str = "") -> T:
    """The row `name` of a table such as MODELS or LOSSES, those of the recipe included.

    A name that no row has may be an import path: what it names stands for a row.

    Args:
        also: what besides rows would do, said behind the known names.

    Raises:
        UserError: no such row; lists the known names and the nearest.
    """
    load_recipe()
    if name in table:
        return table[name]
    if is_import_path(name):
        row: T = load_object(name, what)
        return row
    known = ", ".join(sorted(table)) or "none yet"
    raise UserError(f"unknown {what} {name!r}.{nearest(name, table)} Known: {known}{also}")
