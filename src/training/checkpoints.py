"""Checkpoints go straight to disk under another name, and are renamed last."""

import contextlib
import functools
import hashlib
import io
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from core.files import writing

# Where a soup says of which best.ckpt it was mixed, by its `weights_digest`.
SOUP_OF = "soup_of"
# Of the best networks while a training goes on: it may be validated several times an epoch.
TOP_NAME = "top_epoch={epoch}_step={step}.ckpt"


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


def notes_of(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a network was told of its training, among a checkpoint's hyperparameters.

    {} where they hold none, or something else.
    """
    notes = hyperparameters.get("notes")
    if not isinstance(notes, Mapping):
        return {}
    identity = notes.get("identity")
    return {**notes, "identity": identity if isinstance(identity, Mapping) else {}}


def read_notes(path: Path) -> dict[str, Any]:
    """What a network was told of its training; {} of none, or where it cannot be read."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return notes_of(checkpoint["hyper_parameters"])
    except Exception:  # torch has a kind of its own for every way a file can be broken
        return {}


def weights_digest(path: Path) -> str:
    """SHA-256 of a checkpoint's weights, whatever else it holds; "" where it cannot be read."""
    digest = hashlib.sha256()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        for name, tensor in sorted(state.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    except Exception:  # as in `read_notes`
        return ""
    return digest.hexdigest()


def is_soup_of(soup: Path, best: Path) -> bool:
    """Whether soup.ckpt was mixed of this very best.ckpt, wherever both were copied to.

    A soup of before they told their source counts where it is not older.
    """
    states = [path.stat() for path in (soup, best)]
    return _is_soup_of(soup, best, *((state.st_size, state.st_mtime_ns) for state in states))


@functools.lru_cache(maxsize=64)
def _is_soup_of(soup: Path, best: Path, made: tuple[int, int], trained: tuple[int, int]) -> bool:
    """As `is_soup_of`, of files of these sizes and times: every stage asks for every fold."""
    try:
        source = torch.load(soup, map_location="cpu", weights_only=True, mmap=True)[SOUP_OF]
    except Exception:  # as in `read_notes`
        return made[1] >= trained[1]
    return bool(source == weights_digest(best))


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint that knows its best score wherever its folder is moved to.

    Lightning compares the folder with the one before and forgets the score when they differ: the
    next epoch, however bad, would then take the best network's place.
    """

    @property
    def state_key(self) -> str:
        """That of ModelCheckpoint, so that checkpoints of before are understood."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def check_monitor_top_k(self, trainer: Any, current: torch.Tensor | None = None) -> bool:
        """Whether a network is kept; as long as no score is a number, the latest is."""
        known = self.best_k_models.values()
        if current is not None and not any(math.isfinite(float(s)) for s in (current, *known)):
            return True
        return super().check_monitor_top_k(trainer, current)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state with its files where they are now; none of a best network that is gone."""
        before, now = state_dict.get("dirpath"), str(self.dirpath)
        best_path = state_dict.get("best_model_path", "")
        if best_path and not (Path(now) / Path(best_path).name).is_file():
            return

        def moved(path: str) -> str:
            return str(Path(now) / Path(path).name) if path else path

        state = dict(state_dict)
        if before is not None and before != now:
            names = ("best_model_path", "kth_best_model_path", "last_model_path")
            state |= {name: moved(state_dict.get(name, "")) for name in names}
            best = state_dict.get("best_k_models", {})
            state |= {"dirpath": now, "best_k_models": {moved(k): v for k, v in best.items()}}
        super().load_state_dict(state)


class TopCheckpoints(MovableCheckpoint):
    """The best networks of a training, beside best.ckpt."""

    @property
    def state_key(self) -> str:
        """Another than best.ckpt's, whose monitor it shares."""
        return f"Top{super().state_key}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state; what `rank` has called otherwise when the training ended gets its name back.

        best.ckpt stays, beside a copy: a better one takes its place, not its rank.
        """
        known = {Path(path).name for path in state_dict.get("best_k_models", {})}
        for path in sorted(Path(str(self.dirpath)).glob("best*.ckpt")):
            own = path.parent / _top_name(path)
            if own.name not in known or own.is_file():
                continue
            with contextlib.suppress(FileNotFoundError):  # another rank was first
                if path.stem == "best":
                    with writing(own) as part:
                        shutil.copyfile(path, part)
                else:
                    path.replace(own)
        super().load_state_dict(state_dict)

    def rank(self, best: float) -> list[Path]:
        """Calls them best_2.ckpt, best_3.ckpt... by their scores; returns those.

        Args:
            best: score of best.ckpt, whose twin goes.
        """
        scores = {Path(path): float(score) for path, score in self.best_k_models.items()}
        ranked = sorted(scores, key=lambda path: scores[path], reverse=self.mode == "max")
        if ranked and scores[ranked[0]] == best:
            ranked.pop(0).unlink(missing_ok=True)
        names = [path.with_name(f"best_{at}.ckpt") for at, path in enumerate(ranked, start=2)]
        for path in ranked[self.save_top_k - 1 :]:  # of a session that kept more
            path.unlink(missing_ok=True)
        pairs = zip(ranked[: self.save_top_k - 1], names, strict=False)
        return [path.replace(name) for path, name in pairs]


def _top_name(path: Path) -> str:
    """What TopCheckpoints has called a checkpoint; "" where it cannot be read."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return TOP_NAME.format(epoch=checkpoint["epoch"], step=checkpoint["global_step"])
    except Exception:  # as in `read_notes`
        return ""


def slim_checkpoint(path: Path) -> None:
    """Drops optimiser and raw weights from best.ckpt, four fifths of it: the rest predicts."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    kept = {"state_dict", "hyper_parameters", "epoch", "global_step", "pytorch-lightning_version"}
    write_checkpoint(path, {key: value for key, value in checkpoint.items() if key in kept})


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's files without its two copies, in memory and in the temporary folder.

    A kill while one is written leaves the one before it whole.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes `checkpoint` to `path`, at once or not at all."""
        write_checkpoint(Path(path), checkpoint)
