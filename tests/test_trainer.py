"""Lightning_trainer: what a run leaves behind, how it goes on, and when it refuses to."""

import copy
import gc
import json
import math
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from conftest import TESTS, Competition, run_python
from Lightning_datamodule import LoaderSpec, SegmentationDataModule, split_rows
from Lightning_module import load_module
from Lightning_trainer import main
from masks import FileMasks, MaskRules
from model_dispatcher import MODELS
from precision import choose_precision
from tiny_net import HeadedNet

pytestmark = pytest.mark.usefixtures("tiny_net")


def fold_of(competition: Competition, run: str = "baseline", fold: int = 0) -> Path:
    return competition.logs / run / f"fold_{fold}"


def finished(competition: Competition, run: str = "baseline", fold: int = 0) -> dict[str, Any]:
    return json.loads((fold_of(competition, run, fold) / "finished.json").read_text())


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def same_weights(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


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
    assert len(networks) == 2
    ends = checkpoint(fold_of(competition), "last")["state_dict"]
    assert not torch.equal(starts[1]["head.0.weight"], starts[0]["head.0.weight"])
    assert not torch.equal(starts[1]["head.0.weight"], ends["model.head.0.weight"])
    # Nothing of a fold stays in memory.
    gc.collect()
    assert [network() for network in networks] == [None, None]


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


def score_of(competition: Competition, module: Any) -> float:
    """Mean Dice of the validation images of fold 0, by NumPy."""
    train, val = split_rows(competition.table, 0)
    data = SegmentationDataModule(
        train, val, root=competition.input, spec=module.spec,
        masks=FileMasks(MaskRules("binary"), competition.input),
        loader=LoaderSpec(val_batch=1, workers=0),
    )  # fmt: skip
    scores = []
    for batch in data.val_dataloader():
        with torch.inference_mode():
            pred = (module.eval()(batch["image"]).sigmoid() > 0.5).numpy()
        mask = batch["mask"].numpy() > 0
        scores.append(2 * (pred & mask).sum() / (pred.sum() + mask.sum()))
    return float(np.mean(scores))


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


def test_classes_by_name(competition: Competition) -> None:
    words = ["--task", "multiclass", "--classes", "2", "--class-names", "road,car"]
    words += ["--loss", "ce+dice", "--class-weights", "1,3", "--metric", "miou"]
    assert main(competition.flags("--fold", "0", *words)) == 0
    table = pd.read_csv(fold_of(competition) / "metrics.csv").dropna(subset="val_miou")
    means = (table["val_miou_road"] + table["val_miou_car"]) / 2
    np.testing.assert_allclose(table["val_miou"], means, rtol=1e-5)


@pytest.mark.parametrize(
    "words",
    [
        ["--resize-mode", "crop", "--crop-size", "32"],
        ["--resize-mode", "pad", "--crop-size", "64,96"],
        ["--metric", "map"],
        ["--precision", "16-mixed"],
        ["--precision", "bf16-mixed", "--channels-last", "false"],
        ["--image-bits", "16", "--augmentation", "light"],
        ["--channels", "1", "--model-mean", "0.5", "--model-std", "0.2"],
        ["--mask-values", "{(0, 0, 0): 0, (255, 0, 0): 1, 0: 0, 1: 1}"],
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


# ---------------------------------------------------------------- again


def test_finished_folds_are_kept_and_others_added(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags("--fold", "0")) == 0
    best = fold_of(competition) / "checkpoints" / "best.ckpt"
    before = best.stat().st_mtime_ns
    told(capsys)
    # Where and how fast may change within a run.
    assert main(competition.flags("--val-batch-size", "3", "--num-workers", "1")) == 0
    out = told(capsys)
    assert "fold 0: finished before, kept" in out
    assert "fold 1: 6 training" in out
    assert "checked" not in out
    assert best.stat().st_mtime_ns == before
    assert finished(competition, fold=1)["epochs"] == 2


def test_another_configuration_is_refused_with_what_differs(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags("--fold", "0")) == 0
    before = finished(competition)
    told(capsys)
    assert main(competition.flags("--fold", "0", "--lr", "0.5", "--crop-size", "96")) == 2
    out = told(capsys)
    for part in ("'baseline'", "LR: the run has 0.001, now 0.5", "CROP_SIZE", "--overwrite"):
        assert part in out
    assert "EPOCHS" not in out
    assert finished(competition) == before

    table = competition.table.assign(kfold=competition.table["kfold"][::-1].tolist())
    table.to_csv(competition.output / "train_folds.csv", index=False)
    assert main(competition.flags("--fold", "0")) == 2
    assert "train_folds.csv" in told(capsys)

    assert main(competition.flags("--fold", "0", "--lr", "0.5", "--overwrite")) == 0
    assert finished(competition) != before
    assert main(competition.flags("--fold", "0", "--lr", "0.5")) == 0


def test_a_fold_cut_off_at_its_very_end_is_closed(competition: Competition) -> None:
    assert main(competition.flags("--fold", "0")) == 0
    folder = fold_of(competition)
    first, table = finished(competition), pd.read_csv(folder / "metrics.csv")
    for _ in range(2):
        (folder / "finished.json").unlink()
        assert main(competition.flags("--fold", "0")) == 0
        again = finished(competition)
        assert {**again, "seconds": 0} == {**first, "seconds": 0}
        pd.testing.assert_frame_equal(pd.read_csv(folder / "metrics.csv")[table.columns], table)


def test_a_last_checkpoint_that_does_not_fit_is_told(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags("--fold", "0")) == 0
    folder = fold_of(competition)
    (folder / "finished.json").unlink()
    last = folder / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    told(capsys)
    for data in (whole[: len(whole) // 2], b"nothing"):
        last.write_bytes(data)
        assert main(competition.flags("--fold", "0")) == 2
        out = told(capsys)
        assert f"{last} cannot be read" in out
        assert "Delete it" in out
    state = torch.load(fold_of(competition) / "checkpoints" / "best.ckpt", weights_only=True)
    state["state_dict"]["model.head.0.weight"] = torch.zeros(7, 8, 3, 3)
    torch.save(state, last)
    assert main(competition.flags("--fold", "0")) == 2
    assert "Delete it" in told(capsys)


EPOCHS = 16


def start(competition: Competition, run: str) -> "subprocess.Popen[bytes]":
    words = competition.flags("--fold", "0", "--run", run, "--epochs", str(EPOCHS))
    words += ["--num-workers", "1", "--augmentation", "light", "--precision", "bf16-mixed"]
    return subprocess.Popen(
        [sys.executable, str(TESTS / "tiny_net.py"), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_change(path: Path, process: "subprocess.Popen[bytes]") -> None:
    def state() -> int:
        return path.stat().st_mtime_ns if path.is_file() else 0

    before, deadline = state(), time.monotonic() + 120
    while state() == before:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_ends_as_an_unbroken_one(competition: Competition) -> None:
    assert start(competition, "whole").wait(180) == 0
    folder = fold_of(competition, "broken")
    for stop in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = start(competition, "broken")
        wait_for_change(folder / "checkpoints" / "last.ckpt", process)
        process.send_signal(stop)
        assert process.wait(60) != 0
        assert not (folder / "finished.json").exists()
        assert checkpoint(folder, "last")["epoch"] < EPOCHS - 1
    assert start(competition, "broken").wait(180) == 0

    whole = fold_of(competition, "whole")
    one, two = finished(competition, "whole"), finished(competition, "broken")
    assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert (two["epochs"], two["steps"]) == (EPOCHS, 3 * EPOCHS)
    for name in ("best", "last"):
        weights = [checkpoint(place, name)["state_dict"] for place in (whole, folder)]
        assert same_weights(*weights)
    tables = [pd.read_csv(place / "metrics.csv") for place in (whole, folder)]
    for columns in (["val_loss", "val_dice"], ["train_loss"], ["lr-AdamW/pg1"]):
        rows = [table.dropna(subset=columns[0])[["step", *columns]] for table in tables]
        pd.testing.assert_frame_equal(*(part.reset_index(drop=True) for part in rows))
    assert tables[1]["val_loss"].count() == EPOCHS
    assert tables[1]["step"].is_unique


# ---------------------------------------------------------------- ranks


def test_two_ranks(competition: Competition, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seven images to train on, five to validate: neither divides by ranks and batches.
    competition.table["kfold"] = [0] * 5 + [1] * 7
    competition.table.to_csv(competition.output / "train_folds.csv", index=False)
    flags = competition.flags("--strategy", "ddp", "--devices", "2", "--epochs", "3")
    # One batch would hold all validation images: the other rank needs some as well.
    flags += ["--lr", "0.03", "--val-batch-size", "8", "--model-name", "headed"]
    done = run_python(str(TESTS / "tiny_net.py"), *flags, cwd=competition.root)
    assert done.returncode == 0, done.stderr[-3000:]
    for fold, steps in ((0, 2), (1, 1)):
        summary = finished(competition, fold=fold)
        # A rank has four (three) images in full batches of two.
        assert (summary["epochs"], summary["steps"]) == (3, 3 * steps)
        table = pd.read_csv(fold_of(competition, fold=fold) / "metrics.csv")
        assert table["val_dice"].count() == 3
    # No image counts twice, none is left out.
    monkeypatch.setitem(MODELS, "headed", HeadedNet)
    module = load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    assert score_of(competition, module) == pytest.approx(finished(competition)["score"], abs=1e-5)


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
        (["--encoder-weights", "none.pth"], ["none.pth"]),
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
