"""Running statistics of BatchNorm, taken anew where they are not those of the weights."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from training.sharding import sharded_root, share_buffers

# More batches than these hardly change a mean over them.
BATCHES = 100
# Small images are taken together up to so many pixels: where the deepest layers see one or two of
# an image, variances within a batch of four are far from those of all images.
PIXELS = 512 * 512
# Until this step running statistics remember the start, and weights that have long changed.
YOUNG = 100


class FreshStatistics(Callback):
    """Takes BatchNorm's statistics anew before a validation where they do not fit the weights.

    So it is in the first steps, and with weights that are an average. Comes after the callback that
    puts the average in the weights' place.

    Args:
        averaged: whether weights after a step are an average that no running statistics fit.
    """

    def __init__(self, averaged: Callable[[int], bool] = lambda step: False):
        self.averaged = averaged
        self.norms: list[_BatchNorm] = []

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Frozen layers have been told to stand still: their statistics stay as they are."""
        self.norms = moving_norms(module)

    def on_validation_epoch_start(self, trainer: Any, module: Any) -> None:
        step, root = trainer.global_step, sharded_root(trainer)
        if self.norms and (step <= YOUNG or self.averaged(step)):
            context = trainer.precision_plugin.forward_context()
            batches = min(BATCHES, trainer.num_training_batches)
            loader = islice(_training_batches(trainer), batches)
            refresh_statistics(module, self.norms, loader, context, forward=root)
        if root is not None:
            share_buffers(module)


def _training_batches(trainer: Any) -> Iterable[Any]:
    """The loader; within an epoch a twin of it: the epoch goes on with the loader's workers."""
    loader = trainer.train_dataloader
    seen = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    if seen < trainer.num_training_batches and isinstance(loader, DataLoader):
        loader = copy.copy(loader)
        loader._iterator = None
    return loader


def moving_norms(module: nn.Module) -> list[_BatchNorm]:
    """Its BatchNorms with running statistics that follow the batches: frozen ones do not."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    return [norm for norm in norms if norm.training and norm.track_running_stats]


@torch.no_grad()
def refresh_statistics(
    module: Any,
    norms: Sequence[_BatchNorm],
    batches: Iterable[Any],
    context: AbstractContextManager[Any],
    *,
    forward: Callable[[torch.Tensor], Any] | None = None,
) -> None:
    """Replaces running means and variances by those of its present weights over training batches.

    All else, dropout among it, is as in prediction; random numbers drawn here are not missed later.
    Nothing is compiled for it: a compiler would meet each count of batches as another program.

    Args:
        module: SegmentationModule, on its device.
        norms: of it, see `moving_norms`.
        batches: {"image": (B, C, H, W)...} of training.
        context: of the forward pass, such as autocast.
        forward: the forward pass; None: the module's own.

    Source: torch.optim.swa_utils.update_bn.
    """
    devices = [module.device] if module.device.type == "cuda" else []
    eager = torch.compiler.set_stance("force_eager")
    with torch.random.fork_rng(devices), _counting(module, norms), eager, context:
        for image in join_images(batches):
            (forward or module)(image.to(module.device))


def join_images(batches: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Images (B, C, H, W) of batches, of several together until they have PIXELS, or are all."""
    ready, held = list[torch.Tensor](), list[torch.Tensor]()
    for batch in batches:
        held.append(batch["image"])
        if sum(image.shape[-2] * image.shape[-1] * len(image) for image in held) >= PIXELS:
            if ready:
                yield torch.cat(ready)
            ready, held = held, []
    if ready or held:
        yield torch.cat([*ready, *held])  # a few that are left over do not count as much as many


@contextmanager
def _counting(module: nn.Module, norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Everything predicts, but `norms`, which begin at nothing and weigh all batches alike."""
    modes = [(part, part.training) for part in module.modules()]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None
    yield
    for part, training in modes:
        part.training = training
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
