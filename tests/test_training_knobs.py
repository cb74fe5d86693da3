"""Knobs of the training from the flag to the effect: stops, limits, starts, freezing, averages."""

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch.nn import BatchNorm2d, Dropout
from torchmetrics import Metric

from conftest import Competition
from core.errors import UserError
from core.files import file_digest
from data.draws import row_weights
from Lightning_datamodule import EpochSampler
from Lightning_trainer import main
from metrics import METRICS
from model_dispatcher import MODELS, build_model, encoder_of
from networks.encoder_weights import load_encoder_weights
from runs.starts import _seen
from toys import Spy, loader, module_of, samples, trainer_of
from trained import checkpoint, finished, fold_of, same_weights, told
from training import batch_norm, finders
from training.averaging import build_averaging
from training.callbacks import CALLBACKS
from training.freezing import build_freeze
from training.groups import by_stage, layers_of, parameter_groups
from training.limits import LastValidation, build_stop
from training.optimizers import OPTIMIZERS
from training.warm_start import start_from

pytestmark = pytest.mark.usefixtures("tiny_net")
ONE = ("--fold", "0", "--epochs", "1")


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


# ---------------------------------------------------------------- one run, many knobs


def test_what_one_run_leaves_of_many_knobs(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["--save-top-k", "3", "--epochs", "4", "--lr", "0.02", "--limit-batches", "2"]
    words += ["--log-images", "2", "--log-histograms", "true", "--profiler", "simple"]
    assert main(competition.flags("--fold", "0", *words)) == 0
    folder, out = fold_of(competition), capsys.readouterr().out
    assert "Profiler Report" in out
    assert "Profiler Report" in (folder / "fit-profile.txt").read_text()
    assert finished(competition)["steps"] == 2 * 4

    # The three best, by their scores, and the last.
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "best_2.ckpt", "best_3.ckpt", "last.ckpt"}
    scores = pd.read_csv(folder / "metrics.csv").dropna(subset="val_dice")["val_dice"]
    ranked = scores.reset_index(drop=True).sort_values(ascending=False).index[:3]
    epochs = [checkpoint(folder, name)["epoch"] for name in ("best", "best_2", "best_3")]
    assert epochs == list(ranked)
    assert "optimizer_states" not in checkpoint(folder, "best_2")

    events = EventAccumulator(str(folder)).Reload()
    assert {"weights/head.0.weight", "gradients/head.0.weight"} <= set(events.Tags()["histograms"])
    assert "images/best" in events.Tags()["images"]
    better = [epoch for epoch, score in enumerate(scores) if score > max([0, *scores[:epoch]])]
    drawn = sorted(path.name for path in (folder / "images").iterdir())
    assert drawn == [f"epoch_{epoch:03d}.png" for epoch in better]
    # Two rows of image, truth and prediction.
    assert cv2.imread(str(folder / "images" / drawn[0])).shape == (2 * 70, 3 * 64 + 12, 3)


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_half_weights_train_and_average(competition: Competition, precision: str) -> None:
    assert main(competition.flags(*ONE, "--precision", precision)) == 0
    last = checkpoint(fold_of(competition), "last")
    kept = {"16-true": torch.float16, "bf16-true": torch.bfloat16}[precision]
    assert last["current_model_state"]["model.head.0.weight"].dtype == kept
    assert last["state_dict"]["model.head.0.weight"].dtype == torch.float32
    assert last["state_dict"]["model.head.0.weight"].isfinite().all()


# ---------------------------------------------------------------- ends


def test_early_stopping_waits_for_its_patience(tmp_path: Path) -> None:
    stop = build_stop("val_dice", "max", patience=2, least_gain=1.1)  # no score gains so much
    trainer = trainer_of(tmp_path, epochs=9, callbacks=[*stop])
    trainer.fit(module_of(), loader(samples("binary", 2), 2), loader(samples("binary", 2), 2))
    assert trainer.current_epoch == 3
    assert build_stop("val_dice", "max", patience=None, least_gain=0.0) == []


