"""Checkpoints go straight to disk under another name, and are renamed last."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from core.files import writing


class _Remembering(io.FileIO):
    """A file that remembers its error: torch tells a full disk as a fault of its own writer."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """As FileIO, whole: a full disk takes a part first."""
        view = memoryview(data).cast("B")
        try:
            at = 0
            while at < len(view):
                at += super().write(view[at:]) or 0
        except OSError as error:
            self.error = error
            raise
        return len(view)


def write_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Writes a checkpoint whole or not at all.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    with writing(path) as part, _Remembering(part, "wb") as stream:
        try:
            torch.save(dict(checkpoint), cast(IO[bytes], stream))
        except RuntimeError:
            if stream.error:
                raise stream.error from None
            raise


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's files without its two copies, in memory and in the temporary folder.

    A kill while one is written leaves the one before it whole.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes `checkpoint` to `path`, at once or not at all."""
        write_checkpoint(Path(path), checkpoint)
