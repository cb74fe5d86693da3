"""Gradient checkpointing: the backward pass computes activations anew instead of keeping them."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from model_dispatcher import encoder_of

LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def recompute_blocks(model: nn.Module) -> list[nn.Module]:
    """Makes each block of `model` keep only its input in training; returns the blocks.

    Neither outputs nor gradients nor the names of weights change. timm's own switch covers timm
    alone and feeds BatchNorm's running statistics twice a step.
    """
    blocks = list(find_blocks(model))
    encoder = encoder_of(model) or model
    if next(find_blocks(encoder), None) is None:  # a chain of single layers, such as VGG
        blocks.append(encoder)
    for block in blocks:
        # No closure: the moving average of weights copies the network, a copy must run its own.
        block.forward = functools.partial(_forward, block)
    return blocks


def find_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Outermost parts that stand in a list and hold several layers: residual blocks, MLPs..."""
    for child in module.children():
        if isinstance(module, LISTS) and not isinstance(child, LISTS) and _layers(child) > 1:
            yield child
        else:
            yield from find_blocks(child)


def _layers(module: nn.Module) -> int:
    return sum(bool(list(part.parameters(recurse=False))) for part in module.modules())


def _forward(block: nn.Module, *inputs: Any, **options: Any) -> Any:
    forward = functools.partial(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    # DenseNet's blocks share one list that grows: keep it as it is now.
    inputs = tuple(list(part) if isinstance(part, list) else part for part in inputs)
    contexts = functools.partial(_contexts, block)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **options)


def _contexts(block: nn.Module) -> tuple[Any, Any]:
    return contextlib.nullcontext(), _frozen_statistics(block)


@contextlib.contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """BatchNorm leaves its running statistics alone: they have seen this batch already."""
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, batches in before:
        # Without statistics at all it would save other tensors than the first time.
        norm.momentum, norm.num_batches_tracked = 0.0, None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches
