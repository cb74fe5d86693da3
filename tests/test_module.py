"""The LightningModule: gradients, normalisation, scores, checkpoints."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import Lightning_module
from core.errors import UserError
from Lightning_module import Recipe, SegmentationModule, build_module, load_module
from losses import LOSSES
from toys import SIZE, TASKS, collated, loader, module_of, samples, spec_of, trainer_of
from training.batches import draw_for, mix_batch, resize_batch

pytestmark = pytest.mark.usefixtures("tiny_net")

# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_reaches_encoder_and_head(loss: str, task: str) -> None:
    if (loss, task) == ("bce", "multiclass"):
        pytest.skip("refused with a reason: classes exclude each other")
    module = module_of(task, loss=loss)
    batch = next(iter(loader(samples(task, 4), 4)))
    logits = module(batch["image"])
    assert tuple(logits.shape) == (4, TASKS[task], SIZE, SIZE)
    module.loss(logits, batch["mask"]).backward()
    parts = {"encoder": module.model.encoder, "head": module.model.head}
    for part in parts.values():
        gradients = [p.grad for p in part.parameters()]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-6


@pytest.mark.parametrize("task", TASKS)
def test_a_toy_is_learned(task: str, tmp_path: Path) -> None:
    module = module_of(task, loss="ce+dice", lr=0.02)
    made = samples(task, 12)
    before = module.loss(module(collated(made)["image"]), collated(made)["mask"]).item()
    trainer = trainer_of(tmp_path, epochs=15)
    trainer.fit(module, loader(made, 4, shuffle=True))
    module.eval()
    with torch.inference_mode():
        batch = collated(made)
        logits = module(batch["image"])
    assert module.loss(logits, batch["mask"]).item() < 0.5 * before
    mask = logits.argmax(1) if task == "multiclass" else (logits > 0).to(torch.uint8)
    assert (mask == batch["mask"]).float().mean() > 0.9


def test_one_class_does_not_give_a_constant() -> None:
    # A softmax over one channel: all ones, and no gradient.
    module = module_of("binary")
    batch = collated(samples("binary", 4))
    probs = module.probs(module(batch["image"]))
    assert probs.std() > 0.01
    module.loss(module(batch["image"]), batch["mask"]).backward()
    assert max(float(p.grad.abs().max()) for p in module.parameters()) > 1e-3


# ---------------------------------------------------------------- what the network sees


@pytest.mark.parametrize(("bits", "dtype"), [(8, torch.uint8), (16, torch.uint16)])
def test_normalisation(bits: int, dtype: torch.dtype) -> None:
    mean, std = (0.1, 0.2, 0.3, 0.4), (0.5, 0.25, 0.2, 0.1)
    module = module_of(spec=spec_of(channels=4, bits=bits, mean=mean, std=std))
    module.model = torch.nn.Identity()
    for value in (0, 77, 2**bits - 1):
        image = torch.full((1, 4, 8, 8), value, dtype=torch.int32).to(dtype)
        seen = module(image)
        assert seen.dtype == torch.float32
        expected = (value / (2**bits - 1) - np.array(mean)) / np.array(std)
        np.testing.assert_allclose(seen[0, :, 3, 3], expected, rtol=1e-5)


def test_the_network_is_usable_alone() -> None:
    module = module_of().eval()
    batch = collated(samples("binary", 2))
    scaled = (batch["image"].float() / 255 - module.mean) / module.std
    with torch.inference_mode():
        assert torch.equal(module.model(scaled), module(batch["image"]))


@pytest.mark.parametrize("task", TASKS)
def test_prediction_is_probabilities(task: str, tmp_path: Path) -> None:
    module = module_of(task)
    plain = [{"image": one["image"], "img": one["img"]} for one in samples(task, 5)]
    batches = trainer_of(tmp_path).predict(module, loader(plain, 2))
    assert [tuple(probs.shape) for probs in batches] == [
        (count, TASKS[task], SIZE, SIZE) for count in (2, 2, 1)
    ]
    probs = torch.cat(batches)
    assert probs.dtype == torch.float32
    assert 0 <= probs.min() < probs.max() <= 1
    if task == "multiclass":
        assert torch.allclose(probs.sum(1), torch.ones(5, SIZE, SIZE))


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("task", TASKS)
def test_logged_scores_are_of_the_data_set(task: str, tmp_path: Path) -> None:
    module = module_of(task, metric="dataset_iou")
    # An empty image and a short last batch: means of batch means would differ.
    made = samples(task, 7)
    made[2]["mask"] = torch.zeros_like(made[2]["mask"])
    (logged,) = trainer_of(tmp_path).validate(module, loader(made, 4), verbose=False)
    batch = collated(made)
    with torch.inference_mode():
        logits = module.eval()(batch["image"])
        losses = [module.loss(logits[i : i + 1], batch["mask"][i : i + 1]) for i in range(7)]
    assert logged["val_loss"] == pytest.approx(float(sum(losses) / 7), rel=1e-4)
    assert {"val_dataset_iou", "val_dice", "val_iou"} <= logged.keys()
    pred = (logits.argmax(1) if task == "multiclass" else logits.sigmoid() > 0.5).numpy()
    assert logged["val_dataset_iou"] == pytest.approx(pooled_iou(pred, batch["mask"].numpy(), task))


def pooled_iou(pred: np.ndarray, mask: np.ndarray, task: str) -> float:
    if task == "multiclass":
        pairs = [(pred == k, mask == k) for k in range(TASKS[task])]
    else:
        pairs = [(pred[:, k] > 0, mask[:, k] > 0) for k in range(TASKS[task])]
    return float(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs if (a | b).any()]))


def test_classes_are_scored_by_name_and_absent_ones_are_nan(tmp_path: Path) -> None:
    spec = spec_of("multiclass", class_names=("road", "car", "ghost"))
    module = module_of("multiclass", spec, metric="dataset_iou")

    class Never(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            flat = image[:, :1] > 0
            return torch.cat([~flat, flat, torch.full_like(flat, -1, dtype=torch.float)], 1)

    module.model = Never()
    (logged,) = trainer_of(tmp_path).validate(
        module, loader(samples("multiclass", 5), 2), verbose=False
    )
    assert 0.5 < logged["val_dataset_iou_car"] <= 1
    assert 0.5 < logged["val_dataset_iou_road"] <= 1
    assert math.isnan(logged["val_dataset_iou_ghost"])
    both = (logged["val_dataset_iou_car"] + logged["val_dataset_iou_road"]) / 2
    assert logged["val_dataset_iou"] == pytest.approx(both)


def test_scores_start_anew_each_epoch(tmp_path: Path) -> None:
    class Scores(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
            self.seen.append(float(module.metric.compute()))

    module, scores = module_of(lr=1e-12), Scores()
    module.model.encoder[1] = torch.nn.Identity()
    made = samples("binary", 5)
    trainer_of(tmp_path, epochs=3, callbacks=[scores]).fit(module, loader(made, 2), loader(made, 2))
    assert len(scores.seen) == 3
    assert scores.seen[1:] == [pytest.approx(scores.seen[0])] * 2


# ---------------------------------------------------------------- checkpoints


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, SegmentationModule]:
    spec = spec_of("multiclass", class_names=("a", "b", "c"), mean=(0.1, 0.2, 0.3))
    module = build_module(
        "tiny",
        spec,
        recipe=Recipe(loss="ce", class_weights=(1.0, 2.0, 3.0)),
        encoder_weights=None,
        notes={"run": "r", "fold": 3, "config": {"LR": 1e-3, "FOLDS": [0, 1], "NAME": None}},
    )
    trainer = trainer_of(tmp_path)
    trainer.fit(module, loader(samples("multiclass", 4), 2))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt", module


def test_a_checkpoint_is_enough(
    saved: tuple[Path, SegmentationModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, module = saved
    asked: list[Any] = []
    build = Lightning_module.build_model

    def record(*args: Any, **kwargs: Any) -> torch.nn.Module:
        asked.append(kwargs["weights"])
        return build(*args, **kwargs)

    monkeypatch.setattr(Lightning_module, "build_model", record)
    monkeypatch.setitem(sys.modules, "config", None)  # any import of it fails
    loaded = load_module(path)
    assert asked == [None]
    assert not loaded.training
    assert loaded.spec == module.spec
    assert loaded.recipe == module.recipe
    assert loaded.hparams["notes"]["fold"] == 3
    batch = collated(samples("multiclass", 3))
    with torch.inference_mode():
        assert torch.equal(loaded(batch["image"]), module.eval()(batch["image"]))


def test_a_checkpoint_holds_plain_values(saved: tuple[Path, SegmentationModule]) -> None:
    checkpoint = torch.load(saved[0], weights_only=True)
    parameters = checkpoint["hyper_parameters"]
    assert parameters["model_name"] == "tiny"
    assert "encoder_weights" not in parameters
    assert parameters["data"]["class_names"] == ["a", "b", "c"]
    assert parameters["recipe"]["loss"] == "ce"

    def leaves(value: Any) -> set[type]:
        if isinstance(value, dict):
            return set().union(*map(leaves, value.values()), map(type, value))
        if isinstance(value, list | tuple):
            return set().union(*map(leaves, value))
        return {type(value)}

    assert leaves(dict(parameters)) <= {str, int, float, bool, type(None)}


def test_what_is_no_checkpoint_is_told(
    saved: tuple[Path, SegmentationModule], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no checkpoint .*none\.ckpt.*Lightning_trainer"):
        load_module(tmp_path / "none.ckpt")
    (tmp_path / "a.ckpt").write_bytes(saved[0].read_bytes()[:5000])
    torch.save({"state_dict": {}}, tmp_path / "b.ckpt")
    for name in ("a.ckpt", "b.ckpt"):
        with pytest.raises(UserError, match=f"{name} does not load"):
            load_module(tmp_path / name)


# ---------------------------------------------------------------- batches of training


@pytest.mark.parametrize("task", TASKS)
def test_a_step_at_another_size(task: str) -> None:
    batch = collated(samples(task, 3))
    batch["image"], batch["mask"] = (
        one.repeat_interleave(6, -1).repeat_interleave(6, -2)
        for one in (batch["image"], batch["mask"])
    )
    sizes = set()
    for step in range(30):
        resized = resize_batch(batch, (0.5, 1.5), draw_for(step, 0))
        size = tuple(resized["image"].shape[-2:])
        sizes.add(size)
        assert tuple(resized["mask"].shape) == (*batch["mask"].shape[:-2], *size)
        # Where the mask is, the picture is bright, but for the edge.
        mask = resized["mask"] if task == "multiclass" else resized["mask"][:, 0]
        bright = resized["image"].mean(1) > 100
        assert (bright != (mask == 1)).float().mean() < 0.06
        assert set(resized["mask"].unique().tolist()) == {0, 1}
    assert {(64, 64), (96, 96), (128, 128)} <= sizes
    assert all(48 <= side <= 144 and side % 32 == 0 for size in sizes for side in size)
    again, first = (resize_batch(batch, (0.5, 1.5), draw_for(7, 3)) for _ in range(2))
    assert torch.equal(again["image"], first["image"])
    assert resize_batch(batch, (), draw_for(0, 0)) is batch


def test_blended_images_have_blended_losses() -> None:
    module = module_of("multiclass")
    batch = collated(samples("multiclass", 4))
    mixed = mix_batch(batch, 0.4, draw_for(1, 2))
    share = mixed["share"]
    assert 0 < share < 1
    image = batch["image"].float()
    assert torch.allclose(mixed["image"], share * image + (1 - share) * image[[3, 2, 1, 0]])
    logits = module(mixed["image"])
    losses = [module.loss(logits, mask) for mask in (batch["mask"], batch["mask"][[3, 2, 1, 0]])]
    expected = share * losses[0] + (1 - share) * losses[1]
    torch.testing.assert_close(module._loss(logits, mixed), expected)
    assert mix_batch(batch, 0.0, draw_for(1, 2)) is batch


def test_scales_and_blends_reach_the_steps(tmp_path: Path) -> None:
    module = module_of(mixup=0.4, train_scales=(2.0, 6.0))
    seen: list[int] = []
    module.model.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[-1]))
    made = samples("binary", 6)
    trainer_of(tmp_path, epochs=4).fit(module, loader(made, 2), loader(made, 6))
    # Validation, of six images at once, keeps its size.
    assert len({size for size in seen if size != SIZE}) > 1
    assert seen.count(SIZE) == 4
