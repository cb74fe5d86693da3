"""Any backbone under a decoder, attention in it, and heads at its stages."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from conftest import Competition
from core.errors import UserError
from Lightning_module import Recipe, build_module, load_module
from Lightning_trainer import main
from model_dispatcher import MODELS, build_model, encoder_of
from networks.attention import AdditiveGate
from networks.decoders import unetify
from networks.encoders import Pyramid, SimplePyramid
from networks.smp import ARCHITECTURES
from toys import spec_of
from trained import fold_of


class Stages(nn.Module):
    """Three stages at strides 4, 8 and 16, and one map more of the last."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 4, stride=4)
        self.more = nn.ModuleList(nn.Conv2d(8, 8, 2, stride=2) for _ in range(2))
        self.last = nn.Conv2d(8, 12, 1)

    def forward(self, image: torch.Tensor) -> Any:
        maps = [self.stem(image)]
        for stage in self.more:
            maps.append(stage(maps[-1]))
        return {f"c{at}": one for at, one in enumerate([*maps, self.last(maps[-1])])}


# ---------------------------------------------------------------- own backbones


def test_maps_are_found_by_stride_and_missing_ones_made() -> None:
    pyramid = Pyramid(Stages(), 3).eval()
    image = torch.rand(2, 3, 64, 96)
    maps = pyramid(image)
    assert [one.shape[1] for one in maps] == pyramid.out_channels
    assert [tuple(one.shape[-2:]) for one in maps[1:]] == [
        (64 // s, 96 // s) for s in (2, 4, 8, 16, 32)
    ]
    given = pyramid.backbone(image)
    for made, name in zip(maps[2:5], ("c0", "c1", "c3"), strict=True):
        assert torch.equal(made, given[name])


def test_an_own_backbone_is_a_row_of_three_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "mine", lambda **kw: unetify(Stages(kw["channels"]), **kw))
    model = build_model("mine", channels=4, classes=3)
    logits = model(torch.rand(2, 4, 70, 64))
    assert tuple(logits.shape) == (2, 3, 70, 64)
    logits.square().mean().backward()
    # Every weight that its maps depend on learns, and it is what the smaller rate goes to.
    encoder = encoder_of(model)
    assert isinstance(encoder, Pyramid)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    with pytest.raises(UserError, match=r"Stages has no imagenet weights.*none"):
        build_model("mine", channels=4, classes=3, weights="imagenet")


@pytest.mark.parametrize(
    ("backbone", "told"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 16, stride=16)), "strides 16: .*two or more.*SimplePyramid"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), "strides none"),
        (nn.Conv2d(4, 8, 3), "does not run on an image of 3 channels"),
    ],
)
def test_a_backbone_without_a_pyramid_is_told(backbone: nn.Module, told: str) -> None:
    with pytest.raises(UserError, match=told):
        unetify(backbone, channels=3, classes=1)


@pytest.mark.parametrize("stride", [8, 16])
def test_one_map_becomes_a_pyramid(stride: int) -> None:
    plain = SimplePyramid(nn.Conv2d(3, 12, stride, stride=stride), channels=12, stride=stride)
    model = unetify(plain, channels=3, classes=2, decoder="fpn")
    logits = model(torch.rand(2, 3, 64, 64))
    assert tuple(logits.shape) == (2, 2, 64, 64)
    logits.square().mean().backward()
    assert plain.body.weight.grad.abs().sum() > 0
    assert [one.shape[-1] for one in plain(torch.rand(1, 3, 64, 64))] == [16, 8, 4, 2]


@pytest.mark.parametrize("decoder", sorted(set(ARCHITECTURES) - {"dpt", "segformer"}))
def test_every_decoder_takes_an_own_backbone(decoder: str) -> None:
    with torch.inference_mode():
        model = unetify(Stages(), channels=3, classes=2, decoder=decoder).eval()
        assert tuple(model(torch.rand(1, 3, 96, 70)).shape) == (1, 2, 96, 70)


# ---------------------------------------------------------------- backbones of timm

# Convolutions, windows, channels last, plain transformers with 14 pixels a patch, and without
# positions, one size only, stages that are no power of two of the image.
TIMM = """resnet18 convnext_atto swin_tiny_patch4_window7_224 vit_tiny_patch16_224 vgg11
inception_v3 vit_small_patch14_dinov2 vit_small_patch16_dinov3 convnext_tiny.dinov3_lvd1689m
hiera_tiny_224 mixer_s16_224 fpn_vit_tiny_patch16_224 unet_gated_resnet18"""


