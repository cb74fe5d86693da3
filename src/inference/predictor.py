"""Probabilities of several networks for a stream of images, each image read once."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, get_worker_info

from core.errors import UserError
from data.samplers import SizeBatches
from data.specs import DataSpec
from imaging.geometry import Size, fit_image, restore_probs
from imaging.images import image_size, read_image
from inference.layout import lay_out
from inference.views import TestTimeModel, add_views
from Lightning_datamodule import LoaderSpec, build_loader
from Lightning_module import SegmentationModule, load_module
from postprocessing.means import mean_probs
from training.precision import precision_here, uses_cuda

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
        modules = [load_module(path) for path in paths]
        for module in modules:
            lay_out(module, device)
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
        kinds = {_kind(spec): spec.pixels for spec in self.specs}
        try:
            read = {kind: read_image(path, **pixels) for kind, pixels in kinds.items()}
            unreadable = False
        except UserError:
            if not self.skip:
                raise
            size = size_or_blank(path, self.specs[0].axes, skip=True)
            read = {
                kind: np.zeros((*size, pixels["channels"]), f"uint{pixels['bits']}")
                for kind, pixels in kinds.items()
            }
            unreadable = True
        native = next(iter(read.values())).shape[:2]
        sample: dict[str, Any] = {"img": img, "size": torch.tensor(native)}
        sample["unreadable"] = unreadable
        for at, spec in enumerate(self.specs):
            image = fit_image(read[_kind(spec)], spec.size, spec.resize_mode)
            sample[f"image_{at}"] = torch.from_numpy(image).permute(2, 0, 1)
        return sample

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A whole batch; without worker processes the cores share its files."""
        if get_worker_info() is not None:
            return [self[index] for index in indices]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.__getitem__, indices))


def _kind(spec: DataSpec) -> tuple[Any, ...]:
    """What is alike for networks that see the same pixels of a file."""
    return tuple(spec.pixels.values())


def size_or_blank(path: Path, axes: str = "", *, skip: bool) -> Size:
    """(H, W) of a picture; with `skip` BLANK where its header cannot be read."""
    try:
        return image_size(path, axes)
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
    axes = teams[0].spec.axes
    sizes: list[Any] = [
        size_or_blank(path, axes, skip=skip) if cropped else 0 for _, path in images
    ]
    return build_loader(stream, loader, batch_sampler=SizeBatches(sizes, loader.val_batch_size))


