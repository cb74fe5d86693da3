"""Seals: whether a JSON file is still what a stage wrote, or was changed by hand since."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import without_nan
from core.gates import json_value

SEAL = "seal"


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for a JSON file, with a key of them all."""
    plain = without_nan(dict(values))
    return {**plain, SEAL: _key_of(plain)}


def was_edited(path: Path) -> bool:
    """Whether a file is not as it was sealed; False of one without a seal, as of before."""
    values = json_value(path.read_text(encoding="utf-8"))
    seal = values.pop(SEAL, None)
    return bool(seal) and seal != _key_of(values)


def _key_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of values as a JSON file holds them, in any order."""
    plain = json_value(json.dumps(values, default=str))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
