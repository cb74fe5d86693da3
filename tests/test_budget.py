"""A training that ends in time: epochs chosen, plans, stops within an epoch, dry runs."""

import math
import re
import shutil
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

import folds
import search
import train_stages
from conftest import Competition
from core.quantities import counted, duration, size_words, time_words
from Lightning_trainer import main
from runs.attempts import End
from runs.pace import Pace
from stages import call, copy_of
from tiny_net import TinyNet
from trained import checkpoint, finished, fold_of, same_weights, told
from training import batch_norm
from training.callbacks import CALLBACKS
from training.steps import Steps

pytestmark = pytest.mark.usefixtures("tiny_net")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that only a forward pass moves: a minute with gradients, 10 s without.

    Returns what makes all that follows slower by a factor.
    """
    passed, factor = [0.0], [1.0]
    forward = TinyNet.forward

    def slow(net: Any, image: torch.Tensor) -> torch.Tensor:
        if image.device.type != "meta":
            passed[0] += factor[0] * (60.0 if torch.is_grad_enabled() and net.training else 10.0)
        return forward(net, image)

    monkeypatch.setattr(TinyNet, "forward", slow)
    monkeypatch.setattr(batch_norm, "PIXELS", 1)  # a pass is a batch of the training's
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])

    def slower(by: float) -> None:
        factor[0] = by

    slower.passed = passed
    return slower


@pytest.fixture(scope="module")
def scored(scored: Competition, tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """A competition with a scored run, and its predictions under the name of another."""
    made = copy_of(scored, tmp_path_factory.mktemp("twice"))
    shutil.copytree(made.output / "baseline", made.output / "baseline2")
    report = made.output / "baseline2" / "report.json"
    report.write_text(report.read_text().replace('"run": "baseline"', '"run": "baseline2"'))
    return made


def epochs_of(competition: Competition, folds: tuple[int, ...] = (0, 1)) -> list[int]:
    return [finished(competition, fold=fold)["epochs"] for fold in folds]


def test_one_is_told_otherwise_than_several() -> None:
    told = [counted(count, "epoch") for count in (0, 1, 2)]
    assert told == ["0 epochs", "1 epoch", "2 epochs"]
    assert [counted(count, "id", "is", "are") for count in (1, 2)] == ["1 id is", "2 ids are"]
    once, again = (
        Steps(n, batch=2, accumulate=1, devices=1, crops=1, epochs=n // 2) for n in (2, 4)
    )
    assert once.words() == "1 epoch of 1 step (1 in all)"
    assert once.notes()[-1].startswith("1 optimiser step in all is few, ")
    assert again.words() == "2 epochs of 2 steps (4 in all)"


# An epoch of a fold: three batches of training, two of validation, three for batch statistics.
EPOCH = 3 * 60 + 2 * 10 + 3 * 10


def test_the_epochs_fill_the_budget(
    competition: Competition,
    seconds: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: list[int] = []

    class Look(pl.Callback):
        def on_train_end(self, trainer: Any, module: Any) -> None:
            known.append(trainer.datamodule.epochs)

    monkeypatch.setitem(CALLBACKS, "look", Look)
    budget, words = 25 * EPOCH, ("--cache", "none", "--callbacks", "look")
    assert main(competition.flags("--budget", f"{budget}s", *words)) == 0
    assert 0.9 * budget <= seconds.passed[0] <= budget
    one, two = epochs_of(competition)
    assert known == [one, two]  # what is drawn by the epoch knows the last one
    assert one * EPOCH * 2 > 0.75 * budget
    assert abs(one - two) <= 2
    out = told(capsys)
    assert out.index("plan: 2 folds, ") < out.index("fold 0: 6 training")
    plan = re.search(r"fold 0: (\d+) epochs of 4 min, ends \w+ [\d:]+\n", out)
    assert plan
    assert int(plan[1]) == one
    for words in ("images/s", "GB of memory", "free in"):
        assert words in out
    # The rate has come down to 0 at the end that there was.
    last = checkpoint(fold_of(competition, fold=1), "last")
    group = last["optimizer_states"][0]["param_groups"][0]
    assert group["lr"] < 0.05 * group["initial_lr"]


@pytest.mark.parametrize(
    "more", [("--val-every", "3"), ("--early-stopping", "3", "--lr", "1e-9")], ids=str
)
def test_a_budget_holds_with_rare_validations_and_early_ends(
    competition: Competition, seconds: Any, more: tuple[str, ...]
) -> None:
    """A fold that stops early leaves its time to the next."""
    budget = 20 * EPOCH
    assert main(competition.flags("--budget", f"{budget}s", "--cache", "none", *more)) == 0
    one, two = epochs_of(competition)
    stopped = more[0] == "--early-stopping"
    assert (0 if stopped else 0.9 * budget) <= seconds.passed[0] <= budget
    assert stopped == (one + two < 18), (one, two)


def test_a_machine_that_slows_down_gets_fewer_epochs(
    competition: Competition, seconds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runs import pace

    inner = pace.measure_pace

    def then_slower(*words: Any, **how: Any) -> Pace:
        measured = inner(*words, **how)
        seconds(1.4)
        return measured

    monkeypatch.setattr(pace, "measure_pace", then_slower)
    budget = 30 * EPOCH
    assert main(competition.flags("--budget", f"{budget}s")) == 0
    assert 0.9 * budget <= seconds.passed[0] <= budget
    assert sum(epochs_of(competition)) < 22


def test_a_first_epoch_that_warms_up_takes_no_epochs_from_the_first_folds(
    competition: Competition, seconds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks of all folds are trained alike: the last has no time that others were denied."""
    forward = TinyNet.forward

    def cold(net: Any, image: torch.Tensor) -> torch.Tensor:
        if image.device.type != "meta" and net.training and not hasattr(net, "warm"):
            net.warm = True
            seconds.passed[0] += 0.8 * EPOCH
        return forward(net, image)

    monkeypatch.setattr(TinyNet, "forward", cold)
    budget = 4 * 6 * EPOCH
    words = ("--n-folds", "4", "--val-every", "5", "--cache", "none")
    folds.main(competition.flags(*words))
    assert main(competition.flags("--budget", f"{budget}s", *words)) == 0
    assert 0.9 * budget <= seconds.passed[0] <= budget
    found = epochs_of(competition, (0, 1, 2, 3))
    assert max(found) - min(found) <= 1, found


