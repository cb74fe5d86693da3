"""CALLBACKS: a name to a Lightning callback of one's own, beside those that every training has."""

from collections.abc import Callable, Sequence
from typing import Any

from core.rows import pick

# Each row is called without arguments: a callback's class, or a partial of it.
CALLBACKS: dict[str, Callable[[], Any]] = {}


def build_extras(names: Sequence[str]) -> list[Any]:
    """The callbacks of rows of CALLBACKS.

    Raises:
        UserError: an unknown name.
    """
    return [pick(CALLBACKS, name, "callback")() for name in names]
