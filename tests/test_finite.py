"""A run that moves or diverges tells the truth."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchmetrics import Metric

from conftest import Competition
from core.errors import UserError
from Lightning_module import load_module
from Lightning_trainer import main
from metrics import METRICS
from trained import checkpoint, finished, fold_of, same_weights, told
from training.checkpoints import MovableCheckpoint, write_checkpoint
from training.finite import Finite, check_weights

pytestmark = pytest.mark.usefixtures("tiny_net")


def test_a_training_that_diverges_is_no_result(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = competition.flags("--fold", "0", "--lr", "1e30", "--warmup", "0", "--grad-clip", "0")
    assert main(flags) == 2
    out = told(capsys)
    assert "error: fold 0, epoch 1" in out
    assert "LR" in out
    assert "trained" not in out
    assert not (fold_of(competition) / "finished.json").exists()
    assert main(flags) == 2


@pytest.mark.parametrize("scores", [["nan"] * 3, ["nan", "0.3", "nan"]])
def test_the_last_network_is_kept_where_no_score_is_a_number(
    competition: Competition,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scores: list[str],
) -> None:
    told_so = iter(scores)

    class Told(Metric):
        higher_is_better, full_state_update = True, False

        def update(self, mask: object, target: object) -> None:
            """Whatever they are."""

        def compute(self) -> torch.Tensor:
            return torch.tensor(float(next(told_so)))

    monkeypatch.setitem(METRICS, "told", lambda *_: Told())
    monkeypatch.setattr("Lightning_trainer.tell_start", lambda *_: "")  # it asks for a score, too
    monkeypatch.setattr("looking.self_test.check_learning", lambda *_, **__: None)
    flags = competition.flags("--fold", "0", "--metric", "told", "--epochs", "3")
    assert main(flags) == 0
    out, known = told(capsys), "0.3" in scores
    assert checkpoint(fold_of(competition), "best")["epoch"] == (1 if known else 2)
    assert ("val_told was never a number" in out) != known
    assert ("val_told 0.3000: " if known else "val_told nan: ") in out
    assert main(flags) == 0
    assert "fold 0: finished before, kept" in told(capsys)


def batch_of(pixels: torch.Tensor) -> dict[str, object]:
    return {"img": [f"x{at}" for at in range(len(pixels))], "image": pixels}


def trainer_of(precision: str = "32-true", device: str = "cpu") -> SimpleNamespace:
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(precision=precision, strategy=strategy, current_epoch=0, global_step=3)


CPU = SimpleNamespace(device=torch.device("cpu"))


def test_the_images_of_the_batch_are_named() -> None:
    batch = batch_of(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    watch = Finite("fold 1")
    watch.on_train_batch_end(trainer_of(), CPU, {"loss": torch.tensor(1.0)}, batch, 0)
    with pytest.raises(UserError, match=r"epoch 1, step 3: the loss is nan \(images x0, x1"):
        watch.on_train_batch_end(trainer_of(), CPU, {"loss": torch.tensor(torch.nan)}, batch, 1)


@pytest.mark.parametrize(("named", "told"), [(True, "x1"), (False, "1")])
def test_a_file_with_pixels_that_are_no_numbers_is_named(named: bool, told: str) -> None:
    """By its place in the batch, where a loader of one's own names none."""
    pixels = torch.zeros(3, 1, 4, 4)
    pixels[1, 0, 2, 2] = torch.nan
    batch = batch_of(pixels) if named else {"image": pixels}
    with pytest.raises(UserError, match=f"pixels of {told} are nan or infinite"):
        Finite("fold 0").on_train_batch_end(
            trainer_of(), CPU, {"loss": torch.tensor(torch.nan)}, batch, 0
        )


def test_overflows_of_half_precision_are_counted_until_they_are_no_accident() -> None:
    watch, batch = Finite("fold 0"), batch_of(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    trainer, lost = trainer_of("16-mixed", "cuda"), {"loss": torch.tensor(torch.inf)}
    for at in range(25):
        watch.on_train_batch_end(trainer, CPU, lost, batch, at)
    assert watch.overflows == 25
    watch.on_train_batch_end(trainer, CPU, {"loss": torch.tensor(0.5)}, batch, 25)
    for at in range(25):
        watch.on_train_batch_end(trainer, CPU, lost, batch, at)
    with pytest.raises(UserError, match="the loss is inf"):
        watch.on_train_batch_end(trainer, CPU, lost, batch, 51)


def test_weights_that_are_no_numbers_are_refused() -> None:
    layer = torch.nn.Linear(2, 2)
    check_weights(layer, "x")
    with torch.no_grad():
        layer.bias[0] = torch.inf
    with pytest.raises(UserError, match=r"x: 1 of 2 tensors hold nan or infinity \(first: bias"):
        check_weights(layer, "x")


def test_a_network_that_is_no_number_does_not_load(competition: Competition) -> None:
    assert main(competition.flags("--fold", "0")) == 0
    path = fold_of(competition) / "checkpoints" / "best.ckpt"
    load_module(path)
    spoilt = torch.load(path, weights_only=True)
    spoilt["state_dict"]["model.head.0.bias"][0] = torch.nan
    write_checkpoint(path, spoilt)
    with pytest.raises(UserError, match="nan or infinity"):
        load_module(path)


def test_torchs_advice_to_run_code_is_not_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {}, "evil": Path}, path)
    with pytest.raises(UserError) as error:
        load_module(path)
    assert "weights_only" not in str(error.value)
    assert "could run code" in str(error.value)


def test_a_moved_run_keeps_its_best_network(competition: Competition) -> None:
    flags = competition.flags("--fold", "0")
    assert main(flags) == 0
    folder, before = fold_of(competition), checkpoint(fold_of(competition), "best")
    best = finished(competition)["score"]
    (folder / "finished.json").unlink()
    (competition.logs / "baseline").rename(competition.logs / "renamed")
    assert main([*flags, "--run", "renamed"]) == 0
    assert finished(competition, "renamed")["score"] == best
    moved = checkpoint(fold_of(competition, "renamed"), "best")
    assert same_weights(before["state_dict"], moved["state_dict"])


@pytest.mark.parametrize("there", [True, False])
def test_the_best_score_moves_with_its_file(tmp_path: Path, there: bool) -> None:
    made = MovableCheckpoint(tmp_path / "old", filename="best", monitor="val_dice", mode="max")
    made.best_model_score = made.kth_value = torch.tensor(0.9)
    made.best_model_path = made.kth_best_model_path = str(tmp_path / "old" / "best.ckpt")
    made.best_k_models = {made.best_model_path: torch.tensor(0.9)}
    new = tmp_path / "new"
    new.mkdir()
    if there:
        (new / "best.ckpt").touch()
    again = MovableCheckpoint(new, filename="best", monitor="val_dice", mode="max")
    again.load_state_dict(made.state_dict())
    assert again.check_monitor_top_k(SimpleNamespace(strategy=Alone()), torch.tensor(0.5)) != there
    assert again.check_monitor_top_k(SimpleNamespace(strategy=Alone()), torch.tensor(0.95))
    assert again.best_model_path == (str(new / "best.ckpt") if there else "")
    assert made.state_key == again.state_key
    assert made.state_key.startswith("ModelCheckpoint{")


class Alone:
    """A strategy of one process."""

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        return decision
