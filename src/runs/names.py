"""Names of table rows in the configuration, told before any image is read."""

import importlib
from collections.abc import Callable
from typing import Any

from core.errors import UserError, raise_all
from core.knobs import HEADLINE
from core.rows import pick

# Knobs that name a row, or several: the module, its table or
# what finds a row in it, and what a row is.
ROWS = {
    "MODEL_NAME": ("model_dispatcher", "find_builder", ""),
    "AUGMENTATION": ("augmentations", "AUGMENTATIONS", "augmentation"),
    "MIX": ("imaging.mixes", "build_mix", ""),
    "TTA": ("inference.views", "VIEWS", "view of TTA"),
    "OPTIMIZER": ("training.optimizers", "check_optimizer", ""),
    "SCHEDULER": ("training.schedules", "check_scheduler", ""),
    "LOGGERS": ("training.loggers", "find_logger", ""),
    "CALLBACKS": ("training.callbacks", "CALLBACKS", "callback"),
}


def _loss(config: Any) -> None:
    from losses import build_loss

    asked = config.CLASS_WEIGHTS
    weights = [1.0] * config.CLASSES if asked == "auto" else list(asked) or None
    build_loss(config.LOSS, task=config.TASK, classes=config.CLASSES, class_weights=weights)


def _metric(config: Any) -> None:
    from metrics import build_metric, needs_of

    metric = build_metric(config.METRIC, task=config.TASK, classes=config.CLASSES)
    if needs_of(metric) == "volumes" and not (config.VOLUME_COLUMN or config.VOLUME_PATTERN):
        raise UserError(
            f"{config.METRIC} scores volumes, the images are of none: set VOLUME_COLUMN or "
            "VOLUME_PATTERN, and run folds.py again"
        )


# Knobs that must fit others: told first.
FITTED: dict[str, Callable[[Any], None]] = {"LOSS": _loss, "METRIC": _metric}


def check_names(config: Any, *knobs: str) -> None:
    """Makes sure that knobs name rows of their tables; without `knobs` all of them.

    Raises:
        UserError: lists every knob that does not.
    """
    problems = []
    for knob in knobs or (*FITTED, *ROWS):
        try:
            if knob in FITTED:
                FITTED[knob](config)
            else:
                _find_rows(knob, getattr(config, knob))
        except UserError as error:
            problems.append(f"{knob}: {error}")
    raise_all(problems, HEADLINE)


def _find_rows(knob: str, names: str | tuple[str, ...]) -> None:
    module, table, what = ROWS[knob]
    rows = getattr(importlib.import_module(module), table)
    for name in (names,) if isinstance(names, str) else names:
        rows(name) if callable(rows) else pick(rows, name, what)
