"""MODELS: every row builds and keeps the contract; weights from files; what is told when not."""

import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from conftest import SRC, run_python
from core.errors import UserError
from model_dispatcher import MODELS, build_model, encoder_of
from networks.padding import PaddedModel
from tiny_net import TinyNet

ORIGINAL_ENCODERS = """
resnet34 resnet50 resnext50_32x4d se_resnext50_32x4d
efficientnet-b4 efficientnet-b7 timm-efficientnet-b5
"""
ORIGINAL_KEYS = [f"smp_unet_{encoder}" for encoder in ORIGINAL_ENCODERS.split()]
# They ask for the value of a number while they are built, which needs real memory.
REAL = {name for name in MODELS if "segformer" in name}
# As small ones they are tried in test_mask_transformers.py.
ROWS = [name for name in MODELS if not name.startswith(("mask2former", "eomt"))]
SMALL = "smp_unet_resnet18"


def device_of(name: str) -> torch.device:
    """meta: shapes and names of a network without its memory or a forward's time."""
    return torch.device("cpu" if name in REAL else "meta")


# ---------------------------------------------------------------- contract


def test_original_keys_are_there() -> None:
    assert [name for name in ORIGINAL_KEYS if name not in MODELS] == []


@pytest.mark.parametrize("name", ROWS)
def test_every_row_maps_images_of_any_size_to_logits(name: str) -> None:
    with device_of(name), torch.inference_mode():
        model = build_model(name, channels=5, classes=4).eval()
        for size in ((64, 64), (70, 101), (33, 32)):
            assert tuple(model(torch.zeros(2, 5, *size)).shape) == (2, 4, *size)
    # The encoder is what a smaller rate and loaded weights go to; a network need not have one.
    encoder = encoder_of(model)
    if encoder is not None:
        assert 0 < len(list(encoder.parameters())) < len(list(model.parameters()))
    gc.collect()


