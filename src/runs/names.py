"""Names of table rows in the configuration, told before any image is read."""

from collections.abc import Callable
from typing import Any

from core.errors import UserError, pick, raise_all
from core.knobs import HEADLINE


def _model(config: Any) -> None:
    from model_dispatcher import find_builder

    find_builder(config.MODEL_NAME)


def _loss(config: Any) -> None:
    from losses import build_loss

    weights = list(config.CLASS_WEIGHTS) or None
    build_loss(config.LOSS, task=config.TASK, classes=config.CLASSES, class_weights=weights)


def _metric(config: Any) -> None:
    from metrics import build_metric

    build_metric(config.METRIC, task=config.TASK, classes=config.CLASSES)


def _augmentation(config: Any) -> None:
    from augmentations import AUGMENTATIONS

    pick(AUGMENTATIONS, config.AUGMENTATION, "augmentation")


def _views(config: Any) -> None:
    from inference.views import VIEWS

    for name in config.TTA:
        pick(VIEWS, name, "view of TTA")


def _optimizer(config: Any) -> None:
    from training.optimizers import OPTIMIZERS

    pick(OPTIMIZERS, config.OPTIMIZER, "optimiser")


def _scheduler(config: Any) -> None:
    from training.schedules import SCHEDULERS

    pick(SCHEDULERS, config.SCHEDULER, "scheduler")


def _loggers(config: Any) -> None:
    from training.loggers import LOGGERS

    for name in config.LOGGERS:
        pick(LOGGERS, name, "logger")


def _callbacks(config: Any) -> None:
    from training.callbacks import CALLBACKS

    for name in config.CALLBACKS:
        pick(CALLBACKS, name, "callback")


CHECKS: dict[str, Callable[[Any], None]] = {
    "MODEL_NAME": _model,
    "LOSS": _loss,
    "METRIC": _metric,
    "AUGMENTATION": _augmentation,
    "TTA": _views,
    "OPTIMIZER": _optimizer,
    "SCHEDULER": _scheduler,
    "LOGGERS": _loggers,
    "CALLBACKS": _callbacks,
}


def check_names(config: Any, *knobs: str) -> None:
    """Makes sure that knobs name rows of their tables; without `knobs` all of CHECKS.

    Raises:
        UserError: lists every knob that does not.
    """
    problems = []
    for knob in knobs or CHECKS:
        try:
            CHECKS[knob](config)
        except UserError as error:
            problems.append(f"{knob}: {error}")
    raise_all(problems, HEADLINE)
