"""All scripts one after the other, as a user runs them, for each kind of competition."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
from scipy import ndimage

from conftest import Competition, write_competition
from imaging.images import read_image
from inference import predictor
from stages import (
    CLASS_FLAGS,
    LEARN,
    OBJECT_FLAGS,
    TEST,
    TRAIN,
    call,
    paint_columns,
    paint_rows,
    write_classes,
    write_objects,
)

STAGES = ("folds", "Lightning_trainer", "Lightning_tester", "ensemble")


def run_all(competition: Competition, *flags: str) -> pd.DataFrame:
    """Runs every stage; returns the submission as text."""
    words = competition.flags(*LEARN, *flags)
    for name in STAGES:
        assert call(name, words) == 0, name
    path = competition.output / "baseline" / "submission.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def files_of(competition: Competition) -> dict[str, bytes]:
    """Everything there is, by content."""
    return {
        path.relative_to(competition.root).as_posix(): path.read_bytes()
        for path in sorted(competition.root.rglob("*"))
        if path.is_file()
    }


def check_nothing_changes(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, *flags: str
) -> None:
    """Runs every stage again: nothing is trained or predicted, no byte differs."""

    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("did finished work again")

    for owner, name in ((pl.Trainer, "fit"), (pl.Trainer, "test"), (predictor, "load_teams")):
        monkeypatch.setattr(owner, name, refuse)
    before = files_of(competition)
    run_all(competition, *flags)
    after = files_of(competition)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == []
    assert [name for name in after if name.endswith(".part")] == []


def score_of(competition: Competition) -> float:
    return json.loads((competition.output / "baseline" / "report.json").read_text())["score"]


def test_a_row_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    competition = write_competition(tmp_path)
    (competition.output / "train_folds.csv").unlink()
    found = run_all(competition)
    assert found["img"].tolist() == [f"new{at}_01.jpg" for at in range(3)]
    for img, text in found.itertuples(index=False):
        mask = paint_rows(text, (64, 80))
        # The one bright ellipse of the picture, which only the networks could have told us.
        image = read_image(competition.input / "test_hq" / img).mean(2)
        assert image[mask == 1].mean() > image[mask == 0].mean() + 80
    assert score_of(competition) > 0.8
    check_nothing_changes(competition, monkeypatch)


def test_a_row_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    competition = write_classes(tmp_path)
    found = run_all(competition, *CLASS_FLAGS)
    sample = pd.read_csv(competition.input / "sample_submission.csv", dtype=str)
    assert found.columns.tolist() == ["image", "class", "pixels"]
    assert found[["image", "class"]].equals(sample[["image", "class"]])
    for name, rows in found.groupby("image"):
        image = read_image(competition.input / "new_images" / str(name)).astype(int)
        masks = {
            row["class"]: paint_columns(row["pixels"], image.shape[:2])
            for _, row in rows.iterrows()
        }
        assert (sum(masks.values()) == 1).all()
        red, blue = image[..., 0] - image[..., 2], image[..., 2] - image[..., 0]
        assert red[masks["red"] == 1].mean() > 80
        assert blue[masks["blue"] == 1].mean() > 80
        assert np.abs(red[masks["ground"] == 1]).mean() < 60
    assert score_of(competition) > 0.6
    check_nothing_changes(competition, monkeypatch, *CLASS_FLAGS)


def test_a_row_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    competition = write_objects(tmp_path)
    flags = (*OBJECT_FLAGS, "--resize-mode", "crop", "--min-area", "20", "--split", "stratified")
    found = run_all(competition, *flags)
    assert found["ImageId"].unique().tolist() == TEST
    for name, rows in found.groupby("ImageId"):
        image = cv2.imread(str(competition.input / "stage_test" / f"{name}.png"))
        objects = np.array([paint_columns(text, image.shape[:2]) for text in rows["EncodedPixels"]])
        assert objects.sum(0).max() == 1
        assert objects.sum((1, 2)).min() >= 20
        assert all(ndimage.label(one, np.ones((3, 3)))[1] == 1 for one in objects)
        assert 3 <= len(objects) <= 6  # of the four that were drawn
    assert score_of(competition) > 0.3
    check_nothing_changes(competition, monkeypatch, *flags)


def test_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("input", "output", "logs")]
    competition = Competition(tmp_path, *folders, pd.DataFrame())
    small = ("--cars", "4", "--views", "2", "--test", "1")
    assert call("demo_data", ["--input", str(folders[0]), *small]) == 0
    found = run_all(competition)
    assert len(found) == 2
    frames = {path.name for path in (competition.input / "test_hq").iterdir()}
    assert set(found["img"]) == frames
    assert all(paint_rows(text, (320, 480)).max() <= 1 for text in found["rle_mask"])
    check_nothing_changes(competition, monkeypatch)
    assert call("demo_data", ["--input", str(folders[0]), *small]) == 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_lacks_the_one_before(
    tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / name for name in ("input", "output", "logs")]
    words = Competition(tmp_path, *folders, pd.DataFrame({"img": TRAIN})).flags()
    assert call(stage, words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    asked = {"folds": "demo_data.py", "ensemble": "Lightning_tester.py"}
    assert asked.get(stage, "folds.py") in error
    assert list(tmp_path.rglob("*")) == []
