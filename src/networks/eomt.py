"""EoMT of the optional package transformers: a plain transformer whose last blocks hold queries."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from networks.encoder_weights import fit_tensor
from networks.mask_transformers import MaskTransformer, fetch, lacking
from networks.padding import is_exported

# DINOv2's sizes, and how many of the last blocks hold queries.
VITS: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24},
}
BLOCKS = {"small": 3, "base": 3, "large": 4}
PATCH = 16
# Patches along a side of the grid that positions are learnt for, if no size is known.
GRID = 32
# What files of DINOv2 call the parts of EoMT.
NAMES = {
    r"^encoder\.layer\.": "layers.",
    r"\.attention\.attention\.": ".attention.",
    r"\.attention\.(output\.dense|o_proj)\.": ".attention.out_proj.",
    r"\.attention\.query\.": ".attention.q_proj.",
    r"\.attention\.key\.": ".attention.k_proj.",
    r"\.attention\.value\.": ".attention.v_proj.",
}


class GridPositions(nn.Embedding):
    """Positions of a square grid of patches, brought to the grid that an image has.

    Args:
        side: patches along the square.
        width: values of a position.
    """

    def __init__(self, side: int, width: int):
        super().__init__(side * side, width)
        self.grid = (side, side)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(1, patches of `grid`, width); all of them, whatever the ids are."""
        side = math.isqrt(self.num_embeddings)
        if not is_exported() and self.grid == (side, side):
            return super().forward(ids)
        planes = self.weight.T.reshape(1, -1, side, side)
        fitted = F.interpolate(planes, self.grid, mode="bicubic", align_corners=False)
        return fitted.flatten(2).transpose(1, 2)


def keep_shares(transformer: nn.Module, *_: Any) -> None:
    """Makes the shares of queries that a block masks plain numbers, of what a file said.

    A block branches on its share; of a tensor's value no exporter can.
    """
    shares = dict(transformer.named_buffers(recurse=False))["attn_mask_probs"].tolist()
    object.__setattr__(transformer, "attn_mask_probs", shares)  # beside the buffer, which is saved


class EncoderOnlyTransformer(MaskTransformer):
    """EoMT as a network of this project, see MaskTransformer.

    In its last blocks a query attends to the patches of its own mask alone, in training and after
    it: what the paper does to leave that out in the end is not done.

    Source: Kerssies et al. 2025.

    Args:
        transformer: of transformers, EomtForUniversalSegmentation.
    """

    stride = PATCH

    def __init__(self, transformer: Any):
        super().__init__(transformer)
        known = transformer.embeddings.position_embeddings.weight
        positions = GridPositions(math.isqrt(len(known)), known.shape[1])
        positions.weight = known
        transformer.embeddings.position_embeddings = positions
        keep_shares(transformer)
        transformer.register_load_state_dict_post_hook(keep_shares)

    @property
    def encoder(self) -> nn.Module:
        """Patches, positions and blocks."""
        inner: Any = self.transformer
        return nn.ModuleList([inner.embeddings, inner.layers, inner.layernorm])

    def run(self, image: torch.Tensor, **labels: Any) -> Any:
        grid = (image.shape[-2] // PATCH, image.shape[-1] // PATCH)
        self.transformer.grid_size = self.transformer.embeddings.position_embeddings.grid = grid
        return super().run(image, **labels)

    def renamed(self, source: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors of a file by the names of EoMT: its own, or those of DINOv2 with registers."""
        if "embeddings.position_embeddings" not in source:
            return dict(source)
        found = {}
        for key, value in source.items():
            for pattern, name in NAMES.items():
                key = re.sub(pattern, name, key)
            found[key] = value
        # There the class token has a position, too; it is the same at every size.
        count, width = self.transformer.embeddings.position_embeddings.weight.shape
        positions = found.pop("embeddings.position_embeddings")
        whole = fit_tensor(positions, torch.empty(1, 1 + count, width))
        found["embeddings.position_embeddings.weight"] = whole[0, 1:]
        found["embeddings.cls_token"] = found["embeddings.cls_token"] + whole[:, :1]
        return found


def build_eomt(
    vit: str,
    *,
    weights: str | None,
    channels: int,
    classes: int,
    size: tuple[int, int] | None = None,
    **sizes: Any,
) -> EncoderOnlyTransformer:
    """EoMT on a plain transformer of DINOv2's size, built without a download.

    Args:
        vit: a key of VITS.
        weights: "imagenet" downloads DINOv2's with registers, None is noise.
        channels: of an image.
        classes: of the logits.
        size: (H, W) of its images; positions are learnt for a square of their longer side.
        sizes: of EomtConfig: smaller ones for tests.

    Raises:
        UserError: transformers is not installed, or weights that cannot be fetched.
    """
    try:
        from transformers import EomtConfig, EomtForUniversalSegmentation
    except ImportError as error:
        raise lacking("eomt") from error
    grid = GRID if size is None else math.ceil(max(size) / PATCH)
    options: dict[str, Any] = {
        **VITS[vit],
        "num_blocks": BLOCKS[vit],
        "num_queries": 100,
        "num_channels": channels,
        "num_labels": classes,
        "image_size": grid * PATCH,
        "patch_size": PATCH,
        **sizes,
    }
    model = EncoderOnlyTransformer(EomtForUniversalSegmentation(EomtConfig(**options)))
    if weights is not None:
        fetch(model, f"facebook/dinov2-with-registers-{vit}", weights)
    return model
