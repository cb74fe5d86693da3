"""Any words as flags, variables and files of flags: values of the knobs' own kinds, or one line."""

import math
import re
import shlex
import tempfile
from pathlib import Path
from typing import Any, Literal

from conftest import SRC
from core.errors import UserError
from core.flag_files import expand_flag_files
from core.flags import load_config
from core.knobs import BAD_TEXT, kind_of, parse, read_knobs
from fuzzing import Dice, damaged, fuzz

WORDS = (
    *("0", "1", "-1", "007", "+2", " 3", "3 ", "1_0", "１", "٣", "9" * 30, "-0", "0x10", "1e3"),
    *("1.", "0.5", ".5", "-1e-3", "1e400", "inf", "-inf", "nan", "infinity", "1_0.5", "٣.5", "1e"),
    *("true", "TRUE", "yes", "no", "false", "off", "none", "null", "None", "", " ", "x", "X/y.z"),
    *("0,2", "0, 2", "[0, 2]", "(0,2)", "0,,2", ",", "[]", "()", "0,x", "1,2,3", "((1,2))"),
    *("{}", "{0: 0, 255: 1}", "{(0, 0, 0): 0}", "{[]: 1}", "{0: }", "{1, 2}", "{" * 90),
    *("light", "a=b", "\0", "\ud800", "é", "a\nb", "#", "__import__('os')", "1 if 1 else 2", "*"),
    *("'a','b'", "-" * 90 + "1", "--1"),
)
KINDS: tuple[Any, ...] = (
    *(int, float, str, bool, Path, int | None, float | None, str | None, Literal["light", "x"]),
    *(tuple[int, ...], tuple[str, ...], tuple[int, int], tuple[float, ...] | None, dict | None),
    *(int | tuple[int, int], Literal["x"] | float, Literal["x"] | int | None),
)
FLOAT = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


def draw_word(dice: Dice) -> str:
    word = dice.pick(WORDS)
    if dice.rarely():
        word += dice.pick((",", "")) + dice.pick(WORDS)
    return word


def same(one: Any, two: Any) -> bool:
    return type(one) is type(two) and one == two


def expected(text: str, kind: Any) -> list[Any] | None:
    """[the value] of a text for the plain kinds, [] where it is refused; None: no opinion."""
    if kind is int:
        whole = re.fullmatch("-?[0-9]{1,18}", text, re.ASCII)
        return [int(text)] if whole else []
    if kind is float:
        finite = re.fullmatch(FLOAT, text, re.ASCII) and math.isfinite(float(text))
        return [float(text)] if finite else []
    if kind is bool:
        word = text.lower()
        return (
            [word in ("true", "1", "yes")]
            if word in ("true", "1", "yes", "false", "0", "no")
            else []
        )
    if kind in (str, Path):
        return [kind(text)]
    return None


@fuzz(5000)
def test_a_text_is_a_value_of_the_knobs_kind_or_refused(dice: Dice) -> None:
    text, kind = draw_word(dice), dice.pick(KINDS)
    try:
        found = [parse(text, kind)]
    except BAD_TEXT:
        found = []
    twin = expected(text, kind)
    if twin is not None:
        assert len(found) == len(twin), (text, kind)
        assert all(map(same, found, twin)), (text, kind)
    for value in found:
        # What it is shown as is read as the same value again.
        shown = repr(value) if isinstance(value, tuple | dict | float) else str(value)
        if shown.isascii() and "\\" not in shown and '"' not in shown:
            assert same(parse(shown, kind), value), (text, kind)


def draw_lines(dice: Dice) -> tuple[bytes, list[str]]:
    """A file of flags and the words in it: quoted as a shell does, comments, any line ends."""
    lines, words = list[str](), list[str]()
    for _ in range(dice.below(5)):
        line = [word for word in (draw_word(dice) for _ in range(dice.below(4))) if is_line(word)]
        lines.append(shlex.join(line) + dice.pick(("", "", "  # it's a comment", " #")))
        words += line
    text = dice.pick(("\n", "\r\n")).join(lines)
    return text.encode("utf-8-sig" if dice.below(2) else "utf-8"), words


def is_line(word: str) -> bool:
    """Whether a word stays one line of a text, and names no file."""
    return not set(word) & set("\0\n\r\ud800") and not word.startswith("@")


@fuzz(1000, 60)
def test_a_file_of_flags_holds_the_words_that_were_written(dice: Dice) -> None:
    data, words = draw_lines(dice)
    with tempfile.NamedTemporaryFile(suffix=".args") as file:
        file.write(data)
        file.flush()
        assert expand_flag_files([f"@{file.name}"]) == words, data
        file.truncate(0)
        file.seek(0)
        file.write(damaged(data, dice))
        file.flush()
        try:
            found = expand_flag_files(["--x", f"@{file.name}"])
        except UserError as error:
            told = str(error)
        else:
            told = found[0]
        assert told.isprintable()


KNOBS = [name for _, name, _, _ in read_knobs(SRC / "config.py")]


@fuzz(100, 60, slow=500)
def test_words_are_a_configuration_or_one_error(dice: Dice) -> None:
    words = []
    for _ in range(1 + dice.below(4)):
        flag = "--" + dice.pick(KNOBS).lower().replace("_", "-")
        words.append(dice.pick((flag, flag, flag, flag, flag[:-1], draw_word(dice))))
        words.append(draw_word(dice).replace("\0", "").replace("\ud800", ""))
    try:
        config, _ = load_config(words)
    except (UserError, SystemExit):  # --help ends here, too
        return
    for name, kind in config.__annotations__.items():
        value = getattr(config, name)
        assert kind_of(kind) is not int or type(value) is int, (words, name)
        assert kind_of(kind) is not float or math.isfinite(value), (words, name)
