"""VALUE_RANGE as it is written: numbers of the files, or percentiles of them."""

from collections.abc import Sequence

from core.errors import UserError
from core.gates import decimal_number


def percentiles_of(values: Sequence[float | str]) -> tuple[float, ...]:
    """The two percentiles of 1%,99%; () of numbers."""
    if not any(isinstance(value, str) for value in values):
        return ()
    try:
        return tuple(decimal_number(str(value).removesuffix("%")) for value in values)
    except ValueError:
        raise UserError(f"VALUE_RANGE: got {values}, need numbers or percentiles: 1%,99%") from None


def is_range(values: Sequence[float | str], channels: int) -> bool:
    """Whether values are none, a lower and a higher, such a pair a channel, or two percentiles."""
    if any(isinstance(value, str) for value in values):
        marked = all(isinstance(value, str) and value.endswith("%") for value in values)
        try:
            found = percentiles_of(values)
        except UserError:
            return False
        return marked and len(found) == 2 and 0 <= found[0] < found[1] <= 100
    numbers = [float(value) for value in values]
    pairs = zip(numbers[::2], numbers[1::2], strict=False)
    return len(numbers) in (0, 2, 2 * channels) and all(low < high for low, high in pairs)
