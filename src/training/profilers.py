"""Where the time of a training goes."""

from pathlib import Path
from typing import Any


def build_profiler(name: str, folder: Path) -> Any:
    """Lightning's profiler of that name, which writes profile*.txt into the folder; none = None."""
    from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler

    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
    return None if name == "none" else kinds[name](dirpath=folder, filename="profile")
