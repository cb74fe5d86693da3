"""Flags and flag files that override config.py.

A flag becomes an environment variable and config is imported afresh, so that derived paths follow
and every process started later (data-loading workers, ranks) sees the same values.
"""

import argparse
import importlib
import linecache
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

from core.advice import remember
from core.errors import UserError, nearest, raise_all
from core.flag_files import expand_flag_files, told_in
from core.gates import id_problem
from core.knobs import (
    BAD_TEXT,
    HEADLINE,
    PREFIX,
    SRC,
    ConfigError,
    kind_name,
    parse,
    read_knobs,
    switches,
)
from core.memory import keep_freed_memory
from core.processes import follow_caller
from core.recipes import load_recipe
from core.slips import flags_of_scripts, late_lines

ALIASES = {"TRAIN_FOLDS": ("--folds", "--fold")}
AddArguments = Callable[[argparse.ArgumentParser], None]
Verbs = Mapping[str, AddArguments]
_before_flags: dict[str, str | None] = {}


def number(low: float, high: float = math.inf, kind: type = int) -> Callable[[str], Any]:
    """A `type` for a script's own flag: an int (or `kind`) from low to high, both included."""

    def read(text: str) -> Any:
        need = f"{low} to {high}" if high < math.inf else f"{low} or more"
        try:
            value = parse(text, kind)
        except ValueError:
            value = math.nan
        if not low <= value <= high or value == math.inf:
            raise argparse.ArgumentTypeError(f"got {text!r}, need {kind.__name__} {need}")
        return value

    return read


def value_of(kind: Any) -> Callable[[str], Any]:
    """A `type` for a script's own flag: a value of this annotation, written as a knob's."""

    def read(text: str) -> Any:
        try:
            return parse(text, kind)
        except BAD_TEXT:
            raise argparse.ArgumentTypeError(f"got {text!r}, need {kind_name(kind)}") from None

    return read


def names(need: str, least: int = 1, most: float = math.inf) -> Callable[[str], list[str]]:
    """A `type` for a script's own flag: different names with commas, `least` to `most` of them."""

    def read(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",")]
        wrong = len(set(found)) < len(found) or any(map(id_problem, found))
        if wrong or not least <= len(found) <= most:
            raise argparse.ArgumentTypeError(f"got {text!r}, need {need}")
        return found

    return read


def as_flags(values: Mapping[str, str]) -> list[str]:
    """Knobs with their texts as words of a command: --lr=0.001."""
    return [f"--{name.lower().replace('_', '-')}={text}" for name, text in values.items()]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        flag = message.removeprefix("argument ")
        raise UserError(flag if flag != message else f"{self.prog}: {message}")


def build_parser(
    description: str, add_arguments: AddArguments | None = None, **options: Any
) -> argparse.ArgumentParser:
    """A parser with one flag a knob of config.py (`--train-batch-size 8`), and a script's own."""
    parser = _Parser(
        usage="%(prog)s [@file] [--knob value ...]",
        description=description,
        epilog="Precedence: flag or @file > SEG_NAME in the environment > src/config.py.",
        allow_abbrev=False,
        **options,
    )
    if add_arguments:
        add_arguments(parser)
    groups: dict[str, Any] = {}
    without_value = switches(SRC / "config.py")
    for section, name, default, comment in read_knobs(SRC / "config.py"):
        group = groups.setdefault(section, parser.add_argument_group(section))
        group.add_argument(
            "--" + name.lower().replace("_", "-"),
            *ALIASES.get(name, ()),
            dest=name,
            nargs="?" if name in without_value else None,
            const="true" if name in without_value else None,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{comment} Default: {default}".replace("%", "%%"),
        )
    return parser


def _unknown_words(
    unknown: Sequence[str],
    known: Sequence[str],
    *,
    others: Mapping[str, str],
    verb: str,
    given: Sequence[str],
) -> list[str]:
    """A line a word that no flag takes; the value of an unknown flag is told with the flag.

    Args:
        unknown: the words.
        known: every flag.
        others: flags of other verbs, each with its verb.
        verb: that was given.
        given: the words of the command as it was typed, with files of flags by their names.
    """
    problems = []
    for before, word in pairwise(["", *unknown]):
        flag = word.partition("=")[0]
        if flag in others:
            problems.append(f"{flag}: a flag of {others[flag]}, not of {verb}")
        elif owners := flags_of_scripts(SRC).get(flag):
            told = f"a flag of {', '.join(owners)}, not of this script"
            problems.append(f"{flag}: {told}{told_in(given, word)}")
        elif word.startswith("-"):
            problems.append(f"{word}: no such flag{told_in(given, word)}.{nearest(flag, known)}")
        elif word.endswith(".args"):
            problems.append(f"{word}: a file of flags is given with @: @{word}")
        elif word.endswith(":"):
            problems.append(f"{word} begins a stage: its file is train_stages.py's, without @")
        elif not before.startswith("-"):
            problems.append(f"{word}: not a flag; lists are written with commas: --folds 0,2")
    return problems


def set_variable(name: str, value: object) -> None:
    """Sets a knob for processes started later, until the next `load_config`."""
    variable = PREFIX + name
    _before_flags.setdefault(variable, os.environ.get(variable))
    os.environ[variable] = str(value)


def _restore_environment() -> None:
    for variable, text in _before_flags.items():
        if text is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = text
    _before_flags.clear()


