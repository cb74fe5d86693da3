"""Folds, datasets and loaders: everything between train_folds.csv and a batch."""

import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

from competition.mask_source import MaskSource
from competition.spec import SHIPPED_WEIGHTS
from core.errors import UserError
from core.processes import end_with_parent, hush_lost_connections
from core.quantities import size_words
from data.draws import build_draws, row_weights
from data.samplers import EpochSampler, EvenBatches, SizeBatches
from data.specs import DataSpec, Row
from dataset import SegmentationDataset
from imaging.images import image_size

if TYPE_CHECKING:
    from data.cached_pairs import PairCache

# Where data-loading processes hand batches over, and what helps where that has no room.
SHARED = "/dev/shm"
ROOM = "Use --num-workers 0, or smaller batches"


@dataclass(frozen=True)
class LoaderSpec:
    """How batches are made; workers -1 lets the machine decide."""

    train_batch_size: int = 8
    val_batch_size: int = 8
    num_workers: int = -1
    seed: int = 42
    augmentation: str = "light"
    mix: tuple[str, ...] = ()
    instances: bool = False
    crops_per_image: int = 1
    weight_column: str = SHIPPED_WEIGHTS
    balance: str = "none"
    positive_rate: tuple[float, ...] = ()
    foreground_crops: float = 0.0
    epochs: int = 1


def rows_in(table: Any, folds: Sequence[int] | None = None) -> list[Row]:
    """Rows of a folds table (a DataFrame) whose `kfold` is one of `folds`; None takes all."""
    chosen = table if folds is None else table[table["kfold"].isin(list(folds))]
    return chosen.to_dict("records")


def split_table(table: Any, fold: int, *, holdout: int | None = None) -> tuple[Any, Any]:
    """Training and validation rows of a folds table; kfold -1 is always trained, `holdout` never.

    Raises:
        UserError: either side is empty.
    """
    train, val = table[~table["kfold"].isin([fold, holdout])], table[table["kfold"] == fold]
    if not len(val) or not len(train):
        known = sorted(set(table["kfold"]))
        side, remedy = "validation", "choose among them with --folds"
        if not len(train):
            other = "" if holdout is None else f", or another HOLDOUT than {holdout}"
            side, remedy = "training", f"make more of them with folds.py{other}"
        raise UserError(f"fold {fold} has no {side} images. The folds are {known}: {remedy}")
    return train, val


def split_rows(table: Any, fold: int, *, holdout: int | None = None) -> tuple[list[Row], list[Row]]:
    """As `split_table`, a dictionary a row."""
    train, val = split_table(table, fold, holdout=holdout)
    return rows_in(train), rows_in(val)


