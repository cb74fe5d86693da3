"""A run's folder: what lies where in lightning_logs/<RUN>/, and the JSON that is kept there."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunFolder:
    """Where the networks of a run lie, and what the trainer wrote beside them.

    Attributes:
        logs: lightning_logs/, the folder of all runs.
        run: its name.
    """

    logs: Path
    run: str

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.logs / self.run

    @property
    def begun(self) -> Path:
        """run.json, written before the first fold is trained."""
        return self.path / "run.json"

    def fold(self, fold: int) -> Path:
        """Folder of one fold."""
        return self.path / f"fold_{fold}"

    def checkpoints(self, fold: int) -> Path:
        """Folder of one fold's networks: best.ckpt, last.ckpt, soup.ckpt."""
        return self.fold(fold) / "checkpoints"

    def scored_checkpoint(self, fold: int) -> Path:
        """The network that stands for a fold: soup.ckpt where tune.py took one, else best.ckpt."""
        best, soup = (self.checkpoints(fold) / name for name in ("best.ckpt", "soup.ckpt"))
        # A fold that was trained again since has a better one.
        made = soup.is_file() and best.is_file() and soup.stat().st_mtime >= best.stat().st_mtime
        return soup if made else best

    def has_checkpoints(self) -> bool:
        """Whether any fold has a network to lose."""
        return any(self.path.glob("fold_*/checkpoints/*.ckpt"))

    def read_begun(self) -> dict[str, Any]:
        """What the run was begun with: `knobs`, `folds` (a digest) and `recipe`.

        Raises:
            OSError, ValueError: no run.json, or it is broken.
        """
        begun: dict[str, Any] = json.loads(self.begun.read_text())
        return begun

    def finished(self, fold: int) -> Path:
        """finished.json of a fold, written when its training has ended."""
        return self.fold(fold) / "finished.json"

    def read_finished(self, fold: int) -> dict[str, Any]:
        """How the training of a fold ended: `score`, `epochs`, `steps`, `seconds`.

        Raises:
            OSError, ValueError: the fold is not finished, or the file is broken.
        """
        finished: dict[str, Any] = json.loads(self.finished(fold).read_text())
        return finished

    def finished_folds(self) -> list[int]:
        """Folds that have a finished.json."""
        paths = self.path.glob("fold_*/finished.json")
        names = [path.parent.name.removeprefix("fold_") for path in paths]
        return sorted(int(name) for name in names if name.isdecimal())
