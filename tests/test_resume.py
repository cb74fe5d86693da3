"""Lightning_trainer again: finished folds, broken runs, other knobs, two ranks."""

import os
import re
import signal
import sys
import time
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import pandas as pd
import pytest
import torch

import Lightning_trainer
from conftest import TESTS, Competition, run_python
from core.errors import Stopped
from Lightning_module import load_module
from Lightning_trainer import main
from model_dispatcher import MODELS
from tiny_net import DroppingNet, HeadedNet
from trained import checkpoint, finished, fold_of, same_weights, score_of, told

pytestmark = pytest.mark.usefixtures("tiny_net")


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
    assert re.search(r"trained 1 fold in .* min, 1 fold finished before, val_dice", out)
    assert "checked" not in out
    assert best.stat().st_mtime_ns == before
    assert finished(competition, fold=1)["epochs"] == 2
    assert main(competition.flags()) == 0
    assert "nothing to train, 2 folds finished before, val_dice" in told(capsys)


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


# Autograd looks for devices at its first step; those that torch.export brings along bar forks.
torch.ones((), requires_grad=True).backward()
EPOCHS = 40  # enough that a signal sent on a busy machine still finds the run alive


def train(words: list[str], told: Path) -> None:
    """Lightning_trainer as a terminal starts it: a group of its own, workers and all."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with told.open("w", buffering=1) as sys.stderr, Path(os.devnull).open("w") as sys.stdout:
        os.dup2(sys.stderr.fileno(), 2)
        raise SystemExit(main(words))


def start(competition: Competition, run: str) -> ForkProcess:
    """A training in a process of its own; what it tells on stderr lies in told.txt."""
    words = competition.flags("--fold", "0", "--run", run, "--epochs", str(EPOCHS))
    words += ["--num-workers", "1", "--augmentation", "light", "--precision", "bf16-mixed"]
    words += ["--model-name", "dropping"]
    process = get_context("fork").Process(target=train, args=(words, competition.root / "told.txt"))
    process.start()
    return process


def end(process: ForkProcess) -> int | None:
    """The exit code: a signal's is negative."""
    process.join(180)
    return process.exitcode


def wait_for_change(path: Path, process: ForkProcess) -> None:
    def state() -> int:
        return path.stat().st_mtime_ns if path.is_file() else 0

    before, deadline = state(), time.monotonic() + 120
    while state() == before:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_begun_anew_does_not_go_on_by_the_same_command(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which would delete again what there is."""

    def stop(*_: object, **__: object) -> None:
        raise Stopped("stopped in fold 0")

    monkeypatch.setattr(Lightning_trainer, "train_folds", stop)
    for words, more in (((), ""), (("--overwrite",), ", without --overwrite")):
        assert main(competition.flags("--fold", "0", *words)) == 130
        line = f"stopped in fold 0: the same command goes on{more}"
        assert capsys.readouterr().err.splitlines()[-1] == line
    monkeypatch.setattr(Lightning_trainer, "train_folds", lambda *_, **__: [])
    assert main(competition.flags("--fold", "0", "--stop-after", "9s", "--overwrite")) == 0
    assert "The same command goes on, without --overwrite; " in capsys.readouterr().out


def test_a_killed_run_ends_as_an_unbroken_one(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "dropping", DroppingNet)
    assert end(start(competition, "whole")) == 0
    folder = fold_of(competition, "broken")
    for stop in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = start(competition, "broken")
        wait_for_change(folder / "checkpoints" / "last.ckpt", process)
        os.killpg(process.pid, stop)
        code, told = end(process), (competition.root / "told.txt").read_text()
        assert code == (-stop if stop == signal.SIGKILL else 128 + stop), told
        line = r"stopped in fold 0, epoch \d+ of 40: the same command goes on\n"
        assert stop == signal.SIGKILL or re.fullmatch(line, told), told
        assert not (folder / "finished.json").exists()
        assert checkpoint(folder, "last")["epoch"] < EPOCHS - 1
    assert end(start(competition, "broken")) == 0

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
    for fold in (0, 1):
        summary = finished(competition, fold=fold)
        # A rank has four (three) images in batches of two.
        assert (summary["epochs"], summary["steps"]) == (3, 3 * 2)
        table = pd.read_csv(fold_of(competition, fold=fold) / "metrics.csv")
        assert table["val_dice"].count() == 3
    # No image counts twice, none is left out.
    monkeypatch.setitem(MODELS, "headed", HeadedNet)
    module = load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    assert score_of(competition, module) == pytest.approx(finished(competition)["score"], abs=1e-5)
