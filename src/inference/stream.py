"""Images as networks want them, each read once."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from core.errors import UserError
from data.samplers import SizeBatches
from data.specs import DataSpec
from imaging.geometry import Size, fit_image
from imaging.images import image_size, read_image
from imaging.sources import image_files
from Lightning_datamodule import LoaderSpec, build_loader
from streaming.files import fetch_ahead

# (H, W) that stands for a picture without a readable header.
BLANK = (64, 64)


class ImageStream(Dataset[Any]):
    """{"img", "size", "unreadable", "image_0", "image_1", ...}: an image as each team wants it.

    With `skip` a file that cannot be read is a black image, marked as unreadable; else an error.
    """

    def __init__(
        self, images: Sequence[tuple[str, Path]], specs: Sequence[DataSpec], *, skip: bool = False
    ):
        self.images, self.specs, self.skip = list(images), list(specs), skip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        img, path = self.images[index]
        kinds = {pixels_kind(spec): spec.pixels for spec in self.specs}
        try:
            read = {kind: read_image(path, **pixels) for kind, pixels in kinds.items()}
            unreadable = False
        except UserError:
            if not self.skip:
                raise
            size = size_or_blank(path, self.specs[0].axes)
            read = {
                kind: np.zeros((*size, pixels["channels"]), f"uint{pixels['bits']}")
                for kind, pixels in kinds.items()
            }
            unreadable = True
        native = next(iter(read.values())).shape[:2]
        sample: dict[str, Any] = {"img": img, "size": torch.tensor(native)}
        sample["unreadable"] = unreadable
        for at, spec in enumerate(self.specs):
            image = fit_image(read[pixels_kind(spec)], spec.size, spec.resize_mode)
            sample[f"image_{at}"] = torch.from_numpy(image).permute(2, 0, 1)
        return sample

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A whole batch; without worker processes the cores share its files."""
        paths = [self.images[index][1] for index in indices]
        fetch_ahead(file for path in paths for file in files_of(path, self.specs))
        if get_worker_info() is not None:
            return [self[index] for index in indices]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.__getitem__, indices))


def files_of(path: Path, specs: Iterable[DataSpec]) -> set[Path]:
    """The files that networks read an image of: its bands, its neighbours in a series.

    Of networks for which some are missing none: reading the image tells it.
    """
    found: set[Path] = set()
    for spec in specs:
        with contextlib.suppress(UserError):
            found.update(image_files(path, spec.bands, spec.stack))
    return found


def pixels_kind(spec: DataSpec) -> tuple[Any, ...]:
    """What is alike for networks that see the same pixels of a file."""
    return tuple(spec.pixels.values())


def size_or_blank(path: Path, axes: str = "") -> Size:
    """(H, W) of a picture; BLANK where its header cannot be read."""
    try:
        return image_size(path, axes)
    except UserError:
        return BLANK


def build_stream(
    images: Sequence[tuple[str, Path]],
    sizes: Sequence[Size | int],
    specs: Sequence[DataSpec],
    loader: LoaderSpec,
    *,
    skip: bool = False,
) -> Any:
    """A loader over images in their order; images of one size share a batch.

    Where the network runs on the CPU too, decoding takes turns with it: each step of a network
    waits for its slowest core, and a worker process would make one slow.

    Args:
        images: (img, path) each.
        sizes: of the images where networks take them at their own size, else alike.
        specs: of the networks that look at them.
        loader: batch size and workers.
        skip: a file that cannot be read is black.
    """
    if loader.num_workers < 0 and not torch.cuda.is_available():
        loader = replace(loader, num_workers=0)
    stream = ImageStream(images, specs, skip=skip)
    return build_loader(stream, loader, batch_sampler=SizeBatches(sizes, loader.val_batch_size))