def test_early_stopping_by_its_flags(competition: Competition) -> None:
    words = ["--early-stopping", "1", "--early-stopping-delta", "1.1"]
    assert main(competition.flags("--fold", "0", "--epochs", "9", *words)) == 0
    assert finished(competition)["epochs"] == 2


def test_max_steps_ends_within_an_epoch_with_a_validation(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--trainer-kwargs", "{'max_steps': 2}", "--val-every", "5"]
    assert main(competition.flags("--fold", "0", *words)) == 0
    assert finished(competition)["steps"] == 2
    assert (fold_of(competition) / "checkpoints" / "best.ckpt").is_file()
    out = told(capsys)
    assert "2 epochs of 3 steps (2 in all)" in out
    assert "some hundreds: a larger max_steps in TRAINER_KWARGS\n" in out


def test_max_time_ends_with_a_validation(competition: Competition) -> None:
    words = ["--trainer-kwargs", "{'max_time': {'seconds': 0.01}}", "--val-every", "5"]
    assert main(competition.flags("--fold", "0", "--epochs", "99", *words)) == 0
    assert finished(competition)["epochs"] == 1
    assert (fold_of(competition) / "checkpoints" / "best.ckpt").is_file()


def test_two_batches_again_and_again_with_anomalies_told(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, ...]] = []

    class Look(pl.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, _: int
        ) -> None:
            assert torch.is_anomaly_enabled()
            seen.append(tuple(batch["img"]))

    monkeypatch.setitem(CALLBACKS, "look", Look)
    words = ["--trainer-kwargs", "{'overfit_batches': 2, 'detect_anomaly': True}"]
    assert main(competition.flags("--fold", "0", "--callbacks", "look", *words)) == 0
    assert len(seen) == 4
    assert "2 epochs of 2 steps (4 in all)" in told(capsys)
    assert seen[:2] == seen[2:]
    assert len({img for batch in seen for img in batch}) == 4


@pytest.mark.parametrize("options", ["{'fast_dev_run': True}", "{'enable_checkpointing': False}"])
def test_a_trial_keeps_nothing(competition: Competition, options: str) -> None:
    words = ["--trainer-kwargs", options, "--loggers", ""]
    assert main(competition.flags(*ONE, *words)) == 0
    assert [path.name for path in fold_of(competition).rglob("*")] == ["config.json"]
    # It begins anew with other knobs.
    assert main(competition.flags(*ONE, "--lr", "0.1")) == 0
    assert finished(competition)["steps"] == 3


@pytest.mark.parametrize(
    ("options", "need"),
    [
        ("{'max_epoch': 3}", "no argument 'max_epoch'"),
        ("{'precision': '16-mixed'}", "precision is the knob PRECISION"),
        ("{'limit_train_batches': 2}", "the knob LIMIT_BATCHES"),
        ("{'fast_dev_run': 'x'}", "TRAINER_KWARGS"),
        ("{'limit_val_batches': 0}", "need 1 or more"),
        ("{'barebones': True}", "no argument 'barebones'"),
    ],
)
def test_what_the_trainer_does_not_take(
    competition: Competition, capsys: pytest.CaptureFixture[str], options: str, need: str
) -> None:
    assert main(competition.flags("--trainer-kwargs", options)) == 2
    assert need in told(capsys)
    assert not competition.logs.exists()


def test_a_share_of_the_batches_is_one_at_least(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags(*ONE, "--limit-batches", "0.01")) == 0
    assert finished(competition)["steps"] == 1
    # What Lightning finds out only when it sees the data is a line, too.
    late = "{'overfit_batches': 0.01}"
    assert main(competition.flags(*ONE, "--run", "late", "--trainer-kwargs", late)) == 2
    assert "fold 0: Lightning refuses to train: You requested" in told(capsys)


@pytest.mark.parametrize(
    ("words", "need"),
    [
        (("--balance", "source"), "no column source"),
        (("--weight-column", "img"), "img is "),
        (("--weight-column", "wieght"), "Did you mean weight?"),
        (("--freeze-layers", "heat"), "FREEZE_LAYERS: the network has no 'heat'"),
    ],
)
def test_what_is_drawn_and_frozen_is_checked_before_any_image_is_read(
    competition: Competition, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], need: str
) -> None:
    competition.table.assign(weight="2").to_csv(competition.output / "train_folds.csv", index=False)
    assert main(competition.flags(*ONE, *words)) == 2
    assert need in told(capsys)
    assert not competition.logs.exists()


