"""Run lengths as values of JSON or Python: lists, lists of pairs, COCO's counts with their size."""

import ast
import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from core.gates import json_value
from imaging.coco_counts import counted_runs, plain_counts, read_counts
from imaging.rle import Size

Kind = Literal["list", "pairs", "counts", "text", "bytes"]
# COCO's: counts as a list, compressed, and compressed as Python's bytes.
COCO_KINDS: tuple[Kind, ...] = ("counts", "text", "bytes")
# A number and a comma are those of a list without brackets.
OPENING = re.compile(r"\s*([\[({]|[0-9]+\s*,)")


class RunValue(NamedTuple):
    """The run lengths of one mask.

    Attributes:
        kind: "list" [start, length, start, length], "pairs" [[start, length], [start, length]];
            of a dictionary of size and counts, "counts" in a list, "text" compressed, or "bytes".
        numbers: start, length, start, length... as told; of COCO's by column from 1.
        size: (H, W) that COCO's tell, else None.
    """

    kind: Kind
    numbers: Sequence[int]
    size: Size | None = None

    @property
    def text(self) -> str:
        """`start length start length`; "" of no pixels."""
        return " ".join(map(str, self.numbers))

    @property
    def is_sorted(self) -> bool:
        """Whether these are runs that follow each other, which points of an outline are not."""
        numbers = np.array(self.numbers, dtype=object)
        starts, lengths = numbers[0::2], numbers[1::2]
        return bool((lengths > 0).all() and (starts[1:] >= (starts + lengths)[:-1]).all())


def is_run_value(text: str) -> bool:
    """Whether a text begins as values do, and not as numbers with blanks between them."""
    return OPENING.match(text) is not None


def read_run_values(text: str) -> list[RunValue]:
    """The masks of a text, of which each is a value, a list of them or joined by semicolons.

    Raises:
        ValueError: it is no such value.
    """
    # Compressed counts may hold a semicolon.
    parts = [text] if "{" in text else text.split(";")
    return [mask for part in parts for mask in _masks_of(_value_of(part))]


def is_json(text: str) -> bool:
    """Whether a text is JSON; else it may be what Python shows."""
    try:
        json_value(text)
    except ValueError:
        return False
    return True


def _value_of(text: str) -> Any:
    try:
        return json_value(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError("no list or dictionary of run lengths, or cut off") from None


def _masks_of(value: Any) -> Sequence[RunValue]:
    if isinstance(value, Mapping):
        return [_counted(value)]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{str(value)[:40]} is no list of run lengths")
    if set(map(type, value)) <= {int}:
        return [_listed("list", value)] if value else []
    odd = [one for one in value if type(one) is not int and not isinstance(one, Container)]
    if odd:
        raise ValueError(f"{str(odd[0])[:40]} is no whole number")
    if all(isinstance(one, list | tuple) and [*map(type, one)] == [int, int] for one in value):
        return [_listed("pairs", [number for one in value for number in one])]
    return [mask for one in value for mask in _masks_of(one)]


def _listed(kind: Kind, numbers: Sequence[int]) -> RunValue:
    if len(numbers) % 2:
        raise ValueError(f"{len(numbers)} numbers: need pairs of start and length")
    return RunValue(kind, numbers)


def _counted(value: Mapping[Any, Any]) -> RunValue:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list | tuple) or not [type(n) for n in size] == [int, int]:
        raise ValueError("a dictionary without the size [height, width]: need size and counts")
    kind: Kind = "text"
    if isinstance(counts, list | tuple):
        kind, pixels = "counts", plain_counts(counts)
    elif isinstance(counts, str | bytes):
        kind = "text" if isinstance(counts, str) else "bytes"
        told = counts if isinstance(counts, str) else counts.decode("ascii", "replace")
        pixels = read_counts(told)
    else:
        raise ValueError("a dictionary without counts: need size and counts")
    if int(pixels.sum()) != size[0] * size[1]:
        raise ValueError(f"counts of {pixels.sum()} pixels, its size {size} has others")
    starts, lengths = counted_runs(pixels)
    numbers = np.column_stack([starts + 1, lengths]).ravel().tolist()
    return RunValue(kind, numbers, (size[0], size[1]))
