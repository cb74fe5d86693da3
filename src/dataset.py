"""The dataset: rows of train_folds.csv in, uint8 samples out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from augmentations import Augment
from geometry import Size, fit_image, fit_mask
from images import read_image
from instances import draw_borders
from masks import IGNORE, MaskSource, mask_to_instances

if TYPE_CHECKING:
    from cached_pairs import PairCache

Row = Mapping[str, Any]


@dataclass(frozen=True)
class DataSpec:
    """What a network must know of its data; a checkpoint carries it as plain values."""

    task: str = "binary"
    classes: int = 1
    class_names: tuple[str, ...] = ()
    instances: str = "components"
    channels: int = 3
    bits: int = 8
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    size: Size = (512, 512)
    resize_mode: str = "stretch"
    # Whether the network also says which classes are in the image at all.
    gate: bool = False

    @property
    def border(self) -> bool:
        """Whether the channel after the classes is the border between objects."""
        return self.instances == "border"

    @property
    def outputs(self) -> int:
        """Channels of the logits: the classes, and the border if there is one."""
        return self.classes + self.border

    def to_dict(self) -> dict[str, Any]:
        """Plain values: tuples as lists, so that a checkpoint loads with weights_only=True."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSpec":
        """The inverse of `to_dict`."""
        plain: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
        }
        return cls(**plain)


class SegmentationDataset(Dataset):
    """Samples {"image", "mask", "img", "size"} of the given rows.

    image is uint8 (uint16 for 16-bit data) (C, H, W); mask (H, W) ids for multiclass with 255 =
    ignored, else (K, H, W) of {0, 1}; size the image's own (H, W). With `spec.border` there is also
    "border", uint8 (1, H, W) of {0, 1}, drawn from the objects as they came out of the
    augmentation. Normalisation happens later, on the device. Without `masks` samples have no mask.
    An index may be (i, epoch): the draw of augmentation then depends on seed, epoch and i alone.

    Args:
        rows: mappings with `img`, `image`, `mask`, such as `table.to_dict("records")`.
        root: folder that relative paths start from.
        spec: size, channels, task.
        masks: where masks come from.
        augment: a row of AUGMENTATIONS for training; None for validation and prediction.
        seed: seed of the augmentation.
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
        seed: int = 0,
        instances: bool = False,
        cache: "PairCache | None" = None,
    ):
        self.rows = list(rows)
        self.root = root
        self.spec = spec
        self.masks = masks
        self.seed = seed
        self.instances = instances
        self.cache = cache
        self.augment = None
        if augment:
            kind = {"channels": spec.channels, "bits": spec.bits}
            crop = spec.resize_mode == "crop"
            self.augment = Augment(augment, spec.size, crop=crop, **kind)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        index, epoch = index if isinstance(index, tuple) else (index, int(torch.randint(2**31, ())))
        row = self.rows[index]
        image, mask, native = self.read_pair(row)
        sample = {"img": row["img"], "size": torch.tensor(native)}
        if mask is not None:
            if self.augment is not None:
                rng = np.random.default_rng((self.seed, epoch, index))
                image, mask = self.augment(image, mask, rng)
            if self.spec.border:
                sample["border"] = _to_tensor(draw_borders(mask[..., 0])[..., None])
                mask = (mask > 0).view(np.uint8)
            sample["mask"] = _to_tensor(mask)
            if self.instances:
                sample["instances"] = self._read_instances(row, native)
        sample["image"] = _to_tensor(image)
        return sample

    def read_pair(self, row: Row) -> tuple[np.ndarray, Any, Size]:
        """Image (H, W, C), mask (H, W) or (H, W, K) or None, the image's own (H, W).

        Both as the augmentation takes them: fitted to the network's size.
        """
        if self.cache is not None and self.masks is not None and row["img"] in self.cache:
            return self.cache.read(row["img"])
        spec = self.spec
        image = read_image(self.root / row["image"], channels=spec.channels, bits=spec.bits)
        native = (image.shape[0], image.shape[1])
        mask = None if self.masks is None else self._read_mask(row, native)
        return fit_image(image, spec.size, spec.resize_mode), mask, native

    def _read_mask(self, row: Row, native: Size) -> np.ndarray:
        """The mask as (H, W) ids, or (H, W, K) so that it moves like an image.

        With a border it is uint16 (H, W, 1) with a number an object, which moves as ids do.
        """
        assert self.masks is not None
        if self.spec.border:
            labels = self._read_labels(row, native).astype(np.uint16)[..., None]
            return fit_mask(labels, self.spec.size, self.spec.resize_mode)
        mask = self.masks.read(row["img"], _mask_path(self.root, row), native)
        fill = IGNORE if self.spec.task == "multiclass" else 0
        if self.spec.task == "binary":
            mask = mask[..., None]
        elif self.spec.task == "multilabel":
            mask = np.ascontiguousarray(mask.transpose(1, 2, 0))
        return fit_mask(mask, self.spec.size, self.spec.resize_mode, fill=fill)

    def _read_labels(self, row: Row, native: Size) -> np.ndarray:
        """int32 (H, W) with the true objects; connected parts where they have no names."""
        assert self.masks is not None
        path = _mask_path(self.root, row)
        labels = self.masks.instances(row["img"], path, native)
        if labels is None:
            labels = mask_to_instances(self.masks.read(row["img"], path, native))
        return labels

    def _read_instances(self, row: Row, native: Size) -> torch.Tensor:
        labels = self._read_labels(row, native)
        # Nearest-exact resize knows int16; no image holds more than 32,767 objects.
        labels = fit_mask(labels.astype(np.int16), self.spec.size, self.spec.resize_mode)
        return torch.from_numpy(labels.astype(np.int32))


def _mask_path(root: Path, row: Row) -> Path | None:
    return root / row["mask"] if row.get("mask") else None


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    """(H, W, C) as a (C, H, W) view, (H, W) as it is."""
    array = np.ascontiguousarray(array)
    # What a cache hands out is the cache itself.
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor
