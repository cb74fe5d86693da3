"""Knobs of tables, images and answers, from the flag to what is trained on and handed in."""

from collections.abc import Callable
from itertools import product
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from conftest import SIZE, Competition, row_rle
from core.memory import largest_picture
from imaging.images import read_image
from imaging.levels import read_probs
from Lightning_module import load_module
from stages import call, checkpoint, errors_of, train_and_score
from training.callbacks import CALLBACKS

HEIGHT, WIDTH = SIZE
RNG = np.random.default_rng(2)
Samples = dict[str, dict[str, Any]]
Train = Callable[..., Samples]


class Keep(pl.Callback):
    """Samples of a training by image: their arrays, and what the network saw in their place."""

    def __init__(self) -> None:
        self.samples: Samples = {}

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        def look(network: torch.nn.Module, inputs: Any) -> None:
            if network.training:
                self.input = inputs[0]

        module.model.register_forward_pre_hook(look)

    def on_train_batch_end(self, trainer: Any, module: Any, _: Any, batch: Any, at: int) -> None:
        spread, middle = module.spec.std, module.spec.mean
        seen = self.input * torch.tensor(spread).view(-1, 1, 1) + torch.tensor(middle).view(
            -1, 1, 1
        )
        arrays = {name: batch[name].numpy() for name in ("image", "mask", "soft") if name in batch}
        arrays["seen"] = 255 * seen.numpy()
        for row, img in enumerate(batch["img"]):
            self.samples[img] = {name: array[row] for name, array in arrays.items()}


