"""The predictor: the mean of any networks, whatever their sizes, for pictures of any kind."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from conftest import Competition
from imaging.geometry import fit_image
from imaging.images import read_image
from inference.predictor import Predictor
from Lightning_datamodule import LoaderSpec
from Lightning_module import load_module
from model_dispatcher import MODELS
from stages import (
    NETWORKS,
    TEST_SIZES,
    call,
    checkpoint,
    copy_of,
    masks_of,
    train_and_score,
    write_two_runs,
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """Three runs of two folds, one for each resize mode; only to be looked at."""
    competition = write_two_runs(tmp_path_factory.mktemp("scored"))
    crop = ("--run", "crop", "--model-name", "padded", "--resize-mode", "crop")
    return train_and_score(competition, *crop)


@pytest.fixture(autouse=True)
def _networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, build in NETWORKS.items():
        monkeypatch.setitem(MODELS, name, build)


def by_hand(path: Path, picture: Path) -> np.ndarray:
    """Probabilities (H, W) of one network at the picture's size, without the predictor."""
    module = load_module(path)
    image = read_image(picture)
    (height, width), spec = image.shape[:2], module.spec
    scaled = fit_image(image, spec.size, spec.resize_mode).astype(np.float32) / 255
    scaled = (scaled - np.array(spec.mean)) / np.array(spec.std)
    with torch.no_grad():
        tensor = torch.tensor(scaled.transpose(2, 0, 1)[None], dtype=torch.float32)
        probs = module.model(tensor).sigmoid()
    if spec.resize_mode == "pad":
        scale = min(spec.size[0] / height, spec.size[1] / width)
        inner = round(height * scale), round(width * scale)
        top, left = ((side - own) // 2 for side, own in zip(spec.size, inner, strict=True))
        probs = probs[..., top : top + inner[0], left : left + inner[1]]
    return F.interpolate(probs, (height, width), mode="bilinear")[0, 0].numpy()


@pytest.mark.parametrize("runs", [["baseline"], ["wide"], ["crop"], ["baseline", "wide", "crop"]])
def test_probabilities_are_the_mean_of_single_networks(
    scored: Competition, runs: list[str]
) -> None:
    paths = [[checkpoint(scored, fold, run) for fold in (0, 1)] for run in runs]
    loader = LoaderSpec(val_batch_size=3, num_workers=0)
    predictor = Predictor(paths, loader=loader, accelerator="cpu", precision="32-true")
    seen = []
    for name, size, probs in predictor.images(
        [(name, scored.input / "test_hq" / name) for name in TEST_SIZES]
    ):
        each = [by_hand(p, scored.input / "test_hq" / name) for run in paths for p in run]
        assert (size, probs.shape) == (TEST_SIZES[name], (1, *TEST_SIZES[name]))
        assert np.abs(probs[0].numpy() - np.mean(each, axis=0)).max() < 1e-5
        seen.append(name)
    assert sorted(seen) == sorted(TEST_SIZES)


def test_every_network_weighs_the_same_whatever_its_run(scored: Competition) -> None:
    paths = [checkpoint(scored, 0), checkpoint(scored, 1)]
    wide = checkpoint(scored, 0, "wide")
    loader = LoaderSpec(num_workers=0)
    predictor = Predictor([paths, [wide]], loader=loader, accelerator="cpu", precision="32-true")
    picture = scored.input / "test_hq" / "rgba_01.png"
    ((_, _, probs),) = predictor.images([("x", picture)])
    expected = np.mean([by_hand(path, picture) for path in (*paths, wide)], axis=0)
    assert np.abs(probs[0].numpy() - expected).max() < 1e-5


def test_the_submission_is_that_mean_above_the_threshold(
    scored: Competition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copy_of(scored, tmp_path)
    for runs in (["baseline"], ["baseline", "wide"], ["crop", "wide"]):
        assert call("ensemble", own.flags("--runs", ",".join(runs))) == 0
        assert f"7 images, {2 * len(runs)} networks of {', '.join(runs)}" in capsys.readouterr().out
        found = masks_of(own.output / "+".join(runs) / "submission.csv")
        for name, mask in found.items():
            picture = own.input / "test_hq" / name
            each = [by_hand(checkpoint(own, k, run), picture) for run in runs for k in (0, 1)]
            sure = np.abs(np.mean(each, axis=0) - 0.5) > 1e-5
            assert np.array_equal(mask[sure], (np.mean(each, axis=0) > 0.5)[sure])
        assert 0 < sum(mask.sum() for mask in found.values()) < sum(m.size for m in found.values())
