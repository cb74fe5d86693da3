"""Checkpoints go straight to disk under another name, and are renamed last."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from core.files import writing


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's files without its two copies, in memory and in the temporary folder.

    A kill while one is written leaves the one before it whole.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes `checkpoint` to `path`, at once or not at all."""
        with writing(Path(path)) as part:
            torch.save(checkpoint, part)
