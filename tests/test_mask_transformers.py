"""Mask2Former and EoMT: queries to logits, their own loss, files, and runs with them."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conftest import Competition
from core.errors import UserError
from data.specs import DataSpec
from inference.formats import write_file
from inference.portable import Export
from Lightning_module import Recipe, build_module, load_module
from Lightning_trainer import main
from model_dispatcher import MODELS, build_model, encoder_of
from networks.eomt import GridPositions, build_eomt
from networks.mask_transformers import MaskTransformer, build_mask2former
from trained import fold_of

pytest.importorskip("transformers")
SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}
SIZES: dict[str, Any] = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32}
SIZES |= {"num_queries": 8, "encoder_layers": 1, "decoder_layers": 2, "dim_feedforward": 64}
SIZES |= {"encoder_feedforward_dim": 64, "num_attention_heads": 2, "train_num_points": 256}
VIT = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
QUERIES = {"num_queries": 8, "train_num_points": 256, "num_blocks": 1}
SMALL = {
    "small_mask2former": partial(build_mask2former, "tiny", backbone_config=SWIN, **SIZES),
    "small_eomt": partial(build_eomt, "small", **VIT, **QUERIES),
}


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, builder in SMALL.items():
        monkeypatch.setitem(MODELS, name, builder)


def build(classes: int, channels: int = 3, name: str = "small_mask2former") -> MaskTransformer:
    torch.manual_seed(0)
    return build_model(name, classes=classes, channels=channels, size=(64, 64))


@pytest.mark.parametrize("name", SMALL)
def test_scores_are_sums_over_queries(name: str) -> None:
    model = build(3, channels=4, name=name).eval()
    image = torch.rand(2, 4, 64, 96)
    with torch.inference_mode():
        logits = model(image).numpy()
        output = model.transformer(image)
    classes = output.class_queries_logits.softmax(-1)[..., :3].numpy()
    masks = torch.nn.functional.interpolate(output.masks_queries_logits, (64, 96), mode="bilinear")
    scores = (classes[:, :, :, None, None] * masks.sigmoid().numpy()[:, :, None]).sum(1)
    order = np.argsort(scores, 1)
    np.testing.assert_array_equal(np.argsort(logits, 1), order)
    probs = scores / np.maximum(scores.max(1, keepdims=True), 1)
    inside = (probs > 1e-3) & (probs < 0.999)
    assert inside.mean() > 0.1
    expected = np.log(probs / (1 - probs))
    np.testing.assert_allclose(logits[inside], expected[inside], rtol=1e-3, atol=1e-3)


def loss_of(classes: torch.Tensor, masks: torch.Tensor, target: torch.Tensor) -> float:
    """Its own loss where queries say these class and mask logits."""
    model = build(3)
    heads = model.transformer

    def answer(pixels: torch.Tensor, **labels: Any) -> Any:
        output = {"class_queries_logits": classes, "masks_queries_logits": masks}
        loss = heads.get_loss(heads.get_loss_dict(**output, **labels, auxiliary_predictions=None))
        return type("Output", (), {"loss": loss})()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "forward", answer)
        return model.own_loss(torch.rand(1, 3, 64, 64), target).item()


@pytest.mark.parametrize("task", ["ids", "planes"])
def test_its_loss_wants_one_query_a_class(task: str) -> None:
    """Queries 5 and 1 say classes 0 and 2, all others nothing: any change costs more."""
    target = torch.zeros(1, 64, 64, dtype=torch.uint8)
    target[:, :, 32:] = 2
    sides = torch.stack([target[0] == 0, target[0] == 2])
    classes, masks = torch.zeros(1, 8, 4), torch.full((1, 8, 64, 64), -20.0)
    for query, label, side in ((5, 0, sides[0]), (1, 2, sides[1])):
        classes[0, query, label] = 20
        masks[0, query] = torch.where(side, 20.0, -20.0)
    classes[0, [0, 2, 3, 4, 6, 7], 3] = 20
    if task == "planes":
        target = torch.nn.functional.one_hot(target.long(), 3).permute(0, 3, 1, 2)
    right = loss_of(classes, masks, target)
    turned, doubled, other = classes.clone(), classes.clone(), masks.clone()
    turned[0, 1] = torch.tensor([0.0, 20, 0, 0])
    doubled[0, 3] = classes[0, 5]
    other[0, 5] = -masks[0, 5]
    for wrong in ((turned, masks), (doubled, masks), (classes, other)):
        assert loss_of(*wrong, target) > right + 0.3


@pytest.mark.parametrize("name", SMALL)
def test_ignored_pixels_and_empty_images_are_of_no_mask(name: str) -> None:
    model = build(3, name=name)
    target = torch.full((2, 50, 40), 255, dtype=torch.uint8)
    target[0, :10] = 1
    loss = model.own_loss(torch.rand(2, 3, 50, 40), target)
    assert loss.isfinite()
    loss.backward()
    grads = [p.grad for p in model.encoder.parameters() if p.grad is not None]
    assert sum(bool(grad.abs().sum() > 0) for grad in grads) > 0.9 * len(grads)


def test_a_file_of_transformers_with_other_classes_and_channels(tmp_path: Path) -> None:
    source = build(5).transformer
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    model = build_model(
        "small_mask2former", classes=2, channels=4, weights=str(tmp_path / "model.safetensors")
    )
    taken, given = model.transformer.state_dict(), source.state_dict()
    other = [key for key in taken if not torch.equal(taken[key], given[key])]
    assert len(other) in (3, 4)
    assert all(
        "class_predictor" in key or "patch_embed" in key or "empty_weight" in key for key in other
    )
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"x\.safetensors: 0 of .* tensors of the backbone fit"):
        build_model("small_mask2former", weights=str(tmp_path / "x.safetensors"))


# Parts of Swin as published files and versions of transformers before 5.9 call them, and as later
# ones do.
EARLIER, LATER = (
    ("encoder.", "attention.self.query.", "attention.self.key.", "attention.self.value."),
    ("encoder.swin.", "attention.q_proj.", "attention.k_proj.", "attention.v_proj."),
)
EARLIER += ("attention.output.dense.", "attention.self.relative_position_bias_table")
LATER += (
    "attention.o_proj.",
    "attention.relative_position_bias.relative_position_bias_table",
)
EARLIER += ("intermediate.dense.", "output.dense.")
LATER += ("mlp.fc1.", "mlp.fc2.")
SWIN_PLACE = "model.pixel_level_module.encoder."


def respelled(state: dict[str, torch.Tensor], spelling: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """A state of Mask2Former with the names of Swin in one of the two spellings."""
    found = {}
    for key, value in state.items():
        if key.startswith(SWIN_PLACE):
            key = "encoder." + key.removeprefix(SWIN_PLACE).removeprefix("swin.")
            pairs = [*zip(EARLIER, LATER, strict=True)][1:]
            known = next((two for two in pairs if two[0] in key or two[1] in key), ("-", "-"))
            old = known[0] if known[0] in key else known[1]
            key = key.replace(old, known[spelling is LATER])
            key = "model.pixel_level_module." + key.replace("encoder.", spelling[0], 1)
        found[key] = value
    return found


@pytest.mark.parametrize("spelling", [EARLIER, LATER], ids=["earlier", "later"])
def test_files_of_earlier_and_later_versions_fit(spelling: tuple[str, ...], tmp_path: Path) -> None:
    source, image = build(3).eval(), torch.rand(1, 3, 64, 64)
    state = respelled(source.transformer.state_dict(), spelling)
    # A table that earlier versions keep and a norm that later ones have: no mask depends on them.
    table = f"{SWIN_PLACE}encoder.layers.0.blocks.0.attention.self.relative_position_index"
    norm = f"{SWIN_PLACE}swin.layernorm.weight"
    idle = re.compile(r"relative_position_index$|swin\.layernorm")
    state = {key: value for key, value in state.items() if not idle.search(key)}
    state[table if spelling is EARLIER else norm] = torch.ones(3)

    torch.manual_seed(1)
    for fill in ("checkpoint", "file"):
        model = build_model("small_mask2former", classes=3, size=(64, 64)).eval()
        if fill == "checkpoint":
            model.load_state_dict({f"transformer.{key}": value for key, value in state.items()})
        else:
            save_file(state, tmp_path / "model.safetensors")
            model.load_file(tmp_path / "model.safetensors")
        with torch.inference_mode():
            torch.testing.assert_close(model(image), source(image))


@pytest.mark.parametrize("name", SMALL)
def test_a_run_from_training_to_probabilities(
    competition: Competition, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    flags = competition.flags("--fold", "0", "--epochs", "1", "--encoder-lr-factor", "0.3")
    assert main([*flags, "--model-name", name]) == 0
    assert "learns by its own loss; LOSS is that of val_loss" in capsys.readouterr().out
    module = load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    with torch.inference_mode():
        probs = module.predict_step({"image": torch.zeros(1, 3, 70, 64, dtype=torch.uint8)})
    assert tuple(probs.shape) == (1, 1, 70, 64)
    assert 0 <= float(probs.min()) <= float(probs.max()) <= 1
    # The backbone has a rate of its own.
    assert 0 < len(list(encoder_of(module.model).parameters())) < len(list(module.parameters()))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Backbones by their names on the hub, as files of a folder that stands for it."""
    import transformers

    torch.manual_seed(1)
    dino = transformers.Dinov2WithRegistersConfig(**VIT, image_size=70, patch_size=14)
    swin = transformers.SwinConfig(**SWIN)
    held = {
        "facebook/dinov2-with-registers-small": transformers.Dinov2WithRegistersModel(dino),
        "microsoft/swin-tiny-patch4-window7-224": transformers.SwinModel(swin),
    }
    torch.nn.init.normal_(next(iter(held.values())).embeddings.register_tokens)
    for name, model in held.items():
        model.eval().save_pretrained(tmp_path / name)
    read = transformers.AutoModel.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModel, "from_pretrained", lambda name: read(tmp_path / name)
    )
    return held


