"""Lightning_trainer: what a run leaves behind, which runs there are, what it refuses."""

import copy
import gc
import json
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from conftest import Competition, write_mask_gif
from Lightning_module import load_module
from Lightning_trainer import main
from model_dispatcher import MODELS
from trained import checkpoint, finished, fold_of, same_weights, score_of, told
from training.precision import choose_precision

pytestmark = pytest.mark.usefixtures("tiny_net")


# ---------------------------------------------------------------- what a run leaves


def test_a_fold_leaves_what_the_next_stage_needs(
    competition: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(competition.flags("--fold", "0", "--epochs", "3", "--lr", "0.02")) == 0
    folder = fold_of(competition)
    assert [path.name for path in competition.logs.glob("*/fold_*")] == ["fold_0"]
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not list(competition.root.rglob("*.part"))

    summary = finished(competition)
    assert (summary["fold"], summary["epochs"], summary["steps"]) == (0, 3, 9)
    assert summary["monitor"] == "val_dice"
    table = pd.read_csv(folder / "metrics.csv")
    scores = table.dropna(subset="val_dice")
    assert scores["epoch"].tolist() == [0, 1, 2]
    assert {"val_loss", "val_iou"} <= set(scores.dropna(axis=1))
    assert summary["score"] == pytest.approx(scores["val_dice"].max())

    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("val_loss")] == [2, 5, 8]
    assert len(events.Scalars("train_loss")) == 3
    assert max(event.value for event in events.Scalars("lr-AdamW/pg1")) <= 0.02

    known = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert (known["model_name"], known["recipe"]["loss"]) == ("tiny", "bce+dice")
    assert (known["recipe"]["lr"], known["notes"]["fold"]) == (0.02, 0)
    assert known["notes"]["config"]["CROP_SIZE"] == 64
    assert json.loads((folder / "config.json").read_text())["PRECISION"] == "32-true"


def test_every_fold_starts_from_a_network_of_its_own(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    networks: list[weakref.ref] = []
    starts: list[dict[str, torch.Tensor]] = []

    def build(**kwargs: Any) -> torch.nn.Module:
        from tiny_net import TinyNet

        network = TinyNet(**kwargs)
        networks.append(weakref.ref(network))
        starts.append(copy.deepcopy(network.state_dict()))
        return network

    monkeypatch.setitem(MODELS, "tiny", build)
    assert main(competition.flags()) == 0
    out = capsys.readouterr().out
    assert "fold 0: 6 training and 6 validation images" in out
    assert "fold 1: 6 training and 6 validation images" in out
    assert f"{competition.logs / 'baseline'}" in out.splitlines()[-1]
    assert len(networks) == 3  # the first was only tried
    ends = checkpoint(fold_of(competition), "last")["state_dict"]
    assert not torch.equal(starts[2]["head.0.weight"], starts[1]["head.0.weight"])
    assert not torch.equal(starts[2]["head.0.weight"], ends["model.head.0.weight"])
    # Nothing of a fold stays in memory.
    gc.collect()
    assert [network() for network in networks] == [None, None, None]


def test_best_is_the_moving_average_and_scores_what_was_written(
    competition: Competition,
) -> None:
    flags = competition.flags("--fold", "0", "--epochs", "4", "--lr", "0.02")
    assert main(flags) == 0
    folder = fold_of(competition)
    best, last = checkpoint(folder, "best"), checkpoint(folder, "last")
    # Scores rise here, so that best and last are of one epoch.
    assert best["epoch"] == last["epoch"] == 3
    raw = last["current_model_state"]
    assert not same_weights(best["state_dict"], raw)
    assert same_weights(best["state_dict"], last["state_dict"])
    assert not {"optimizer_states", "current_model_state"} & best.keys()
    module = load_module(folder / "checkpoints" / "best.ckpt")
    assert score_of(competition, module) == pytest.approx(finished(competition)["score"], abs=1e-6)
    module.load_state_dict(raw)
    assert abs(score_of(competition, module) - finished(competition)["score"]) > 1e-3

    assert main([*flags, "--run", "raw", "--ema-decay", "0"]) == 0
    folder = fold_of(competition, "raw")
    last = checkpoint(folder, "last")
    assert "current_model_state" not in last
    module = load_module(folder / "checkpoints" / "best.ckpt")
    written = finished(competition, "raw")["score"]
    assert score_of(competition, module) == pytest.approx(written, abs=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2, 64])
def test_steps_of_an_epoch(competition: Competition, accumulate: int) -> None:
    flags = competition.flags("--fold", "0", "--accumulate-grad-batches", str(accumulate))
    assert main(flags) == 0
    assert finished(competition)["steps"] == 2 * math.ceil(3 / accumulate)


