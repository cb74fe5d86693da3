"""Competition objects for tests: config.py's values, but for what a test changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from competition.spec import Competition
from core.flags import load_config
from runs.experiment import competition_of


def competition_in(folder: Path, **changes: Any) -> Competition:
    """The competition whose files lie in `folder`."""
    config, _ = load_config(["--input", str(folder)])
    return replace(competition_of(config), **changes)