def _choose_verb(words: Sequence[str], verbs: Verbs, default: str) -> tuple[str, list[str]]:
    """(the verb among a script's words, the other words).

    Raises:
        UserError: a word that is no verb, or none where one is needed.
    """

    def add_all(parser: argparse.ArgumentParser) -> None:
        for add in verbs.values():
            add(parser)

    parser = build_parser("", add_all, conflict_handler="resolve", add_help=False)
    for action in parser._actions:
        action.default = argparse.SUPPRESS  # a default may not be of its own flag's type
        action.required = False

    def free(words: Sequence[str]) -> list[str]:
        """Words that are neither flags nor the values of any, of unknown flags not even a verb."""
        unknown = parser.parse_known_args(list(words))[1]
        pairs = pairwise(["", *unknown])
        told = [word for before, word in pairs if word in verbs or before[:1] != "-"]
        return [word for word in told if not word.startswith("-")]

    found = free(words)
    if not found and (default or {"-h", "--help"} & set(words)):
        return default or next(iter(verbs)), list(words)
    verb = found[0] if found else ""
    if verb not in verbs:
        if verb.endswith(".args"):
            raise UserError(f"{verb}: a file of flags is given with @: @{verb}")
        got = f"got {verb!r}" if verb else "nothing to do"
        raise UserError(f"{got}, need one of {', '.join(verbs)}.{nearest(verb, verbs)}")
    for at in [at for at, word in enumerate(words) if word == verb]:
        rest = [*words[:at], *words[at + 1 :]]
        if len(free(rest)) < len(found):  # not the value of a flag
            return verb, rest
    return verb, list(words)


def _of_other_verbs(verbs: Verbs, verb: str) -> dict[str, str]:
    """Flags that a verb does not take, each with a verb that does."""
    taken: dict[str, str] = {}
    for name in [*(other for other in verbs if other != verb), verb]:
        parser = argparse.ArgumentParser(add_help=False)
        verbs[name](parser)
        for option in (o for action in parser._actions for o in action.option_strings):
            taken[option] = name
    return {option: name for option, name in taken.items() if name != verb}


def join_numbers(words: Sequence[str]) -> list[str]:
    """Words with a value that begins with a minus joined to its flag: --stack=-1,0,1.

    argparse takes it for a flag of its own.
    """
    joined: list[str] = []
    for word in words:
        if re.match(r"-[\d.]", word) and joined and re.fullmatch(r"--[\w-]+", joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _remember(words: Sequence[str]) -> None:
    """Notes files of flags and knobs among a script's words, for the commands that it advises."""
    plain = join_numbers([word for word in words if not word.startswith("@")])
    knobs = vars(build_parser("").parse_known_args(plain)[0])
    flags = {"--" + name.lower().replace("_", "-"): text for name, text in knobs.items()}
    remember([word for word in words if word.startswith("@")], flags.items())


def _import_config() -> ModuleType:
    """config.py, imported afresh.

    Raises:
        ConfigError: values in it do not hold.
        UserError: it is no Python, or a line of it fails.
    """
    sys.modules.pop("config", None)
    try:
        return importlib.import_module("config")
    except UserError:
        raise
    except Exception as error:
        raise UserError(_told_line(error)) from error


def _told_line(error: Exception) -> str:
    """Where importing a file failed, why, and what stands there."""
    if isinstance(error, SyntaxError):
        path, line, told = error.filename, error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        last = [frame for frame in frames if frame.name == "<module>"][-1]
        path, line, told = last.filename, last.lineno, str(error)
    if isinstance(error, NameError):
        told += " (a text needs quotes; a knob that was deleted or renamed must come back)"
    if not (path and line):  # a zero byte has no place
        return f"{SRC / 'config.py'}, or what it imports: {told}"
    return f"{path}, line {line}: {told}: {linecache.getline(path, line).strip()}"


def load_config(
    argv: Sequence[str] | None = None,
    add_arguments: AddArguments | None = None,
    *,
    verbs: Verbs | None = None,
    verb: str = "",
    description: str = "",
) -> tuple[ModuleType, argparse.Namespace]:
    """The config module with every override applied, and the script's own flags.

    Every script starts here, so this also tells the allocator to keep what is freed, and ends with
    the script that it was called by.

    Args:
        argv: the words after the script's name; None takes them from the command line.
        add_arguments: adds the script's own flags to the parser.
        verbs: of a script that does several things: what adds the flags of each.
        verb: that is meant where none is given; "" = one must be given.
        description: first lines of `--help`.

    Returns:
        The module, and the script's own flags; `verb` among them where there are verbs.

    Raises:
        UserError: an unknown flag or variable, a text that does not fit, a value out of range;
            all of them at once.
    """
    follow_caller()
    given = sys.argv[1:] if argv is None else argv
    words = join_numbers(expand_flag_files(given))
    others: dict[str, str] = {}
    if verbs:
        verb, words = _choose_verb(words, verbs, verb)
        add_arguments, others = verbs[verb], _of_other_verbs(verbs, verb)
    parser = build_parser(description, add_arguments)
    args, unknown = parser.parse_known_args(words)
    args.verb = verb
    _remember(given)
    known = [option for action in parser._actions for option in action.option_strings]
    problems = _unknown_words(unknown, known, others=others, verb=verb, given=given)
    _restore_environment()
    for name, text in vars(args).items():
        if name.isupper():
            set_variable(name, text)
    try:
        config = _import_config()
    except ConfigError as error:
        _restore_environment()
        raise ConfigError(problems + error.problems) from None
    raise_all(problems + late_lines(config), HEADLINE)
    load_recipe()
    if config.MAX_PIXELS:  # the readers of pictures ask the environment, in every process
        set_variable("MAX_PIXELS", config.MAX_PIXELS)
    if config.SHARDS:  # likewise, for the files of INPUT
        set_variable("SHARDS", config.SHARDS)
        set_variable("INPUT", config.INPUT)
    keep_freed_memory()
    return config, args
