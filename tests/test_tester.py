"""Lightning_tester.py: scores of images that no network of theirs has seen."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from conftest import Competition
from imaging.drawings import PREDICTION
from imaging.images import read_image
from imaging.levels import read_probs
from inference import predictor
from measures.matching import instance_map
from runs.scored import scores_line
from stages import (
    CLASS_FLAGS,
    LEARN,
    OBJECT_FLAGS,
    TRAIN,
    VOID,
    call,
    checkpoint,
    copy_of,
    errors_of,
    paint_columns,
    paint_rows,
    report_of,
    train_and_score,
    write_classes,
    write_objects,
)


def run_of(competition: Competition) -> Path:
    return competition.output / "baseline"


def score_again(competition: Competition, *flags: str) -> int:
    return call("Lightning_tester", competition.flags(*LEARN, *flags))


def dice_iou(mask: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    both, either = (mask & truth).sum(), (mask | truth).sum()
    return (2 * both / (mask.sum() + truth.sum()), both / either) if either else (1.0, 1.0)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---------------------------------------------------------------- honest numbers


def test_every_training_image_once_from_the_network_that_never_saw_it(scored: Competition) -> None:
    table = pd.read_csv(run_of(scored) / "oof.csv")
    assert table["img"].tolist() == sorted(scored.table["img"])
    folds = scored.table.set_index("img")["kfold"]
    assert (table.set_index("img")["fold"] == folds.loc[table["img"]].to_numpy()).all()
    pictures = {path.stem for path in (run_of(scored) / "oof").glob("*.png")}
    assert pictures == set(table["img"])
    report = report_of(scored)
    assert [fold["checkpoint"] for fold in report["folds"]] == [
        checkpoint(scored, fold).relative_to(scored.logs).as_posix() for fold in (0, 1)
    ]
    assert [report["images"], *(fold["images"] for fold in report["folds"])] == [12, 6, 6]


def test_scores_are_those_of_the_pictures_on_disk(scored: Competition) -> None:
    rows = scored.table.set_index("img")["rle_mask"]
    pairs = []
    for img, text in rows.items():
        probs = read_probs(run_of(scored) / "oof" / f"{img}.png", 1)[0]
        pairs.append((probs > 127, paint_rows(text, (64, 80)).astype(bool)))
    each = np.array([dice_iou(mask, truth) for mask, truth in pairs])
    table = pd.read_csv(run_of(scored) / "oof.csv").set_index("img").loc[rows.index]
    assert np.allclose(table[["dice", "iou"]], each, atol=1e-5)
    masks, truths = np.concatenate(pairs, axis=1)
    pooled = dice_iou(masks, truths)
    expected = {
        "dice": each[:, 0].mean(),
        "iou": each[:, 1].mean(),
        "dataset_dice": pooled[0],
        "dataset_iou": pooled[1],
        "miou": pooled[1],
        "precision": (masks & truths).sum() / masks.sum(),
        "recall": (masks & truths).sum() / truths.sum(),
    }
    report = report_of(scored)
    assert report["scores"] == pytest.approx(expected, abs=1e-5)
    assert report["score"] == report["scores"][report["metric"]] > 0.8
    for fold in report["folds"]:
        inside = (scored.table["kfold"] == fold["fold"]).to_numpy()
        assert fold["scores"]["dice"] == pytest.approx(each[inside, 0].mean(), abs=1e-5)


def test_pictures_of_cases(scored: Competition) -> None:
    sheet = cv2.imread(str(run_of(scored) / "cases.png"))
    assert sheet.shape == (4 * (336 + 32), 4 * 428, 3)  # 64 x 80 pixels, 420 wide, and a title
    assert (sheet == PREDICTION[::-1]).all(2).any()


def test_the_line_of_scores_names_no_score_twice() -> None:
    """METRIC first, then what a person compares; `miou` of one class is `dataset_iou` again."""
    scores = dict.fromkeys(["dataset_iou", "dice", "iou", "miou", "precision", "recall"], 0.5)
    shown = "dataset_iou 0.5000, dice 0.5000, iou 0.5000, precision 0.5000, recall 0.5000"
    assert scores_line(scores) == shown
    assert scores_line({"dice": 1.0, "map": 0.25, "iou": 1.0}) == "dice 1.0000, iou 1.0000"


# ---------------------------------------------------------------- again, and again with a change


def test_a_second_run_predicts_nothing_and_changes_nothing(
    own: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("predicted again")

    before = {name: (run_of(own) / name).read_bytes() for name in ("oof.csv", "report.json")}
    pictures = listing(run_of(own) / "oof")
    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "test", refuse)
        assert score_again(own) == 0
    assert {name: (run_of(own) / name).read_bytes() for name in before} == before
    assert listing(run_of(own) / "oof") == pictures
    for fold in (0, 1):
        checkpoint(own, fold).touch()
    assert score_again(own) == 0
    assert {name: (run_of(own) / name).read_bytes() for name in before} == before
    assert listing(run_of(own) / "oof") != pictures


def test_a_lost_picture_is_drawn_again(own: Competition) -> None:
    lost = run_of(own) / "oof" / "car0_01.png"
    before = lost.read_bytes()
    lost.unlink()
    assert score_again(own) == 0
    assert lost.read_bytes() == before


def test_another_threshold_counts_anew(own: Competition) -> None:
    before = report_of(own)
    assert score_again(own, "--threshold", "0.99") == 0
    after = report_of(own)
    assert (before["threshold"], after["threshold"]) == (0.5, 0.99)
    assert after["scores"]["recall"] < before["scores"]["recall"]
    assert after["scores"]["precision"] >= before["scores"]["precision"]


def test_worst_first(own: Competition) -> None:
    before = pd.read_csv(run_of(own) / "oof.csv")
    assert score_again(own, "--worst-first") == 0
    table = pd.read_csv(run_of(own) / "oof.csv")
    assert table["dice"].is_monotonic_increasing
    assert table["img"].tolist() != before["img"].tolist()
    pd.testing.assert_frame_equal(table.sort_values("img", ignore_index=True), before)


def test_one_picture(own: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    picture = own.input / "test_hq" / "new1_01.jpg"
    before = listing(run_of(own))
    assert score_again(own, "--image", str(picture)) == 0
    drawn = read_image(run_of(own) / "overlay_new1_01.png")
    original = read_image(picture)
    line = (drawn == PREDICTION).all(2)
    assert line.any()
    assert np.array_equal(drawn[~line], original[~line])
    assert "new1_01.jpg" in capsys.readouterr().out
    assert {name: told for name, told in listing(run_of(own)).items() if name in before} == before


# ---------------------------------------------------------------- what is missing or does not fit


def test_a_fold_that_is_not_trained_is_named(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(own.logs / "baseline" / "fold_1")
    assert score_again(own) == 0
    assert "only [0] are trained" in capsys.readouterr().out
    table = pd.read_csv(run_of(own) / "oof.csv")
    assert table["img"].tolist() == sorted(own.table["img"][own.table["kfold"] == 0])
    assert report_of(own)["images"] == 6
    assert score_again(own, "--image", str(own.input / "test_hq" / "new0_01.jpg")) == 0


def test_no_fold_at_all(competition: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    assert score_again(competition) == 2
    assert errors_of(capsys)[0].startswith("error: run 'baseline' has no network in")
    assert not run_of(competition).exists()


def test_folds_that_changed_would_flatter(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own.output / "train_folds.csv"
    table = pd.read_csv(path)
    table.assign(kfold=1 - table["kfold"]).to_csv(path, index=False)
    assert score_again(own) == 2
    assert "train_folds.csv has changed" in "".join(errors_of(capsys))


def test_an_architecture_that_config_does_not_name(own: Competition) -> None:
    other = copy_of(own, own.root / "other")
    train_and_score(other, "--run", "wide", "--model-name", "wide")
    shutil.copy(other.logs / "wide" / "fold_0" / "checkpoints" / "best.ckpt", checkpoint(own, 0))
    assert score_again(own) == 0
    before, after, wide = (
        pd.read_csv(path / "oof.csv").set_index("img")["dice"]
        for path in (run_of(other), run_of(own), other.output / "wide")
    )
    inside = pd.read_csv(run_of(own) / "oof.csv").set_index("img")["fold"] == 0
    assert (after[inside] == wide[inside]).all()
    assert (after[~inside] == before[~inside]).all()


@pytest.mark.parametrize("what", ["cut off", "foreign", "weights of another", "unknown network"])
def test_a_checkpoint_that_does_not_load(
    own: Competition, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    path = checkpoint(own, 1)
    content = torch.load(path, weights_only=True)
    if what == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    elif what == "foreign":
        torch.save({"weight": torch.zeros(3)}, path)
    elif what == "weights of another":
        content["state_dict"]["model.head.0.weight"] = torch.zeros(3, 8, 3, 3)
        torch.save(content, path)
    else:
        content["hyper_parameters"]["model_name"] = "gone"
        torch.save(content, path)
    capsys.readouterr()
    assert score_again(own) == 2
    lines = errors_of(capsys)
    assert (len(lines), str(path) in lines[0]) == (1, True)
    told = {"unknown network": "'gone'", "weights of another": "head.0.weight"}
    assert told.get(what, "") in lines[0]


def test_a_network_for_other_classes(own: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(own, 0)
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["data"] |= {"task": "multilabel", "classes": 3}
    content["state_dict"]["model.head.0.weight"] = torch.zeros(3, 8, 3, 3)
    content["state_dict"]["model.head.0.bias"] = torch.zeros(3)
    torch.save(content, path)
    assert score_again(own) == 2
    (line,) = errors_of(capsys)
    for word in (str(path), "multilabel", "binary", "CLASSES", "--run"):
        assert word in line


def test_a_fold_that_nobody_trains_on_is_scored_by_all(
    competition: Competition,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = competition.table.assign(kfold=competition.table["group"].str[-1].astype(int) % 3)
    table.to_csv(competition.output / "train_folds.csv", index=False)
    train_and_score(competition, "--holdout", "2")
    report = report_of(competition)
    assert [fold["fold"] for fold in report["folds"]] == [0, 1]
    assert (report["images"], report["holdout"]["images"]) == (9, 3)
    assert report["holdout"]["scores"]["dice"] > 0.8
    assert "hold-out fold 2: 3 images" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "load_teams", None)
        assert score_again(competition, "--holdout", "2") == 0
    assert report_of(competition) == report
    assert score_again(competition) == 2
    assert "HOLDOUT: the run has 2, now None" in "".join(errors_of(capsys))


# ---------------------------------------------------------------- classes with void, objects


@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
def test_classes_with_void_at_odd_sizes(tmp_path: Path, mode: str) -> None:
    competition = write_classes(tmp_path)
    flags = (*CLASS_FLAGS, "--resize-mode", mode)
    assert call("folds", competition.flags(*LEARN, *flags)) == 0
    train_and_score(competition, *flags)
    doubtful, table = 0, np.zeros((3, 3))
    for img in TRAIN:
        probs = read_probs(run_of(competition) / "oof" / f"{img}.png", 3).astype(int)
        labels = competition.input / "labels" / f"{img}.png"
        truth = cv2.imread(str(labels), cv2.IMREAD_UNCHANGED)
        assert probs.shape[1:] == truth.shape
        assert np.abs(probs.sum(0) - 255).max() <= 2
        kept = truth != VOID
        ranked = np.sort(probs, axis=0)
        doubtful += ((ranked[-1] - ranked[-2] <= 1) & kept).sum()
        np.add.at(table, (truth[kept], probs.argmax(0)[kept]), 1)
    hits = table.diagonal()
    ious = hits / (table.sum(0) + table.sum(1) - hits)
    report = report_of(competition)
    assert list(report["per_class"]) == ["ground", "red", "blue"]
    rounding = doubtful / hits.min() + 1e-5
    assert rounding < 0.05
    assert list(report["per_class"].values()) == pytest.approx(ious, abs=rounding)
    assert report["scores"]["miou"] == pytest.approx(ious.mean(), abs=rounding)
    assert report["score"] > 0.6


def test_objects_of_run_length_rows_that_touch_or_share_a_pixel(tmp_path: Path) -> None:
    competition = write_objects(tmp_path)
    flags = (*OBJECT_FLAGS, "--resize-mode", "crop")
    assert call("folds", competition.flags(*LEARN, *flags)) == 0
    train_and_score(competition, *flags)
    labels = pd.read_csv(competition.input / "labels.csv")
    scores = {}
    for img, rows in labels.groupby("ImageId"):
        probs = read_probs(run_of(competition) / "oof" / f"{img}.png", 1)[0]
        truth = np.zeros(probs.shape, np.int32)
        for at, text in enumerate(rows["EncodedPixels"]):
            inside = paint_columns(text, probs.shape) > 0
            truth[inside & (truth == 0)] = at + 1
        assert truth.max() == len(rows)
        mask = (probs > 127).astype(np.uint8)
        scores[img] = instance_map(cv2.connectedComponents(mask, connectivity=8)[1], truth)
    table = pd.read_csv(run_of(competition) / "oof.csv").set_index("img")["map"]
    assert table.to_dict() == pytest.approx(scores, abs=1e-6)
    report = report_of(competition)
    assert report["score"] == pytest.approx(np.mean(list(scores.values())), abs=1e-6)
    assert report["score"] > 0.3