@pytest.mark.parametrize("name", [SMALL, "smp_fpn_resnet18", "smp_pan_resnet18"])
def test_logits_are_raw_and_finite(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name).eval()
    with torch.inference_mode():
        logits = model(50 * torch.randn(2, 3, 64, 64))
    assert logits.isfinite().all()
    # Neither a sigmoid nor a softmax: values on both sides of 0 or above 1.
    assert logits.min() < 0 or logits.max() > 1


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (5, 129)])
def test_padding_repeats_the_edge_and_is_cut_off(size: tuple[int, int]) -> None:
    shapes = []

    class Same(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            shapes.append(image.shape[-2:])
            assert torch.equal(image[..., -1, :], image[..., size[0] - 1, :])
            return image

    image = torch.rand(2, 3, *size)
    assert torch.equal(PaddedModel(Same(), stride=32, smallest=64)(image), image)
    assert all(side % 32 == 0 and side >= 64 for side in shapes[0])


def test_parameters_of_the_default() -> None:
    with torch.device("meta"):
        model = build_model("smp_unet_resnet34")
    assert sum(parameter.numel() for parameter in model.parameters()) == 24_436_369


def test_two_builds_share_nothing() -> None:
    one, two = (build_model(SMALL) for _ in range(2))
    addresses = [{p.data_ptr() for p in model.parameters()} for model in (one, two)]
    assert not addresses[0] & addresses[1]
    (name, first), *_ = [(n, p) for n, p in one.named_parameters() if "decoder" in n and p.ndim > 1]
    assert not torch.equal(first, dict(two.named_parameters())[name])


def test_import_builds_and_loads_nothing_heavy() -> None:
    probe = (
        "import sys, model_dispatcher, torch\n"
        "print([m for m in ('segmentation_models_pytorch', 'timm') if m in sys.modules])\n"
        "rows = model_dispatcher.MODELS.values()\n"
        "print([row for row in rows if isinstance(row, torch.nn.Module)])"
    )
    assert run_python("-c", probe, PYTHONPATH=str(SRC)).stdout.split() == ["[]", "[]"]


def test_an_own_row_trains_a_step(tiny_net: type) -> None:
    model = build_model("tiny", channels=2, classes=3)
    assert isinstance(model, TinyNet)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = [parameter.clone() for parameter in model.parameters()]
    logits = model(torch.randn(2, 2, 64, 64))
    torch.nn.functional.cross_entropy(logits, torch.randint(3, (2, 64, 64))).backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) >= 4


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("smp_unet_resnet43", "resnet34"),
        ("smp_unet_resnet3", "Did you mean"),
        ("smp_unett_resnet34", "Did you mean smp_unet_resnet34"),
        ("unet", "smp_<architecture>_<encoder>"),
        ("", "smp_unet_resnet34"),
    ],
)
def test_unknown_names_list_the_known(name: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        build_model(name)
    assert told in str(caught.value)


# ---------------------------------------------------------------- weights


@pytest.fixture(scope="module")
def encoder_weights() -> dict[str, torch.Tensor]:
    """Weights of a ResNet-18 encoder with SMP's keys and the classifier of timm's files."""
    torch.manual_seed(1)
    state = {k: v.clone() for k, v in encoder_of(build_model(SMALL)).state_dict().items()}
    return {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def same_encoder(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    state = encoder_of(model).state_dict()
    return all(torch.equal(value, weights[key]) for key, value in state.items())


KEYS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "smp network": lambda key: f"encoder.{key}",
    "data parallel": lambda key: f"module.{key}",
    "universal": lambda key: f"model.{key}",
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keys", KEYS)
def test_local_weights(
    tmp_path: Path, encoder_weights: dict[str, torch.Tensor], keys: str, suffix: str
) -> None:
    state = {KEYS[keys](key): value for key, value in encoder_weights.items()}
    if keys == "smp network":
        state |= {"decoder.x.weight": torch.zeros(3), "segmentation_head.0.bias": torch.zeros(1)}
    path = tmp_path / f"net{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    model = build_model(SMALL, weights=str(path))
    assert same_encoder(model, encoder_weights)


def test_a_state_dict_inside_a_checkpoint(
    tmp_path: Path, encoder_weights: dict[str, torch.Tensor]
) -> None:
    torch.save({"state_dict": encoder_weights, "epoch": 3}, tmp_path / "net.pth")
    assert same_encoder(build_model(SMALL, weights=str(tmp_path / "net.pth")), encoder_weights)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_channels_reuse_the_first_convolution(
    tmp_path: Path, encoder_weights: dict[str, torch.Tensor], channels: int
) -> None:
    torch.save(encoder_weights, tmp_path / "net.pth")
    model = build_model(SMALL, weights=str(tmp_path / "net.pth"), channels=channels).eval()
    state = encoder_of(model).state_dict()
    assert state["conv1.weight"].shape[1] == channels
    assert torch.equal(state["layer4.0.conv1.weight"], encoder_weights["layer4.0.conv1.weight"])
    # Grey shown in every channel excites it as the grey RGB image did.
    stem, old = state["conv1.weight"], encoder_weights["conv1.weight"]
    assert torch.allclose(stem.sum(1), old.sum(1), atol=1e-4) or channels in (2, 4)
    assert stem.abs().sum((0, 2, 3)).min() > 0


@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_timms_own_files_load_through_its_encoders(tmp_path: Path, encoder: str) -> None:
    import timm

    torch.manual_seed(2)
    net = timm.create_model(encoder, pretrained=False)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    model = build_model(f"smp_unet_tu-{encoder}", weights=str(tmp_path / "model.safetensors"))
    given = {value.sum().item() for value in net.state_dict().values() if value.ndim == 4}
    taken = [v.sum().item() for v in encoder_of(model).state_dict().values() if v.ndim == 4]
    assert len(taken) > 10
    assert set(taken) <= given


def test_wrong_files_are_told(tmp_path: Path, encoder_weights: dict[str, torch.Tensor]) -> None:
    torch.save({k: v for k, v in encoder_weights.items() if "layer4" not in k}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth.*missing.*layer4.*MODEL_NAME"):
        build_model(SMALL, weights=str(tmp_path / "a.pth"))
    torch.save(encoder_weights, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"b\.pth.*MODEL_NAME"):
        build_model("smp_unet_resnet34", weights=str(tmp_path / "b.pth"))
    (tmp_path / "c.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"c\.pth cannot be read"):
        build_model(SMALL, weights=str(tmp_path / "c.pth"))
    (tmp_path / "d.pth").write_bytes(pickle.dumps({"model": TinyNet}, protocol=2))
    with pytest.raises(UserError, match=r"d\.pth"):
        build_model(SMALL, weights=str(tmp_path / "d.pth"))
    with pytest.raises(UserError, match=r"no file .*none\.pth"):
        build_model(SMALL, weights=str(tmp_path / "none.pth"))


def test_a_blocked_network_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch as smp

    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nmore lines")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", offline)
    monkeypatch.setattr(smp.encoders, "load_url", offline, raising=False)
    with pytest.raises(UserError) as caught:
        build_model(SMALL, weights="imagenet")
    told = str(caught.value)
    assert "\n" not in told
    for part in (SMALL, "imagenet", "connect", "offline", "ENCODER_WEIGHTS", ".safetensors"):
        assert part in told


def test_none_and_files_ask_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder_weights: dict[str, torch.Tensor]
) -> None:
    import socket

    def blocked(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    torch.save(encoder_weights, tmp_path / "net.pth")
    build_model(SMALL)
    build_model(SMALL, weights=str(tmp_path / "net.pth"))
