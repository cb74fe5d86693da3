"""A run's folder: what lies where in lightning_logs/<RUN>/, and the JSON that is kept there."""

import contextlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

from core.advice import command
from core.errors import UserError, nearest
from core.gates import is_whole_number
from core.records import NewerRecord, read_values
from runs.records import Begun, Finished


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

    def best(self, fold: int) -> Path:
        """The best network of a fold by its own validation."""
        return self.checkpoints(fold) / "best.ckpt"

    def last(self, fold: int) -> Path:
        """The state that the training of a fold goes on from."""
        return self.checkpoints(fold) / "last.ckpt"

    def soup(self, fold: int) -> Path:
        """The mean of a fold's best and last network, where tune.py took it."""
        return self.checkpoints(fold) / "soup.ckpt"

    def scored_checkpoint(self, fold: int) -> Path:
        """The network that stands for a fold: soup.ckpt where every fold has one, else best.ckpt.

        A soup was judged with all folds: beside a fold that has none, or was trained again since,
        it counts for nothing. So all folds take theirs at once, whatever stops tune.py between.
        """
        folds = self.trained()
        made = folds and all(self._has_soup(one) for one in folds)
        return self.soup(fold) if made else self.best(fold)

    def _has_soup(self, fold: int) -> bool:
        if not self.soup(fold).is_file():
            return False
        from training.checkpoints import is_soup_of

        return is_soup_of(self.soup(fold), self.best(fold))

    def trained(self) -> list[int]:
        """Folds that have a best.ckpt."""
        paths = self.path.glob("fold_*/checkpoints/best.ckpt")
        names = [path.parents[1].name.removeprefix("fold_") for path in paths]
        return sorted(int(name) for name in names if is_whole_number(name))

    def check_trained(self) -> None:
        """Makes sure that there is a network.

        Raises:
            UserError: no fold has a best.ckpt.
        """
        if self.trained():
            return
        there = {path.parents[2].name for path in self.logs.glob("*/fold_*/checkpoints/best.ckpt")}
        raise UserError(
            f"run {self.run!r} has no network in {self.path}.{nearest(self.run, sorted(there))} "
            f"Train it: {command('Lightning_trainer', run=self.run)}"
        )

    def has_checkpoints(self) -> bool:
        """Whether any fold has a network to lose."""
        return any(self.path.glob("fold_*/checkpoints/*.ckpt"))

    def read_begun(self) -> Begun | None:
        """What the run was begun with.

        A run.json that is lost or broken is made good by what a network was told of its training;
        None where that says nothing either.

        Raises:
            NewerRecord: a later version of this code has begun the run.
        """
        remedy = f"choose another --run than {self.run}"
        try:
            return Begun.of(read_values(self.begun, Begun.VERSION, remedy))
        except NewerRecord:
            raise
        except (OSError, ValueError):
            return self._begun_of_networks()

    def _begun_of_networks(self) -> Begun | None:
        from training.checkpoints import read_notes

        for path in sorted(self.path.glob("fold_*/checkpoints/*.ckpt")):
            notes = read_notes(path)
            if notes.get("config"):
                with contextlib.suppress(ValueError):  # of another kind
                    return Begun.of({**notes["identity"], "knobs": notes["config"]})
        return None

    def finished(self, fold: int) -> Path:
        """finished.json of a fold, written when its training has ended."""
        return self.fold(fold) / "finished.json"

    def read_finished(self, fold: int) -> Finished | None:
        """How the training of a fold ended.

        None where it has not, or where the file is broken or tells of another fold.

        Raises:
            NewerRecord: a later version of this code has trained the fold.
        """
        path = self.finished(fold)
        try:
            values = read_values(path, Finished.VERSION, "delete it to close the fold again")
            none = values.get("score", 0) is None  # JSON knows no nan
            done = Finished.of({"fold": fold, **values, **({"score": 0.0} if none else {})})
            done = replace(done, score=math.nan) if none else done
        except NewerRecord:
            raise
        except (OSError, ValueError):
            return None
        return done if done.fold == fold else None

    def is_finished(self, fold: int) -> bool:
        """Whether a fold's training has ended, and its network is there."""
        return self.read_finished(fold) is not None and self.best(fold).is_file()

    def finished_folds(self) -> dict[int, Finished]:
        """What `read_finished` says of each fold that is finished."""
        paths = self.path.glob("fold_*/finished.json")
        names = [path.parent.name.removeprefix("fold_") for path in paths]
        folds = sorted(int(name) for name in names if is_whole_number(name))
        found = {fold: self.read_finished(fold) for fold in folds}
        return {fold: done for fold, done in found.items() if done}