@pytest.mark.parametrize("name", TIMM.split())
def test_any_backbone_of_timm(name: str) -> None:
    with torch.device("meta"), torch.inference_mode():
        model = build_model(f"unetify_{name}", channels=4, classes=2, size=(96, 70)).eval()
        assert tuple(model(torch.zeros(1, 4, 96, 70)).shape) == (1, 2, 96, 70)
    encoder = encoder_of(model)
    assert 0 < len(list(encoder.parameters())) < len(list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("unetify_resnet43", "timm has no resnet43.*Did you mean"),
        ("unetify_dpt_resnet18", "smp_dpt_tu-<name>"),
    ],
)
def test_wrong_backbones_are_told(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        build_model(name)


def test_files_of_transformers_fit_another_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 14 pixels a patch fills a network of 16: all but two tensors as they are."""
    import timm

    torch.manual_seed(0)
    options = {"depth": 3, "img_size": 28 * 4, "patch_size": 14}
    net = timm.create_model("vit_tiny_patch16_224", **options)
    save_file(net.state_dict(), tmp_path / "vit.safetensors")
    with monkeypatch.context() as patch:
        create = timm.create_model
        own = {"depth": 3, "img_size": 96}
        patch.setattr(timm, "create_model", lambda name, **kw: create(name, **{**kw, **own}))
        model = build_model(
            "unetify_vit_tiny_patch16_224", weights=str(tmp_path / "vit.safetensors")
        )
    taken, given = encoder_of(model).backbone.body.model.state_dict(), net.state_dict()
    other = [key for key in taken if not torch.equal(taken[key], given.get(key, torch.empty(0)))]
    assert sorted(other) == ["patch_embed.proj.weight", "pos_embed"]
    assert tuple(taken["pos_embed"].shape) == (1, 1 + 6 * 6, 192)
    # The class token is where it was.
    assert torch.equal(taken["pos_embed"][:, 0], given["pos_embed"][:, 0])
    # What a flat patch excites stays: sums over it are those of the smaller patch.
    flat = [w["patch_embed.proj.weight"].sum((1, 2, 3)) for w in (taken, given)]
    assert torch.corrcoef(torch.stack(flat))[0, 1] > 0.99


# ---------------------------------------------------------------- attention


def test_an_additive_gate_is_its_formula() -> None:
    torch.manual_seed(1)
    gate = AdditiveGate(5, 16).eval()
    features = torch.randn(2, 21, 4, 4)
    coarse, skip = features[:, :5].numpy(), features[:, 5:].numpy()

    def conv(layer: nn.Sequential, values: np.ndarray) -> np.ndarray:
        weight, bias = (p.detach().numpy() for p in (layer[0].weight, layer[0].bias))
        summed = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], values) + bias[:, None, None]
        return summed / np.sqrt(1 + layer[1].eps)

    inner = np.maximum(conv(gate.of_coarse, coarse) + conv(gate.of_skip, skip), 0)
    weight = 1 / (1 + np.exp(-conv(gate.weight, inner)))
    expected = np.concatenate([coarse, skip * weight], 1)
    np.testing.assert_allclose(gate(features).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["gated", "cbam", "scse"])
def test_attention_learns_and_has_its_place(kind: str) -> None:
    plain, model = (build_model(f"smp_unet{part}_resnet18") for part in ("", f"_{kind}"))
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    names = dict(plain.named_parameters())
    more = [(name, p) for name, p in model.named_parameters() if name not in names]
    assert {name.split(".")[3] for name, _ in more} == set("0123" if kind == "gated" else "01234")
    # SMP's scSE has a part in the last block, too, that nothing asks.
    assert all(p.grad is not None for name, p in more if "4.attention1" not in name)


# ---------------------------------------------------------------- deep supervision

SMALL = "smp_unet_mobilenet_v2"


@pytest.mark.parametrize("decoder", [name for name in ARCHITECTURES if name != "dpt"])
def test_stages_speak_in_training_and_are_silent_after(decoder: str) -> None:
    name = f"smp_{decoder}_resnet18"
    try:
        model = build_model(name, classes=2, sides=True)
    except UserError as error:
        assert "DEEP_SUPERVISION" in str(error)  # noqa: PT017  some decoders have no stages
        assert decoder in ("pan", "pspnet", "deeplabv3", "deeplabv3plus", "segformer")
        return
    image = torch.rand(2, 3, 70, 64)
    for one in (model, copy.deepcopy(model)):
        logits = one.train()(image)
        assert tuple(logits.shape) == (2, 2 * (1 + len(one.heads)), 70, 64)
        assert len(one.heads) >= 3
    logits[:, 2:].square().mean().backward()
    assert all(head.weight.grad.abs().sum() > 0 for head in one.heads)
    with torch.inference_mode():
        assert tuple(model.eval()(image).shape) == (2, 2, 70, 64)


def deep_module(weight: Any) -> Any:
    torch.manual_seed(0)
    spec = replace(spec_of("multiclass", sides=bool(weight)), size=(64, 64))
    recipe = Recipe(loss="ce", deep_supervision=weight)
    return build_module(SMALL, spec, recipe=recipe, encoder_weights=None).train()


def test_sides_add_the_mean_of_their_losses() -> None:
    batch = {
        "image": torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8),
        "mask": torch.randint(0, 3, (2, 64, 64)),
    }
    off, default, double = (deep_module(weight) for weight in (False, True, 0.8))
    # What it is made of has the same names and starts alike: runs start from one another.
    for name, value in off.state_dict().items():
        assert torch.equal(value, default.state_dict()[name])
    logits = default(batch["image"])
    parts = [torch.nn.functional.cross_entropy(one, batch["mask"]) for one in logits.split(3, 1)]
    plain, sides = parts[0], torch.stack(parts[1:]).mean()
    for module, weight in ((default, 0.4), (double, 0.8)):
        torch.testing.assert_close(module._loss(logits, batch), plain + weight * sides)
    torch.testing.assert_close(off._loss(logits[:, :3], batch), plain)
    assert not deep_module(0.0).spec.sides


@pytest.mark.usefixtures("tiny_net")
def test_deep_supervision_from_flag_to_checkpoint(competition: Competition) -> None:
    words = ["--fold", "0", "--epochs", "1", "--deep-supervision", "true"]
    flags = competition.flags(*words)
    assert main([*flags, "--model-name", SMALL]) == 0
    module = load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    assert module.recipe.side_weight == 0.4
    with torch.inference_mode():
        assert tuple(module(torch.zeros(1, 3, 64, 64)).shape) == (1, 1, 64, 64)


@pytest.mark.usefixtures("tiny_net")
def test_deep_supervision_needs_stages(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags("--fold", "0", "--deep-supervision", "0.5")) == 2
    assert "DEEP_SUPERVISION: tiny has no stages" in capsys.readouterr().err
