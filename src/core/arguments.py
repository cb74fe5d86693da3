"""Arguments in a row's name: `tversky:alpha=0.3,gamma=0.75`, `step:at=0.5/0.8`; their ranges."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias

from core.errors import UserError, nearest
from core.gates import decimal_number, is_whole_number, whole_number

WORDS = {"true": True, "false": False, "none": None}


class Range(NamedTuple):
    """What a row's argument may be, in its annotation: `cycles: Annotated[int, Range(1)]`.

    Attributes:
        low, high: both included.
        above: `low` is not.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def holds(self, value: Any, *, whole: bool = False) -> bool:
        """Whether a number, or each of several, lies in it; with `whole` none between them."""
        numbers = value if isinstance(value, tuple) else (value,)
        return all(
            isinstance(number, int if whole else int | float)
            and not isinstance(number, bool)
            and self.low <= number <= self.high
            and not (self.above and number == self.low)
            for number in numbers
        )

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"{'above ' * self.above}{self.low:g} to {self.high:g}"
        return f"above {self.low:g}" if self.above else f"{self.low:g} or more"


Share: TypeAlias = Annotated[float, Range(0, 1)]
Positive: TypeAlias = Annotated[float, Range(0, above=True)]
NotNegative: TypeAlias = Annotated[float, Range(0)]


def read_name(text: str, what: str) -> tuple[str, dict[str, Any]]:
    """The row and the arguments in a text; values joined by / are a tuple.

    Args:
        text: a row's name, or name:key=value,key=value; a value is a number, true, false or none;
            empty=nan, too: what a metric leaves out.
        what: it names, for the message: "metric".

    Raises:
        UserError: arguments that do not read, nan and infinity among them.
    """
    short, *more = text.split(":")
    arguments = {}
    for part in ":".join(more).split(",") if more else []:
        key, equals, words = (word.strip() for word in part.partition("="))
        try:
            values = [_value(key, word.strip()) for word in words.split("/")]
        except ValueError:
            values = []
        if not (key.isidentifier() and equals and values):
            raise UserError(
                f"{what} {text!r}: got {part!r}, need name:key=number, as in fbeta:beta=0.5 or "
                "miou:only=1/2"
            )
        arguments[key] = values[0] if len(values) == 1 else tuple(values)
    return short.strip(), arguments


def _value(key: str, word: str) -> Any:
    if (key, word) == ("empty", "nan"):
        return math.nan
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    return whole_number(word) if is_whole_number(word) else decimal_number(word)


def check_arguments(
    row: Callable[..., Any],
    given: Mapping[str, Any],
    text: str,
    what: str,
    taken: Collection[str] = (),
) -> None:
    """Makes sure that a row takes these arguments, and these values of them.

    Args:
        row: builds what is asked for.
        given: the arguments in its name.
        text, what: as for `read_name`.
        taken: arguments that the caller gives.

    Raises:
        UserError: it does not; names the nearest, and those that it takes, or the range.
    """
    known = [name for name in keywords_of(row, text, what) if name not in taken]
    for key in given:
        if key not in known:
            takes = f"It takes {', '.join(known)}" if known else "It takes none"
            raise UserError(f"{what} {text!r}: no argument {key!r}.{nearest(key, known)} {takes}")
    check_ranges(row, given, text, what)


def check_ranges(row: Callable[..., Any], given: Mapping[str, Any], text: str, what: str) -> None:
    """Makes sure that arguments lie in the ranges that the row's annotations say.

    Args:
        row, given, text, what: as for `check_arguments`.

    Raises:
        UserError: one does not.
    """
    declared = _annotations_of(row, text, what)
    for key, value in given.items():
        kind = declared.get(key)
        whole = getattr(kind, "__origin__", None) is int
        for limit in getattr(kind, "__metadata__", ()):
            if isinstance(limit, Range) and not limit.holds(value, whole=whole):
                need = f"a whole number, {limit}" if whole else limit
                raise UserError(f"{what} {text!r}: {key} is {value}, need {need}")


def _annotations_of(row: Callable[..., Any], text: str, what: str) -> dict[str, Any]:
    """What a row's arguments may be, those of its base classes included."""
    target, found = getattr(row, "func", row), dict[str, Any]()
    for base in reversed(target.__mro__[1:-1]) if inspect.isclass(target) else []:
        if start := vars(base).get("__init__"):
            found |= {p.name: p.annotation for p in inspect.signature(start).parameters.values()}
    return found | {p.name: p.annotation for p in parameters_of(row, text, what).values()}


def parameters_of(row: Callable[..., Any], text: str, what: str) -> Mapping[str, inspect.Parameter]:
    """The parameters of what stands for a row.

    Args:
        row, text, what: as for `check_arguments`.

    Raises:
        UserError: it is written in C and does not say them.
    """
    try:
        return inspect.signature(row).parameters
    except (TypeError, ValueError):
        raise UserError(
            f"{what} {text!r} does not say what it takes, as what is written in C: call it in a "
            "row of your own, in a recipe's .py"
        ) from None


def keywords_of(row: Callable[..., Any], text: str, what: str) -> list[str]:
    """Names of the arguments that a row takes by keyword, those of its base classes included.

    Raises:
        UserError: as `parameters_of`.
    """
    kept = [p for p in parameters_of(row, text, what).values() if p.default is not p.empty]
    names = [p.name for p in kept]
    target = getattr(row, "func", row)
    for base in target.__mro__[1:-1] if inspect.isclass(target) else []:
        if start := vars(base).get("__init__"):
            options = inspect.signature(start).parameters.values()
            names += [p.name for p in options if p.kind is p.KEYWORD_ONLY]
    return list(dict.fromkeys(names))