def test_what_a_training_is_too_short_for_is_told(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--loss", "bce then dice from epoch 2", "--freeze-encoder", "1", "--swa", "0.9"]
    assert main(competition.flags(*ONE, *words)) == 0
    notes = [line for line in told(capsys).splitlines() if line.startswith("note: ")]
    parts = ["from epoch 2 on", "FREEZE_ENCODER=1", "nothing to average", "cosine:floor=0.1"]
    assert all(part in " ".join(notes) for part in parts)
    cut = ["--trainer-kwargs", "{'max_steps': 3}", "--epochs", "9", "--run", "cut"]
    assert main(competition.flags("--fold", "0", *words[:4], *cut)) == 0
    ends = "max_steps of TRAINER_KWARGS ends it in epoch 1"
    out = told(capsys)
    assert f"LOSS: its part from epoch 2 on is never used, {ends}\n" in out
    assert f"FREEZE_ENCODER=1: the encoder never moves, {ends}\n" in out
    words = ["--loss", "bce then dice from epoch 2", "--freeze-encoder", "true", "--swa", "0.5"]
    words += ["--scheduler", "cosine:floor=0.1", "--epochs", "2", "--run", "long"]
    assert main(competition.flags("--fold", "0", *words)) == 0
    assert not any(part in told(capsys) for part in parts)


def test_what_an_early_end_may_leave_out_is_told(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--loss", "bce then dice from epoch 3", "--swa", "0.7", "--scheduler", "none"]
    words += ["--freeze-encoder", "2", "--epochs", "3", "--early-stopping"]
    assert main(competition.flags("--fold", "0", *words, "1")) == 0
    begins = "LOSS changes, the encoder moves, SWA begins"
    assert f"EARLY_STOPPING=1 may end a fold after epoch 2, before {begins}" in told(capsys)
    assert main(competition.flags("--fold", "0", *words, "2", "--run", "later")) == 0
    assert "EARLY_STOPPING" not in told(capsys)


def batches_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """(epoch, whether it is of validation) of each batch, of trainings with the callback look."""
    seen: list[tuple[int, bool]] = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            seen.append((trainer.current_epoch, False))

        def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
            seen.append((trainer.current_epoch, True))

    monkeypatch.setitem(CALLBACKS, "look", Look)
    return seen


@pytest.mark.parametrize("interval", ["0.5", "2"])
def test_validations_within_an_epoch_take_none_of_its_batches(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, interval: str
) -> None:
    """Statistics of BatchNorm are taken anew meanwhile, by workers that the epoch needs."""
    seen = batches_seen(monkeypatch)
    monkeypatch.setitem(MODELS, "tiny", Still)
    words = ["--trainer-kwargs", f"{{'val_check_interval': {interval}}}", "--num-workers", "1"]
    words += ["--callbacks", "look", "--val-batch-size", "6", "--save-top-k", "9"]
    assert main(competition.flags("--fold", "0", *words)) == 0
    assert finished(competition)["steps"] == 6
    each = {"0.5": [False, True] * 3, "2": [False, False, True, False]}[interval]
    last = [*each, True] if interval == "2" else each  # a training ends with a validation
    assert seen == [(0, val) for val in each] + [(1, val) for val in last]
    # Each validation has a network of its own.
    kept = [*(fold_of(competition) / "checkpoints").glob("best*.ckpt")]
    assert len(kept) == sum(val for _, val in seen)


def test_a_checkpoint_of_ones_own_among_the_callbacks(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = {"every_n_train_steps": 2, "save_top_k": -1, "filename": "often_{step}"}
    monkeypatch.setitem(CALLBACKS, "often", lambda: pl.callbacks.ModelCheckpoint(**often))
    assert main(competition.flags(*ONE, "--callbacks", "often", "--save-top-k", "2")) == 0
    names = {path.name for path in (fold_of(competition) / "checkpoints").iterdir()}
    assert {"best.ckpt", "last.ckpt", "often_step=2.ckpt"} <= names
    assert finished(competition)["steps"] == 3


# ---------------------------------------------------------------- starts


@pytest.mark.parametrize("kept", ["1", "3"])
def test_the_best_of_all_epochs_are_kept_where_a_run_goes_on(
    competition: Competition, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(Metric):
        higher_is_better, full_state_update = True, False
        value = 0.0

        def update(self, mask: Any, target: Any) -> None:
            """Whatever they are."""

        def compute(self) -> torch.Tensor:
            return torch.tensor(Told.value)

    class Tell(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            Told.value = [0.5, 0.9, 0.7, 0.8, 0.6][trainer.current_epoch]

    monkeypatch.setitem(METRICS, "told", lambda *_: Told())
    monkeypatch.setitem(CALLBACKS, "tell", Tell)
    flags = competition.flags("--fold", "0", "--callbacks", "tell", "--metric", "told")
    assert main([*flags, "--epochs", "3", "--save-top-k", kept]) == 0
    assert main([*flags, "--epochs", "5", "--save-top-k", "3", "--resume", "last"]) == 0
    folder = fold_of(competition)
    epochs = [checkpoint(folder, name)["epoch"] for name in ("best", "best_2", "best_3")]
    assert epochs == ([1, 3, 2] if kept == "3" else [1, 3, 4])
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "best_2.ckpt", "best_3.ckpt", "last.ckpt"}


def test_more_epochs_go_on_where_the_run_ended(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = competition.flags("--fold", "0", "--lr", "0.02")
    assert main(flags) == 0
    longer = [*flags, "--epochs", "3"]
    assert main(longer) == 2
    assert "EPOCHS: the run has 2, now 3" in told(capsys)
    assert main([*longer, "--resume", "last"]) == 0
    assert (finished(competition)["epochs"], finished(competition)["steps"]) == (3, 9)
    table = pd.read_csv(fold_of(competition) / "metrics.csv").dropna(subset="val_dice")
    assert table["epoch"].tolist() == [0, 1, 2]
    # Now it is a run of three epochs.
    assert main(longer) == 0
    assert "finished before" in told(capsys)

    path = str(fold_of(competition) / "checkpoints" / "last.ckpt")
    assert main([*flags, "--epochs", "4", "--resume", path]) == 0
    assert finished(competition)["epochs"] == 4
    # Its last.ckpt starts a run of another name, with its steps behind it.
    words = ["--run", "on", "--epochs", "5", "--resume", path]
    assert main([*flags, *words]) == 0
    assert (finished(competition, "on")["epochs"], finished(competition, "on")["steps"]) == (5, 15)
    best = str(fold_of(competition) / "checkpoints" / "best.ckpt")
    for words, need in (
        (("--resume", "none.ckpt"), "no file"),
        (("--resume", best), "need a last.ckpt"),
        (("--resume", path, "--epochs", "4"), "has 4 epochs behind it, EPOCHS is 4"),
        (("--resume", path, "--epochs", "5", "--fold", "1"), "validation images of fold 1"),
        (("--resume", path, "--epochs", "5", "--lr", "1e-3"), "schedule with it, of --lr=0.02: go"),
        (
            ("--resume", path, "--epochs", "5", "--scheduler", "plateau"),
            "of --scheduler=cosine: go",
        ),
    ):
        assert main([*flags, "--run", "two", *words]) == 2
        assert need in told(capsys)
    assert not (competition.logs / "two").exists()


def test_a_cycle_goes_on_as_one_of_more_epochs(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    spies = [Spy(), Spy()]
    monkeypatch.setitem(CALLBACKS, "spy", iter(spies).__next__)
    words = ["--fold", "0", "--scheduler", "onecycle", "--warmup", "0.3", "--callbacks", "spy"]
    assert main(competition.flags(*words)) == 0
    assert main(competition.flags(*words, "--epochs", "4", "--resume", "last")) == 0
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=12, pct_start=0.3)
    rates = []
    for _ in range(12):
        rates.append(cycle.get_last_lr()[0])
        optimizer.step()
        cycle.step() if len(rates) < 12 else None
    # The rate of the step at which it was resumed is the last of the shorter one.
    assert np.array(spies[1].rates)[1:, 0] == pytest.approx(np.array(rates[7:]))


def test_a_run_starts_from_anothers_fold(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(competition.flags(*ONE, "--lr", "0.02")) == 0
    best = fold_of(competition) / "checkpoints" / "best.ckpt"
    words = ["--init-ckpt", "baseline", "--lr", "1e-12", "--ema-decay", "0"]
    assert main(competition.flags(*ONE, "--run", "next", *words)) == 0
    assert "9 of 9 tensors from best.ckpt" in told(capsys)
    before = torch.load(best, weights_only=True)["state_dict"]
    after = checkpoint(fold_of(competition, "next"), "last")["state_dict"]
    name = "model.head.0.weight"
    torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)
    # A network of fold 0 was trained on what fold 1 validates.
    leak = ["--run", "leak", "--fold", "1", "--init-ckpt", str(best)]
    assert main(competition.flags(*leak)) == 2
    assert "was trained on validation images of fold 1" in told(capsys)
    # It says so itself, wherever it is copied to.
    copied = shutil.copyfile(best, competition.root / "copied.ckpt")
    assert main(competition.flags(*leak[:4], "--init-ckpt", str(copied))) == 2
    assert "was trained on validation images of fold 1. Name its run, 'base" in told(capsys)
    path = competition.output / "train_folds.csv"
    shutil.copyfile(path, path.with_stem(f"{path.stem}.{file_digest(path)[:8]}"))
    # As folds.py --join leaves it: an image more, the others where they were.
    more = competition.table.iloc[[0]].assign(img="joined")
    pd.concat([competition.table, more]).to_csv(path, index=False)
    assert main(competition.flags(*ONE, "--run", "joined", *words)) == 0
    competition.table["kfold"] = 1 - competition.table["kfold"]
    competition.table.to_csv(path, index=False)
    assert main(competition.flags(*ONE, "--run", "other", *words)) == 2
    assert "other folds" in told(capsys)


def test_a_network_that_has_seen_the_hold_out_is_known(tmp_path: Path) -> None:
    run: Any = SimpleNamespace(folds_digest="x", holdout=1, output=tmp_path)

    def seen(fold: int, folds: str, holdout: int | None) -> str:
        notes = {"fold": fold, "identity": {"folds": folds}, "config": {"HOLDOUT": holdout}}
        return _seen(run, 0, tmp_path / "best.ckpt", notes)

    assert seen(2, "x", 1) == "validation images of fold 0"
    assert seen(0, "x", None) == "images of HOLDOUT=1"
    assert [seen(0, "x", 1), seen(2, "of other data", None)] == ["", ""]


def test_what_does_not_fit_stays_new() -> None:
    three, one = (build_model("tiny", classes=classes) for classes in (3, 1))
    state = {f"model.{name}": value for name, value in three.state_dict().items()}
    head = one.state_dict()["head.0.weight"].clone()
    line = start_from(one, state, "x.ckpt")
    assert line.startswith("7 of 9 tensors from x.ckpt, 2 stay new (first: head.0.weight)")
    assert torch.equal(one.state_dict()["head.0.weight"], head)
    assert same_weights(one.encoder.state_dict(), three.encoder.state_dict())
    with pytest.raises(UserError, match="nothing of x"):
        start_from(one, {"model.other": torch.zeros(3)}, "x")


def test_a_checkpoint_of_this_project_is_an_encoders_weights(tmp_path: Path) -> None:
    source, target = (build_model("smp_unet_mobilenet_v2") for _ in range(2))
    state = {f"model.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "best.ckpt")
    load_encoder_weights(encoder_of(target), tmp_path / "best.ckpt")
    assert same_weights(encoder_of(target).state_dict(), encoder_of(source).state_dict())


def test_rate_and_batch_are_found_once(
    competition: Competition, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finders, "STEPS", 24)
    flags = competition.flags(*ONE, "--find-lr", "true", "--find-batch-size", "true")
    assert main(flags) == 0
    knobs = json.loads((competition.logs / "baseline" / "run.json").read_text())["knobs"]
    # Six images: a batch of two becomes one of four, never one of eight.
    assert knobs["TRAIN_BATCH_SIZE"] == 4
    assert 1e-7 < knobs["LR"] < 1
    assert f"LR={knobs['LR']:.3g}" in told(capsys)
    recipe = checkpoint(fold_of(competition), "best")["hyper_parameters"]["recipe"]
    assert recipe["lr"] == knobs["LR"]
    assert main(flags) == 0
    assert f"LR={knobs['LR']:.3g}: as found before" in told(capsys)


def test_what_fits_is_found_with_blocks_that_are_recomputed(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []

    def find(module: Any, data: Any, machine: Any) -> int:
        found.append(any("forward" in vars(part) for part in module.model.modules()))
        return 4

    monkeypatch.setattr(finders, "find_batch_size", find)
    words = [*ONE, "--find-batch-size", "true", "--gradient-checkpointing"]
    for at, recomputed in enumerate((False, True)):
        flags = competition.flags(*words, str(recomputed), "--run", f"run{at}")
        assert main(flags) == 0
    assert found == [False, True]


# ---------------------------------------------------------------- what moves, and how fast


def test_a_frozen_encoder_stands_still_and_wakes(tmp_path: Path) -> None:
    module, states = module_of(lr=0.1), []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            states.append(state_of(module.model))

    freeze = build_freeze(module.model, encoder_epochs=2, layers=())
    trainer = trainer_of(tmp_path, epochs=3, callbacks=[*freeze, Watch()])
    start = state_of(module.model)
    trainer.fit(module, loader(samples("binary", 4), 2), loader(samples("binary", 2), 2))
    encoder = [name for name in start if name.startswith("encoder")]
    assert "encoder.1.running_mean" in encoder
    assert all(torch.equal(states[1][name], start[name]) for name in encoder)
    assert not torch.equal(states[0]["head.0.weight"], start["head.0.weight"])
    assert not any(torch.equal(states[2][name], start[name]) for name in encoder)


def test_frozen_layers_by_name(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--freeze-layers", "encoder.0,head", "--lr", "0.1"]
    assert main(competition.flags(*ONE, "--ema-decay", "0", *words)) == 0
    table = checkpoint(fold_of(competition), "last")
    moved = {name for name, state in table["optimizer_states"][0]["state"].items() if state}
    assert len(moved) == 2  # scale and shift of the one layer that is left
    assert main(competition.flags(*ONE, "--run", "b", "--freeze-layers", "encoder.9")) == 2
    assert "Did you mean encoder." in told(capsys)


def test_freezing_needs_an_encoder() -> None:
    with pytest.raises(UserError, match=r"no \.encoder"):
        build_freeze(torch.nn.Conv2d(3, 1, 1), encoder_epochs=True, layers=())


@pytest.mark.parametrize("start", [0.5, 0.0])
def test_swa_is_the_mean_of_the_last_weights(tmp_path: Path, start: float) -> None:
    seen: list[torch.Tensor] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            seen.append(module.model.head[0].weight.detach().clone())

    module = module_of(lr=0.1)
    average = build_averaging(0.99, start or 1e-9)
    trainer = trainer_of(tmp_path, epochs=2, callbacks=[Watch(), *average])
    trainer.fit(module, loader(samples("binary", 8), 2))
    mean = torch.stack(seen[round(start * 8) :]).mean(0)
    torch.testing.assert_close(module.model.head[0].weight.detach(), mean)
    assert not torch.equal(mean, seen[-1])


@pytest.mark.parametrize(("planned", "ends"), [(8, 4), (3, 6), (4, 8)])
def test_swa_begins_by_the_end_that_a_budget_moves(tmp_path: Path, planned: int, ends: int) -> None:
    """Of 4 steps an epoch; the end is moved as the third epoch begins."""
    seen: list[torch.Tensor] = []

    class Watch(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 2:
                trainer.fit_loop.max_epochs = ends

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            seen.append(module.model.head[0].weight.detach().clone())

    module = module_of(lr=0.1)
    callbacks = [Watch(), *build_averaging(0.99, 0.5)]
    trainer = trainer_of(tmp_path, epochs=planned, callbacks=callbacks)
    trainer.fit(module, loader(samples("binary", 8), 2))
    assert len(seen) == 4 * ends
    # Of three epochs planned the mean has begun by then: it goes on.
    begins = {(8, 4): 8, (3, 6): 6, (4, 8): 16}[planned, ends]
    mean = torch.stack(seen[begins:]).mean(0)
    torch.testing.assert_close(module.model.head[0].weight.detach(), mean)


class Still(torch.nn.Module):
    """A frozen BatchNorm before one that learns, and dropout, under one head."""

    def __init__(self, classes: int = 1, **_: Any):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), BatchNorm2d(4))
        self.free = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), BatchNorm2d(4), Dropout(0.5))
        self.head = torch.nn.Conv2d(4, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.free(self.encoder(image).relu()))


@pytest.mark.parametrize(
    ("ema", "swa", "pixels"), [(0, 0.25, 1), (0.99, 0, 1), (0, 0, 1 << 18), (0.99, 0, 3 * 16 * 16)]
)
def test_batch_statistics_are_those_of_the_weights_that_are_validated(
    ema: float, swa: float, pixels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An average of weights has none of its own; those of the first steps are the start's.

    Batches of large images count one by one, those of small ones together.
    """
    monkeypatch.setitem(MODELS, "tiny", Still)
    monkeypatch.setattr(batch_norm, "PIXELS", pixels)
    module = module_of(lr=0.1)
    freeze = build_freeze(module.model, encoder_epochs=True, layers=())
    trainer = trainer_of(tmp_path, epochs=2, callbacks=[*freeze, *build_averaging(ema, swa)])
    train = loader(samples("binary", 8), 2)
    trainer.fit(module, train, loader(samples("binary", 2, seed=1), 2))
    still, norm = module.model.encoder[1], module.model.free[1]
    assert torch.equal(still.running_mean, torch.zeros(4))
    assert not still.num_batches_tracked
    # Torch's own, on a copy: the frozen layers predict, as they did.
    twin = copy.deepcopy(module).eval()
    seen: list[torch.Tensor] = []
    twin.model.free[0].register_forward_hook(lambda *a: seen.append(a[2].detach()))
    with torch.no_grad():
        for batch in train:
            twin(batch["image"])
    together = {1: 1, 3 * 16 * 16: 2, 1 << 18: 4}[pixels]
    seen = [torch.cat(seen[at : at + together]) for at in range(0, 4, together)]
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1


@pytest.mark.parametrize("factor", [0.25, 0.0])
def test_the_search_for_a_rate_keeps_the_encoders_share(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    monkeypatch.setattr(finders, "STEPS", 12)
    seen: list[list[float]] = []

    class Watched(torch.optim.SGD):
        def __init__(self, *args: Any, **more: Any):
            super().__init__(*args, **more)
            self.register_step_post_hook(
                lambda *_: seen.append([group["lr"] for group in self.param_groups])
            )

    monkeypatch.setitem(OPTIMIZERS, "watched", Watched)
    module = module_of(lr=0.01, encoder_lr_factor=factor, optimizer="watched", warmup=0.5)
    data = pl.LightningDataModule()
    data.train_dataloader = lambda: loader(samples("binary", 8), 2)
    finders.find_rate(module, data, {"accelerator": "cpu", "precision": "32-true"})
    decoder, encoder = np.array(seen).T
    np.testing.assert_allclose(decoder[[0, -1]], [1e-7, 1])
    assert (np.diff(decoder) > 0).all()
    np.testing.assert_allclose(encoder, factor * decoder)


def test_a_search_of_few_steps_finds_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finders, "STEPS", 2)
    data = pl.LightningDataModule()
    data.train_dataloader = lambda: loader(samples("binary", 4), 2)
    assert finders.find_rate(module_of(), data, {"accelerator": "cpu"}) is None


def test_rates_fall_layer_by_layer_and_norms_keep_their_scale() -> None:
    model = build_model("tiny")
    groups = parameter_groups(
        model,
        model.encoder,
        lr=1.0,
        encoder_lr_factor=0.5,
        layer_decay=0.1,
        weight_decay=0.25,
        decay_norms=False,
    )
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }
    assert found == {
        "head.0.weight": (1.0, 0.25),
        "head.0.bias": (1.0, 0.0),
        "encoder.0.weight": (pytest.approx(0.05), 0.25),
        "encoder.0.bias": (pytest.approx(0.05), 0.0),
        "encoder.1.weight": (0.5, 0.0),
        "encoder.1.bias": (0.5, 0.0),
    }


def test_layers_of_wrapped_encoders() -> None:
    with torch.device("meta"):
        vit = encoder_of(build_model("smp_dpt_tu-vit_tiny_patch16_224"))
        resnet = encoder_of(build_model("smp_unet_resnet18"))
    assert len([layer for layer in layers_of(vit) if type(layer).__name__ == "Block"]) == 12
    assert len(list(layers_of(resnet))) == 6


# ---------------------------------------------------------------- what is drawn how often


def test_layers_of_stages_whose_parts_were_built_apart() -> None:
    encoder = encoder_of(build_model("smp_unet_mit_b0"))
    names = {id(part): name for name, part in encoder.named_children()}
    kinds = ("patch_embed", "block", "norm")
    expected = [f"{kind}{stage}" for stage in range(1, 5) for kind in kinds]
    assert [names[id(layer)] for layer in layers_of(encoder)] == expected
    for built in (["conv1", "bn1", "layer1", "layer2"], ["stem_0", "stem_1", "stages_0"], ["a1"]):
        assert by_stage(built) == list(range(len(built)))


def test_images_are_drawn_as_often_as_they_weigh() -> None:
    weights = [0.0, 1.0, 2.0, 5.0]
    sampler = EpochSampler(4, seed=3, weights=weights)
    counts = np.zeros(4)
    for epoch in range(2500):
        sampler.set_epoch(epoch)
        for index, _ in sampler:
            counts[index] += 1
    np.testing.assert_allclose(counts / 10_000, np.array(weights) / 8, atol=0.015)
    assert list(sampler) == list(sampler)


def test_weights_of_images_are_numbers() -> None:
    rows = [{"img": "a", "weight": "2"}, {"img": "b", "weight": ""}, {"img": "c"}]
    assert row_weights(rows, "weight") == [2, 1, 1]
    assert row_weights(rows, "other") is None
    for text, need in (("-1", "'-1'"), ("much", "'much'"), ("inf", "'inf'")):
        with pytest.raises(UserError, match=f"a: weight is {need}"):
            row_weights([{"img": "a", "weight": text}], "weight")
    with pytest.raises(UserError, match="all training images have weight 0"):
        row_weights([{"img": "a", "weight": "0"}], "weight")


def test_a_column_of_weights_reaches_the_training(competition: Competition) -> None:
    competition.table["weight"] = [float(at == 0 or at > 5) for at in range(12)]
    competition.table.to_csv(competition.output / "train_folds.csv", index=False)
    table = competition.table
    train = table[table["kfold"] == 1]
    seen: set[str] = set()

    from training.callbacks import CALLBACKS

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
            seen.update(batch["img"])

    CALLBACKS["watch"] = Watch
    try:
        assert main(competition.flags("--fold", "0", "--epochs", "4", "--callbacks", "watch")) == 0
    finally:
        del CALLBACKS["watch"]
    assert seen
    assert seen <= set(train["img"][train["weight"] == 1])
    assert len(set(train["img"])) > len(seen)


def test_last_epoch_of_a_limit_is_told_to_validate() -> None:
    class Trainer:
        max_steps, global_step, should_stop, check_val_every_n_epoch = 5, 4, False, 7
        is_last_batch = False

    trainer: Any = Trainer()
    LastValidation().on_train_batch_end(trainer)
    assert not trainer.should_stop
    trainer.global_step = 5
    LastValidation().on_train_batch_end(trainer)
    assert trainer.should_stop
    assert trainer.check_val_every_n_epoch == 1
