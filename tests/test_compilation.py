"""When a network is compiled, and that a compiled one is the same network."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conftest import Competition
from Lightning_trainer import main
from tiny_net import TinyNet
from training.compilation import COLD, COST, GAIN, MEASURED, Compile, saved_seconds


def test_it_pays_from_the_step_on_where_gain_exceeds_cost() -> None:
    even = COST / (0.2 * GAIN)
    assert saved_seconds(int(even * 1.01), 0.2) > 0 > saved_seconds(int(even * 0.99), 0.2)


class Model(TinyNet):
    """Counts how often it is compiled."""

    compiled = 0

    def compile(self, *_: Any, **__: Any) -> None:
        self.compiled += 1


def steps(mode: str, device: str, *, batches: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often an epoch of 0.1 s steps on that device compiles the network."""
    clock = iter(range(10**6))
    monkeypatch.setattr("training.compilation._now", lambda _: 0.1 * MEASURED * next(clock))
    module = SimpleNamespace(model=Model(), device=torch.device(device))
    loop = SimpleNamespace(total_batch_idx=-1)
    trainer = SimpleNamespace(max_epochs=1, num_training_batches=batches, fit_loop=loop)
    callback = Compile(mode)
    callback.on_fit_start(trainer, module)
    for at in range(min(batches, COLD + MEASURED + 5)):
        loop.total_batch_idx = at - 1
        callback.on_train_batch_start(trainer, module, None, at)
    return module.model.compiled


@pytest.mark.parametrize(
    ("mode", "device", "batches", "times"),
    [
        ("on", "cpu", 5, 1),
        ("auto", "cuda", 100_000, 1),
        ("auto", "cuda", 100, 0),
        ("auto", "cpu", 100_000, 0),
    ],
)
def test_when_it_compiles(
    monkeypatch: pytest.MonkeyPatch, mode: str, device: str, batches: int, times: int
) -> None:
    assert steps(mode, device, batches=batches, monkeypatch=monkeypatch) == times


@pytest.mark.usefixtures("tiny_net")
def test_a_compiled_run_leaves_the_checkpoint_of_any_run(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, called = torch.nn.Module.compile, []

    def compile_eagerly(self: torch.nn.Module, **_: Any) -> None:
        called.append(self)
        inner(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    states = []
    for mode in ("off", "on"):
        flags = ("--run", mode, "--compile", mode, "--folds", "0", "--augmentation", "none")
        assert main(competition.flags(*flags)) == 0
        best = competition.logs / mode / "fold_0" / "checkpoints" / "best.ckpt"
        states.append(torch.load(best, weights_only=True)["state_dict"])
    assert len(called) == 1
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-5)