def choose_device(accelerator: str) -> torch.device:
    """The GPU when there is one and the accelerator allows it, else the CPU."""
    return torch.device("cuda" if uses_cuda(accelerator) else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision as Lightning's name says: 16-mixed, bf16-mixed, or none."""
    kinds = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
    return torch.autocast(device.type, dtype=kinds.get(precision), enabled=precision in kinds)


class Batch(NamedTuple):
    """A decoded batch with the networks' probabilities at their own size.

    Attributes:
        images: ids.
        sizes: (H, W) of each image's own.
        lost: ids of images that cannot be read; black stands for them.
        means: of each team, probabilities (B, K, h, w).
    """

    images: list[str]
    sizes: list[Size]
    lost: list[str]
    means: list[torch.Tensor]


class Predictor:
    """Networks of one or several runs, and how they look at images.

    `for img, size, probs in predictor.images(paths)` is all that most callers need.

    Args:
        runs: checkpoints of each run.
        loader: batch size and workers.
        accelerator: Lightning's name; auto takes a GPU if there is one.
        precision: auto, or Lightning's name: 16-mixed, bf16-mixed, 32-true.
        views: of test-time augmentation, of each run; None: the image as it is.
        weights: of each run, shared by its networks; None: every network weighs the same.
        kind: of the mean over teams, see `mean_probs`; within a team probabilities are averaged.
        gates: keep the gates as channels K to 2 K - 1, if every network has them.

    Raises:
        UserError: a checkpoint that does not load, or runs of different tasks or classes.
    """

    def __init__(
        self,
        runs: Sequence[Sequence[Path]],
        *,
        loader: LoaderSpec,
        accelerator: str = "auto",
        precision: str = "auto",
        views: Sequence[Sequence[str]] | None = None,
        weights: Sequence[float] | None = None,
        kind: str = "probs",
        gates: bool = False,
    ):
        self.device = choose_device(accelerator)
        self.precision = precision_here(precision, accelerator)
        self.teams = load_teams(runs, self.device, views=views, weights=weights)
        self.loader, self.kind = loader, kind
        self.gates = gates and all(team.spec.gate for team in self.teams)

    @property
    def spec(self) -> DataSpec:
        """Of the first run's networks."""
        return self.teams[0].spec

    @property
    def recipe(self) -> dict[str, Any]:
        """How the first of them was trained, as plain values."""
        return vars(self.teams[0].modules[0].recipe)

    def images(
        self, images: Sequence[tuple[str, Path]]
    ) -> Iterator[tuple[str, Size, torch.Tensor]]:
        """(img, native size, mean probabilities (K, H, W) at native size) of each (img, path).

        Where networks have a border it comes after the K classes. The order is that of the
        files; images of one size come together where a network takes them at their own size.

        Raises:
            UserError: an image that cannot be read.
        """
        for batch in self.batches(images):
            yield from self.restore(batch)

    def batches(self, images: Sequence[tuple[str, Path]], *, skip: bool = False) -> Iterator[Batch]:
        """Predicted batches, for `restore`; with `skip` a file that cannot be read is black."""
        for batch in build_stream(images, self.teams, self.loader, skip=skip):
            yield self._predict(batch)

    def restore(self, batch: Batch) -> Iterator[tuple[str, Size, torch.Tensor]]:
        """As `images`, of one batch. Every network counts by its team's weight."""
        weights = [team.weight * len(team.modules) for team in self.teams]
        for row, (img, size) in enumerate(zip(batch.images, batch.sizes, strict=True)):
            shares = [
                restore_probs(probs[row], size, team.spec.resize_mode)
                for probs, team in zip(batch.means, self.teams, strict=True)
            ]
            yield img, size, mean_probs(shares, weights, self.kind)

    def views(
        self, images: Sequence[tuple[str, Path]], names: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """(img, {view: probabilities (K, H, W) at native size}) of each image, decoded once.

        Args:
            images: (img, path) each.
            names: rows of VIEWS; "" is the image as it is.
        """
        plain = [[module.model for module in team.modules] for team in self.teams]
        for batch in build_stream(images, self.teams, self.loader):
            shown: dict[str, dict[str, torch.Tensor]] = {img: {} for img in batch["img"]}
            for name in names:
                self._look(plain, name)
                for img, _, probs in self.restore(self._predict(batch)):
                    shown[img][name] = probs
            yield from shown.items()

    def _look(self, plain: Sequence[Sequence[nn.Module]], name: str) -> None:
        """Makes every network see the view `name` alone."""
        for team, models in zip(self.teams, plain, strict=True):
            for module, model in zip(team.modules, models, strict=True):
                task = team.spec.task
                look = TestTimeModel(model, [name], task=task, plain=False) if name else model
                module.model = look

    @torch.inference_mode()
    def _predict(self, batch: dict[str, Any]) -> Batch:
        spec = self.spec
        channels = spec.outputs + (spec.classes if self.gates else 0)
        means = []
        for at, team in enumerate(self.teams):
            image = batch[f"image_{at}"].to(self.device, non_blocking=True)
            with autocast(self.device, self.precision):
                each = [module.predict_step({"image": image}) for module in team.modules]
                means.append(torch.stack([probs[:, :channels] for probs in each]).mean(0))
        flags = batch["unreadable"].tolist()
        lost = [img for img, flag in zip(batch["img"], flags, strict=True) if flag]
        sizes = [(height, width) for height, width in batch["size"].tolist()]
        return Batch(list(batch["img"]), sizes, lost, means)
