"""A trained network as one function of raw images, for programs that know nothing of this house."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from core.errors import UserError, reason_of
from data.specs import DataSpec
from imaging.geometry import Size
from Lightning_module import SegmentationModule
from networks.inputs import normalise
from networks.outputs import logits_of, probs_of

# Added to the sides that a network was trained on: what it takes besides them. The last is for
# networks that take any.
LARGER = ((0, 0), (32, 64), (13, 7))


class Portable(nn.Module):
    """(B, C, H, W) raw image to probabilities (B, K, H, W), float32.

    The image is as files hold it: 0-255, or 0-65535 with IMAGE_BITS=16.

    Args:
        module: a loaded network; its weights are shared.
    """

    def __init__(self, module: SegmentationModule):
        super().__init__()
        self.model, self.task, self.bits = module.model, module.spec.task, module.spec.bits
        # ONNX names a network's own means of weights, folded to constants, "mean".
        for name in ("mean", "std"):
            self.register_buffer(f"channels_{name}", getattr(module, name))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean, std = self.get_buffer("channels_mean"), self.get_buffer("channels_std")
        return probs_of(logits_of(self.model(normalise(image, mean, std, self.bits))), self.task)


def channel_names(spec: DataSpec) -> list[str]:
    """What each channel of the probabilities is of."""
    names = list(spec.class_names) or [str(k) for k in range(spec.classes)]
    gates = [f"any {name}" for name in names] if spec.gate else []
    return [*names, *(["border"] if spec.border else []), *gates]


@dataclass(frozen=True)
class Export:
    """A network on its way out.

    Attributes:
        module: as it was loaded.
        digest: SHA-256 of the checkpoint that it was loaded from.
    """

    module: SegmentationModule
    digest: str = ""

    @cached_property
    def network(self) -> Portable:
        """What is written."""
        return Portable(self.module).float().eval().requires_grad_(False)

    @cached_property
    def sizes(self) -> list[Size]:
        """(H, W) that it takes: of its training, and others where it is not bound to that."""
        height, width = self.module.spec.size
        tried = [(height + down, width + right) for down, right in LARGER]
        return [size for size in tried if self._takes(size)] or tried[:1]

    @property
    def dynamic(self) -> bool:
        """Whether it takes more than one size."""
        return len(self.sizes) > 1

    @property
    def example(self) -> torch.Tensor:
        """Two images of the oddest size that it takes."""
        return self.image(self.sizes[-1], 2)

    @cached_property
    def program(self) -> Any:
        """The network as torch.export sees it; batch, height and width are open.

        Raises:
            UserError: the network branches on what it is given, or else cannot be traced.
        """
        free = torch.export.Dim.DYNAMIC
        dims = {0: free, **({2: free, 3: free} if self.dynamic else {})}
        try:
            return torch.export.export(
                self.network,
                (self.example,),
                dynamic_shapes=(dims,),
                prefer_deferred_runtime_asserts_over_guards=True,
            )
        except Exception as error:
            raise UserError(
                f"torch.export cannot trace this network: {reason_of(error)}"
            ) from error

    @property
    def about(self) -> str:
        """What goes in and comes out, as JSON: travels inside every file that can carry it."""
        spec = self.module.spec
        shape = "batch, channels, height, width"
        size = "any" if self.dynamic else list(spec.size)
        told = {
            "input": f"image: uint{spec.bits} ({shape}), values as in the files",
            "output": f"probs: float32 ({shape})",
            "size": size,
            "channels": channel_names(spec),
            "network": self.digest,
            "model": self.module.hparams["model_name"],
            "threshold": self.module.recipe.threshold,
            "data": spec.to_dict(),
        }
        return json.dumps(told)

    def image(self, size: Size, count: int) -> torch.Tensor:
        """Noise as files hold it: integers (count, C, H, W), the same at each call."""
        spec = self.module.spec
        noise = torch.Generator().manual_seed(0)
        shape = (count, spec.channels, *size)
        values = torch.randint(0, 2**spec.bits, shape, generator=noise)
        return values.to(torch.uint8 if spec.bits == 8 else torch.uint16)

    @torch.no_grad()
    def _takes(self, size: Size) -> bool:
        try:
            return tuple(self.network(self.image(size, 1)).shape[-2:]) == size
        except Exception:  # whatever a network raises on a size that is not its own
            return False

    @torch.no_grad()
    def gap(self, run: Any, counts: Sequence[int] = (1, 2)) -> float:
        """The largest difference of a function's probabilities from this network's.

        Args:
            run: (B, C, H, W) image to probabilities, an exported file read back.
            counts: images at once, with each of `sizes`.
        """
        gaps = []
        for size in self.sizes:
            for count in counts:
                image = self.image(size, count)
                expected, found = self.module.probs(self.module(image)), run(image)
                if found.shape != expected.shape:
                    return float("inf")
                gaps.append(float((found - expected).abs().max()))
        return max(gaps)

    @cached_property
    def rounding(self) -> float:
        """How far this network in float32 is from itself in float64: what no program can keep."""
        try:
            return self.gap(copy.deepcopy(self.network).double())
        except Exception:  # whatever a network raises that is bound to float32
            return 0.0
