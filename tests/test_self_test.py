"""test_model.py tells a network, loss or metric that cannot learn; the rows of the tables can."""

import contextlib
import re
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

import test_dataset
import test_model
from conftest import Competition, write_competition
from core.errors import UserError
from core.flags import load_config
from criteria.base import MaskLoss
from data.specs import DataSpec
from looking.measuring import count_parameters, measure_cost
from looking.self_test import CHECKS, Bench, check_learning, drawn_batch, run_checks
from losses import LOSSES
from metrics import METRICS, build_metric
from model_dispatcher import MODELS, build_model
from tiny_net import TinyNet

SPECS = {
    "binary": DataSpec(size=(64, 64)),
    "multiclass": DataSpec(task="multiclass", classes=3, size=(64, 64)),
    "multilabel": DataSpec(task="multilabel", classes=2, size=(64, 64)),
}


@pytest.fixture
def competition(tmp_path: Path) -> Competition:
    return write_competition(tmp_path)


@pytest.mark.parametrize("task", SPECS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_may_start(loss: str, task: str) -> None:
    name = "ce" if (task, loss) == ("multiclass", "bce") else loss
    check_learning(SPECS[task], loss=name, metric="dice", weights=())


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_may_start(metric: str) -> None:
    taken = [spec for spec in SPECS.values() if takes(metric, spec)]
    assert taken
    for spec in taken:
        check_learning(spec, loss="ce", metric=metric, weights=())


def takes(metric: str, spec: DataSpec) -> bool:
    """Whether a metric is for such a task."""
    with contextlib.suppress(UserError):
        build_metric(metric, task=spec.task, classes=spec.classes)
        return True
    return False


class Upwards(MaskLoss):
    """Rewards what is wrong."""

    def loss(self, logits, target, valid):
        return (logits.sigmoid() * target).mean()


class Overflowing(MaskLoss):
    """Is infinite where the network is sure."""

    def loss(self, logits, target, valid):
        return logits.exp().exp().mean() + (logits - target).square().mean()


@pytest.mark.parametrize(
    ("row", "told"), [(Upwards, "it must rise"), (Overflowing, "not finite in half precision")]
)
def test_a_loss_of_ones_own_that_is_wrong_is_told_before_training(row: type, told: str) -> None:
    with patch.dict(LOSSES, mine=row), pytest.raises(UserError, match=told):
        check_learning(SPECS["binary"], loss="mine", metric="dice", weights=())


def bench_with(model: nn.Module) -> Bench:
    """A bench of a network in a module's place."""
    from Lightning_module import Recipe, build_module

    spec = SPECS["binary"]
    with patch.dict(MODELS, given=lambda **kind: model):
        module = build_module("given", spec, recipe=Recipe(loss="bce"), encoder_weights=None)
    return Bench(spec, drawn_batch(spec, spec.size), "bce", "dice", module.loss, module)


class Cut(TinyNet):
    """Whose encoder gets no gradient."""

    def forward(self, image):
        return self.head(self.encoder(image).detach())


class Constant(TinyNet):
    """Whose output is one number."""

    def forward(self, image):
        return super().forward(image) * 0


def test_a_cut_gradient_and_a_constant_output_are_told() -> None:
    assert CHECKS["gradient reaches every stage"](bench_with(Cut())).startswith(
        "no gradient reaches encoder"
    )
    assert "same for every pixel" in CHECKS["output varies"](bench_with(Constant()))
    assert set(run_checks(bench_with(TinyNet()), CHECKS).values()) == {""}


def augmented(competition: Competition, name: str) -> Bench:
    """A bench with the competition's images, augmented."""
    config, _ = load_config(competition.flags("--augmentation", name))
    with patch.dict(MODELS, tiny=TinyNet):
        return test_model.bench_of(config)


@pytest.mark.parametrize("name", ["none", "flips", "light"])
def test_workers_that_draw_apart_are_well_however_few_pictures_there_are(
    competition: Competition, name: str
) -> None:
    check, bench = CHECKS["augmentation differs across workers"], augmented(competition, name)
    assert {check(bench) for _ in range(4)} == {""}


def test_workers_that_repeat_each_other_are_told(competition: Competition) -> None:
    bench = augmented(competition, "light")
    augment, copied = bench.dataset.augment, np.random.default_rng(0)
    bench.dataset.augment = lambda image, mask, rng: augment(image, mask, copied)
    told = CHECKS["augmentation differs across workers"](bench)
    assert told == "both workers drew the same images in the same order"


def test_costs_are_those_of_the_network() -> None:
    bench = bench_with(TinyNet())
    cost = measure_cost(bench.module, bench.batch)
    weights = 3 * 8 * 9 + 8 + 16 + 8 * 9 + 1
    assert cost.parameters == count_parameters(TinyNet()) == weights
    # Multiplications and additions of both convolutions at half the side.
    assert cost.flops == 2 * 32 * 32 * (3 * 8 * 9 + 8 * 9)
    assert cost.kept > 4 * 64 * 64 * 3
    assert cost.batch > 1000


def test_the_count_of_the_shipped_network() -> None:
    with torch.device("meta"):
        assert count_parameters(build_model("smp_unet_resnet34")) == 24_436_369


def test_both_scripts_run_without_a_screen(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch.dict(MODELS, tiny=TinyNet):
        assert test_dataset.main(competition.flags()) == 0
        assert test_model.main(competition.flags("--augmentation", "light")) == 0
    out = capsys.readouterr().out
    assert "12 images; image (3, 64, 64), mask (1, 64, 64), torch.uint8" in out
    assert (competition.output / "sample.png").stat().st_size > 1000
    assert f"torch {torch.__version__}" in out
    assert "313 parameters" in out
    assert len(re.findall("^ok ", out, re.MULTILINE)) == len(CHECKS)


def test_a_failed_check_is_exit_code_2(
    competition: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for state in (1, 2):  # whatever was drawn before, two calls say the same
        torch.manual_seed(state)
        with patch.dict(MODELS, tiny=Cut):
            assert test_model.main(competition.flags()) == 2
        told.append(capsys.readouterr().err)
    assert "1 check failed" in told[0]
    assert told[0] == told[1]