class SegmentationDataModule(pl.LightningDataModule):
    """Loaders of one fold, from rows; usable with any module, trainer or none.

    Args:
        train_rows, val_rows: rows of train_folds.csv (see `split_rows`).
        root: folder that their paths start from.
        masks: where masks come from.
        spec: what the network sees.
        loader: batch sizes, workers, augmentation, seed.
        cache: decoded pairs of all rows, of `open_cache`.
    """

    def __init__(
        self,
        train_rows: Sequence[Row],
        val_rows: Sequence[Row],
        *,
        root: Path,
        masks: MaskSource,
        spec: DataSpec,
        loader: LoaderSpec,
        cache: "PairCache | None" = None,
    ):
        super().__init__()
        self.cache = cache
        self.rows = {"train": train_rows, "val": val_rows}
        self.root, self.masks, self.spec, self.loader = root, masks, spec, loader
        self.first_epoch, self.first_batch = 0, 0

    @property
    def batch_size(self) -> int:
        """Images a training step; Lightning's search for it sets others."""
        return self.loader.train_batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self.loader = replace(self.loader, train_batch_size=size)

    @property
    def epochs(self) -> int:
        """Of the training: shares that move from the first to the last; a budget sets others."""
        return self.loader.epochs

    @epochs.setter
    def epochs(self, epochs: int) -> None:
        self.loader = replace(self.loader, epochs=epochs)

    def state_dict(self) -> dict[str, Any]:
        """The epoch to go on with, and how many of its batches were seen."""
        if self.trainer is None:
            return {"epoch": self.first_epoch, "batch": self.first_batch}
        loop: Any = self.trainer.fit_loop
        seen = loop.epoch_loop.batch_progress.current.ready
        batch = seen % max(1, int(self.trainer.num_training_batches))
        return {"epoch": loop.epoch_progress.current.processed, "batch": batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lightning starts the workers of a resumed run before it knows the epoch itself."""
        self.first_epoch, self.first_batch = state["epoch"], state.get("batch", 0)

    def dataset(self, stage: str) -> SegmentationDataset:
        """The dataset of "train" (augmented) or "val" (as it is)."""
        rows, training = self.rows[stage], stage == "train"
        column = self.loader.weight_column
        return SegmentationDataset(
            rows,
            self.root,
            spec=self.spec,
            masks=self.masks,
            augment=self.loader.augmentation if training else None,
            mixes=self.loader.mix if training else (),
            weights=row_weights(rows, column) if training and self.loader.mix else None,
            seed=self.loader.seed,
            foreground=self.loader.foreground_crops,
            instances=self.loader.instances and not training,
            cache=self.cache,
        )

    def _rank(self) -> dict[str, int]:
        if self.trainer is None:
            return {}
        return {"rank": self.trainer.global_rank, "world": self.trainer.world_size}

    def _draws(self) -> Any:
        """Weights of the images by epoch; None where each comes as it is."""
        rows, loader = self.rows["train"], self.loader
        draws = build_draws(
            rows,
            self.root,
            spec=self.spec,
            masks=self.masks,
            weights=row_weights(rows, loader.weight_column),
            balance=loader.balance,
            rates=loader.positive_rate,
            epochs=loader.epochs,
        )
        return draws and (lambda epoch: replace(draws, epochs=self.epochs)(epoch))

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled; every image is in an epoch, CROPS_PER_IMAGE times."""
        dataset = self.dataset("train")
        sampler = EpochSampler(
            len(dataset),
            seed=self.loader.seed,
            epoch=self.first_epoch,
            passes=self.loader.crops_per_image,
            weights=self._draws(),
            # Lightning itself cannot keep a sampler of pairs still.
            fixed=getattr(self.trainer, "overfit_batches", 0) > 0,
            **self._rank(),
        )
        start = (self.first_epoch, self.first_batch)
        batches = EvenBatches(sampler, self.loader.train_batch_size, start=start)
        return build_loader(dataset, self.loader, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every image once, never augmented; images of one size share a batch."""
        dataset = self.dataset("val")
        sizes: list[Any] = [self.spec.size] * len(dataset)
        if self.spec.resize_mode == "crop":
            axes = self.spec.axes
            sizes = [image_size(self.root / row["image"], axes) for row in dataset.rows]
        batches = SizeBatches(sizes, self.loader.val_batch_size, **self._rank())
        return build_loader(dataset, self.loader, batch_sampler=batches)

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader


class _Telling(Dataset[Any]):
    """A dataset whose UserErrors are samples: a worker would wrap their text in a traceback."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        try:
            if hasattr(self.dataset, "__getitems__"):
                return self.dataset.__getitems__(indices)
            return [self.dataset[index] for index in indices]
        except UserError as error:
            return [error]


class Loader(DataLoader[Any]):
    """A DataLoader that raises a worker's UserError as it was raised there."""

    def __iter__(self) -> Any:
        try:
            batches = super().__iter__()
        except (OSError, KeyboardInterrupt) as error:
            _forget(error)
            if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
                raise
            raise UserError(f"no room in {SHARED} for {self.num_workers} workers. {ROOM}") from None
        try:
            for batch in batches:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except RuntimeError as error:
            workers = getattr(batches, "_workers", ())
            if all(worker.is_alive() for worker in workers):
                raise
            raise UserError(
                f"a data-loading process died ({str(error).splitlines()[0]}): the system ended it "
                f"for want of memory, or {SHARED} is too small. {ROOM}"
            ) from error


def _forget(error: BaseException) -> None:
    """Lets go of an iterator that was not made to its end: torch's own way out would fail aloud."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    traceback.clear_frames(error.__traceback__)
    sys.unraisablehook = hook


def build_loader(dataset: Dataset[Any], loader: LoaderSpec, **sampling: Any) -> DataLoader[Any]:
    """A DataLoader with workers, pinned memory for a GPU, and one OpenCV thread a worker."""
    workers = choose_workers(loader.num_workers)
    more: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 2} if workers else {}
    return Loader(
        _Telling(dataset),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        collate_fn=collate_samples,
        **sampling,
        **more,
    )


def collate_samples(samples: list[Any]) -> Any:
    """A batch as PyTorch's default makes it, but images in channels-last memory.

    Samples are (C, H, W) views of (H, W, C) pixels: their rows are copied, never transposed.
    """
    if isinstance(samples[0], UserError):
        return samples[0]
    try:
        return collate(samples, collate_fn_map={**default_collate_fn_map, torch.Tensor: _stack})
    except RuntimeError:
        tensors = [part for sample in samples for part in sample.values() if torch.is_tensor(part)]
        size = sum(tensor.nbytes for tensor in tensors)
        full = os.path.isdir(SHARED) and shutil.disk_usage(SHARED).free < size
        if get_worker_info() is None or not full:
            raise
        return UserError(f"no room in {SHARED} for a batch of {size_words(size)}. {ROOM}")


def _stack(tensors: list[torch.Tensor], *, collate_fn_map: Any = None) -> torch.Tensor:
    if tensors[0].ndim != 3:
        return collate_tensor_fn(tensors)
    return collate_tensor_fn([tensor.permute(1, 2, 0) for tensor in tensors]).permute(0, 3, 1, 2)


def choose_workers(workers: int) -> int:
    """The number asked for; -1: up to 8 for a GPU; on a CPU, which the network needs, 1."""
    if workers >= 0:
        return workers
    return min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 1


def _start_worker(worker: int) -> None:
    end_with_parent()
    hush_lost_connections()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # A terminal's Ctrl-C and a kill reach the whole group: the process that asks for batches tells.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