def test_downloaded_backbones_fill_the_networks(hub: dict[str, Any], tmp_path: Path) -> None:
    dino, swin = hub.values()
    image = torch.rand(2, 3, 80, 80)
    model = build_model("small_eomt", weights="imagenet", classes=2, size=(80, 80)).eval()
    # Patches of 16 see what those of 14 saw in an image of as many patches.
    projection = model.transformer.embeddings.patch_embeddings.projection
    dino.embeddings.patch_embeddings.projection.weight = projection.weight
    dino.embeddings.patch_embeddings.projection.stride = (16, 16)
    dino.embeddings.patch_size = dino.config.patch_size = 16
    with torch.inference_mode():
        inner = model.transformer
        model(image)  # sets the grid
        hidden = inner.embeddings(image)
        for layer in inner.layers:
            hidden = layer(hidden)
        found, expected = inner.layernorm(hidden), dino(image).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    former = build_model("small_mask2former", weights="imagenet", classes=2)
    # Of transformers 5.0 the encoder is the backbone itself, with norms that others have outside.
    taken = getattr(former.encoder, "swin", former.encoder).state_dict()
    given = swin.state_dict()
    both = taken.keys() & given.keys()
    assert len(both) >= len(given) - 2  # its last norm is not used
    assert all(torch.equal(taken[key], given[key]) for key in both)