def test_a_budget_below_an_epoch_is_refused_before_anything_is_written(
    competition: Competition, seconds: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags("--budget", "300s")) == 2
    line = told(capsys).splitlines()[-1]
    assert re.search(r"--budget: got 5 min, one epoch of 2 folds takes \d+ min here", line), line
    assert not (competition.logs / "baseline").exists()


@pytest.mark.parametrize("text", ["8", "h", "0s", "-3h", "8x", "1h 5", ""])
def test_what_is_no_time(
    competition: Competition, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags(f"--budget={text}")) == 2
    assert "need a time such as 8h, 90min or 1h30m" in told(capsys)


def test_times_and_sizes_in_words() -> None:
    texts = {"8h": 28800, "1h30m": 5400, "90min": 5400, "1.5h": 5400, "45s": 45, "1d 2h": 93600}
    assert {text: duration(text) for text in texts} == texts
    assert [time_words(s) for s in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]
    assert [size_words(n) for n in (2e3, 3.1e6, 4.25e9)] == ["2.0 kB", "3.1 MB", "4.2 GB"]


# ---------------------------------------------------------------- within an epoch


@pytest.mark.parametrize("more", [(), ("--accumulate-grad-batches", "2")])
def test_a_fold_stopped_within_an_epoch_ends_as_an_unbroken_one(
    competition: Competition,
    seconds: Any,
    more: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = competition.flags("--fold", "0", "--epochs", "4", "--crops-per-image", "2")
    flags += ["--augmentation", "light", "--freeze-layers", "encoder.0", *more]
    assert main([*flags, "--run", "whole"]) == 0
    capsys.readouterr()
    broken = [*flags, "--run", "broken"]
    at = []
    for _ in range(2):
        assert main([*broken, "--stop-after", "500s"]) == 0
        at.append(checkpoint(fold_of(competition, "broken"), "last")["global_step"])
        out = told(capsys)
        assert "8 min are spent: folds [] are finished" in out
        assert "The same command goes on; " in out
    assert at == sorted(set(at))
    per_epoch = 6 if not more else 3
    assert any(step % per_epoch for step in at), "some stop is within an epoch"
    assert main(broken) == 0
    one, two = finished(competition, "whole"), finished(competition, "broken")
    assert {**one, "seconds": 0} == {**two, "seconds": 0}
    whole, again = (checkpoint(fold_of(competition, run), "last") for run in ("whole", "broken"))
    assert same_weights(whole["state_dict"], again["state_dict"])
    tables = [pd.read_csv(fold_of(competition, run) / "metrics.csv") for run in ("whole", "broken")]
    scores = [table[["step", "val_loss", "val_dice"]].dropna() for table in tables]
    pd.testing.assert_frame_equal(*(part.reset_index(drop=True) for part in scores))


def test_last_is_written_within_a_long_epoch(
    competition: Competition, seconds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import pauses

    written: list[float] = []
    inner = pauses.Pauses.on_train_batch_end

    def look(self: Any, trainer: Any, module: Any, *words: Any) -> None:
        before = self.written
        inner(self, trainer, module, *words)
        if self.written != before:
            written.append(trainer.global_step)

    monkeypatch.setattr(pauses.Pauses, "on_train_batch_end", look)
    flags = competition.flags("--fold", "0", "--epochs", "1", "--crops-per-image", "3")
    assert main([*flags, "--save-minutes", "3"]) == 0
    assert written == [3, 6]
    assert main([*flags, "--save-minutes", "0", "--run", "other"]) == 0
    assert written == [3, 6]


def test_the_next_session_keeps_the_plan_of_the_first(
    competition: Competition, seconds: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = 24 * EPOCH
    words = competition.flags("--budget", f"{budget}s", "--stop-after", f"{0.6 * budget}s")
    words += ["--val-every", "9"]
    assert main(words) == 0
    first = epochs_of(competition, (0,))[0]
    assert "folds [0] are finished, [1] have a best.ckpt so far" in told(capsys)
    best = fold_of(competition, fold=1) / "checkpoints" / "best.ckpt"
    assert best.is_file(), "what there is can be scored and blended"
    seconds.passed[0] = 0.0
    assert main(words) == 0
    out = told(capsys)
    assert "fold 0: finished before, kept" in out
    assert "plan" not in out
    assert abs(epochs_of(competition, (1,))[0] - first) <= 1


def test_resume_and_budget_say_two_things(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags("--budget", "8h", "--resume")) == 2
    assert "--budget chooses EPOCHS, and so does --resume" in told(capsys)


# ---------------------------------------------------------------- dry runs


def test_a_dry_run_of_the_trainer_writes_nothing(
    competition: Competition, seconds: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in competition.root.rglob("*")}
    assert main(competition.flags("--epochs", "30", "--dry-run")) == 0
    assert {path: path.stat().st_mtime_ns for path in competition.root.rglob("*")} == before
    out = told(capsys)
    found = re.search(r"plan: 2 folds, ([\d.]+) h; measured: ([\d.]+) images/s", out)
    assert found, out
    assert float(found[1]) == pytest.approx(60 * EPOCH / 3600, rel=0.05)
    assert float(found[2]) == pytest.approx(2 / 60, rel=0.05)
    assert math.isclose(2 * 30, sum(map(int, re.findall(r"fold \d: (\d+) epochs", out))))


def test_no_dry_run_writes_anything(
    scored: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in scored.root.rglob("*")}
    flags = scored.flags("--dry-run")
    capsys.readouterr()
    for script, words, told_of in (
        ("Lightning_tester", ["--tta", "flip_h"], r"plan: 12 images, .* s; .* kB of disk"),
        ("Lightning_tester", [], "plan: no images are left to predict"),
        ("ensemble", [], r"plan: 3 images, .* images/s, .* GB of memory, hardly any of disk"),
        ("ensemble", ["--shard", "0/2"], r"plan: 2 images, "),
        ("tune", ["tta"], r"plan: 12 images, "),
        ("tune", ["soup"], r"plan: 12 images, .* kB of disk"),
        ("tune", ["blend", "--runs", "baseline,baseline2"], r"plan: 24 stored predictions of 2"),
        ("kernel", ["infer"], r"plan: 2 networks, [\d.]+ kB to upload, 9 h on Kaggle"),
        ("kernel", ["train"], r"plan: a kernel that trains run baseline"),
        ("shards", ["--to", str(scored.root / "s")], r"plan: 15 images, .* about 1 shard\n"),
        ("folds", [], r"plan: 12 training images, .* to read each once; measured on 12: "),
        ("look", ["--name", "dry"], r"plan: 12 training and 3 test images, .* measured on 15: "),
        ("pseudo_label", [], r"plan: 3 images, .* GB of memory, [\d.]+ kB of disk"),
        ("export", ["--format", "safetensors"], r"plan: folds \[0, 1\] in safetensors, .* free in"),
    ):
        assert call(script, [*words, *flags]) == 0
        assert re.search(told_of, capsys.readouterr().out), (script, words)
        assert {path: path.stat().st_mtime_ns for path in scored.root.rglob("*")} == before


def test_dry_runs_of_many_trainings_ask_the_trainer(
    competition: Competition, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(script: str, words: list[str]) -> End:
        asked.append(script)
        return End(main(competition.flags(*words)), "")

    asked: list[str] = []
    monkeypatch.setattr(search, "call_script", in_this_process)
    monkeypatch.setattr(train_stages, "call_script", in_this_process)
    stages = competition.root / "mine.stages"
    stages.write_text("a: --epochs 1\nb: --epochs 2 --pseudo a\n")
    before = {path: path.stat().st_mtime_ns for path in competition.root.rglob("*")}
    flags = competition.flags("--dry-run")
    assert call("search", ["--search", "LR=1e-4..1e-2:log", "--trials", "7", *flags]) == 0
    out = told(capsys)
    assert "plan: 7 trials in all, each on folds 0, 1" in out
    assert len(re.findall("plan: 2 folds, ", out)) == 1
    assert call("train_stages", [str(stages), *flags]) == 0
    assert re.findall(r"fold 0: (\d+) epochs?", told(capsys)) == ["1", "2"]
    assert asked == ["Lightning_trainer"] * 3
    assert {path: path.stat().st_mtime_ns for path in competition.root.rglob("*")} == before
