"""CHANNELS_LAST: measured, kept by a resumed run, taken over by prediction."""

from typing import Any

import pytest
import torch

from conftest import Competition
from inference import layout
from inference.layout import lay_out
from Lightning_module import SegmentationModule, load_module
from Lightning_trainer import main
from tiny_net import TinyNet
from toys import module_of
from trained import checkpoint, fold_of, same_weights, told
from training import memory_format
from training.memory_format import gain_of_channels_last

pytestmark = pytest.mark.usefixtures("tiny_net")
AUTO = ("--fold", "0", "--epochs", "1", "--channels-last", "auto")


def gains(monkeypatch: pytest.MonkeyPatch, train: float, predict: float) -> list[bool]:
    """What every measurement ends with from now on; the list grows by one each."""
    asked: list[bool] = []

    def gain(*_: Any, training: bool, **__: Any) -> float:
        asked.append(training)
        return train if training else predict

    monkeypatch.setattr(memory_format, "gain_of_channels_last", gain)
    monkeypatch.setattr(layout, "gain_of_channels_last", gain)
    monkeypatch.setattr(layout, "_measured", {})
    return asked


def is_channels_last(module: Any) -> bool:
    return module.model.encoder[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_measurement_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = TinyNet()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state, image = torch.get_rng_state(), torch.zeros(2, 3, 32, 32)
    for training in (True, False):
        assert gain_of_channels_last(model, image, precision="32-true", training=training) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.encoder[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("train", "predict"), [(0.8, 1.2), (1.5, 0.9), (1.01, 1.0)])
def test_auto_takes_what_wins_and_a_resumed_run_keeps_it(
    competition: Competition,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    train: float,
    predict: float,
) -> None:
    asked = gains(monkeypatch, train, predict)
    assert main(competition.flags(*AUTO)) == 0
    assert asked == [True, False]
    words = "on" if train > 1.1 else "off", "on" if predict > 1.1 else "off"
    out = told(capsys)
    assert f"{train:.2f}x in training: {words[0]}, {predict:.2f}x in prediction: {words[1]}" in out
    folder = fold_of(competition)
    notes = checkpoint(folder, "last")["hyper_parameters"]["notes"]["channels_last"]
    assert (notes["train"], notes["predict"]) == (train > 1.1, predict > 1.1)

    # Another day the clock says the opposite.
    asked = gains(monkeypatch, predict, train)
    (folder / "finished.json").unlink()
    assert main(competition.flags(*AUTO)) == 0
    assert asked == []
    module = load_module(folder / "checkpoints" / "best.ckpt")
    lay_out(module, torch.device("cpu"))
    assert asked == []
    assert is_channels_last(module) == (predict > 1.1)


def test_a_broken_run_goes_on_in_the_layout_that_it_began_with(
    competition: Competition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, though the clock says otherwise when it goes on."""
    words = ("--fold", "0", "--epochs", "4", "--channels-last")
    seen: list[bool] = []

    def watch(stop: int | None = None) -> None:
        def start(module: SegmentationModule) -> None:
            seen.append(is_channels_last(module))
            if module.current_epoch == stop:
                raise KeyboardInterrupt

        monkeypatch.setattr(SegmentationModule, "on_train_epoch_start", start)

    def weights(run: str) -> dict[str, Any]:
        return checkpoint(fold_of(competition, run), "last")["state_dict"]

    watch()
    assert main(competition.flags(*words, "on", "--run", "whole")) == 0
    gains(monkeypatch, 2.0, 2.0)
    watch(stop=2)
    assert main(competition.flags(*words, "auto", "--run", "broken")) == 130
    gains(monkeypatch, 0.5, 0.5)
    watch()
    assert main(competition.flags(*words, "auto", "--run", "broken")) == 0
    assert seen == [True] * (4 + 3 + 2)
    assert same_weights(weights("whole"), weights("broken"))


@pytest.mark.parametrize("content", ['{"a": 1}', None])
def test_other_folds_and_runs_take_what_was_measured_once(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    """A busy clock must not give one SEED two trainings; a broken file is measured anew."""
    asked = gains(monkeypatch, 2.0, 0.5)
    kept = competition.logs / "layouts.json"
    if content is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(content)
    words = ("--epochs", "1", "--channels-last", "auto")
    assert main(competition.flags(*words)) == 0
    gains(monkeypatch, 0.5, 2.0)
    assert main(competition.flags(*words, "--run", "again")) == 0
    assert asked == [True, False]
    for fold in (0, 1):
        one, two = (fold_of(competition, run, fold) for run in ("baseline", "again"))
        assert same_weights(*(checkpoint(folder, "last")["state_dict"] for folder in (one, two)))


@pytest.mark.parametrize("mode", ["on", "off"])
def test_on_and_off_are_not_measured(
    competition: Competition, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    asked = gains(monkeypatch, 1.0, 1.0)
    assert main(competition.flags(*AUTO[:-1], mode)) == 0
    module = load_module(fold_of(competition) / "checkpoints" / "best.ckpt")
    lay_out(module, torch.device("cpu"))
    assert is_channels_last(module) == (mode == "on")
    assert asked == []


def test_networks_of_another_machine_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = gains(monkeypatch, 0.5, 2.0)
    for _ in range(2):
        module = module_of()
        elsewhere = {"train": False, "predict": False, "machine": "an abacus"}
        module.hparams["notes"] = {"channels_last": elsewhere}
        lay_out(module, torch.device("cpu"))
        assert is_channels_last(module)
    assert asked == [False]


def test_both_layouts_give_the_same_logits() -> None:
    module, image = module_of().eval(), torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.inference_mode():
        usual = module(image)
        module.set_channels_last(True)
        torch.testing.assert_close(module(image), usual)
