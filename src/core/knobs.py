"""Knobs: annotated constants of config.py, read from a text, checked, told as plain values."""

import ast
import contextlib
import os
import re
from dataclasses import Field, fields
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from core.errors import UserError, nearest
from core.gates import decimal_number, whole_number
from core.slips import SEEN, unknown_lines, values_now

PREFIX = "SEG_"
SRC = Path(__file__).resolve().parents[1]
ROOT = SRC.parent
# What a text may raise on its way to a value: ast.literal_eval has many words for it.
BAD_TEXT = (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError)
# Loading processes that no machine of so many cores needs, and that do not bring it down.
MOST_WORKERS = max(64, 4 * (os.cpu_count() or 1))
GATES: dict[Any, Any] = {int: whole_number, float: decimal_number}
HEADLINE = "the configuration does not hold:"
T = TypeVar("T")
D = TypeVar("D", bound="Dataclass")
# The mark of a knob that may differ between two sessions of one run: it changes where, how fast or
# what is done after training, not what is trained.
Free = Annotated[T, "free"]


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class ConfigError(UserError):
    """All problems of one configuration; `problems` holds a line each."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join([HEADLINE, *(f"  {problem}" for problem in problems)]))


def parse(text: str, kind: Any) -> Any:
    """The value of `text` as the annotation `kind` asks.

    Knows int, float, str, bool, Path, None, Literal, tuples ("0,2" or "[0, 2]"), dicts, unions.

    Raises:
        ValueError: the text does not fit the annotation.
    """
    origin, arms = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _parse_union(text, arms)
    if origin is Literal:
        if text not in arms:
            raise ValueError(f"one of {', '.join(map(str, arms))}{nearest(text, map(str, arms))}")
        return text
    if origin is tuple:
        return _parse_tuple(text, arms)
    if kind is dict or origin is dict:
        return _parse_dict(text)
    if kind is NoneType:
        if text.lower() not in ("none", "null", ""):
            raise ValueError("none")
        return None
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        return words[text.lower()]
    return GATES.get(kind, kind)(text)


def _parse_dict(text: str) -> dict[Any, Any]:
    try:
        value = ast.literal_eval(text)
    except TypeError as error:  # a list as key
        raise ValueError(str(error)) from None
    if not isinstance(value, dict):
        raise ValueError("a dict such as {0: 0, 255: 1}")
    tree = ast.parse(text.strip(), mode="eval").body
    if len(getattr(tree, "keys", value)) > len(value):
        raise ValueError("each key once")
    return value


def _parse_union(text: str, arms: tuple[Any, ...]) -> Any:
    for arm in sorted(arms, key=lambda arm: (arm is str or arm is Path, arm is not NoneType)):
        try:
            return parse(text, arm)
        except BAD_TEXT:
            continue
    raise ValueError(text)


def _parse_tuple(text: str, arms: tuple[Any, ...]) -> tuple[Any, ...]:
    plain = text.strip()
    if plain[:1] in ("(", "["):
        if plain[-1] != {"(": ")", "[": "]"}[plain[0]]:
            raise ValueError("a bracket that closes")
        plain = plain[1:-1]
    items = [item.strip().strip("'\"") for item in plain.removesuffix(",").split(",")]
    items = items if plain.strip() else []
    if "" in items:
        raise ValueError("a value between two commas")
    if arms[-1] is Ellipsis:
        return tuple(parse(item, arms[0]) for item in items)
    if len(items) != len(arms):
        raise ValueError(f"{len(arms)} values")
    return tuple(parse(item, arm) for item, arm in zip(items, arms, strict=True))


def as_declared(value: Any, kind: Any) -> Any:
    """A value of config.py as its annotation has it.

    A list is taken for a tuple, a text for a path, a whole number for a float.

    Raises:
        ValueError: it is of another kind.
    """
    origin, arms = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for arm in arms:
            with contextlib.suppress(ValueError):
                return as_declared(value, arm)
        raise ValueError
    if origin is Literal:
        fits = isinstance(value, str) and value in arms
    elif origin is tuple:
        if isinstance(value, list | tuple):
            kinds = arms[:1] * len(value) if arms[-1] is Ellipsis else arms
            return tuple(as_declared(*pair) for pair in zip(value, kinds, strict=True))
        fits = False
    elif isinstance(value, bool):
        fits = kind is bool
    elif kind is float and isinstance(value, int | float):
        return float(value)
    elif kind is Path and isinstance(value, str):
        return Path(value)
    else:
        fits = isinstance(value, origin or kind)
    if not fits:
        raise ValueError
    return value


def _declare(knobs: dict[str, Any], kinds: dict[str, Any]) -> list[str]:
    """Makes the values that stand in config.py those of their annotations; a line a misfit."""
    problems = []
    for name, kind in kinds.items():
        if name not in knobs:
            problems.append(f"{name}: config.py gives it no value")
            continue
        value = knobs[name]
        try:
            knobs[name] = as_declared(value, kind)
        except ValueError:
            told = f"{name}: config.py has {repr(value)[:60]}, need {kind_name(kind)}."
            with contextlib.suppress(*BAD_TEXT):
                told += f" Did you mean {parse(spell(value), kind)!r}?"
            problems.append(told)
    return problems


def spell(value: Any) -> str:
    """The text of a knob's value, as `knob_values` has it, that `parse` reads: 0,2 or none."""
    if isinstance(value, list | tuple):
        return ",".join(map(spell, value))
    if isinstance(value, dict):
        return str({_key(text): item for text, item in value.items()})
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _key(text: str) -> Any:
    """What stands for a colour or a number in JSON's keys, else the text."""
    try:
        return ast.literal_eval(text)
    except BAD_TEXT:
        return text


