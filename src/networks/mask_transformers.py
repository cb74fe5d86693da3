"""Mask transformers of the optional package transformers: queries say a mask and a class each."""

import re
from collections.abc import Mapping, MutableMapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import UserError
from networks.encoder_weights import fit_tensor, read_weights
from networks.padding import cut, is_exported, padded_side
from networks.smp import offline_error

# Scores are probabilities; their logits stay finite.
EPSILON = 1e-4
# Swin transformers: width, blocks of the four stages, heads, window, and weights of ImageNet.
SWIN: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24]},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
}
# What transformers called the parts of Swin before 5.9, as published files still do, to what it
# calls them now.
SWIN_NAMES = {
    r"\.encoder\.swin\.": ".encoder.",
    r"\.attention\.self\.(q|k|v)(?:uery|ey|alue)\.": r".attention.\1_proj.",
    r"\.attention\.self\.relative": ".attention.relative_position_bias.relative",
    r"\.attention\.output\.dense\.": ".attention.o_proj.",
    r"\.intermediate\.dense\.": ".mlp.fc1.",
    r"(\.blocks\.[0-9]+)\.output\.dense\.": r"\1.mlp.fc2.",
}
# What some versions keep in files and no mask depends on: a table that follows from the window's
# size, and the norm of features that are not asked for.
IDLE = re.compile(r"relative_position_index$|\.swin\.layernorm\.")


def swin_name(key: str) -> str:
    """The name of a tensor of Swin in any version of transformers."""
    for pattern, name in SWIN_NAMES.items():
        key = re.sub(pattern, name, key)
    return key


class MaskTransformer(nn.Module):
    """Queries as a network of this project: images of any size to logits of classes.

    A class's score at a pixel is the sum over queries of the class's probability times the mask's;
    its logit is handed on. It is trained by the loss it was published with: queries are matched to
    the masks of the classes that an image holds, and classes, masks and Dice are learnt, after each
    layer. There ignored pixels count as outside of every mask.

    Source: Carion et al. 2020 (matching); Cheng et al. 2022.

    Args:
        transformer: of transformers, one ForUniversalSegmentation.
    """

    # Sides of the image that it takes divide by it, pixels.
    stride = 32

    def __init__(self, transformer: Any):
        super().__init__()
        self.transformer = transformer

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        raise NotImplementedError

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised image to logits (B, K, H, W)."""
        return self._logits(self.run(self._padded(image)), image)

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
            output = self.run(self._padded(image), mask_labels=masks, class_labels=classes)
        return output.loss.float()

    def run(self, image: torch.Tensor, **labels: Any) -> Any:
        """What the transformer says of an image whose sides it takes."""
        return self.transformer(image, **labels)

    def renamed(self, source: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors of a file by the names that the transformer has."""
        return dict(source)

    def load_file(self, path: Path) -> None:
        """Fills it from a file that transformers wrote; a head of other classes stays new.

        Raises:
            UserError: the file holds another network.
        """
        self.take(read_weights(path), path.name)

    def take(self, source: Mapping[str, torch.Tensor], name: str) -> None:
        """Fills it with the tensors of a file, which must hold its backbone.

        Raises:
            UserError: they do not fit.
        """
        target = self.transformer.state_dict()
        known = {key: value for key, value in self.renamed(source).items() if key in target}
        fitted = {key: fit_tensor(value, target[key]) for key, value in known.items()}
        fits = {key: value for key, value in fitted.items() if value.shape == target[key].shape}
        held = {value.data_ptr() for value in self.encoder.state_dict().values()}
        backbone = [key for key, value in target.items() if value.data_ptr() in held]
        count = sum(key in fits for key in backbone)
        if count < 0.9 * len(backbone):
            raise UserError(
                f"{name}: {count} of {len(backbone)} tensors of the backbone fit. The file must "
                "hold the network that MODEL_NAME names, or its backbone, as transformers saves it"
            )
        self.transformer.load_state_dict(fits, strict=False)

    def _padded(self, image: torch.Tensor, fill: float | None = None) -> torch.Tensor:
        height, width = image.shape[-2:]
        ends = [padded_side(side, self.stride, self.stride) - side for side in (width, height)]
        if not is_exported() and not any(ends):
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
        masks = cut(masks, height, width).sigmoid()
        classes = output.class_queries_logits.float().softmax(-1)[..., :-1]
        scores = torch.einsum("bqk,bqhw->bkhw", classes, masks)
        # Several queries may claim a pixel: the order of the classes stays.
        scores = scores / scores.amax(1, keepdim=True).clamp_min(1)
        return torch.logit(scores, EPSILON)


