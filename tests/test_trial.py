"""Networks are tried before images are read: what runs, and what is refused in one line."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from conftest import Competition
from core.errors import UserError
from Lightning_trainer import main
from model_dispatcher import MODELS, build_model
from networks.outputs import logits_of
from networks.smp import on_meta
from tiny_net import TinyNet
from trained import finished, told
from training.trial import try_network


def attempt(name: str, *, size: tuple[int, int] = (64, 96), batch: int = 2, crops: bool = False):
    try_network(name, channels=3, outputs=2, gates=0, size=size, batch=batch, crops=crops)


@pytest.mark.parametrize(
    "name",
    [
        "smp_unet_tu-swin_tiny_patch4_window7_224",
        "smp_unet_tu-coatnet_nano_rw_224",
        "smp_dpt_tu-vit_small_patch14_dinov2",
        "smp_dpt_tu-mobilevitv2_050",
        "smp_unet_timm-regnetx_002",
        "smp_unet_timm-mobilenetv3_small_075",
    ],
)
def test_encoders_of_one_size_or_patch_run_at_any(name: str) -> None:
    attempt(name)
    with torch.inference_mode():
        model = on_meta(partial(build_model, name, classes=2, size=(70, 101))).eval()
        image = torch.zeros(1, 3, 70, 101, device=next(model.parameters()).device)
        assert tuple(model(image).shape) == (1, 2, 70, 101)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("smp_deeplabv3_tu-swin_tiny_patch4_window7_224", ["cannot", "MODEL_NAME"]),
        ("smp_unet_tu-vit_tiny_patch16_224", ["cannot be built", "MODEL_NAME"]),
        ("smp_dpt_resnet18", ["cannot be built", "tu-"]),
        ("smp_unet_tu-resnet81", ["timm has no resnet81", "Did you mean"]),
    ],
)
def test_a_pair_that_does_not_fit_is_one_true_line(name: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        attempt(name)
    line = str(caught.value)
    assert "\n" not in line
    assert "offline" not in line
    assert all(part in line for part in parts), line


def test_an_encoder_of_one_size_cannot_predict_whole_images() -> None:
    with pytest.raises(UserError, match="RESIZE_MODE=crop predicts whole images"):
        attempt("smp_unet_tu-coatnet_nano_rw_224", crops=True)


def test_an_encoder_of_one_size_cannot_be_trained_at_several() -> None:
    name, how = "smp_unet_tu-coatnet_nano_rw_224", {"channels": 3, "outputs": 2, "gates": 0}
    sized = {"size": (64, 96), "batch": 2, "crops": False}
    with pytest.raises(UserError, match=r"TRAIN_SCALES: .* on images of 32 x 64 pixels beside "):
        try_network(name, **how, **sized, scales=(0.6, 1.4))
    try_network("smp_unet_resnet18", **how, **sized, scales=(0.6, 1.4))


@pytest.mark.parametrize("name", ["smp_deeplabv3plus_resnet18", "smp_linknet_resnet18"])
def test_one_image_a_step_where_batchnorm_needs_two(name: str) -> None:
    with pytest.raises(UserError, match="Need TRAIN_BATCH_SIZE=2 or more"):
        attempt(name, size=(32, 32), batch=1)
    attempt(name, size=(32, 32), batch=2)


class Foreign(nn.Module):
    """Half a resolution less than asked, or logits wrapped up in some way."""

    def __init__(self, wrap: Any, *, classes: int = 1, **_: Any):
        super().__init__()
        self.head, self.wrap = nn.Conv2d(3, classes, 1), wrap

    def forward(self, image: torch.Tensor) -> Any:
        return self.wrap(self.head(image))


WRAPS = {
    "dict": lambda logits: {"out": logits, "aux": logits[:, :1]},
    "tuple": lambda logits: (logits, logits[..., ::2, ::2]),
    "tensor": lambda logits: logits,
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_foreign_networks_train(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, wrap: str
) -> None:
    monkeypatch.setitem(MODELS, "foreign", lambda **kw: Foreign(WRAPS[wrap], **kw))
    flags = ("--fold", "0", "--epochs", "1", "--model-name", "foreign")
    assert main(competition.flags(*flags)) == 0
    assert finished(competition)["steps"] == 3


@pytest.mark.parametrize(
    ("wrap", "parts"),
    [
        (lambda logits: {"logits": logits}, ["dict with logits", '"out"']),
        (lambda logits: None, ["NoneType", "need logits (B, K, H, W)"]),
        (lambda logits: logits[..., ::2, ::2], ["(1, 1, 32, 32), need (1, 1, 64, 64)"]),
    ],
)
def test_what_is_no_logits_is_told_before_images_are_read(
    competition: Competition,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrap: Any,
    parts: list[str],
) -> None:
    monkeypatch.setitem(MODELS, "foreign", lambda **kw: Foreign(wrap, **kw))
    unread(competition)
    assert main(competition.flags("--model-name", "foreign")) == 2
    out = told(capsys)
    assert all(part in out for part in parts), out


def test_gates_follow_the_masks() -> None:
    masks, gates = torch.rand(2, 3, 4, 5), torch.rand(2, 3)
    logits = logits_of((masks, gates))
    assert torch.equal(logits[:, :3], masks)
    assert torch.equal(logits[:, 3:], gates[:, :, None, None].expand(2, 3, 4, 5))


# ---------------------------------------------------------------- the machine


def unread(competition: Competition) -> None:
    """Makes every image one that cannot be read: reading it would be told instead."""
    for path in (competition.input / "train_hq").iterdir():
        Path(path).write_bytes(b"not an image")


@pytest.mark.parametrize(
    "words",
    [
        ("--accelerator", "abacus"),
        ("--strategy", "abacus"),
        ("--accelerator", "tpu"),
        ("--model-name", "smp_deeplabv3plus_resnet18", "--train-batch-size", "1"),
    ],
    ids=" ".join,
)
def test_what_cannot_train_here_is_told_before_images_are_read(
    competition: Competition,
    tiny_net: type,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    unread(competition)
    assert main(competition.flags(*words)) == 2
    out = told(capsys)
    assert "error:" in out
    assert "Traceback" not in out
    assert "not an image" not in out
    assert "pairs" not in out


def test_all_devices_of_a_cpu_are_one(competition: Competition, tiny_net: type) -> None:
    assert tiny_net is TinyNet
    assert main(competition.flags("--fold", "0", "--epochs", "1", "--devices", "-1")) == 0
    assert finished(competition)["steps"] == 3


def test_a_cpu_has_no_more_devices_than_cores(
    competition: Competition, tiny_net: type, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags("--fold", "0", "--devices", "4096")) == 2
    assert "error: DEVICES: of a CPU they are processes, got 4096, need " in capsys.readouterr().err
