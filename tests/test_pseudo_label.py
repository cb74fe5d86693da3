"""Pseudo-labels: no student learns from a teacher that has seen the student's validation images."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import Lightning_datamodule
from conftest import Competition
from data.pseudo_masks import MARK, PseudoMasks
from Lightning_module import load_module
from model_dispatcher import MODELS
from pseudo_label import sure_pixels
from runs.pairs import pseudo_verdict
from scoring.gains import Gain
from stages import LEARN, NETWORKS, call, checkpoint, copy_of, errors_of

# TinyNet is never sure of all it sees.
ASK = ("--confident", "0.05")


@pytest.fixture(scope="module")
def labelled(scored: Competition, tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """A scored run and its pseudo-labels; read-only."""
    made = copy_of(scored, tmp_path_factory.mktemp("pseudo"))
    assert call("pseudo_label", [*made.flags(*LEARN), *ASK]) == 0
    return made


def folder_of(competition: Any) -> Path:
    return competition.output / "baseline" / "pseudo"


def student(competition: Any, *more: str) -> list[str]:
    return competition.flags(*LEARN, "--run", "student", "--pseudo", "baseline", *more)


def test_masks_are_those_of_the_folds_own_network(labelled) -> None:
    table = pd.read_csv(folder_of(labelled) / "pseudo.csv", dtype={"img": str})
    assert set(table["fold"]) == {0, 1}
    for row in table.to_dict("records"):
        assert row["teacher"] == f"baseline/fold_{row['fold']}/checkpoints/best.ckpt"
        image = cv2.imread(str(labelled.input / row["image"]))[..., ::-1]
        shown = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
        stored = cv2.imread(
            str(folder_of(labelled) / f"fold_{row['fold']}" / f"{row['img']}.png"), 0
        )
        assert stored.shape == image.shape[:2]
        assert set(np.unique(stored)) <= {0, 255}
        agreements = []
        for fold in (0, 1):
            with patch.dict(MODELS, NETWORKS), torch.inference_mode():
                module = load_module(checkpoint(labelled, fold))
                tensor = torch.from_numpy(shown.transpose(2, 0, 1).copy())[None]
                probs = module.predict_step({"image": tensor})[0, 0].numpy()
            mask = cv2.resize(probs, image.shape[1::-1]) > 0.5
            agreements.append(((stored > 0) == mask).mean())
        assert agreements[row["fold"]] > 0.97
        assert agreements[row["fold"]] >= agreements[1 - row["fold"]]


def test_students_learn_from_their_own_teacher_only(labelled, tmp_path: Path) -> None:
    """What each student's loaders hold: no mask of another fold's teacher, none in validation."""
    competition = copy_of(labelled, tmp_path)
    seen: list[Any] = []
    build = Lightning_datamodule.SegmentationDataModule

    def spy(train: Any, val: Any, **more: Any) -> Any:
        seen.append((list(train), list(val)))
        return build(train, val, **more)

    with patch.object(Lightning_datamodule, "SegmentationDataModule", spy):
        assert call("Lightning_trainer", student(competition)) == 0
    fold_of = dict(zip(competition.table["img"], competition.table["kfold"], strict=True))
    assert len(seen) == 2
    for fold, (train, val) in enumerate(seen):
        own = [row for row in train if row["img"].startswith(MARK)]
        assert len(own) == 3
        assert all(
            Path(row["mask"]).parent == folder_of(competition) / f"fold_{fold}" for row in own
        )
        teacher = torch.load(checkpoint(competition, fold), weights_only=True)
        assert teacher["hyper_parameters"]["notes"]["fold"] == fold
        assert all(fold_of[row["img"]] != fold for row in train if row not in own)
        assert {fold_of[row["img"]] for row in val} == {fold}
    assert call("Lightning_tester", student(competition)) == 0
    table = pd.read_csv(competition.output / "student" / "oof.csv")
    assert sorted(table["img"]) == sorted(competition.table["img"])


def test_the_ratio_bounds_what_is_added(labelled, tmp_path: Path, capsys) -> None:
    competition = copy_of(labelled, tmp_path)
    flags = student(competition, "--pseudo-ratio", "0.34", "--train-folds", "0")
    assert call("Lightning_trainer", flags) == 0
    assert "fold 0: 8 training and 6 validation images" in capsys.readouterr().out


def test_other_folds_are_refused(labelled, tmp_path: Path, capsys) -> None:
    """Folds dealt anew: a teacher may have trained on what a student is scored on."""
    competition = copy_of(labelled, tmp_path)
    path = competition.output / "train_folds.csv"
    table = pd.read_csv(path)
    table["kfold"] = 1 - table["kfold"]
    table.to_csv(path, index=False)
    assert call("Lightning_trainer", student(competition)) == 2
    assert "are of other folds or data" in " ".join(errors_of(capsys))
    assert call("pseudo_label", [*competition.flags(*LEARN), *ASK]) == 2
    assert "train_folds.csv has changed" in " ".join(errors_of(capsys))


def test_images_with_true_masks_are_refused(labelled, tmp_path: Path, capsys) -> None:
    competition = copy_of(labelled, tmp_path)
    train = str(competition.input / "train_hq")
    assert call("pseudo_label", [*competition.flags(*LEARN), "--images", train]) == 2
    assert "have true masks" in errors_of(capsys)[0]


def test_mistakes_are_named(labelled, tmp_path: Path, capsys) -> None:
    competition = copy_of(labelled, tmp_path)
    assert call("Lightning_trainer", student(competition, "--pseudo", "nobody")) == 2
    line = errors_of(capsys)[0]
    assert "python src/pseudo_label.py " in line
    assert "--run nobody" in line
    assert call("pseudo_label", [*competition.flags(*LEARN), "--confident", "1.0"]) == 2
    assert "is sure of no image" in errors_of(capsys)[0]


def test_which_pixels_are_sure() -> None:
    probs = torch.tensor([[[0.1, 0.5, 0.9]], [[0.1, 0.1, 0.3]]])
    assert sure_pixels(probs[:1], "binary").tolist() == [[True, False, True]]
    assert sure_pixels(probs, "multilabel").tolist() == [[True, False, False]]
    assert sure_pixels(probs, "multiclass").tolist() == [[False, False, True]]


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_stored_masks_are_read_as_masks(tmp_path: Path, task: str) -> None:
    from imaging.levels import write_mask

    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (3, 8, 9)).astype(np.uint8)
    given = {"binary": mask[:1], "multilabel": mask, "multiclass": mask[0] * 255}[task]
    write_mask(tmp_path / "a.png", given)

    class Real:
        has_objects = ignores = False
        soft_cut = None

        def read(self, *args: Any) -> str:
            return "real"

    source: Any = PseudoMasks(Real(), task=task, classes=3)
    got = source.read({"img": f"{MARK}a", "mask": str(tmp_path / "a.png")}, (8, 9))
    assert np.array_equal(got, given[0] if task == "binary" else given)
    assert source.read({"img": "a"}, (8, 9)) == "real"


def test_the_verdict_says_when_to_stop(labelled, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    knobs = {"knobs": {"PSEUDO": "base"}}
    (tmp_path / "student" / "run.json").write_text(json.dumps(knobs))
    names = ["base", "student"]
    assert "may teach another round" in pseudo_verdict(tmp_path, names, Gain(0.1, 0.05, 0.2))
    assert "stop here and keep base" in pseudo_verdict(tmp_path, names, Gain(-0.1, -0.2, 0.0))
    assert pseudo_verdict(tmp_path, ["other", "student"], Gain(0.1, 0.05, 0.2)) == ""


def test_labels_of_another_network_or_picture_are_refused(
    labelled: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copy_of(labelled, tmp_path)
    mask = next((folder_of(own) / "fold_0").iterdir())
    cv2.imwrite(str(mask), 255 - cv2.imread(str(mask), 0))
    capsys.readouterr()
    assert call("Lightning_trainer", student(own)) == 2
    assert errors_of(capsys)[1].strip().startswith(f"{mask.stem}: its image or its mask")
    path = own.output / "baseline" / "report.json"
    report = json.loads(path.read_text())
    report["folds"][0]["network"] = "0" * 64
    path.write_text(json.dumps(report))
    assert call("Lightning_trainer", student(own)) == 2
    assert "fold 0: the run has another network by now" in errors_of(capsys)[1]