@pytest.mark.parametrize(("epochs", "every", "validated"), [(5, 2, [1, 3, 4]), (1, 4, [0])])
def test_the_last_epoch_is_always_validated(
    competition: Competition, epochs: int, every: int, validated: list[int]
) -> None:
    words = ["--fold", "0", "--epochs", str(epochs), "--val-every", str(every)]
    assert main(competition.flags(*words)) == 0
    table = pd.read_csv(fold_of(competition) / "metrics.csv").dropna(subset="val_loss")
    assert table["epoch"].tolist() == validated


def test_seeds(competition: Competition) -> None:
    losses = {}
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        words = ["--fold", "0", "--run", run, "--seed", seed, "--augmentation", "light"]
        assert main(competition.flags(*words)) == 0
        table = pd.read_csv(fold_of(competition, run) / "metrics.csv")
        losses[run] = table["val_loss"].dropna().tolist()
    assert losses["a"] == losses["b"]
    assert losses["a"] != losses["c"]


# ---------------------------------------------------------------- other competitions


def test_classes_by_name(competition: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--task", "multiclass", "--classes", "2", "--class-names", "road,car"]
    words += ["--loss", "ce+dice", "--class-weights", "auto", "--metric", "miou"]
    words += ["--mask-values", "{0: 0, 255: 1}"]
    assert main(competition.flags("--fold", "0", *words)) == 0
    table = pd.read_csv(fold_of(competition) / "metrics.csv").dropna(subset="val_miou")
    means = (table["val_miou_road"] + table["val_miou_car"]) / 2
    np.testing.assert_allclose(table["val_miou"], means, rtol=1e-5)
    # The weights are told, and numbers in the checkpoint.
    recipe = checkpoint(fold_of(competition), "best")["hyper_parameters"]["recipe"]
    road, car = recipe["class_weights"]
    assert road < 1 < car
    assert f"road {road:g}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--resize-mode", "crop", "--crop-size", "32"],
        ["--resize-mode", "pad", "--crop-size", "64,96"],
        ["--metric", "map"],
        ["--precision", "16-mixed"],
        ["--precision", "bf16-mixed", "--channels-last", "on"],
        ["--image-bits", "16", "--augmentation", "light"],
        ["--channels", "1", "--model-mean", "0.5", "--model-std", "0.2"],
        ["--mask-values", "{(0, 0, 0): 0, (255, 255, 255): 1}"],
        ["--mask-format", "rle", "--num-workers", "1"],
        ["--grad-clip", "0", "--warmup", "0", "--ema-decay", "0"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_other_kinds_of_runs_end(competition: Competition, words: list[str]) -> None:
    assert main(competition.flags("--fold", "0", "--epochs", "1", *words)) == 0
    assert 0 <= finished(competition)["score"] <= 1
    load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    # The same command again finds its own run.
    assert main(competition.flags("--fold", "0", "--epochs", "1", *words)) == 0


def test_a_hold_out_fold_is_never_seen(competition: Competition) -> None:
    competition.table["kfold"] = [at % 3 for at in range(len(competition.table))]
    competition.table.to_csv(competition.output / "train_folds.csv", index=False)
    flags = competition.flags("--n-folds", "3", "--holdout", "2")
    assert main(flags) == 0
    folds = sorted(path.name for path in competition.logs.glob("baseline/fold_*"))
    assert folds == ["fold_0", "fold_1"]
    assert finished(competition)["steps"] == 4


def test_inside_kaggle_all_goes_to_the_working_folder(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle = competition.root / "kaggle"
    (kaggle / "input").mkdir(parents=True)
    competition.input.rename(kaggle / "input" / "cars")
    (kaggle / "working").mkdir()
    competition.output.rename(kaggle / "working" / "output")
    monkeypatch.setenv("KAGGLE_ROOT", str(kaggle))
    places = ("--input", "--output", "--logs")
    flags = competition.flags("--fold", "0", "--competition", "cars")
    pairs = zip(flags[::2], flags[1::2], strict=True)
    kept = [word for pair in pairs if pair[0] not in places for word in pair]
    before = {path for path in kaggle.rglob("*") if "working" not in path.parts}
    assert main(kept) == 0
    assert {path for path in kaggle.rglob("*") if "working" not in path.parts} == before
    assert list((kaggle / "working").rglob("best.ckpt"))
    assert {path.name for path in competition.root.iterdir()} == {"kaggle"}


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--folds", "0,7"], ["7", "[0, 1]"]),
        (["--model-name", "smp_unet_resnet43"], ["'resnet43'", "Did you mean resnet34"]),
        (["--loss", "dise"], ["'dise'", "Did you mean dice"]),
        (["--metric", "dise"], ["'dise'", "Did you mean dice"]),
        (["--augmentation", "lite"], ["'lite'", "light"]),
        (["--mask-format", "instances"], ["train_masks"]),
        (["--task", "multiclass", "--classes", "2"], ["bce", "ce"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_mistakes_are_told_before_training(
    competition: Competition, capsys: pytest.CaptureFixture[str], words: list, parts: list
) -> None:
    assert main(competition.flags("--fold", "0", *words)) == 2
    out = told(capsys)
    assert "error:" in out
    assert all(part in out for part in parts), out


def test_typos_are_told_together_before_any_image_is_read(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (competition.input / "train_hq").iterdir():
        path.write_bytes(b"")
    words = ["--model-name", "smp_unet_resnet43", "--loss", "dise", "--augmentation", "lite"]
    assert main(competition.flags(*words)) == 2
    out = told(capsys)
    hints = ["Did you mean resnet34", "Did you mean dice", "AUGMENTATION: unknown"]
    assert all(hint in out for hint in hints), out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--encoder-weights none.pth", "ENCODER_WEIGHTS: no file none.pth"),
        ("--init-ckpt nobody", "INIT_CKPT: no file"),
        ("--pseudo nobody", "PSEUDO: no "),
        ("--seed -1", "SEED: got -1, need 0 to 2147483648"),
        ("--folds 0,0", "TRAIN_FOLDS: got [0, 0], need each fold once"),
        ("--holdout 7", "HOLDOUT: got 7, train_folds.csv has folds [0, 1]"),
        ("--scheduler cosine:floor=-1", "floor is -1, need 0 to 1"),
        ("--scheduler step:at=0.5/2", "at is (0.5, 2), need 0 to 1"),
        ("--scheduler plateau:factor=true", "factor is True, need 0 to 1"),
        ("--metric fbeta:beta=0", "beta is 0, need above 0"),
        ("--metric fbeta:beta=nan", "got 'beta=nan', need name:key=number"),
        ("--metric boundary_f:tolerance=-1", "tolerance is -1, need 0 or more"),
        ("--mix cutmix:p=3", "p is 3, need 0 to 1"),
    ],
)
def test_mistakes_are_told_before_any_image_is_read(
    competition: Competition, capsys: pytest.CaptureFixture[str], words: str, part: str
) -> None:
    for path in (competition.input / "train_hq").iterdir():
        path.write_bytes(b"")
    assert main(competition.flags("--fold", "0", *words.split())) == 2
    assert part in told(capsys)
    assert not competition.logs.exists()


def test_bad_files_are_told_before_training(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    for at in (1, 5):
        path = competition.input / competition.table["image"][at]
        path.write_bytes(path.read_bytes()[:600])
    assert main(competition.flags()) == 2
    out = told(capsys)
    assert "2 of 12 training pairs" in out
    assert not list(competition.logs.rglob("*.ckpt"))


def test_masks_of_nothing_train_no_network(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in competition.table["mask"]:
        write_mask_gif(competition.input / name, np.zeros((64, 80), np.uint8))
    assert main(competition.flags()) == 2
    assert "none of 12 masks looked at holds any foreground" in capsys.readouterr().err


def test_a_run_that_stopped_at_bad_files_may_begin_otherwise(competition: Competition) -> None:
    mask = competition.input / "train_masks" / "car1_02_mask.gif"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:40])
    assert main(competition.flags("--fold", "0")) == 2
    mask.write_bytes(whole)
    assert main(competition.flags("--fold", "0", "--lr", "0.01")) == 0
    assert main(competition.flags("--fold", "0", "--lr", "0.02")) == 2


def test_folds_first(competition: Competition, capsys: pytest.CaptureFixture[str]) -> None:
    (competition.output / "train_folds.csv").unlink()
    assert main(competition.flags()) == 2
    assert "python src/folds.py" in told(capsys)


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("asked", "cuda", "cpu_bf16", "chosen"),
    [
        ("auto", True, True, "16-mixed"),
        ("auto", True, False, "16-mixed"),
        ("auto", False, True, "bf16-mixed"),
        ("auto", False, False, "32-true"),
        ("16-mixed", True, False, "16-mixed"),
        ("16-mixed", False, True, "bf16-mixed"),
        ("16-mixed", False, False, "32-true"),
        ("32-true", True, True, "32-true"),
        ("bf16-mixed", False, False, "bf16-mixed"),
    ],
)
def test_precision(asked: str, cuda: bool, cpu_bf16: bool, chosen: str) -> None:
    assert choose_precision(asked, cuda=cuda, cpu_bf16=cpu_bf16) == chosen


def test_folds_changed_by_hand_are_told(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    table = competition.table.astype({"kfold": str})
    table.loc[1, "kfold"] = "x"
    table.to_csv(competition.output / "train_folds.csv", index=False)
    assert main(competition.flags()) == 2
    assert f"{table['img'][1]}: kfold must be a whole number" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_told(
    competition: Competition, tiny_net: type, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags("--accelerator", "abacus")) == 2
    assert "error: ACCELERATOR, DEVICES" in capsys.readouterr().err