def test_a_hub_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def offline(name: str) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", offline)
    with pytest.raises(UserError, match=r"couldn't connect.*ENCODER_WEIGHTS"):
        build_model("small_eomt", weights="imagenet", size=(64, 64))


def test_positions_are_brought_to_the_grid_of_an_image() -> None:
    """A picture of another size sees the positions as a picture: stretched, none left out."""
    positions = GridPositions(4, 3)
    ramp = torch.linspace(0, 1, 4)
    with torch.no_grad():
        positions.weight[:] = torch.stack(
            [ramp.repeat_interleave(4), ramp.repeat(4), ramp[0].expand(16)], 1
        )
    positions.grid = (8, 6)
    down, right, none = positions(torch.arange(16))[0].detach().reshape(8, 6, 3).unbind(-1)
    assert (down.diff(dim=0) > 0).all()
    assert (right.diff(dim=1) > 0).all()
    assert down.std(1).max() < 1e-6
    assert (none == 0).all()


def test_files_say_whether_queries_attend_to_their_masks_alone() -> None:
    """Published networks were trained until no block masks: it is in their files."""
    model, image = build(2, name="small_eomt").eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        masked = model(image)
        weights = model.state_dict()
        weights["transformer.attn_mask_probs"] = torch.zeros(1)
        model.load_state_dict(weights)
        free = model(image)
        weights["transformer.attn_mask_probs"] = torch.ones(1)
        model.load_state_dict(weights)
        assert torch.equal(model(image), masked)
    assert not torch.allclose(free, masked, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["program", "onnx"])
def test_eomt_is_exported_for_any_size(name: str, tmp_path: Path) -> None:
    spec = DataSpec(task="multilabel", classes=3, size=(64, 64))
    module = build_module("small_eomt", spec, recipe=Recipe(), encoder_weights=None).eval()
    export = Export(module)
    _, gap = write_file(export, name, tmp_path)
    assert export.dynamic
    assert gap < 1e-5
