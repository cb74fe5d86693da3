"""Probabilities of several networks for a stream of images, each image read once."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from core.errors import UserError
from data.specs import DataSpec
from imaging.geometry import Size, fit_image, restore_probs
from imaging.images import image_size, read_image
from inference.views import add_views
from Lightning_datamodule import LoaderSpec, SizeBatches, build_loader
from Lightning_module import SegmentationModule, load_module
from postprocessing.means import mean_probs
from training.precision import uses_cuda

# (H, W) that stands for a picture without a readable header.
BLANK = (64, 64)


@dataclass(frozen=True)
class Team:
    """Networks that see the same input: the folds of a run.

    Attributes:
        spec: of their input.
        modules: the networks.
        weight: of each of them in a mean.
    """

    spec: DataSpec
    modules: list[SegmentationModule]
    weight: float = 1.0


def load_teams(
    runs: Sequence[Sequence[Path]],
    device: torch.device,
    *,
    views: Sequence[Sequence[str]] | None = None,
    weights: Sequence[float] | None = None,
) -> list[Team]:
    """The networks of each run's checkpoints, on the device, ready to predict.

    Args:
        runs: checkpoints of each run.
        device: where they predict.
        views: of test-time augmentation, of each run; None: the image as it is.
        weights: of each run, shared by its networks; None: every network weighs the same.

    Raises:
        UserError: a checkpoint that does not load, or runs of different tasks or classes.
    """
    teams = []
    shares = weights or [float(len(paths)) for paths in runs]
    for paths, names, share in zip(runs, views or [()] * len(runs), shares, strict=True):
        modules = [load_module(path).to(device) for path in paths]
        for module in modules:
            module.model.to(memory_format=torch.channels_last)
            add_views(module, names, task=module.spec.task)
        specs = dict.fromkeys(module.spec for module in modules)
        weight = share / len(paths)
        teams += [Team(spec, [m for m in modules if m.spec == spec], weight) for spec in specs]
    tasks = {(team.spec.task, team.spec.classes, team.spec.instances) for team in teams}
    if len(tasks) > 1:
        raise UserError(
            f"the runs are of different TASK, CLASSES or INSTANCES, {sorted(tasks)}: need one"
        )
    return teams


class ImageStream(Dataset):
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
        kinds = {(spec.channels, spec.bits) for spec in self.specs}
        try:
            read = {(c, bits): read_image(path, channels=c, bits=bits) for c, bits in kinds}
            unreadable = False
        except UserError:
            if not self.skip:
                raise
            size = size_or_blank(path, skip=True)
            read = {(c, b): np.zeros((*size, c), f"uint{b}") for c, b in kinds}
            unreadable = True
        native = next(iter(read.values())).shape[:2]
        sample: dict[str, Any] = {"img": img, "size": torch.tensor(native)}
        sample["unreadable"] = unreadable
        for at, spec in enumerate(self.specs):
            image = fit_image(read[spec.channels, spec.bits], spec.size, spec.resize_mode)
            sample[f"image_{at}"] = torch.from_numpy(image).permute(2, 0, 1)
        return sample

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A whole batch; without worker processes the cores share its files."""
        if get_worker_info() is not None:
            return [self[index] for index in indices]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.__getitem__, indices))


def size_or_blank(path: Path, *, skip: bool) -> Size:
    """(H, W) of a picture; with `skip` BLANK where its header cannot be read."""
    try:
        return image_size(path)
    except UserError:
        if not skip:
            raise
        return BLANK


def build_stream(
    images: Sequence[tuple[str, Path]],
    teams: Sequence[Team],
    loader: LoaderSpec,
    *,
    skip: bool = False,
) -> Any:
    """A loader over images in their order; images of one size share a batch where teams need it.

    Where the network runs on the CPU too, decoding takes turns with it: each step of a network
    waits for its slowest core, and a worker process would make one slow.
    """
    if loader.num_workers < 0 and not torch.cuda.is_available():
        loader = replace(loader, num_workers=0)
    stream = ImageStream(images, [team.spec for team in teams], skip=skip)
    cropped = any(team.spec.resize_mode == "crop" for team in teams)
    sizes: list[Any] = [size_or_blank(path, skip=skip) if cropped else 0 for _, path in images]
    return build_loader(stream, loader, batch_sampler=SizeBatches(sizes, loader.val_batch_size))


def choose_device(accelerator: str) -> torch.device:
    """The GPU when there is one and the accelerator allows it, else the CPU."""
    return torch.device("cuda" if uses_cuda(accelerator) else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision as Lightning's name says: 16-mixed, bf16-mixed, or none."""
    kinds = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
    return torch.autocast(device.type, dtype=kinds.get(precision), enabled=precision in kinds)


@torch.inference_mode()
def predict_batch(
    batch: dict[str, Any],
    teams: Sequence[Team],
    device: torch.device,
    *,
    precision: str,
    kind: str = "probs",
    gates: bool = False,
) -> Iterator[tuple[str, Size, torch.Tensor]]:
    """(img, native size, mean probabilities (K, H, W) at native size) for each image of a batch.

    Where networks have a border it comes after the K classes.

    Every network counts by its team's weight.

    Args:
        batch: of `build_stream`.
        teams: networks.
        device: where they are.
        precision: see `autocast`.
        kind: of the mean over teams, see `mean_probs`; within a team probabilities are averaged.
        gates: keep the gates as channels K to 2 K - 1; every team must have them.
    """
    weights = [team.weight * len(team.modules) for team in teams]
    channels = teams[0].spec.outputs + (teams[0].spec.classes if gates else 0)
    means = []
    for at, team in enumerate(teams):
        image = batch[f"image_{at}"].to(device, non_blocking=True)
        with autocast(device, precision):
            each = [module.predict_step({"image": image}) for module in team.modules]
            means.append(torch.stack([probs[:, :channels] for probs in each]).mean(0))
    for row, (img, native) in enumerate(zip(batch["img"], batch["size"].tolist(), strict=True)):
        size = (native[0], native[1])
        shares = [
            restore_probs(probs[row], size, team.spec.resize_mode)
            for probs, team in zip(means, teams, strict=True)
        ]
        yield img, size, mean_probs(shares, weights, kind)
