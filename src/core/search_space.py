"""What a search may set: knobs with a range or with choices, as texts for flags."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from core.errors import UserError, nearest
from core.knobs import BAD_TEXT, free_knobs, kind_name, kind_of, parse

RANGE = re.compile(r"(?P<low>[^:|]+?)\.\.(?P<high>[^:|]+?)(?::(?P<how>[^:|]+))?")
NEED = (
    'need KNOB=low..high, with :log or a step behind it, or KNOB=one|other: "LR=1e-4..1e-2:log", '
    '"CROP_SIZE=256..512:64", "LOSS=bce+dice|lovasz"'
)
# Knobs, beside those of masks and run lengths, that say what is scored and how.
MEASURED = {
    *("METRIC", "TASK", "CLASSES", "CLASS_NAMES", "CLASS_BASE", "CLASS_COLUMN", "CLASS_PATTERN"),
    *("IGNORE_INDEX", "IGNORE_NODATA", "ABSENT", "SOURCES", "HOLDOUT", "SOFT_LABELS"),
    *("OUTLINE_UNITS", "LIMIT_BATCHES"),
}


@dataclass(frozen=True)
class Dial:
    """A knob that a search sets.

    Attributes:
        name: of the knob.
        choices: texts of its values; empty: a range.
        low, high: of a range, both included.
        log: factors are spaced evenly.
        step: between values of a range; None: any.
    """

    name: str
    choices: tuple[str, ...] = ()
    low: float | int = 0
    high: float | int = 0
    log: bool = False
    step: float | int | None = None

    def suggest(self, trial: Any) -> str:
        """The value that an Optuna trial takes, as text of a flag."""
        if self.choices:
            return str(trial.suggest_categorical(self.name, self.choices))
        if isinstance(self.low, int):
            step = {"step": self.step} if self.step else {}
            return str(trial.suggest_int(self.name, self.low, self.high, log=self.log, **step))
        value = trial.suggest_float(self.name, self.low, self.high, log=self.log, step=self.step)
        return f"{value:.4g}"

    @property
    def ends(self) -> tuple[str, ...]:
        """Its choices, or the ends of its range: what config.py must take."""
        return self.choices or (str(self.low), str(self.high))


def read_space(texts: Sequence[str], config: ModuleType) -> list[Dial]:
    """The dials of `--search`.

    Raises:
        UserError: lists every text that does not read, that names no knob, or one that does not
            change what is trained.
    """
    kinds = {name: kind_of(kind) for name, kind in config.__annotations__.items()}
    free, dials, problems = free_knobs(config), dict[str, Dial](), list[str]()
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        name = name.upper().replace("-", "_")
        try:
            if not equals or not values:
                raise UserError(NEED)
            if name not in kinds:
                raise UserError(f"no knob {name}.{nearest(name, kinds)}")
            if name in free:
                raise UserError(f"{name} does not change what is trained: leave it out")
            if name in MEASURED or name.startswith(("MASK_", "RLE_")):
                raise UserError(f"{name} changes what a score is of: trials could not be ranked")
            if name in dials:
                raise UserError(f"{name} is there twice")
            dials[name] = _read(name, values, kinds[name])
        except UserError as error:
            problems.append(f"--search {text!r}: {error}")
    if problems:
        raise UserError("\n  ".join(["the space of the search does not read:", *problems]))
    if not dials:
        raise UserError(f"nothing to search: {NEED}")
    return list(dials.values())


def _read(name: str, text: str, kind: Any) -> Dial:
    found = RANGE.fullmatch(text)
    if not found:
        choices = tuple(word.strip() for word in text.split("|"))
        for choice in choices:
            _value(choice, kind)
        if len(set(choices)) < 2 or len(set(choices)) != len(choices):
            raise UserError("need two different choices or more")
        return Dial(name, choices)
    low, high = (_value(found[end].strip(), kind) for end in ("low", "high"))
    numbers = [value for value in (low, high) if isinstance(value, int | float)]
    if len(numbers) < 2 or any(isinstance(value, bool) for value in numbers) or not low < high:
        raise UserError("need two numbers, the lower one first")
    how = (found["how"] or "").strip()
    if how == "log":
        if low <= 0:
            raise UserError("need a lower end above 0 for log")
        return Dial(name, (), low, high, log=True)
    step = _value(how, kind) if how else None
    if step is not None and not 0 < step <= high - low:
        raise UserError("need a step above 0 that fits into the range, or log")
    return Dial(name, (), low, high, step=step)


def _value(text: str, kind: Any) -> Any:
    try:
        return parse(text, kind)
    except BAD_TEXT:
        raise UserError(f"got {text!r}, need {kind_name(kind)}") from None
