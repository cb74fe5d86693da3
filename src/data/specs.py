"""What a network must know of its data, and the rows it is trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from competition.mask_source import Row as Row
from core.errors import raise_all
from core.typed import misfits
from imaging.geometry import Size
from imaging.images import PixelRules

# Of what a network sees at once, pixels.
LARGEST_SIDE = 1 << 16


def pairs_of(values: Sequence[float]) -> list[tuple[float, float]]:
    """Low and high, of each channel."""
    return list(zip(values[::2], values[1::2], strict=True))


@dataclass(frozen=True)
class DataSpec(PixelRules):
    """What a network must know of its data; a checkpoint carries it as plain values."""

    task: str = "binary"
    classes: int = 1
    class_names: tuple[str, ...] = ()
    instances: str = "components"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    size: Size = (512, 512)
    resize_mode: str = "stretch"
    # Whether the network also says which classes are in the image at all.
    gate: bool = False
    # Whether stages of the decoder give logits, too, in training.
    sides: bool = False

    @property
    def border(self) -> bool:
        """Whether the channel after the classes is the border between objects."""
        return self.instances == "border"

    @property
    def pixels(self) -> dict[str, Any]:
        """How `read_image` reads an image for the network."""
        return {field.name: getattr(self, field.name) for field in fields(PixelRules)}

    @property
    def outputs(self) -> int:
        """Channels of the logits: the classes, and the border if there is one."""
        return self.classes + self.border

    def to_dict(self) -> dict[str, Any]:
        """Plain values: tuples as lists, so that a checkpoint loads with weights_only=True."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSpec":
        """The inverse of `to_dict`."""
        plain: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
        }
        spec = cls(**plain)
        spec.check()
        return spec

    def check(self) -> None:
        """Makes sure that the values are ones a network can have: a file may claim any.

        Raises:
            UserError: lists those that are not.
        """
        raise_all(misfits(self), "the data of a network is not possible:")
        rules = {
            "task": self.task in ("binary", "multiclass", "multilabel"),
            "classes": 1 <= self.classes <= 254,
            "channels": 1 <= self.channels <= 1024,
            "bits": self.bits in (8, 16),
            "value_range": len(self.value_range) in (0, 2, 2 * self.channels)
            and all(low < high for low, high in pairs_of(self.value_range)),
            "mean": len(self.mean) == self.channels,
            "std": len(self.std) == self.channels and min(self.std, default=0) > 0,
            "size": len(self.size) == 2 and all(1 <= side <= LARGEST_SIDE for side in self.size),
        }
        wrong = [f"{name} {getattr(self, name)!r}" for name, holds in rules.items() if not holds]
        raise_all(wrong, "the data of a network is not possible:")
