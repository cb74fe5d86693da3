"""Rows of OPTIMIZERS, SCHEDULERS, LOGGERS and CALLBACKS, and names told before images are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from conftest import Competition, run_python
from core.errors import UserError
from stages import call, errors_of
from toys import Spy, loader, module_of, samples, trainer_of
from training.callbacks import CALLBACKS
from training.optimizers import OPTIMIZERS, build_optimizer
from training.schedules import SCHEDULERS, build_scheduler

pytestmark = pytest.mark.usefixtures("tiny_net")
STEPS = 20


def fit(folder: Path, spy: Spy, **recipe: Any) -> tuple[Any, Any]:
    """Five epochs of four steps, validated after each; returns trainer and module."""
    module = module_of(lr=0.01, encoder_lr_factor=0.1, warmup=0.2, **recipe)
    trainer = trainer_of(folder, epochs=5, callbacks=[spy])
    trainer.fit(module, loader(samples("binary", 8), 2), loader(samples("binary", 2), 2))
    assert trainer.global_step == STEPS
    return trainer, module


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_stays_below_its_peak_and_keeps_the_encoders_share(
    name: str, tmp_path: Path
) -> None:
    spy = Spy()
    fit(tmp_path, spy, scheduler=name)
    decoder, encoder = np.array(spy.rates).T
    assert 0 < decoder.max() <= 0.01 * (1 + 1e-9)
    np.testing.assert_allclose(encoder, decoder / 10)


def test_schedules_follow_their_formulas(tmp_path: Path) -> None:
    done = np.arange(STEPS - 4) / (STEPS - 4)
    after = {
        "none": np.ones(STEPS - 4),
        "cosine": (1 + np.cos(np.pi * done)) / 2,
        "poly": (1 - done) ** 0.9,
        "step": np.select([done < 0.6, done < 0.85], [1, 0.1], 0.01),
    }
    for name, shares in after.items():
        spy = Spy()
        fit(tmp_path, spy, scheduler=name)
        rates = np.array(spy.rates)[:, 0] / 0.01
        np.testing.assert_allclose(rates, [0.25, 0.5, 0.75, 1.0, *shares], err_msg=name)


def test_one_cycle_peaks_after_the_warmup_and_ends_near_zero(tmp_path: Path) -> None:
    spy = Spy()
    fit(tmp_path, spy, scheduler="onecycle")
    rates = np.array(spy.rates)[:, 0]
    up, down = np.arange(4) / 3, np.arange(1, 17) / 16
    ends = [(1 / 25, 1.0, up), (1.0, 1 / 25 / 1e4, down)]
    shares = [end + (begin - end) * (1 + np.cos(np.pi * at)) / 2 for begin, end, at in ends]
    np.testing.assert_allclose(rates / 0.01, np.concatenate(shares), rtol=1e-6)


def test_plateau_falls_once_the_score_stands_still(tmp_path: Path) -> None:
    spy = Spy()
    # A rate of next to nothing: the score of each validation is the same.
    module = module_of(lr=1e-12, encoder_lr_factor=1.0, scheduler="plateau:least=0")
    trainer = trainer_of(tmp_path, epochs=6, callbacks=[spy], check_val_every_n_epoch=1)
    trainer.fit(module, loader(samples("binary", 2), 2), loader(samples("binary", 2), 2))
    rates = np.array(spy.rates)[:, 0]
    assert rates[0] == 1e-12
    assert rates[-1] == pytest.approx(5e-13)


def test_every_new_best_score_counts_for_a_plateau() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    how: dict[str, Any] = {"steps": 9, "warmup": 0.0, "monitor": "", "mode": "max", "val_every": 1}
    schedule = build_scheduler("plateau:patience=0", optimizer, **how)["scheduler"]
    for score in (-0.5, 0.9, 0.90001, 0.90002):
        schedule.step(score)
    assert optimizer.param_groups[0]["lr"] == 1
    schedule.step(0.90002)
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_lowers_the_loss_and_takes_rate_and_decay(name: str, tmp_path: Path) -> None:
    trainer, module = fit(tmp_path, Spy(), optimizer=name, weight_decay=0.125)
    (optimizer,) = trainer.optimizers
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.125}
    before = module_of()
    batch = next(iter(loader(samples("binary", 8), 8)))
    losses = [m.eval().loss(m(batch["image"]), batch["mask"]).item() for m in (before, module)]
    assert losses[1] < losses[0]


def test_an_optimiser_of_ones_own_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS, "own", torch.optim.RAdam)
    trainer, _ = fit(tmp_path, Spy(), optimizer="own")
    assert isinstance(trainer.optimizers[0], torch.optim.RAdam)


def test_callbacks_and_loggers_by_name_have_their_effect(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            seen.append(trainer.current_epoch)

    monkeypatch.setitem(CALLBACKS, "watch", Watch)
    flags = competition.flags("--folds", "0", "--epochs", "2")
    flags += ["--callbacks", "watch", "--loggers", "csv"]
    assert call("Lightning_trainer", flags) == 0
    assert seen == [0, 1]
    folder = competition.logs / "baseline" / "fold_0"
    assert (folder / "metrics.csv").is_file()
    assert not list(folder.glob("events*"))


def test_training_without_csv_ends_well(competition: Competition) -> None:
    flags = competition.flags("--folds", "0", "--epochs", "1", "--loggers", "tensorboard")
    assert call("Lightning_trainer", flags) == 0
    folder = competition.logs / "baseline" / "fold_0"
    assert list(folder.glob("events*"))
    assert (folder / "finished.json").is_file()
    assert not (folder / "metrics.csv").is_file()


FULL = """
import resource, sys
from pathlib import Path
from training.loggers import LOGGERS
logger = LOGGERS["tensorboard"](Path(sys.argv[1]))
logger.experiment.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    for step in range(1000):
        logger.log_metrics({"loss": 1.0}, step)
        logger.experiment.flush()
