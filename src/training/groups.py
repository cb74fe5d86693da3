"""Parameter groups: which weights learn at which rate, and which of them decay."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

# A module that holds more of an encoder than this is a wrapper: its children are the layers.
MOST = 0.8
# A part of a stage: block3.
NUMBERED = re.compile(r"(.*[a-z])([0-9]+)")


def parameter_groups(
    module: nn.Module,
    encoder: nn.Module | None,
    *,
    lr: float,
    encoder_lr_factor: float = 1.0,
    layer_decay: float = 1.0,
    weight_decay: float = 0.0,
    decay_norms: bool = True,
) -> list[dict[str, Any]]:
    """Groups {"params", "lr", "weight_decay"} of a module, the decoder's before the encoder's.

    Args:
        module: whose parameters are grouped, each in one group.
        encoder: the part of it with a rate of its own, or None.
        lr: rate of all but the encoder.
        encoder_lr_factor: the encoder's rate as a share of it.
        layer_decay: a layer's rate in the encoder as a share of the next layer's.
        weight_decay: of the weights.
        decay_norms: whether biases and what scales a normalisation decay, too: all that is a
            vector.
    """
    rates: dict[int, float] = {}
    if encoder is not None:
        layers = list(layers_of(encoder))
        for depth, layer in enumerate(layers):
            share = encoder_lr_factor * layer_decay ** (len(layers) - 1 - depth)
            rates |= {id(p): lr * share for p in layer.parameters()}
        # Position embeddings and other parameters of the encoder itself lie before all layers.
        first = lr * encoder_lr_factor * layer_decay ** max(len(layers) - 1, 0)
        rates = {id(p): rates.get(id(p), first) for p in encoder.parameters()}
    groups: dict[tuple[bool, float, float], dict[str, Any]] = {}
    for parameter in module.parameters():
        rate = rates.get(id(parameter), lr)
        ndim = getattr(parameter, "dimensions", parameter.ndim)  # of a part that a device holds
        decay = weight_decay if decay_norms or ndim > 1 else 0.0
        key = (id(parameter) in rates, -rate, -decay)
        empty: dict[str, Any] = {"params": [], "lr": rate, "weight_decay": decay}
        groups.setdefault(key, empty)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def layers_of(encoder: nn.Module) -> Iterator[nn.Module]:
    """The layers of an encoder in the order of `by_stage`; of a wrapper those inside."""
    named = [(name, child) for name, child in encoder.named_children() if _has_weights(child)]
    order = by_stage([name for name, _ in named])
    children = [named[at][1] for at in order]
    whole = sum(p.numel() for p in encoder.parameters())
    for child in children:
        held = sum(p.numel() for p in child.parameters())
        if held > MOST * whole and any(True for _ in child.children()):
            yield from layers_of(child)
        else:
            yield child


def by_stage(names: Sequence[str]) -> list[int]:
    """The order in which an image passes parts of these names, as places in their list.

    That of their building; but where each kind of part is there for each stage (patch_embed1,
    patch_embed2, block1, block2), one stage comes after the other.
    """
    parts = [part for name in names if (part := NUMBERED.fullmatch(name))]
    stages: dict[str, set[int]] = {}
    for part in parts:
        stages.setdefault(part[1], set()).add(int(part[2]))
    known = list(stages.values())
    if len(parts) < len(names) or len(known) < 2 or any(one != known[0] for one in known):
        return list(range(len(names)))
    return sorted(range(len(names)), key=lambda at: int(parts[at][2]))


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
