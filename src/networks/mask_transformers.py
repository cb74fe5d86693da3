"""Mask transformers of the optional package transformers: queries say a mask and a class each."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import UserError
from networks.encoder_weights import fit_tensor, read_weights
from networks.padding import padded_side
from networks.smp import offline_error

STRIDE = 32
# Scores are probabilities; their logits stay finite.
EPSILON = 1e-4
# Swin transformers: width, blocks of the four stages, heads, window, and weights of ImageNet.
SWIN: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24]},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
}


class MaskTransformer(nn.Module):
    """Mask2Former as a network of this project: images of any size to logits of classes.

    A class's score at a pixel is the sum over queries of the class's probability times the mask's;
    its logit is handed on. It is trained by the loss it was published with: queries are matched to
    the masks of the classes that an image holds, and classes, masks and Dice are learnt, after each
    layer. There ignored pixels count as outside of every mask.

    Source: Cheng et al. 2022; Carion et al. 2020 (matching).

    Args:
        transformer: of transformers, Mask2FormerForUniversalSegmentation.
    """

    def __init__(self, transformer: Any):
        super().__init__()
        self.transformer = transformer

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        encoder: nn.Module = self.transformer.model.pixel_level_module.encoder
        return encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised image to logits (B, K, H, W)."""
        return self._logits(self.transformer(self._padded(image)), image)

    def own_loss(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of queries, a float32 scalar.

        Args:
            image: as for `forward`.
            target: ids (B, H, W), or masks (B, K, H, W) of {0, 1}; 255 is of no mask.
        """
        masks, classes = [], []
        for one in self._padded(target, fill=255):
            planes, ids = _masks_of(one)
            masks.append(planes.float())
            classes.append(ids)
        with torch.autocast(image.device.type, enabled=False):
            output = self.transformer(self._padded(image), mask_labels=masks, class_labels=classes)
        return output.loss.float()

    def load_file(self, path: Path) -> None:
        """Fills it from a file of transformers' Mask2Former; a head of other classes stays new.

        Raises:
            UserError: the file holds another network.
        """
        target = self.transformer.state_dict()
        source = {
            key: fit_tensor(value, target[key])
            for key, value in read_weights(path).items()
            if key in target
        }
        fits = {key: value for key, value in source.items() if value.shape == target[key].shape}
        if len(fits) < 0.9 * len(target):
            raise UserError(
                f"{path.name}: {len(fits)} of {len(target)} tensors fit. The file must hold the "
                "Mask2Former that MODEL_NAME names, as transformers saves it"
            )
        self.transformer.load_state_dict(fits, strict=False)

    def _padded(self, image: torch.Tensor, fill: float | None = None) -> torch.Tensor:
        height, width = image.shape[-2:]
        ends = [padded_side(side, STRIDE, STRIDE) - side for side in (width, height)]
        if not any(ends):
            return image
        edges = (0, ends[0], 0, ends[1])
        if fill is None:
            return F.pad(image, edges, mode="replicate")
        return F.pad(image, edges, value=fill)

    def _logits(self, output: Any, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        size = self._padded(image[:1, :1]).shape[-2:]
        masks = output.masks_queries_logits.float()
        masks = F.interpolate(masks, size, mode="bilinear", align_corners=False)
        masks = masks[..., :height, :width].sigmoid()
        classes = output.class_queries_logits.float().softmax(-1)[..., :-1]
        scores = torch.einsum("bqk,bqhw->bkhw", classes, masks)
        # Several queries may claim a pixel: the order of the classes stays.
        scores = scores / scores.amax(1, keepdim=True).clamp_min(1)
        return torch.logit(scores, EPSILON)


def _masks_of(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (n, H, W) and classes (n,) that ids (H, W) or masks (K, H, W) of one image hold."""
    if target.ndim == 2:
        classes = target.unique().long()
        classes = classes[classes != 255]
        return classes[:, None, None] == target, classes
    planes = target == 1
    classes = planes.flatten(1).any(1).nonzero()[:, 0]
    return planes[classes], classes


def build_mask2former(
    swin: str,
    *,
    weights: str | None,
    channels: int,
    classes: int,
    **sizes: Any,
) -> MaskTransformer:
    """Mask2Former on a Swin transformer, built without a download.

    Args:
        swin: a key of SWIN.
        weights: "imagenet" downloads the backbone's, None is noise.
        channels: of an image.
        classes: of the logits.
        sizes: of Mask2FormerConfig, and backbone_config: smaller ones for tests.

    Raises:
        UserError: transformers is not installed, or weights that cannot be fetched.
    """
    try:
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
    except ImportError as error:
        raise UserError(
            "mask2former needs the package transformers: pip install transformers"
        ) from error
    backbone = {
        "model_type": "swin",
        "num_channels": channels,
        "out_features": [f"stage{at}" for at in range(1, 5)],
        "drop_path_rate": 0.3,
        **SWIN[swin],
        **sizes.pop("backbone_config", {}),
    }
    options = {"backbone_config": backbone, "num_labels": classes, **sizes}
    config = Mask2FormerConfig(**options)
    model = MaskTransformer(Mask2FormerForUniversalSegmentation(config))
    if weights is not None:
        _fetch(model, f"microsoft/swin-{swin}-patch4-window7-224", weights)
    return model


def _fetch(model: MaskTransformer, name: str, weights: str) -> None:
    from transformers import AutoModel

    try:
        found = AutoModel.from_pretrained(name).state_dict()
    except Exception as error:
        raise offline_error("mask2former", "this Mask2Former", weights, error) from error
    target = model.encoder.state_dict()
    names = {_stem(key): key for key in target}
    known = {names[_stem(key)]: value for key, value in found.items() if _stem(key) in names}
    fits = {key: fit_tensor(value, target[key]) for key, value in known.items()}
    model.encoder.load_state_dict(fits, strict=False)


def _stem(key: str) -> str:
    """A tensor's name without the prefix that a backbone of transformers may have."""
    return key.removeprefix("swin.")
