"""LOGGERS: a name to what keeps the numbers of a training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import pick


def csv(folder: Path) -> Any:
    """metrics.csv, which report.html draws its curves from."""
    from pytorch_lightning.loggers import CSVLogger

    return CSVLogger(folder.parent, name=folder.name, version="")


def tensorboard(folder: Path) -> Any:
    """Events that TensorBoard shows."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(folder.parent, name=folder.name, version="")


# Each row is called with the folder of a fold and gives a Lightning logger that writes into it.
LOGGERS: dict[str, Callable[[Path], Any]] = {"csv": csv, "tensorboard": tensorboard}


def build_loggers(names: tuple[str, ...], folder: Path) -> list[Any]:
    """The loggers of rows of LOGGERS.

    Raises:
        UserError: an unknown name.
    """
    return [pick(LOGGERS, name, "logger")(folder) for name in names]
