"""How a network is trained, as its module is told."""

from dataclasses import dataclass

# Of the decoder's stages, all together, beside the last: what geo-deep-learning has.
SIDE_WEIGHT = 0.4


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; rates, shares and names as in config.py."""

    loss: str = "bce+dice"
    metric: str = "dice"
    lr: float = 1e-3
    encoder_lr_factor: float = 0.3  # of a pretrained one
    layer_decay: float = 1.0
    weight_decay: float = 1e-2
    decay_norms: bool = True
    warmup: float = 0.05
    optimizer: str = "adamw"
    scheduler: str = "cosine"
    threshold: float = 0.5
    # One a class, or "auto", which each fold turns into numbers before it begins.
    class_weights: tuple[float, ...] | str = ()
    deep_supervision: bool | float = False
    mixup: float = 0.0
    train_scales: tuple[float, ...] = ()

    @property
    def weights(self) -> list[float] | None:
        """Weights of the classes in the loss; None where all count alike, or are not known yet."""
        known = self.class_weights and self.class_weights != "auto"
        return list(map(float, self.class_weights)) if known else None

    @property
    def side_weight(self) -> float:
        """Weight of the mean loss of the decoder's stages."""
        return SIDE_WEIGHT if self.deep_supervision is True else float(self.deep_supervision)
