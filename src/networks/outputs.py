"""What networks return, as logits."""

from collections.abc import Mapping
from typing import Any

import torch

from core.errors import UserError


def logits_of(output: Any) -> torch.Tensor:
    """Raw logits (B, K, H, W) from what a network returns.

    Args:
        output: the logits; a dict with them as "out", as torchvision's networks return; or a tuple
            whose first tensor they are. Where (B, K) logits of a gate come second, they follow as
            K more channels, each of one value.

    Raises:
        UserError: anything else.
    """
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping) and isinstance(output.get("out"), torch.Tensor):
        return output["out"]
    if isinstance(output, tuple | list) and output and isinstance(output[0], torch.Tensor):
        gates = output[1] if len(output) == 2 else None
        if isinstance(gates, torch.Tensor) and gates.ndim == 2:
            return _with_gates(output[0], gates)
        return output[0]
    keys = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise UserError(
        f"the network returns a {type(output).__name__}{keys}: need logits (B, K, H, W), a dict "
        'that holds them as "out", or a tuple that begins with them'
    )


def probs_of(logits: torch.Tensor, task: str) -> torch.Tensor:
    """Logits (B, K, H, W) to probabilities of the same channels in float32."""
    logits = logits.float()
    return logits.softmax(1) if task == "multiclass" else logits.sigmoid()


def _with_gates(masks: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    planes = gates[:, :, None, None].expand(-1, -1, *masks.shape[-2:]).to(masks.dtype)
    return torch.cat([masks, planes], 1)
