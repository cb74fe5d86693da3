"""Records: dataclasses kept as JSON files that say of which version they are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from core.errors import UserError
from core.files import write_json
from core.gates import json_value
from core.typed import misfits


class NewerRecord(UserError):
    """A file that a later version of this code has written."""


def read_values(path: Path, version: int, remedy: str) -> dict[str, Any]:
    """The JSON object in a file; one of before there were versions is of version 0.

    Args:
        path: of the file.
        version: the newest that is known.
        remedy: what else helps against a newer one.

    Raises:
        NewerRecord: a newer version has written it.
        OSError, ValueError: it cannot be read, or holds no such object.
    """
    values = json_value(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__}, need an object")
    told = values.get("version", 0)
    if not isinstance(told, int):
        raise ValueError(f"its version is {str(told)[:20]!r}, need a whole number")
    if told > version:
        raise NewerRecord(
            f"{path} is of version {told}, this code reads up to {version}: update the code, or "
            f"{remedy}"
        )
    return values


def read_object(path: Path, remedy: str, *names: str) -> dict[str, Any]:
    """The JSON object in a file of our own, with the values of these names at least.

    Raises:
        UserError: no such file, or it is cut off or another; the remedy is told.
    """
    try:
        values = json_value(path.read_text(encoding="utf-8-sig"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, need an object")
        if gone := [name for name in names if name not in values]:
            raise ValueError(f"it lacks {', '.join(gone)}")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path} is broken ({error}): {remedy}") from None
    return values


def known_values(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are fields of a dataclass."""
    names = {known.name for known in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


@dataclass(frozen=True, kw_only=True)
class Record:
    """A dataclass that is kept as a JSON file.

    Attributes:
        VERSION: of its files. A new field with a default needs no new version.
    """

    VERSION: ClassVar[int] = 1

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The record that these values tell; names that it does not know say nothing.

        Raises:
            ValueError: a value is missing, or of another kind than its field.
        """
        try:
            record = cls(**known_values(cls, values))
        except TypeError as error:
            raise ValueError(str(error).partition("() ")[2]) from None
        if wrong := misfits(record):
            raise ValueError("; ".join(wrong))
        return record

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the version first."""
        return {"version": self.VERSION, **asdict(self)}

    def write(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        write_json(path, self.to_dict())
