"""Flags, flag files and SEG_ variables that override config.py.

A flag becomes an environment variable and config is imported afresh, so that derived paths follow
and every process started later (data-loading workers, ranks) sees the same values.
"""

import argparse
import ast
import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from core.errors import UserError, nearest, raise_all
from core.memory import keep_freed_memory

PREFIX = "SEG_"
SRC = Path(__file__).resolve().parents[1]
ROOT = SRC.parent
HEADLINE = "the configuration does not hold:"
ALIASES = {"TRAIN_FOLDS": ("--folds", "--fold")}
_before_flags: dict[str, str | None] = {}


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
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def number(low: float, high: float = math.inf, kind: type = int) -> Callable[[str], Any]:
    """A `type` for a script's own flag: an int (or `kind`) from low to high, both included."""

    def read(text: str) -> Any:
        need = f"{low} to {high}" if high < math.inf else f"{low} or more"
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or value == math.inf:
            raise argparse.ArgumentTypeError(f"got {text!r}, need {kind.__name__} {need}")
        return value

    return read


def _parse_dict(text: str) -> dict[Any, Any]:
    try:
        value = ast.literal_eval(text)
    except TypeError as error:  # a list as key
        raise ValueError(str(error)) from None
    if not isinstance(value, dict):
        raise ValueError("a dict such as {0: 0, 255: 1}")
    return value


def _parse_union(text: str, arms: tuple[Any, ...]) -> Any:
    for arm in sorted(arms, key=lambda arm: (arm is str or arm is Path, arm is not NoneType)):
        try:
            return parse(text, arm)
        except (ValueError, KeyError, SyntaxError):
            continue
    raise ValueError(text)


def _parse_tuple(text: str, arms: tuple[Any, ...]) -> tuple[Any, ...]:
    items = [item.strip().strip("'\"") for item in text.strip("()[] ").split(",")]
    items = [item for item in items if item]
    if arms[-1] is Ellipsis:
        return tuple(parse(item, arms[0]) for item in items)
    if len(items) != len(arms):
        raise ValueError(f"{len(arms)} values")
    return tuple(parse(item, arm) for item, arm in zip(items, arms, strict=True))


def kind_name(kind: Any) -> str:
    """An annotation as a user reads it: int, "stretch | pad | crop", tuple[int, ...]."""
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(kind_name(arm) for arm in get_args(kind))
    if kind is NoneType:
        return "none"
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def apply_environment(knobs: dict[str, Any]) -> list[str]:
    """Puts SEG_ variables into `knobs` (config's globals); returns a line a problem."""
    kinds = knobs["__annotations__"]
    problems = []
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX)):
        name, text = variable.removeprefix(PREFIX), os.environ[variable]
        if name not in kinds:
            problems.append(f"{variable}: no such knob.{nearest(name, kinds)}")
            continue
        try:
            knobs[name] = parse(text, kinds[name])
        except (ValueError, KeyError, SyntaxError):
            near = _near_choice(text, kinds[name])
            problems.append(f"{name}: got {text!r}, need {kind_name(kinds[name])}.{near}")
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
    for line in path.read_text(encoding="utf-8").splitlines():
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


class _Parser(argparse.ArgumentParser):
    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        import shlex

        try:
            return shlex.split(arg_line, comments=True)
        except ValueError as error:
            return self.error(f"flag file line {arg_line!r}: {error}")

    def error(self, message: str) -> Any:
        flag = message.removeprefix("argument ")
        raise UserError(flag if flag != message else f"{self.prog}: {message}")


def build_parser(
    description: str, add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.ArgumentParser:
    """A parser with one flag a knob of config.py (`--train-batch-size 8`), and a script's own."""
    parser = _Parser(
        usage="%(prog)s [@file] [--knob value ...]",
        description=description,
        epilog="Precedence: flag or @file > SEG_NAME in the environment > src/config.py.",
        fromfile_prefix_chars="@",
        allow_abbrev=False,
    )
    if add_arguments:
        add_arguments(parser)
    groups: dict[str, Any] = {}
    for section, name, default, comment in read_knobs(SRC / "config.py"):
        group = groups.setdefault(section, parser.add_argument_group(section))
        group.add_argument(
            "--" + name.lower().replace("_", "-"),
            *ALIASES.get(name, ()),
            dest=name,
            nargs="?",
            const="true",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{comment} Default: {default}".replace("%", "%%"),
        )
    return parser


def _find_flag_files(argv: Sequence[str]) -> list[str]:
    """Flag files named from the repository root are found from any working directory."""
    found = []
    for arg in argv:
        if arg.startswith("@") and not Path(arg[1:]).is_file() and (ROOT / arg[1:]).is_file():
            arg = f"@{ROOT / arg[1:]}"
        found.append(arg)
    return found


def _unknown_words(unknown: Sequence[str], known: Sequence[str]) -> list[str]:
    """A line a word that no flag takes; the value of an unknown flag is told with the flag."""
    return [
        f"{word}: no such flag.{nearest(word.split('=')[0], known)}"
        if word.startswith("-")
        else f"{word}: not a flag; lists are written with commas: --folds 0,2"
        for before, word in pairwise(["", *unknown])
        if word.startswith("-") or not before.startswith("-")
    ]


def _restore_environment() -> None:
    for variable, text in _before_flags.items():
        if text is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = text
    _before_flags.clear()


def load_config(
    argv: Sequence[str] | None = None,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    *,
    description: str = "",
) -> tuple[ModuleType, argparse.Namespace]:
    """The config module with every override applied, and the script's own flags.

    Every script starts here, so this also tells the allocator to keep what is freed.

    Args:
        argv: the words after the script's name; None takes them from the command line.
        add_arguments: adds the script's own flags to the parser.
        description: first lines of `--help`.

    Raises:
        UserError: an unknown flag or variable, a text that does not fit, a value out of range;
            all of them at once.
    """
    parser = build_parser(description, add_arguments)
    words = _find_flag_files(sys.argv[1:] if argv is None else argv)
    args, unknown = parser.parse_known_args(words)
    known = [option for action in parser._actions for option in action.option_strings]
    problems = _unknown_words(unknown, known)
    _restore_environment()
    for name, text in vars(args).items():
        if name.isupper():
            _before_flags[PREFIX + name] = os.environ.get(PREFIX + name)
            os.environ[PREFIX + name] = text
    try:
        module = sys.modules.get("config")
        config = importlib.reload(module) if module else importlib.import_module("config")
    except ConfigError as error:
        _restore_environment()
        sys.modules.pop("config", None)
        raise ConfigError(problems + error.problems) from None
    raise_all(problems, HEADLINE)
    keep_freed_memory()
    return config, args


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
