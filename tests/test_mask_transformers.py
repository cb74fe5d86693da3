"""Mask2Former: queries to logits, its own loss, files, and a run with it."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conftest import Competition
from core.errors import UserError
from Lightning_module import load_module
from Lightning_trainer import main
from model_dispatcher import MODELS, build_model, encoder_of
from networks.mask_transformers import MaskTransformer, build_mask2former
from trained import fold_of

pytest.importorskip("transformers")
SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}
SIZES: dict[str, Any] = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32}
SIZES |= {"num_queries": 8, "encoder_layers": 1, "decoder_layers": 2, "dim_feedforward": 64}
SIZES |= {"encoder_feedforward_dim": 64, "num_attention_heads": 2, "train_num_points": 256}
SMALL = partial(build_mask2former, "tiny", backbone_config=SWIN, **SIZES)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "small_mask2former", SMALL)


def build(classes: int, channels: int = 3) -> MaskTransformer:
    torch.manual_seed(0)
    return build_model("small_mask2former", classes=classes, channels=channels)


def test_scores_are_sums_over_queries() -> None:
    model = build(3, channels=4).eval()
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


def test_ignored_pixels_and_empty_images_are_of_no_mask() -> None:
    model = build(3)
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
    with pytest.raises(UserError, match=r"x\.safetensors: 0 of .* tensors fit"):
        build_model("small_mask2former", weights=str(tmp_path / "x.safetensors"))


def test_a_run_from_training_to_probabilities(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = competition.flags("--fold", "0", "--epochs", "1", "--encoder-lr-factor", "0.3")
    assert main([*flags, "--model-name", "small_mask2former"]) == 0
    assert "learns by its own loss" in capsys.readouterr().out
    module = load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    with torch.inference_mode():
        probs = module.predict_step({"image": torch.zeros(1, 3, 70, 64, dtype=torch.uint8)})
    assert tuple(probs.shape) == (1, 1, 70, 64)
    assert 0 <= float(probs.min()) <= float(probs.max()) <= 1
    # The backbone has a rate of its own.
    assert 0 < len(list(encoder_of(module.model).parameters())) < len(list(module.parameters()))
