"""Knobs of data, optimiser and numbers, from the flag to what a training step does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from conftest import Competition, draw_pair
from Lightning_trainer import main
from stages import call
from toys import Spy
from training.callbacks import CALLBACKS

pytestmark = pytest.mark.usefixtures("tiny_net")
LR = 0.01


class Watch(Spy):
    """Beside what `Spy` sees: batches and losses, weights and decays, types and memory."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[dict[str, Any]] = []
        self.losses: list[float] = []
        self.logits: list[torch.Tensor] = []
        self.heads: list[torch.Tensor] = []
        self.encoders: list[torch.Tensor] = []
        self.decays: set[float] = set()
        self.channels_last = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        super().on_train_start(trainer, module)
        model: Any = module.model
        self.decays = {group["weight_decay"] for group in trainer.optimizers[0].param_groups}
        self.heads.append(model.head[0].weight.detach().clone())
        kind = {"memory_format": torch.channels_last}
        self.channels_last = model.encoder[0].weight.is_contiguous(**kind)
        model.register_forward_hook(lambda *seen: self.logits.append(seen[2].detach()))

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, _: int
    ) -> None:
        self.batches.append(batch)
        self.losses.append(float(outputs["loss"]))
        self.heads.append(module.model.head[0].weight.detach().clone())
        self.encoders.append(module.model.encoder[0].weight.detach().clone())


Train = Callable[..., Watch]