except OSError as error:
    print(f"told: {error}")
"""


def test_a_full_disk_under_tensorboard_reaches_the_training_and_is_told_once(
    tmp_path: Path,
) -> None:
    """The thread that writes events printed its own traceback above the one line."""
    done = run_python("-c", FULL, str(tmp_path / "fold_0"), PYTHONPATH="src")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("told: ")
    assert "too large" in done.stdout


# ---------------------------------------------------------------- names


TYPOS = {
    "loss": ("bce+dise", "dice"),
    "metric": ("dicee", "dice"),
    "augmentation": ("lihgt", "light"),
    "tta": ("flip_h,flip_w", "flip_"),
    "optimizer": ("adamv", "adam"),
    "scheduler": ("cosin", "cosine"),
    "loggers": ("cvs", "csv"),
    "callbacks": ("stop", "callback"),
}


def test_all_typos_are_told_at_once_before_any_image_is_read(
    competition: Competition, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in competition.input.rglob("*.*"):
        path.unlink()
    words = [word for knob, (typo, _) in TYPOS.items() for word in (f"--{knob}", typo)]
    assert call("Lightning_trainer", competition.flags(*words)) == 2
    told = [line.strip() for line in errors_of(capsys)[1:]]
    assert [line.partition(":")[0].lower() for line in told] == list(TYPOS)
    for line, (_, near) in zip(told, TYPOS.values(), strict=True):
        assert near in line
    assert not (competition.output / "cache").exists()


@pytest.mark.parametrize("script", ["Lightning_tester", "tune"])
def test_scripts_tell_a_typo_before_they_look_at_masks(
    script: str, scored: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(script, scored.flags("--metric", "dicee")) == 2
    assert "METRIC: unknown metric 'dicee'. Did you mean dice?" in "".join(errors_of(capsys))


def test_a_loss_that_does_not_fit_the_task_is_told_with_the_names() -> None:
    from core.flags import load_config
    from runs.names import check_names

    config, _ = load_config(["--task", "multiclass", "--classes", "3", "--metric", "no"])
    with pytest.raises(UserError, match=r"(?s)LOSS: loss 'bce' needs.*METRIC: unknown"):
        check_names(config)


@pytest.mark.parametrize(
    ("name", "package", "kept"),
    [
        ("wandb", "wandb", "wandb/offline-run*"),
        ("mlflow", "mlflow", "mlruns/*/*/artifacts/config.json"),
    ],
)
def test_other_loggers_leave_a_run(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, name: str, package: str, kept: str
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    flags = competition.flags("--folds", "0", "--epochs", "1", "--loggers", name)
    assert call("Lightning_trainer", flags) == 0
    assert list((competition.logs / "baseline" / "fold_0").glob(kept))


def test_a_logger_that_is_not_installed_is_told_before_training(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert call("Lightning_trainer", competition.flags("--loggers", "csv,mlflow")) == 2
    assert "pip install mlflow-skinny" in "\n".join(errors_of(capsys))
    assert not competition.logs.exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("RAdam", torch.optim.RAdam),
        ("sgd:momentum=0.85,nesterov=false", torch.optim.SGD),
        ("adamw:betas=0.8/0.9", torch.optim.AdamW),
        ("lamb", "Lamb"),
        ("lion:betas=0.8/0.9", "Lion"),
    ],
)
def test_any_optimiser_by_its_name_and_arguments(name: str, kind: Any) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    groups = [{"params": [weight], "lr": 0.5}]
    optimizer = build_optimizer(name, groups, lr=0.1, weight_decay=0.25, fused=False)
    assert type(optimizer).__name__ == (kind if isinstance(kind, str) else kind.__name__)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["weight_decay"] == 0.25
    if "betas" in name:
        assert tuple(optimizer.param_groups[0]["betas"]) == (0.8, 0.9)
    if "momentum" in name:
        assert optimizer.param_groups[0]["momentum"] == 0.85


@pytest.mark.parametrize(
    ("flag", "value", "need"),
    [
        ("--optimizer", "adamm", "Did you mean adam"),
        ("--optimizer", "adamw:beta=0.9", "Did you mean betas"),
        ("--optimizer", "adamw:lr=3", "no argument 'lr'"),
        ("--optimizer", "lbfgs", "optimiser 'lbfgs'"),
        ("--optimizer", "adahessian", "needs more than gradients"),
        ("--scheduler", "cosine:flor=0.1", "Did you mean floor"),
        ("--scheduler", "onecycle:stat=3", "Did you mean start"),
        ("--scheduler", "plateau:steps=3", "no argument 'steps'"),
        ("--scheduler", "plateau:patience", "need name:key=number"),
        ("--scheduler", "plateau:factor=2", "scheduler 'plateau:factor=2'"),
    ],
)
def test_arguments_that_do_not_fit_are_told(
    competition: Competition, capsys: pytest.CaptureFixture[str], flag: str, value: str, need: str
) -> None:
    assert call("Lightning_trainer", competition.flags(flag, value)) == 2
    assert need in "\n".join(errors_of(capsys))


def test_arguments_of_schedules() -> None:
    def rates(name: str, steps: int = 40) -> list[float]:
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], 2.0)
        options = {"steps": steps, "warmup": 0.0, "monitor": "", "mode": "max", "val_every": 1}
        schedule = build_scheduler(name, optimizer, **options)["scheduler"]
        seen = []
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"] / 2)
            optimizer.step()
            schedule.step()
        return seen

    np.testing.assert_allclose(rates("step:at=0.5,factor=0.2")[::10], [1, 1, 1, 0.2])
    assert min(rates("cosine:floor=0.25")) == pytest.approx(0.25, abs=0.01)
    assert rates("poly:power=2")[20] == pytest.approx((1 - 19 / 39) ** 2)
    # Two cosines: the second begins at the peak.
    twice = np.array(rates("cosine:cycles=2"))
    assert (np.diff(twice) > 0.5).sum() == 1
    cycle = rates("onecycle:start=10,linear=true")
    assert cycle[0] == pytest.approx(0.1)
    assert rates("onecycle", steps=1)[0] > 0
