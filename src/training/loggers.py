"""LOGGERS: a name to what keeps the numbers of a training."""

import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.processes import is_main_process
from core.rows import pick


def csv(folder: Path) -> Any:
    """metrics.csv, which report.html draws its curves from."""
    from pytorch_lightning.loggers import CSVLogger

    return CSVLogger(folder.parent, name=folder.name, version="")


def tensorboard(folder: Path) -> Any:
    """Events that TensorBoard shows."""
    from pytorch_lightning.loggers import TensorBoardLogger

    threading.excepthook = _but_of_tensorboard
    return TensorBoardLogger(folder.parent, name=folder.name, version="")


# What tells of threads that end by an error.
_usual_hook = threading.excepthook


def _but_of_tensorboard(ended: threading.ExceptHookArgs) -> None:
    """The thread that writes events hands its error, a full disk, to the next who logs."""
    if type(ended.thread).__name__ != "_AsyncWriterThread":
        _usual_hook(ended)


def wandb(folder: Path) -> Any:
    """A run of Weights & Biases in wandb/, for `wandb sync`; WANDB_MODE=online uploads it."""
    from pytorch_lightning.loggers import WandbLogger

    class OneFold(WandbLogger):
        """Ends with its fold, so that the next has a run of its own."""

        def finalize(self, status: str) -> None:
            super().finalize(status)
            self.experiment.finish()

    offline = os.environ.get("WANDB_MODE", "offline") != "online"
    return OneFold(f"{folder.parent.name}-{folder.name}", save_dir=folder, offline=offline)


def mlflow(folder: Path) -> Any:
    """A run of MLflow in the fold's mlruns/, as files: a database would need more packages."""
    from pytorch_lightning.loggers import MLFlowLogger

    class WithConfig(MLFlowLogger):
        """Keeps config.json, every knob of the fold, among the run's artifacts."""

        def log_hyperparams(self, params: Any) -> None:
            super().log_hyperparams(params)
            if is_main_process():
                self.experiment.log_artifact(self.run_id, str(folder / "config.json"))

    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    place = f"file:{folder / 'mlruns'}"
    return WithConfig(folder.parent.name, run_name=folder.name, tracking_uri=place)


# Each row is called with the folder of a fold and gives a Lightning logger that writes into it.
LOGGERS: dict[str, Callable[[Path], Any]] = {
    "csv": csv,
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
}
# What a row needs beside requirements.txt: the module, and what pip calls it.
NEEDS = {"wandb": ("wandb", "wandb"), "mlflow": ("mlflow", "mlflow-skinny")}


def find_logger(name: str) -> Callable[[Path], Any]:
    """The row of LOGGERS of that name.

    Raises:
        UserError: an unknown name, or a package that is not installed.
    """
    row = pick(LOGGERS, name, "logger")
    module, package = NEEDS.get(name, (None, None))
    if module and importlib.util.find_spec(module) is None:
        raise UserError(f"LOGGERS={name}: not installed here: pip install {package}")
    return row


def build_loggers(names: tuple[str, ...], folder: Path) -> list[Any]:
    """The loggers of rows of LOGGERS.

    Raises:
        UserError: as `find_logger`.
    """
    return [find_logger(name)(folder) for name in names]
