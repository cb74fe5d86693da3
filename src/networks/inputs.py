"""What networks are given: normalised images."""

import torch


def normalise(
    image: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, bits: int
) -> torch.Tensor:
    """(B, C, H, W) integers of that many bits to floats of `std`'s type, about 0.

    Args:
        mean, std: (1, C, 1, 1) of values scaled to 0-1.
    """
    scaled = image.float() / (2**bits - 1)
    scaled = (scaled - mean) / std
    # Weights of 16-true and bf16-true take their own type only.
    return scaled.to(std.dtype)