class Mask2Former(MaskTransformer):
    """Mask2Former, see the base; its files fit every version of transformers from 5 on.

    Source: Cheng et al. 2022.

    Args:
        transformer: of transformers, Mask2FormerForUniversalSegmentation.
    """

    # torch.export follows each of Swin's windows, and each point that its decoder looks at.
    traced_in_minutes = True

    def __init__(self, transformer: Any):
        super().__init__(transformer)
        self.register_load_state_dict_pre_hook(rename_saved)

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        encoder: nn.Module = self.transformer.model.pixel_level_module.encoder
        return encoder

    def renamed(self, source: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors of a file by the names of Mask2Former here: its own, or those of Swin alone."""
        whole = any(key.startswith("model.") for key in source)
        place = "" if whole else "model.pixel_level_module.encoder."
        here = {swin_name(key): key for key in self.transformer.state_dict()}
        files = {place + key.removeprefix("swin."): value for key, value in source.items()}
        return {here.get(swin_name(key), key): value for key, value in files.items()}


def rename_saved(
    model: Mask2Former, state: MutableMapping[str, torch.Tensor], prefix: str, *_: Any
) -> None:
    """Gives what another version of transformers has saved the names that it has here.

    Args:
        model: that is about to be filled.
        state: to fill it with, changed in place.
        prefix: of the model's own names there.
    """
    place, here = f"{prefix}transformer.", model.transformer.state_dict()
    saved = {key: state.pop(key) for key in [*state] if key.startswith(place)}
    named = model.renamed({key.removeprefix(place): value for key, value in saved.items()})
    idle = {key: value for key, value in here.items() if IDLE.search(key)}
    kept = {key: value for key, value in named.items() if not IDLE.search(key)}
    state.update({place + key: value for key, value in (kept | idle).items()})


def _masks_of(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (n, H, W) and classes (n,) that ids (H, W) or masks (K, H, W) of one image hold."""
    if target.ndim == 2:
        classes = target.unique().long()
        classes = classes[classes != 255]
        return classes[:, None, None] == target, classes
    planes = target == 1
    classes = planes.flatten(1).any(1).nonzero()[:, 0]
    return planes[classes], classes


def lacking(name: str) -> UserError:
    """The error of a network whose package is missing here, or too old for it."""
    try:
        here = f", got {version('transformers')}"
    except PackageNotFoundError:
        here = ""
    return UserError(
        f"{name} needs the package transformers, 5 or later{here}: pip install -U transformers"
    )


def build_mask2former(
    swin: str,
    *,
    weights: str | None,
    channels: int,
    classes: int,
    **sizes: Any,
) -> Mask2Former:
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
        raise lacking("mask2former") from error
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
    model = Mask2Former(Mask2FormerForUniversalSegmentation(config))
    if weights is not None:
        fetch(model, f"microsoft/swin-{swin}-patch4-window7-224", weights)
    return model


def fetch(model: MaskTransformer, name: str, weights: str) -> None:
    """Fills a backbone with weights that transformers downloads.

    Raises:
        UserError: they cannot be had, or do not fit.
    """
    from transformers import AutoModel

    try:
        found = AutoModel.from_pretrained(name).state_dict()
    except Exception as error:
        kind = type(model).__name__
        raise offline_error(kind, f"this {kind}", weights, error) from error
    model.take(found, name)
