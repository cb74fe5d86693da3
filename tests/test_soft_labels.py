"""Soft labels against NumPy: raters and probabilities from the files to loss and score."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from answer_forms import encode
from competition.masks import build_masks
from competitions import competition_in
from core.errors import UserError
from data.cache import open_cache
from data.specs import DataSpec
from dataset import SegmentationDataset
from losses import build_loss
from submissions.file_values import file_values, usual_values
from training.batch_loss import batch_loss

SIZE = (24, 32)
RATERS = np.random.default_rng(0).random((5, 3, *SIZE)) < 0.5  # raters of three images
ROWS = [{"img": img, "image": f"train_hq/{img}.png", "mask": ""} for img in "abc"]


def pictures(folder):
    for name in ("train_hq", "train_masks"):
        (folder / name).mkdir(exist_ok=True)
    for img in "abc":
        Image.new("RGB", SIZE[::-1]).save(folder / "train_hq" / f"{img}.png")
    return folder / "train_masks"


def save_grey(folder, img, share):
    Image.fromarray(np.rint(share * 255).astype(np.uint8)).save(folder / f"{img}.png")


def save_floats(folder, img, share):
    np.save(folder / f"{img}.npy", share.astype(np.float32))


def rater_files(folder, at, img):
    for number, mask in enumerate(RATERS[:, at]):
        Image.fromarray(mask.view(np.uint8) * 255).save(folder / f"{img}_r{number}.png")


def source_of(folder, kind, **knobs):
    """A mask source of the raters, in one of the forms that they come in, and its rows."""
    masks = pictures(folder)
    rows = [dict(row) for row in ROWS]
    for at, img in enumerate("abc"):
        share = RATERS[:, at].mean(0)
        if kind == "files":
            rater_files(masks, at, img)
        elif kind == "array":
            np.save(masks / f"{img}.npy", RATERS[:, at].astype(np.uint8))
        elif kind == "grey":
            save_grey(masks, img, share)
        elif kind == "floats":
            save_floats(masks, img, share)
        suffix = "png" if kind == "grey" else "npy"
        rows[at]["mask"] = f"train_masks/{img}.{suffix}"
    if kind == "rows":
        masks.rmdir()
        cells = [
            (img, encode(mask.astype(np.uint8)))
            for at, img in enumerate("abc")
            for mask in RATERS[:, at]
        ]
        pd.DataFrame(cells, columns=["id", "rle"]).to_csv(folder / "train_masks.csv", index=False)
    form = "image" if kind in ("grey", "floats") else "raters"
    pattern = "{id}_*.png" if kind == "files" else ""
    knobs = {"mask_format": form, "mask_pattern": pattern, "soft_labels": True, **knobs}
    return build_masks(competition_in(folder, **knobs)), rows


KINDS = ["files", "array", "rows", "grey", "floats"]


@pytest.mark.parametrize("kind", KINDS)
def test_shares_and_their_majority_are_those_of_numpy(tmp_path, kind):
    masks, rows = source_of(tmp_path, kind)
    for at, row in enumerate(rows):
        share = RATERS[:, at].mean(0)
        assert np.array_equal(masks.read(row, SIZE), share > 0.5)
        assert np.abs(masks.likelihood(row, SIZE) / 254 - share).max() <= 0.5 / 254 + 1e-6
        assert masks.objects(row, SIZE) is None


@pytest.mark.parametrize("kind", ["rows", "grey"])
def test_samples_keep_shares_through_cache_and_augmentation(tmp_path, kind):
    masks, rows = source_of(tmp_path, kind)
    spec = DataSpec(size=SIZE)
    root, folder = tmp_path, tmp_path / "cache"
    cache = open_cache(rows, root=root, spec=spec, masks=masks, kind="disk", folder=folder)
    for augment in (None, "flips"):
        data = SegmentationDataset(rows, root, spec=spec, masks=masks, augment=augment, cache=cache)
        for at, sample in enumerate(data[(k, 0)] for k in range(3)):
            share = RATERS[:, at].mean(0)
            levels = sample["soft"][0].numpy()
            assert np.array_equal(sample["mask"][0].numpy(), levels > 127)
            assert set(levels.ravel()) <= set(np.rint(share * 254).ravel())
            if augment is None:
                assert np.abs(levels / 254 - share).max() <= 0.5 / 254 + 1e-6


def test_ignored_pixels_and_thresholds_stay_what_they_are(tmp_path):
    masks, rows = source_of(tmp_path, "grey", ignore_index=51, mask_threshold=150)
    share = RATERS[:, 0].mean(0)
    grey = np.rint(share * 255)
    expected = np.where(grey == 51, 255, grey >= 150)
    assert np.array_equal(masks.read(rows[0], SIZE), expected)
    levels = masks.likelihood(rows[0], SIZE)
    assert np.array_equal(levels == 255, grey == 51)
    sample = SegmentationDataset(rows, tmp_path, spec=DataSpec(size=SIZE), masks=masks)[0]
    assert np.array_equal(sample["mask"][0].numpy(), expected)


def test_classes_that_overlap_have_shares_of_their_own(tmp_path):
    pictures(tmp_path)
    shares = np.random.default_rng(1).random((3, 2, *SIZE)).astype(np.float32)
    for img, share in zip("abc", shares, strict=True):
        np.save(tmp_path / "train_masks" / f"{img}.npy", share)
    competition = competition_in(
        tmp_path, mask_format="image", soft_labels=True, task="multilabel", classes=2
    )
    masks = build_masks(competition)
    for img, share in zip("abc", shares, strict=True):
        row = {"img": img, "image": "", "mask": f"train_masks/{img}.npy"}
        assert np.array_equal(masks.read(row, SIZE), share > 0.5)
        assert np.abs(masks.likelihood(row, SIZE) / 254 - share).max() < 0.01


SOFT = ["bce", "ce", "focal", "topk", "dice", "iou", "tversky", "gdice", "exp_log"]
SOFT += ["sensitivity_specificity", "bce:positive=3"]


@pytest.mark.parametrize("name", SOFT)
def test_a_loss_is_least_where_the_prediction_is_the_share(name):
    """Of one share everywhere: no other prediction of one share is better."""
    loss = build_loss(name, task="binary", classes=1, soft=True)
    for share in (0.2, 0.6):
        target = torch.full((1, 1, 8, 8), share)
        guesses = torch.linspace(0.02, 0.98, 49)
        values = [float(loss(torch.logit(p).expand(1, 1, 8, 8), target)) for p in guesses]
        assert float(guesses[int(np.argmin(values))]) == pytest.approx(share, abs=0.021)


def test_the_loss_of_a_batch_is_that_of_shares_without_ignored_pixels():
    rng = np.random.default_rng(2)
    levels = rng.integers(0, 256, (2, 1, *SIZE)).astype(np.uint8)
    logits = rng.normal(size=levels.shape).astype(np.float32)
    batch = {"soft": torch.from_numpy(levels), "mask": torch.from_numpy(levels) * 0}
    loss = build_loss("bce", task="binary", classes=1)
    given = {"classes": 1, "border": False, "gate": False, "side_weight": 0.0}
    value = batch_loss(loss, torch.from_numpy(logits), batch, **given)
    share, p = levels / 254, 1 / (1 + np.exp(-logits.astype(float)))
    entropy = -share * np.log(p) - (1 - share) * np.log(1 - p)
    expected = entropy[levels != 255].mean()
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"mask_format": "labels"}, "MASK_FORMAT=labels are 0 or 1"),
        ({"mask_format": "image", "task": "multiclass", "classes": 3}, "one class a pixel"),
        ({"mask_format": "image", "mask_values": {0: 0, 9: 1}}, "MASK_VALUES are of classes"),
        ({"mask_format": "image", "instances": "border"}, "INSTANCES=border needs objects"),
    ],
)
def test_what_has_no_room_for_shares_is_told(tmp_path, knobs, told):
    with pytest.raises(UserError, match=f"SOFT_LABELS=true, but .*{told}"):
        build_masks(competition_in(tmp_path, soft_labels=True, **knobs))


@pytest.mark.parametrize(
    "name", ["lovasz", "boundary", "distance_ce", "hausdorff", "cldice", "mcc"]
)
def test_a_loss_of_0_and_1_is_told(name):
    with pytest.raises(UserError, match=f"loss {name} needs masks of 0 and 1"):
        build_loss(f"bce+{name}", task="binary", classes=1, soft=True)


@pytest.mark.parametrize(("kind", "values"), [("floats", (0, 1)), ("grey", (0, 255))])
def test_files_of_an_answer_have_the_values_of_hard_masks(tmp_path, kind, values):
    source_of(tmp_path, kind)
    suffix = ".png" if kind == "grey" else ".npy"
    competition = competition_in(
        tmp_path, mask_format="image", mask_suffix=suffix, soft_labels=True, submission="files"
    )
    assert file_values(competition, usual_values(competition)) == values


@pytest.mark.parametrize("values", [[0.0, 1.5], [-0.1, 1.0], [0.0, np.nan]])
def test_values_that_are_no_probabilities_are_told(tmp_path, values):
    folder = pictures(tmp_path)
    np.save(folder / "a.npy", np.resize(np.float32(values), SIZE))
    masks = build_masks(competition_in(tmp_path, mask_format="image", soft_labels=True))
    with pytest.raises(UserError, match=r"a.npy: values from .* are no probabilities"):
        masks.read({"img": "a", "image": "", "mask": "train_masks/a.npy"}, SIZE)
