"""Probabilities of several networks for a stream of images, each image read once."""

import math
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from core.errors import UserError
from data.samplers import SizeBatches
from data.specs import DataSpec
from imaging.geometry import Size, restore_probs
from imaging.images import image_size, read_image
from imaging.sources import Box, with_window
from inference.stream import BLANK, build_stream, pixels_kind
from inference.teams import Team, load_teams
from inference.views import TestTimeModel
from inference.windows import Piece, Strip, Windows, finished
from Lightning_datamodule import LoaderSpec
from postprocessing.means import mean_probs
from training.precision import precision_here, uses_cuda


def choose_device(accelerator: str) -> torch.device:
    """The GPU when there is one and the accelerator allows it, else the CPU."""
    return torch.device("cuda" if uses_cuda(accelerator) else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision as Lightning's name says: 16-mixed, bf16-mixed, or none."""
    kinds = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
    return torch.autocast(device.type, dtype=kinds.get(precision), enabled=precision in kinds)


class Batch(NamedTuple):
    """A decoded batch with the networks' probabilities at their own size; of windows, the image's.

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
        windows: how images too large for the networks are cut.

    Raises:
        UserError: a checkpoint that does not load, runs of different tasks or classes, or of
            another RESIZE_MODE than crop where WINDOW is a size.
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
        windows: Windows | None = None,
    ):
        self.device = choose_device(accelerator)
        self.precision = precision_here(precision, accelerator)
        self.teams = load_teams(runs, self.device, views=views, weights=weights)
        self.loader, self.kind = loader, kind
        self.gates = gates and all(team.spec.gate for team in self.teams)
        self.windows = windows or Windows()
        self.windows.check([team.spec.resize_mode for team in self.teams])
        self._sizes: dict[Path, Size] = {}

    @property
    def spec(self) -> DataSpec:
        """Of the first run's networks."""
        return self.teams[0].spec

    @property
    def _specs(self) -> list[DataSpec]:
        return [team.spec for team in self.teams]

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
        whole, sizes, cut = self._sort(images, skip=skip)
        for batch in build_stream(whole, sizes, self._specs, self.loader, skip=skip):
            yield self._predict(batch)
        for img, path in cut:
            yield self._slide(img, path, skip=skip)

    def cut_size(self, path: Path) -> Size | None:
        """(H, W) of an image that is cut into windows; None: networks take it whole.

        Raises:
            UserError: its header cannot be read.
        """
        if {team.spec.resize_mode for team in self.teams} != {"crop"}:
            return None
        size = self._size(path)
        return size if self.windows.size(size) else None

    def _size(self, path: Path, *, skip: bool = False) -> Size:
        """(H, W) by the header, which is read once; with `skip` any where it cannot be."""
        if path not in self._sizes:
            try:
                self._sizes[path] = image_size(path, self.spec.axes)
            except UserError:
                if not skip:
                    raise
                return BLANK
        return self._sizes[path]

    def _sort(
        self, images: Sequence[tuple[str, Path]], *, skip: bool = False
    ) -> tuple[list[tuple[str, Path]], list[Size | int], list[tuple[str, Path]]]:
        """Images that networks take whole, with their sizes where these matter, and the others."""
        modes = {team.spec.resize_mode for team in self.teams}
        if "crop" not in modes:
            return list(images), [0] * len(images), []
        sizes = [self._size(path, skip=skip) for _, path in images]
        cuts = [modes == {"crop"} and self.windows.size(size) is not None for size in sizes]
        known = list(zip(images, sizes, cuts, strict=True))
        return (
            [pair for pair, _, cut in known if not cut],
            [size for _, size, cut in known if not cut],
            [pair for pair, _, cut in known if cut],
        )

    def share(
        self, images: Sequence[tuple[str, Path]], index: int, count: int
    ) -> list[tuple[str, Path]]:
        """The images of every `count`-th batch, from `index` on: batches stay what they are.

        A network's last digits depend on what is in a batch.
        """
        whole, sizes, cut = self._sort(images)
        batches = SizeBatches(sizes, self.loader.val_batch_size).batches[index::count]
        return [whole[at] for batch in batches for at in batch] + cut[index::count]

    def restore(self, batch: Batch) -> Iterator[tuple[str, Size, torch.Tensor]]:
        """As `images`, of one batch. Every network counts by its team's weight."""
        for row, (img, size) in enumerate(zip(batch.images, batch.sizes, strict=True)):
            shares = [
                restore_probs(probs[row], size, team.spec.resize_mode)
                for probs, team in zip(batch.means, self.teams, strict=True)
            ]
            yield img, size, self._blend(shares)

    def _blend(self, shares: Sequence[torch.Tensor]) -> torch.Tensor:
        weights = [team.weight * len(team.modules) for team in self.teams]
        return mean_probs(shares, weights, self.kind)

    def strips(self, path: Path, begin: int = 0) -> Iterator[torch.Tensor]:
        """Mean probabilities (K, h, W) of an image that is cut, rows from top to bottom.

        Memory is bound by a row of windows, where the file can be read in parts: TIFF.

        Args:
            path: of the image.
            begin: first row that is wanted, where an earlier strip ended.

        Raises:
            UserError: the image cannot be read.
        """
        return map(self._blend, self._strips(path, begin))

    def views(
        self,
        images: Sequence[tuple[str, Path]],
        names: Sequence[str],
        spent: MutableMapping[str, float] | None = None,
    ) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """(img, {view: probabilities (K, H, W) at native size}) of each image, decoded once.

        Args:
            images: (img, path) each.
            names: rows of VIEWS; "" is the image as it is.
            spent: receives the seconds of each view; not those of the first batch, in which all is
                slower, where there are more.
        """
        plain = [[module.model for module in team.modules] for team in self.teams]
        whole, sizes, cut = self._sort(images)
        loaded: Iterator[Any] = iter(build_stream(whole, sizes, self._specs, self.loader))
        looks = chain(
            (partial(self._predict, batch) for batch in loaded),
            (partial(self._slide, img, path) for img, path in cut),
        )
        took: dict[str, float] = {}
        for at, look in enumerate(looks):
            if at == 1:
                took.clear()
            shown: dict[str, dict[str, torch.Tensor]] = {}
            for name in names:
                self._look(plain, name)
                began = time.perf_counter()
                for img, _, probs in self.restore(look()):
                    shown.setdefault(img, {})[name] = probs
                took[name] = took.get(name, 0.0) + time.perf_counter() - began
            yield from shown.items()
        if spent is not None:
            for name, seconds in took.items():
                spent[name] = spent.get(name, 0.0) + seconds

    def _look(self, plain: Sequence[Sequence[nn.Module]], name: str) -> None:
        """Makes every network see the view `name` alone."""
        for team, models in zip(self.teams, plain, strict=True):
            for module, model in zip(team.modules, models, strict=True):
                task = team.spec.task
                look = TestTimeModel(model, [name], task=task, plain=False) if name else model
                module.model = look

    def _predict(self, batch: dict[str, Any]) -> Batch:
        means = [self._mean(team, batch[f"image_{at}"]) for at, team in enumerate(self.teams)]
        flags = batch["unreadable"].tolist()
        lost = [img for img, flag in zip(batch["img"], flags, strict=True) if flag]
        sizes = [(height, width) for height, width in batch["size"].tolist()]
        return Batch(list(batch["img"]), sizes, lost, means)

    @torch.inference_mode()
    def _mean(self, team: Team, image: torch.Tensor) -> torch.Tensor:
        """Mean probabilities (B, K, h, w) of a team's networks for (B, C, h, w)."""
        image = image.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            each = [module.predict_step({"image": image}) for module in team.modules]
            return torch.stack([probs[:, : self._channels] for probs in each]).mean(0)

    @property
    def _channels(self) -> int:
        return self.spec.outputs + (self.spec.classes if self.gates else 0)

    def _slide(self, img: str, path: Path, *, skip: bool = False) -> Batch:
        """A batch of one image that is cut into windows."""
        size = self._size(path, skip=skip)
        try:
            strips = list(self._strips(path))
        except UserError:
            if not skip:
                raise
            black = torch.zeros(1, self._channels, *size)
            return Batch([img], [size], [img], [black] * len(self.teams))
        means = [torch.cat(parts, 1) for parts in zip(*strips, strict=True)]
        if self.gates:  # an image holds what any of its windows holds
            for probs in means:
                gates = probs[self.spec.outputs :]
                gates[:] = gates.amax((1, 2), keepdim=True)
        return Batch([img], [size], [], [probs[None] for probs in means])

    def _strips(self, path: Path, begin: int = 0) -> Iterator[list[torch.Tensor]]:
        """Each team's probabilities (K, h, W), see `strips`."""
        height, width = self._size(path)
        window = self.windows.size((height, width)) or (height, width)
        downs, rights = (
            self.windows.cut(*pair) for pair in zip((height, width), window, strict=True)
        )
        sums = [Strip(self._channels, width, self.device) for _ in self.teams]
        for down, rows in finished(downs, height):
            if down.start + window[0] <= begin:
                continue
            part = with_window(path, Box(down.start, 0, window[0], width))
            read = {
                pixels_kind(team.spec): read_image(part, **team.spec.pixels) for team in self.teams
            }
            for strip, team in zip(sums, self.teams, strict=True):
                strip.grow(window[0])
                self._add_row(strip, team, read[pixels_kind(team.spec)], down, rights)
            done = [strip.take(rows) for strip in sums]
            if down.start >= begin:
                yield done

    def _add_row(
        self, strip: Strip, team: Team, image: np.ndarray, down: Piece, rights: Sequence[Piece]
    ) -> None:
        """Predicts the windows of a row, (h, W, C), in batches, and adds them to its strip."""
        wide = len(rights[0].weights)
        # As many pixels as a batch of validation has.
        pixels = self.loader.val_batch_size * math.prod(team.spec.size)
        batch = max(1, pixels // (len(image) * wide))
        for at in range(0, len(rights), batch):
            pieces = rights[at : at + batch]
            cuts = [image[:, piece.start : piece.start + wide] for piece in pieces]
            stacked = torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2)
            for probs, piece in zip(self._mean(team, stacked), pieces, strict=True):
                strip.add(probs, down, piece)