@pytest.fixture
def train(competition: Competition, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains fold 0 for an epoch of three steps under some flags; returns what was seen."""
    runs = iter("abcdef")

    def fit(*words: str) -> Watch:
        watch = Watch()
        monkeypatch.setitem(CALLBACKS, "watch", lambda: watch)
        flags = ("--fold", "0", "--epochs", "1", "--callbacks", "watch", "--lr", str(LR))
        assert main(competition.flags(*flags, "--run", next(runs), *words)) == 0
        return watch

    return fit


def test_weight_decay_shrinks_weights(train: Train) -> None:
    loose, tight = (train("--weight-decay", text, "--warmup", "0") for text in ("0", "0.5"))
    assert (loose.decays, tight.decays) == ({0.0}, {0.5})
    # AdamW: the same step of the gradient, less a share of the weight.
    apart = loose.heads[1] - tight.heads[1]
    torch.testing.assert_close(apart, LR * 0.5 * loose.heads[0], rtol=1e-3, atol=1e-7)


def test_warmup_climbs_and_the_encoder_has_its_share(train: Train) -> None:
    seen = train("--warmup", "0.67", "--encoder-lr-factor", "0.25", "--grad-clip", "0")
    decoder, encoder = np.array(seen.rates).T
    np.testing.assert_allclose(decoder, [LR / 2, LR, LR])
    np.testing.assert_allclose(encoder, decoder / 4)
    assert min(seen.norms) > 0.02


def test_gradients_are_clipped_and_no_warmup_starts_at_the_peak(train: Train) -> None:
    seen = train("--grad-clip", "0.01", "--warmup", "0")
    np.testing.assert_allclose(seen.norms, 0.01, rtol=1e-2)
    assert set(seen.rates[0]) == {LR}


def test_gradients_are_clipped_one_by_one_where_the_trainer_is_told_so(train: Train) -> None:
    seen = train("--grad-clip", "1e-3", "--trainer-kwargs", "{'gradient_clip_algorithm': 'value'}")
    assert min(seen.norms) > 2e-3  # many of 1e-3
    largest = [max(float(grad.abs().max()) for grad in step) for step in seen.gradients]
    np.testing.assert_allclose(largest, 1e-3, rtol=1e-5)


def test_class_weights_weigh_the_loss(train: Train) -> None:
    words = ["--task", "multiclass", "--classes", "2", "--mask-values", "{0: 0, 255: 1}"]
    seen = train(*words, "--loss", "ce", "--metric", "miou", "--class-weights", "1,3")
    logits, mask = seen.logits[0].double().numpy(), seen.batches[0]["mask"].numpy()
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = np.where(mask == 1, chances[:, 1], chances[:, 0])
    weights = np.array([1, 3])[mask]
    assert seen.losses[0] == pytest.approx(-(weights * np.log(right)).sum() / weights.sum())


@pytest.mark.parametrize(
    ("precision", "layout", "kind"),
    [("32-true", "off", torch.float32), ("bf16-mixed", "on", torch.bfloat16)],
)
def test_precision_and_memory_are_those_of_the_network(
    train: Train, precision: str, layout: str, kind: Any
) -> None:
    seen = train("--precision", precision, "--channels-last", layout)
    assert {logits.dtype for logits in seen.logits} == {kind}
    assert seen.heads[-1].dtype == torch.float32
    assert np.isfinite(seen.losses).all()
    assert seen.channels_last == (layout == "on")


@pytest.mark.parametrize("bits", [8, 16])
def test_bits_of_an_image_reach_the_network(
    train: Train, competition: Competition, bits: int
) -> None:
    rng = np.random.default_rng(0)
    for img in competition.table["img"]:
        grey = rng.integers(0, 65536, (64, 64), np.uint16)
        Image.fromarray(grey).save(competition.input / "train_hq" / f"{img}.png")
    competition.table["image"] = "train_hq/" + competition.table["img"] + ".png"
    table = competition.output / "train_folds.csv"
    competition.table.to_csv(table, index=False)
    for path in (competition.input / "train_masks").iterdir():
        with Image.open(path) as mask:
            square = mask.crop((0, 0, 64, 64))
        square.save(path)
    words = ["--image-bits", str(bits), "--augmentation", "none", "--train-batch-size", "6"]
    (batch,) = train(*words).batches
    image = batch["image"].numpy()
    assert image.dtype == np.dtype(f"uint{bits}")
    for img, seen in zip(batch["img"], image, strict=True):
        with Image.open(competition.input / "train_hq" / f"{img}.png") as file:
            values = np.asarray(file).astype(float)
        expected = values if bits == 16 else values / 257
        assert np.abs(seen[0].astype(float) - expected).max() <= (0 if bits == 16 else 1)


def test_crops_scales_weights_and_a_frozen_encoder_from_their_flags(
    train: Train, competition: Competition
) -> None:
    """One run of knobs that do not meet: what is drawn, where, at which size, and what moves."""
    table = competition.output / "train_folds.csv"
    heavy = competition.table["img"].isin(["car1_01", "car3_02"]).astype(int)
    competition.table.assign(heavy=heavy).to_csv(table, index=False)
    words = ["--resize-mode", "crop", "--crop-size", "32", "--foreground-crops", "1"]
    words += ["--weight-column", "heavy", "--train-scales", "2,2", "--augmentation", "none"]
    words += ["--freeze-encoder", "true", "--ema-decay", "0"]
    seen = train(*words)
    assert {img for batch in seen.batches for img in batch["img"]} <= {"car1_01", "car3_02"}
    middles = [batch["mask"][:, 0, 15:17, 15:17].amax((1, 2)) for batch in seen.batches]
    assert torch.cat(middles).eq(1).all()
    assert {tuple(logits.shape[-2:]) for logits in seen.logits[: len(seen.losses)]} == {(64, 64)}
    assert torch.equal(seen.encoders[0], seen.encoders[-1])
    assert not torch.equal(seen.heads[0], seen.heads[-1])


def test_layers_decay_and_weights_are_averaged_from_their_flags(
    train: Train, competition: Competition
) -> None:
    words = ["--layer-decay", "0.5", "--encoder-lr-factor", "0.4", "--warmup", "0"]
    seen = train(*words, "--swa", "0.3", "--decay-norms", "false", "--scheduler", "none")
    # The head, then the encoder's layers, the last first: normalisation, convolution.
    assert sorted(set(seen.rates[0]), reverse=True) == pytest.approx([LR, 0.4 * LR, 0.2 * LR])
    assert seen.decays == {0.01, 0.0}
    path = competition.logs / "a" / "fold_0" / "checkpoints" / "best.ckpt"
    head = torch.load(path, weights_only=True)["state_dict"]["model.head.0.weight"]
    torch.testing.assert_close(head, torch.stack(seen.heads[-2:]).mean(0))


def _pictures(root: Path, names: list[str]) -> list[str]:
    """Writes images and masks; returns the flags that name their folders."""
    rng = np.random.default_rng(1)
    for folder in ("images", "masks"):
        (root / "input" / folder).mkdir(parents=True)
    for name in names:
        image, mask = draw_pair(rng)
        Image.fromarray(image).save(root / "input" / "images" / name)
        stem = name.removesuffix("_img.png").partition(".")[0]
        Image.fromarray(mask).save(root / "input" / "masks" / f"{stem}.png")
    words = ["--input", str(root / "input"), "--output", str(root / "output")]
    return [*words, "--train-path", "images", "--mask-path", "masks", "--mask-suffix", ".png"]


def test_image_suffix_chooses_files_and_ends_ids(tmp_path: Path) -> None:
    names = [f"a{at}_img.png" for at in range(6)] + ["a0_preview.png", "a1_img.jpg"]
    flags = _pictures(tmp_path, names)
    assert call("folds", [*flags, "--image-suffix", "_img.png", "--n-folds", "2"]) == 0
    table = pd.read_csv(tmp_path / "output" / "train_folds.csv").sort_values("img")
    assert table["img"].tolist() == [f"a{at}" for at in range(6)]
    assert table["image"].tolist() == [f"images/a{at}_img.png" for at in range(6)]


def test_split_column_makes_the_folds(tmp_path: Path) -> None:
    flags = _pictures(tmp_path, [f"a{at}.png" for at in range(6)])
    parts = ["val", "train", "train", "val", "train", "train"]
    rows = [f"a{at}.png,{part},{at % 3}" for at, part in enumerate(parts)]
    path = tmp_path / "input" / "train.csv"
    path.write_text("\n".join(["img,part,third", *rows]))
    words = ["--train-csv", "train.csv", "--split", "column", "--split-column"]
    expected = {"part": [0, -1, -1, 0, -1, -1], "third": [0, 1, 2, 0, 1, 2]}
    for column, folds in expected.items():
        assert call("folds", [*flags, *words, column]) == 0
        table = pd.read_csv(tmp_path / "output" / "train_folds.csv").sort_values("img")
        assert table["kfold"].tolist() == folds
    assert call("folds", [*flags, *words, "absent"]) == 2
