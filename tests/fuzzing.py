"""What the fuzz tests draw with: a few thousand inputs in the suite, the same ones each time; a
million of each kind by `make fuzz`, others in each of its blocks.

Hypothesis draws bytes; plain code makes inputs of them, many an example: fifty times as fast as a
strategy an input. A failure shows its Dice, which a call of the test's `check` repeats.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

T = TypeVar("T")
TOGETHER = 50
# Inputs a test in one block of `make fuzz`.
BLOCK = int(os.environ.get("FUZZ_INPUTS", "0"))


class Batch:
    """Dice of `size` bytes each."""

    def __init__(self, data: bytes, size: int):
        self.dice = [Dice(data[at : at + size]) for at in range(0, len(data), size)]

    def __repr__(self) -> str:
        return f"{len(self.dice)} dice"


class Dice:
    """Choices made by bytes; zeros, the simplest choices, when they are used up."""

    def __init__(self, data: bytes):
        self.data, self._bytes = data, iter(data)

    def __repr__(self) -> str:
        return f"Dice(bytes.fromhex({self.data.rstrip(bytes(1)).hex()!r}))"

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1; count is 256 at most."""
        return next(self._bytes, 0) * count // 256

    def pick(self, choices: Sequence[T]) -> T:
        """One of them; the first is the simplest."""
        return choices[self.below(len(choices))]

    def rarely(self) -> bool:
        """True once in eight times."""
        return self.below(8) == 7

    def bytes(self, count: int) -> bytes:
        """Bytes of any value, `count` at most."""
        return bytes(next(self._bytes, 0) for _ in range(count))


def fuzz(
    inputs: int, size: int = 40, *, slow: int = 1
) -> Callable[[Callable[[Dice], None]], Callable[[], None]]:
    """Makes a test of a function that takes one Dice of `size` bytes: `inputs` of them.

    Of a `slow` one a block draws that many times fewer.
    """

    drawn = st.binary(min_size=TOGETHER * size, max_size=TOGETHER * size)

    def decorate(check: Callable[[Dice], None]) -> Callable[[], None]:
        @settings(
            max_examples=-(-(BLOCK // slow or inputs) // TOGETHER),
            derandomize=not BLOCK,
            deadline=None,
            database=None,
            phases=(Phase.generate,),  # of so many bytes it would take minutes to shrink
            suppress_health_check=list(HealthCheck),
        )
        @given(batch=drawn.map(partial(Batch, size=size)))
        def test(batch: Batch) -> None:
            for dice in batch.dice:
                with seconds_at_most(20):
                    check(dice)

        test.check = check
        test.__doc__ = check.__doc__
        return test

    return decorate


@contextlib.contextmanager
def seconds_at_most(limit: float) -> Iterator[None]:
    """Ends what computes for longer with an error: odd bytes must not keep a stage for hours."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"computed for {limit} seconds")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def damaged(whole: bytes, dice: Dice) -> bytes:
    """The bytes of a file after one to four cuts, changes, doublings and fillings."""
    data = bytearray(whole)
    for _ in range(1 + dice.below(4)):
        at = (dice.below(256) << 8 | dice.below(256)) % max(1, len(data))
        # Headers are at the start: half of what happens, happens there.
        at %= dice.pick((len(data) or 1, 64))
        end = at + 1 + dice.below(8)
        how = dice.below(6)
        if how == 0:
            data[at : at + 1] = dice.bytes(1)
        elif how == 1:
            data[at:end] = dice.pick((b"\0", b"\xff", b"\x7f", b"\x80")) * (end - at)
        elif how == 2:
            del data[at:end]
        elif how == 3:
            data[at:at] = data[at:end]
        elif how == 4:
            data[at:at] = dice.bytes(4)
        else:
            del data[at:]
    return bytes(data)


def any_json(dice: Dice, depth: int = 0) -> Any:
    """A value that JSON can hold, odd ones among them."""
    kind = dice.below(8 if depth < 3 else 6)
    if kind < 6:
        return dice.pick(
            (None, 0, 1, -1, 0.5, True, "", "x", "0", 10**30, -1e308, "\ud800", "../x", 255, 2**63)
        )
    count = dice.below(4)
    if kind == 6:
        return [any_json(dice, depth + 1) for _ in range(count)]
    return {dice.pick(("a", "b", "", "img")): any_json(dice, depth + 1) for _ in range(count)}


def bent(values: Any, dice: Dice) -> Any:
    """A copy of a JSON value in which one member is of another kind, missing, or more."""
    if isinstance(values, dict) and values and not dice.rarely():
        key = dice.pick(sorted(values))
        how = dice.below(8)
        if how == 7:
            return {name: value for name, value in values.items() if name != key}
        if how == 6:
            return {**values, "more": any_json(dice)}
        return {**values, key: bent(values[key], dice)}
    if isinstance(values, list) and values and not dice.rarely():
        at = dice.below(len(values))
        return [*values[:at], bent(values[at], dice), *values[at + 1 :]]
    return any_json(dice)