@pytest.fixture
def train(competition: Competition, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains fold 0 for a step of whole images under some flags; returns its samples by image."""

    def fit(*words: str) -> Samples:
        keep = Keep()
        monkeypatch.setitem(CALLBACKS, "keep", lambda: keep)
        flags = ("--fold", "0", "--epochs", "1", "--augmentation", "none", "--callbacks", "keep")
        flags += ("--crop-size", f"{HEIGHT},{WIDTH}", "--train-batch-size", "6")
        assert call("Lightning_trainer", competition.flags(*flags, *words)) == 0
        return keep.samples

    return fit


def table_of(competition: Competition, **columns: Any) -> Competition:
    """The competition with other columns in its table of folds."""
    table = competition.table.assign(**columns)
    table.to_csv(competition.output / "train_folds.csv", index=False)
    return competition._replace(table=table)


def box(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of a part of an image."""
    top, left = int(rng.integers(1, HEIGHT // 2)), int(rng.integers(1, WIDTH // 2))
    return top, left, top + int(rng.integers(8, 30)), left + int(rng.integers(8, 38))


def runs_of(mask: np.ndarray, relative: str) -> str:
    """Run lengths row by row, from 0, or "true" from the end of the run before."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel(), [0]]).astype(int)))
    gaps = np.diff([0, *edges])
    gaps[::2] = gaps[::2] if relative == "true" else edges[::2]
    return " ".join(map(str, gaps))


@pytest.mark.parametrize("relative", ["true", "false"])
def test_run_lengths_are_those_that_flags_describe(
    train: Train, competition: Competition, relative: str
) -> None:
    """Classes inside of a column's cells; runs from 0, or gaps: in the masks and in the answer.

    Each mask is one run, from which nothing of that can be told.
    """
    rows, truth = [], {}
    for img in competition.table["img"]:
        truth[img] = np.zeros((2, *SIZE), np.uint8)
        for kind in (0, 1):
            top, left, _, right = box(RNG)
            truth[img][kind, top, left:right] = 1
            rows.append(
                [f"{img}.jpg", "car", f"x_{kind + 1}_7", runs_of(truth[img][kind], relative)]
            )
    table = pd.DataFrame(rows, columns=["img", "class", "part", "rle_mask"])
    table.to_csv(competition.input / "train_masks.csv", index=False)
    (competition.input / "sample_submission.csv").unlink()
    words = ["--task", "multilabel", "--classes", "2", "--mask-format", "rle", "--lr", "1e-9"]
    words += ["--class-column", "part", "--class-pattern", r"\w_(\d+)_", "--class-base", "1"]
    words += ["--rle-base", "0", "--rle-relative", relative, "--rle-order", "row"]
    for img, sample in train(*words).items():
        assert np.array_equal(sample["mask"], truth[img])

    words += ["--fold", "0"]
    assert call("Lightning_tester", competition.flags(*words)) == 0
    answer = ["--submission", "rle", "--answer-id", "{class}:{id}", "--save-masks", "true"]
    assert call("ensemble", competition.flags(*words, *answer)) == 0
    folder = competition.output / "baseline"
    table = pd.read_csv(folder / "submission.csv", dtype=str, keep_default_na=False)
    names = [f"{kind}:new{at}_01" for at, kind in product(range(3), (1, 2))]
    assert table.iloc[:, 0].tolist() == names
    for at in range(3):
        kept = cv2.imread(str(folder / "masks" / f"new{at}_01.png"), cv2.IMREAD_UNCHANGED)
        texts = table.iloc[2 * at : 2 * at + 2, -1]
        assert kept.any()
        assert max(text.count(" ") for text in texts) > 1
        for text, mask in zip(texts, np.split(kept, 2), strict=True):
            assert text == runs_of(mask // 255, relative)


def test_run_lengths_are_those_of_the_column_that_is_named(
    train: Train, competition: Competition
) -> None:
    rows, truth = [], {}
    for img in competition.table["img"]:
        cells = []
        for _ in range(2):
            top, left, bottom, right = box(RNG)
            mask = np.zeros(SIZE, np.uint8)
            mask[top:bottom, left:right] = 1
            cells.append(row_rle(mask))
            truth.setdefault(img, []).append(mask)
        rows.append([f"{img}.jpg", *cells])
    table = pd.DataFrame(rows, columns=["img", "lung_rle", "heart_rle"])
    table.to_csv(competition.input / "train_masks.csv", index=False)
    for at, column in enumerate(table.columns[1:]):
        words = ["--mask-format", "rle", "--rle-order", "row", "--rle-column", column]
        for img, sample in train(*words, "--run", column).items():
            assert np.array_equal(sample["mask"][0], truth[img][at])


def test_pictures_of_more_pixels_than_asked_are_refused(
    train: Train, competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = HEIGHT * WIDTH
    words = competition.flags("--fold", "0", "--max-pixels", str(pixels - 1))
    largest_picture.cache_clear()
    assert call("Lightning_trainer", words) == 2
    largest_picture.cache_clear()
    told = errors_of(capsys)
    assert f"claims {WIDTH} x {HEIGHT} pixels" in "".join(told)
    assert "raise MAX_PIXELS" in "".join(told)
    assert not list(competition.logs.rglob("*.ckpt"))
    assert len(train("--max-pixels", str(pixels))) == 6
    largest_picture.cache_clear()


def test_pixels_without_data_are_0_and_are_not_trained_on(
    train: Train, competition: Competition
) -> None:
    holes = {}
    for path in (competition.input / "train_hq").iterdir():
        pixels = RNG.integers(9, 255, (*SIZE, 3), np.uint8)
        top, left, bottom, right = box(RNG)
        pixels[top:bottom, left:right] = 8
        pixels[0, :, 1] = 8  # in one channel of three
        Image.fromarray(pixels).save(path.with_suffix(".png"))
        holes[path.stem] = pixels == 8
    competition = table_of(competition, image="train_hq/" + competition.table["img"] + ".png")
    for ignored in ("true", "false"):
        words = ["--nodata", "8", "--ignore-nodata", ignored, "--run", ignored]
        for img, sample in train(*words).items():
            assert np.array_equal(sample["image"] == 0, np.moveaxis(holes[img], -1, 0))
            out = holes[img].all(-1) & (ignored == "true")
            assert np.array_equal(sample["mask"][0] == 255, out)


def test_shares_of_grey_masks_are_learned_and_scored_from_a_threshold_on(
    train: Train, competition: Competition
) -> None:
    grey = {img: RNG.integers(0, 256, SIZE, np.uint8) for img in competition.table["img"]}
    for img, levels in grey.items():
        Image.fromarray(levels).save(competition.input / "train_masks" / f"{img}.png")
    table_of(competition, mask="train_masks/" + competition.table["img"] + ".png")
    words = ["--mask-threshold", "150", "--mask-suffix", ".png", "--soft-labels", "true"]
    for img, sample in train(*words).items():
        assert np.array_equal(sample["mask"][0], grey[img] >= 150)
        assert np.abs(sample["soft"][0] / 254 - grey[img] / 255).max() < 1 / 254
    assert not any("soft" in sample for sample in train(*words[:4], "--run", "hard").values())


def test_outlines_in_shares_of_the_sides(train: Train, competition: Competition) -> None:
    rows, boxes = [], {}
    for img in competition.table["img"]:
        top, left, bottom, right = boxes[img] = box(RNG)
        x, y = (left / WIDTH, right / WIDTH), (top / HEIGHT, bottom / HEIGHT)
        corners = [(x[a], y[b]) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
        rows.append([f"{img}.jpg", f"POLYGON (({', '.join(f'{a} {b}' for a, b in corners)}))"])
    table = pd.DataFrame(rows, columns=["img", "outline"])
    table.to_csv(competition.input / "train_masks.csv", index=False)
    # The pictures of train_masks/ that are there, too, are no outlines.
    words = ["--mask-format", "polygons", "--rle-column", "outline", "--outline-units", "share"]
    for img, sample in train(*words).items():
        top, left, bottom, right = boxes[img]
        truth = np.zeros(SIZE, np.uint8)
        truth[top:bottom, left:right] = 1
        assert np.array_equal(sample["mask"][0], truth)


def test_axes_of_arrays_and_slices_beside_them(train: Train, competition: Competition) -> None:
    """Arrays that lie on their side, of image and mask; each slice between its neighbours."""
    images, masks = {}, {}
    for img in competition.table["img"]:
        images[img] = RNG.integers(1, 256, SIZE, np.uint8)
        masks[img] = RNG.integers(0, 2, SIZE, np.uint8)
        np.save(competition.input / "train_hq" / f"{img}.npy", np.stack([images[img].T] * 2))
        np.save(competition.input / "train_masks" / f"{img}.npy", masks[img].T)
    words = ["--axes", "1,W,H", "--mask-axes", "W,H", "--mask-suffix", ".npy"]
    words += ["--stack=-1,0,1", "--image-pattern", "{car}_{slice}.npy"]
    words += ["--test-pattern", "{car}_{slice}.jpg"]
    assert call("folds", competition.flags(*words)) == 0
    for img, sample in train(*words).items():
        car, view = img[:-1], int(img[-1])
        beside = [f"{car}{at}" for at in (max(view - 1, 1), view, min(view + 1, 3))]
        assert np.array_equal(sample["image"], np.stack([images[name] for name in beside]))
        assert np.array_equal(sample["mask"][0], masks[img])


def test_a_column_of_volumes(competition: Competition) -> None:
    """Two cars a case: the metric of volumes takes their slices together."""
    cases = competition.table["group"].str[-1].astype(int) // 2
    table = pd.DataFrame({"img": competition.table["img"] + ".jpg", "case": cases})
    table.to_csv(competition.input / "train_masks.csv", index=False)
    words = competition.flags("--volume-column", "case", "--group-column", "case")
    assert call("folds", words) == 0
    found = pd.read_csv(competition.output / "train_folds.csv").set_index("img")["volume"]
    assert found.to_dict() == dict(zip(competition.table["img"], cases, strict=True))


def test_images_are_chosen_mixed_and_blended_as_flags_say(
    train: Train, competition: Competition
) -> None:
    """Images of one grey each: what a sample is made of can be read from it."""
    greys = {}
    for at, img in enumerate(competition.table["img"]):
        greys[img] = 20 * at + 10
        picture = Image.new("L", (WIDTH, HEIGHT), greys[img])
        picture.save(competition.input / "train_hq" / f"{img}.png")
        mask = Image.new("L", (WIDTH, HEIGHT), at % 2)
        mask.save(competition.input / "train_masks" / f"{img}.png")
    names = competition.table["img"] + ".png"
    table_of(competition, image="train_hq/" + names, mask="train_masks/" + names)
    words = ["--mask-suffix", ".png", "--foreground-crops", "0"]
    chosen = train(*words, "--positive-rate", "1", "--run", "chosen")
    assert chosen
    assert all(sample["mask"].all() for sample in chosen.values())
    assert all(greys[img] == sample["image"].max() for img, sample in chosen.items())
    mixed = train(*words, "--mix", "cutmix:p=1", "--run", "mixed")
    for img, sample in mixed.items():
        found = set(np.unique(sample["image"]).tolist())
        assert greys[img] in found
        assert len(found) <= 2
        assert found <= set(greys.values())
    assert any(len(np.unique(sample["image"])) == 2 for sample in mixed.values())
    blended = train(*words, "--mixup", "0.4", "--run", "blended")
    own, mirror = (np.array([greys[img] for img in names]) for names in (blended, [*blended][::-1]))
    seen = np.array([sample["seen"].mean() for sample in blended.values()])
    shares = (seen - mirror) / (own - mirror)
    assert shares == pytest.approx(np.full(6, shares[0]), abs=1e-3)
    assert 0 < shares[0] < 1
    assert all(np.ptp(sample["seen"]) < 1e-3 for sample in chosen.values())


def test_files_of_an_answer_are_called_and_filled_as_flags_say(own: Competition) -> None:
    (own.input / "sample_submission.csv").unlink()
    words = ["--submission", "files", "--answer-id", "{id}_seg.png", "--answer-size", "32,40"]
    words += ["--submission-file", "mine", "--save-masks", "true"]
    for values, levels in (("ids", {0, 1}), ("255", {0, 255})):
        assert call("ensemble", own.flags(*words, "--answer-values", values)) == 0
        folder = own.output / "baseline"
        names = [f"new{at}_01" for at in range(3)]
        assert sorted(path.stem for path in (folder / "mine").iterdir()) == [
            f"{n}_seg" for n in names
        ]
        for name in names:
            answer = cv2.imread(str(folder / "mine" / f"{name}_seg.png"), cv2.IMREAD_UNCHANGED)
            kept = cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            assert answer.shape == (32, 40)
            assert set(np.unique(answer)) == levels
            assert ((answer > 0) != (kept[1::2, 1::2] > 0)).mean() < 0.05


def test_outlines_of_an_answer_have_as_many_points_as_their_tolerance_asks(
    own: Competition,
) -> None:
    (own.input / "sample_submission.csv").unlink()
    counts = []
    for tolerance in ("0.4", "3"):
        words = ["--submission", "wkt", "--wkt-tolerance", tolerance]
        assert call("ensemble", own.flags(*words)) == 0
        text = (own.output / "baseline" / "submission.csv").read_text()
        counts.append(text.count(" "))
    assert counts[1] < 0.7 * counts[0]


@pytest.mark.usefixtures("tiny_net")
def test_where_windows_overlap_they_are_joined_as_flags_say(competition: Competition) -> None:
    """Windows from 0, 24 and 32 on, each predicted by itself, put together by NumPy."""
    words = ("--resize-mode", "crop", "--crop-size", "32", "--train-folds", "0")
    train_and_score(competition, *words)
    network, starts = load_module(checkpoint(competition, 0)).eval(), (0, 24, 32)
    pixels = read_image(competition.input / "test_hq" / "new0_01.jpg")
    image = torch.from_numpy(np.moveaxis(pixels, -1, 0).copy())[None]
    with torch.inference_mode():
        pieces = [network.predict_step({"image": image[..., x : x + 48]})[0, 0] for x in starts]
    for blend in ("crop", "gaussian"):
        total, weights = np.zeros(SIZE), np.zeros(WIDTH)
        away = [np.abs(np.arange(WIDTH) - x - 23.5) for x in starts]
        for x, piece, far in zip(starts, pieces, away, strict=True):
            weight = (
                np.exp(-0.5 * (far / 6) ** 2) if blend == "gaussian" else far == np.min(away, 0)
            )
            total[:, x : x + 48] += piece.numpy() * weight[x : x + 48]
            weights[x : x + 48] += weight[x : x + 48]
        more = ("--window", "64,48", "--overlap", "0.5", "--blend", blend, "--save-probs", "true")
        assert call("ensemble", competition.flags(*words, *more)) == 0
        found = read_probs(competition.output / "baseline" / "probs" / "new0_01.png", 1)[0]
        assert np.abs(found - 255 * total / weights).max() <= 0.51
