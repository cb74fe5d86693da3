"""The journal of a search: a line of JSON a step, whatever a kill or a full disk has left of it."""

import itertools
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import writing
from core.gates import json_value


def mend_journal(path: Path) -> None:
    """Drops the last line of a journal where a full disk or a kill has cut it off.

    Optuna writes the next one behind it, and reads neither.

    Raises:
        UserError: another line is broken.
    """
    text = path.read_bytes() if path.is_file() else b""
    whole = text[: text.rfind(b"\n") + 1]
    try:
        for line in whole.splitlines():
            json_value(line)
    except ValueError:
        raise UserError(
            f"{path} is broken: move it away to search anew; its trials stay in the ledger"
        ) from None
    if whole != text:
        with writing(path) as part:
            part.write_bytes(whole)


def left_before(study: Any, target: Path) -> list[str]:
    """What a search has written to `target`, the last at the end; one of before told it alone."""
    told = study.user_attrs.get(f"recipe {target}", [])
    return [told] if isinstance(told, str) else list(told)


def tried(study: Any) -> list[Any]:
    """Trials of a study of Optuna, without those that a kill cut off: others took their runs."""
    return [t for t in study.trials if t.state.name != "FAIL" or "reason" in t.user_attrs]


def next_run(study: Any) -> str:
    """The next of the names that a study's trials have, STUDY-000 and so on."""
    taken = {trial.user_attrs.get("run") for trial in study.trials}
    names = (f"{study.study_name}-{at:03d}" for at in itertools.count(len(tried(study)) - 1))
    return next(name for name in names if name not in taken)