def kind_of(annotation: Any) -> Any:
    """The annotation without the mark `Free`."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def free_knobs(config: ModuleType) -> set[str]:
    """Names of the knobs marked `Free`: they do not make a run what it is."""
    marked = config.__annotations__.items()
    return {name for name, kind in marked if hasattr(kind, "__metadata__")}


def kind_name(kind: Any) -> str:
    """An annotation as a user reads it: int, "stretch | pad | crop", tuple[int, ...]."""
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(kind_name(arm) for arm in get_args(kind))
    if kind is NoneType:
        return "none"
    if kind is dict or get_origin(kind) is dict:
        return "dict such as {0: 0, 255: 1}, each key once"
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def apply_environment(knobs: dict[str, Any]) -> list[str]:
    """Puts SEG_ variables into `knobs` (config's globals); returns a line a problem.

    Called right after the last knob: an UPPER_CASE constant without an annotation is a problem,
    and so is a knob in lower case.

    Raises:
        ConfigError: values of config.py itself are of another kind than their annotations say.
    """
    kinds = {name: kind_of(kind) for name, kind in knobs["__annotations__"].items()}
    problems = unknown_lines(knobs, kinds)
    misfits = _declare(knobs, kinds)
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX)):
        name, text = variable.removeprefix(PREFIX), os.environ[variable]
        if name not in kinds:
            problems.append(f"{variable}: no such knob.{nearest(name, kinds)}")
            continue
        try:
            knobs[name] = parse(text, kinds[name])
        except BAD_TEXT:
            near = _near_choice(text, kinds[name])
            problems.append(f"{name}: got {text!r}, need {kind_name(kinds[name])}.{near}")
    if misfits:  # what follows in config.py asks for their ranges
        raise ConfigError(problems + misfits)
    return problems


def _near_choice(text: str, kind: Any) -> str:
    arms = [kind, *get_args(kind)] if get_origin(kind) is not Literal else [kind]
    choices = [str(c) for arm in arms if get_origin(arm) is Literal for c in get_args(arm)]
    return nearest(text, choices)


def check(knobs: dict[str, Any], problems: list[str], rules: list[tuple[str, bool, str]]) -> None:
    """Raises one error with the problems found so far and every rule that does not hold.

    Args:
        knobs: config's globals.
        problems: lines of `apply_environment`.
        rules: (knob, holds, what it needs).

    Raises:
        ConfigError: anything is wrong.
    """
    broken = [f"{name}: got {knobs[name]!r}, need {need}" for name, ok, need in rules if not ok]
    if problems or broken:
        raise ConfigError(problems + broken)
    knobs[SEEN] = values_now(knobs)


def kaggle_roots(competition: str) -> dict[str, Path]:
    """INPUT, OUTPUT and LOGS inside a Kaggle kernel, or {} elsewhere.

    Both mount layouts are known: /kaggle/input/competitions/<slug> and /kaggle/input/<slug>.
    KAGGLE_ROOT replaces /kaggle in tests.
    """
    kaggle = Path(os.environ.get("KAGGLE_ROOT", "/kaggle"))
    mount, working = kaggle / "input", kaggle / "working"
    if not mount.is_dir():
        return {}
    candidates = [mount / "competitions" / competition, mount / competition]
    found = next((path for path in candidates if competition and path.is_dir()), mount)
    return {"INPUT": found, "OUTPUT": working / "output", "LOGS": working / "lightning_logs"}


def read_knobs(path: Path) -> list[tuple[str, str, str, str]]:
    """(section, name, default text, comment) of every knob, read from the text of config.py."""
    knobs: list[tuple[str, str, str, str]] = []
    section, comment = "", list[str]()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if heading := re.fullmatch(r"# ==+ (.+?) ==+", line):
            section, comment = heading[1], []
        elif line.startswith("# "):
            comment.append(line[2:])
        elif knob := re.match(r"([A-Z][A-Z0-9_]*): [^=]+ = (.+)", line):
            knobs.append((section, knob[1], knob[2], " ".join(comment)))
            comment = []
        else:
            comment = []
    return knobs


def switches(path: Path) -> set[str]:
    """Names of the knobs that may be true, by the text of config.py: their flag needs no value."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return set(re.findall(r"^([A-Z][A-Z0-9_]*): [^=\n]*\bbool\b", text, re.MULTILINE))


def knob_values(config: ModuleType) -> dict[str, Any]:
    """Every knob with its value as JSON holds it: paths as text, tuples as lists."""
    values: dict[str, Any] = {}
    for name in config.__annotations__:
        value = getattr(config, name)
        if isinstance(value, Path):
            value = value.as_posix()
        if isinstance(value, dict):
            value = {str(key): item for key, item in value.items()}  # a colour is no JSON key
        values[name] = list(value) if isinstance(value, tuple) else value
    return values


def fill(kind: type[D], config: ModuleType, **given: Any) -> D:
    """A dataclass from the knobs whose names are its fields in upper case, and `given` beside."""
    names = {field.name for field in fields(kind)} - set(given)
    return kind(**{name: getattr(config, name.upper()) for name in names}, **given)
