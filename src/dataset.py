"""The dataset: rows of train_folds.csv in, uint8 samples out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from competition.mask_source import MaskSource
from data.augment import Augment
from data.pairs import PairReader
from data.specs import DataSpec, Row
from imaging.geometry import Size, fit_mask
from imaging.mask_files import IGNORE
from imaging.mixes import build_mix
from imaging.objects import IGNORED
from imaging.soft_labels import truth_of
from postprocessing.objects import draw_borders
from streaming.files import fetch_ahead

if TYPE_CHECKING:
    from data.cached_pairs import PairCache


# Images that the colours of a training set are learnt of.
COLORS = 64


class SegmentationDataset(Dataset[Any]):
    """Samples {"image", "mask", "img", "size"} of the given rows.

    image is uint8 (uint16 for 16-bit data) (C, H, W); mask (H, W) ids for multiclass with 255 =
    ignored, else (K, H, W) of {0, 1}; size the image's own (H, W). With `spec.border` there is also
    "border", uint8 (1, H, W) of {0, 1} and 255, drawn from the objects as they came out of the
    augmentation; of soft labels "soft", uint8 levels of imaging/soft_labels.py, whose truth is the
    mask. A row's "volume" is handed on. Normalisation happens later, on the device. Without `masks`
    samples have no mask.
    An index may be (i, epoch): the draw of augmentation then depends on seed, epoch and i alone.

    Args:
        rows: mappings with `img`, `image`, `mask`, such as `table.to_dict("records")`.
        root: folder that relative paths start from.
        spec: size, channels, task.
        masks: where masks come from.
        augment: a row of AUGMENTATIONS for training; None for validation and prediction.
        mixes: rows of MIXES that come after it, with samples of other rows.
        seed: seed of the augmentation.
        weights: one a row, how often mixes draw it; None: all alike.
        foreground: share of crops whose middle is foreground.
        instances: samples also carry "instances", int32 (H, W).
        cache: decoded pairs, of `open_cache`; files are read of what is not in it.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        root: Path,
        *,
        spec: DataSpec,
        masks: MaskSource | None = None,
        augment: str | None = None,
        mixes: Sequence[str] = (),
        weights: Sequence[float] | None = None,
        seed: int = 0,
        foreground: float = 0.0,
        instances: bool = False,
        cache: "PairCache | None" = None,
    ):
        self.rows = list(rows)
        self.reader = PairReader(root, spec=spec, masks=masks)
        self.spec = spec
        self.seed = seed
        self.instances = instances
        self.cache = cache
        self.augment = None
        if augment:
            self.augment = Augment(
                augment,
                spec.size,
                crop=spec.resize_mode == "crop",
                foreground=foreground,
                channels=spec.channels,
                bits=spec.bits,
            )
            if self.augment.asks_colors:
                few = self.rows[:: -(-len(self.rows) // COLORS)]
                self.augment.learn_colors(self._read_pair(row)[0] for row in few)
        self.mixes = [build_mix(name) for name in mixes if augment]
        self.chances = None if weights is None else np.array(weights) / np.sum(weights)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int | tuple[int, int]]) -> list[dict[str, Any]]:
        """A whole batch: what is streamed comes with many requests at a time."""
        if self.cache is not None:
            return [self[index] for index in indices]
        rows = [self.rows[index[0] if isinstance(index, tuple) else index] for index in indices]
        fetch_ahead(file for row in rows for file in self.reader.files(row))
        return [self[index] for index in indices]

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        index, epoch = index if isinstance(index, tuple) else (index, int(torch.randint(2**31, ())))
        row = self.rows[index]
        image, mask, native = self._read_pair(row)
        sample = {"img": row["img"], "size": torch.tensor(native)}
        if "volume" in row:
            sample["volume"] = row["volume"]
        if mask is not None:
            if self.augment is not None:
                rng = np.random.default_rng((self.seed, epoch, index))
                image, mask = self._mixed(self.augment(image, mask, rng), rng)
            if self.spec.border:
                ignored, objects = mask == IGNORED, np.where(mask == IGNORED, 0, mask)
                border = draw_borders(objects[..., 0])[..., None]
                sample["border"] = _to_tensor(np.where(ignored, np.uint8(IGNORE), border))
                mask = np.where(ignored, np.uint8(IGNORE), (objects > 0).view(np.uint8))
            if self.reader.masks is not None and self.reader.masks.soft_cut is not None:
                sample["soft"] = _to_tensor(mask)
                mask = truth_of(mask, self.reader.masks.soft_cut)
            sample["mask"] = _to_tensor(mask)
            if self.instances:
                sample["instances"] = self._read_instances(row, native)
        sample["image"] = _to_tensor(image)
        return sample

    def _mixed(
        self, pair: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The pair, or what mixes make of it and of others that are drawn and augmented."""
        assert self.augment is not None
        for mix in self.mixes:
            if rng.random() < mix.p:
                chosen = self._draw(mix.others, rng)
                others = [self._read_pair(self.rows[at])[:2] for at in chosen]
                pair = mix([pair, *(self.augment(*other, rng) for other in others)], rng)
        return pair

    def _draw(self, count: int, rng: np.random.Generator) -> list[int]:
        """So many rows, at random."""
        if self.chances is None:
            return rng.integers(len(self.rows), size=count).tolist()
        return rng.choice(len(self.rows), size=count, p=self.chances).tolist()

    def _read_pair(self, row: Row) -> tuple[np.ndarray, Any, Size]:
        if self.cache is not None and self.reader.masks is not None and row["img"] in self.cache:
            return self.cache.read(row["img"])
        return self.reader.read(row)

    def _read_instances(self, row: Row, native: Size) -> torch.Tensor:
        labels = self.reader.read_labels(row, native)
        # Nearest-exact resize knows int16; no image holds more than 32,767 objects.
        labels = fit_mask(labels.astype(np.int16), self.spec.size, self.spec.resize_mode)
        return torch.from_numpy(labels.astype(np.int32))


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    """(H, W, C) as a (C, H, W) view, (H, W) as it is."""
    array = np.ascontiguousarray(array)
    # What a cache hands out is the cache itself.
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor
