"""The second head: trained beside the masks, stored, tuned, and followed to the submission."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from conftest import Competition, write_competition, write_mask_gif
from core.errors import UserError
from data.specs import DataSpec
from Lightning_module import Recipe, SegmentationModule, build_module, load_module
from model_dispatcher import MODELS, build_model
from networks.padding import PaddedModel
from postprocessing.rules import Rule, apply_rule, decide_by
from scoring.objective import build_objective
from scoring.oof_counts import count_oof
from stages import NETWORKS, call, checkpoint, errors_of
from test_tune import SIZE, blob, write_oof
from tiny_net import TinyNet
from tuning.pixels import tune_pixels


class TwoHeads(TinyNet):
    """TinyNet with a head over the whole image where it is asked for."""

    def __init__(self, *, gate: bool = False, classes: int = 1, **kind: Any):
        super().__init__(classes=classes, **kind)
        self.gate = nn.Linear(8, classes) if gate else None

    def forward(self, image: torch.Tensor) -> Any:
        masks = super().forward(image)
        return (masks, self.gate(self.encoder(image).amax((2, 3)))) if self.gate else masks


def two_heads(*, gate: bool = False, **kind: Any) -> nn.Module:
    return PaddedModel(TwoHeads(gate=gate, **kind), stride=2)


def gated_oof(folder: Path, count: int, *, tells: bool) -> Any:
    """Discs in every second image, predicted in all of them; gates that know which, or do not."""
    rng, pairs, gates = np.random.default_rng(0), [], []
    for at in range(count):
        disc = blob(rng, int(rng.integers(7, 12)))
        probs = np.clip(np.where(disc, 0.9, 0.02) + rng.normal(0, 0.02, SIZE), 0, 1)
        pairs.append((probs[None], (disc & (at % 2 == 0)).astype(np.uint8)))
        gates.append(
            float(np.clip((0.2 + 0.6 * (at % 2 == 0)) * tells + rng.uniform(0, 0.1), 0, 1))
        )
    images = write_oof(folder, pairs, folds=5)
    for row, gate in zip(images.rows, gates, strict=True):
        row["gate_0"] = gate
    return images


# ---------------------------------------------------------------- tuning


@pytest.mark.parametrize("metric", ["dice", "dataset_iou"])
def test_a_gate_that_tells_is_taken(tmp_path: Path, metric: str) -> None:
    images = gated_oof(tmp_path, 40, tells=True)
    (one,) = tune_pixels(images, build_objective(metric), 0.5)
    assert one.steps[-1].name == "gate"
    assert one.steps[-1].taken
    rule = one.now.rule
    assert 0.3 < rule.gate < 0.8
    for at in range(40):
        mask = decide_by(
            [rule], torch.from_numpy(images.levels(at)) / 255, task="binary", gates=images.gates(at)
        )[0]
        truth = images.truth(at, SIZE)[0]
        tp = int((mask & truth).sum())
        counts = (tp, int(mask.sum()) - tp, int(truth.sum()) - tp)
        told = one.objective.values(*(torch.tensor(value) for value in counts))
        assert torch.allclose(one.now.inside[at], told)


def test_the_report_counts_what_the_gate_leaves(tmp_path: Path) -> None:
    images = gated_oof(tmp_path, 6, tells=True)
    gates = [images.gates(at)[0] for at in range(6)]
    counted = count_oof(images, [Rule(gate=0.5)], "dice")
    ungated = count_oof(images, [Rule()], "dice")
    assert [gate > 0.5 for gate in gates] == [True, False] * 3
    assert np.array_equal(counted.counts[::2], ungated.counts[::2])
    assert not counted.counts[1::2, 0, :3].any()
    assert counted.scores[1::2].tolist() == [1, 1, 1]
    assert ungated.scores[1::2].tolist() == [0, 0, 0]


def test_a_gate_of_noise_is_refused(tmp_path: Path) -> None:
    (one,) = tune_pixels(gated_oof(tmp_path, 40, tells=False), build_objective("dice"), 0.5)
    assert not one.steps[-1].taken
    assert one.now.rule.gate == 0


def test_doubt_scales_the_area(tmp_path: Path) -> None:
    """Small masks are right where the head is sure and wrong where it doubts; large ones right."""
    rng, pairs, gates = np.random.default_rng(0), [], []
    for at in range(60):
        radius, sure, there = ((4, 0.9, 1), (4, 0.5, 0), (11, 0.5, 1))[at % 3]
        disc = blob(rng, radius)
        pairs.append((np.where(disc, 0.9, 0.02)[None], (disc & bool(there)).astype(np.uint8)))
        gates.append(sure + float(rng.uniform(-0.02, 0.02)))
    images = write_oof(tmp_path, pairs, folds=5)
    for row, gate in zip(images.rows, gates, strict=True):
        row["gate_0"] = gate
    (one,) = tune_pixels(images, build_objective("dice"), 0.5)
    assert one.steps[-1].taken
    small, large = (int(blob(rng, radius).sum()) for radius in (4, 11))
    rule = one.now.rule
    assert small < rule.gate_scale * 0.5 <= large
    assert rule.gate_scale * 0.1 <= small
    assert float(one.objective.score(one.now.outside.sum(0))) == pytest.approx(1)
    levels = np.where(blob(rng, 4), 230, 5).astype(np.uint8)
    assert [bool(apply_rule(levels, rule, gate).any()) for gate in (0.9, 0.5)] == [True, False]


def test_without_gates_there_is_no_such_step(tmp_path: Path) -> None:
    images = gated_oof(tmp_path, 10, tells=True)
    for row in images.rows:
        del row["gate_0"]
    assert images.gates(0) is None
    (one,) = tune_pixels(images, build_objective("dice"), 0.5)
    assert [step.name for step in one.steps] == ["threshold", "pair", "parts"]


def test_each_class_has_its_own_gate() -> None:
    probs, rules = torch.ones(2, 4, 4), [Rule(gate=0.3), Rule(gate=0.6)]
    mask = decide_by(rules, probs, task="multilabel", gates=[0.5, 0.5])
    assert mask.sum((1, 2)).tolist() == [16, 0]
    assert apply_rule(np.full((4, 4), 255, np.uint8), Rule(gate=0.9)).all(), "no head, no gate"


# ---------------------------------------------------------------- the network


def module_of(gate: bool, task: str = "multilabel") -> SegmentationModule:
    torch.manual_seed(0)
    spec = DataSpec(task=task, classes=1 if task == "binary" else 2, size=(32, 32), gate=gate)
    with patch.dict(MODELS, {"two": two_heads}):
        return build_module("two", spec, recipe=Recipe(loss="bce"), encoder_weights=None)


def test_the_loss_is_that_of_the_masks_and_the_gate() -> None:
    module = module_of(True)
    mask = torch.zeros(3, 2, 32, 32, dtype=torch.uint8)
    mask[0, 0, 4, 4], mask[1, 1, :9] = 1, 1
    logits = module(torch.randint(0, 255, (3, 3, 32, 32)))
    assert logits.shape == (3, 4, 32, 32)
    assert (logits[:, 2:] == logits[:, 2:, :1, :1]).all()
    there = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    p = logits[:, 2:, 0, 0].sigmoid()
    twin = -(there * p.log() + (1 - there) * (1 - p).log()).mean()
    loss = module._loss(logits, {"mask": mask})
    assert torch.allclose(loss, module.loss(logits[:, :2], mask) + twin)
    loss.backward()
    assert module.model.net.gate.weight.grad.abs().sum() > 0
    # Of a class that is ignored all over an image nobody knows whether it is there.
    mask[1, 0], mask[2, 0, 3] = 255, 255
    known = torch.tensor([[1.0, 1], [0, 1], [1, 1]])
    logits = module(torch.randint(0, 255, (3, 3, 32, 32)))
    p = logits[:, 2:, 0, 0].sigmoid()
    twin = -((there * p.log() + (1 - there) * (1 - p).log()) * known).sum() / 5
    masks = module.loss(logits[:, :2], mask)
    assert torch.allclose(module._loss(logits, {"mask": mask}), masks + twin)


def test_a_network_without_the_head_is_as_it_was() -> None:
    module = module_of(False)
    assert module(torch.zeros(1, 3, 31, 33)).shape == (1, 2, 31, 33)
    values = module.hparams["data"]
    assert DataSpec.from_dict({k: v for k, v in values.items() if k != "gate"}) == module.spec


def test_smp_networks_have_the_head() -> None:
    model = build_model("smp_unet_resnet18", classes=2, gate=True).eval()
    with torch.inference_mode():
        logits = model(torch.rand(1, 3, 40, 50))
    assert logits.shape == (1, 4, 40, 50)
    assert (logits[:, 2:] == logits[:, 2:, :1, :1]).all()


def test_a_network_that_cannot_have_it_is_named() -> None:
    with (
        patch.dict(MODELS, {"tiny": TinyNet}),
        pytest.raises(UserError, match="GATE=head: tiny has no second head"),
    ):
        build_model("tiny", gate=True)


# ---------------------------------------------------------------- from training to the submission


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A competition of which every second image is empty, a run with and a run without the head."""
    made = write_competition(tmp_path_factory.mktemp("gate"))
    for row in made.table.to_dict("records"):
        if row["img"].endswith("_02"):
            picture = np.random.default_rng(1).integers(0, 90, (64, 80, 3), np.uint8)
            cv2.imwrite(str(made.input / row["image"]), picture)
            write_mask_gif(made.input / row["mask"], np.zeros((64, 80), np.uint8))
    with patch.dict(NETWORKS, {"two": two_heads}):
        for gate in ("head", "none"):
            for script in ("Lightning_trainer", "Lightning_tester"):
                assert call(script, flags_of(made, gate)) == 0
        yield made


def flags_of(made: Competition, gate: str) -> list[str]:
    return made.flags(
        *("--run", gate, "--gate", gate, "--model-name", "two", "--tta", "flip_h"),
        *("--epochs", "8", "--lr", "0.03", "--ema-decay", "0"),
    )


def test_gates_are_stored_beside_the_scores(gated) -> None:
    table = pd.read_csv(gated.output / "head" / "oof.csv")
    assert "gate_0" not in pd.read_csv(gated.output / "none" / "oof.csv")
    assert table["gate_0"].between(0, 1).all()
    empty = table["img"].str.endswith("_02")
    assert table["gate_0"][~empty].min() > table["gate_0"][empty].max()
    with patch.dict(MODELS, {"two": two_heads}):
        assert load_module(checkpoint(gated, 0, "head")).spec.gate


def test_the_submission_follows_the_gate(gated, capsys) -> None:
    flags, path = flags_of(gated, "head"), gated.output / "head" / "report.json"
    assert call("tune", flags) == 0
    report = json.loads(path.read_text())
    assert [step["step"] for step in report["tuning"]["classes"][0]][-2:] == [
        "gate",
        "outline",
    ]
    texts = []
    for gate in (0.0, 1.0):
        path.write_text(json.dumps({**report, "rules": [Rule(0.5, gate=gate).to_dict()]}))
        assert call("ensemble", flags) == 0
        lines = (path.parent / "submission.csv").read_text().splitlines()[1:]
        texts.append([line.split(",")[1] for line in lines])
    assert all(texts[0])
    assert texts[1] == [""] * 3
    capsys.readouterr()
    assert call("ensemble", [*flags, "--runs", "head,none"]) == 2
    assert "GATE=head" in errors_of(capsys)[0]
    path.write_text(json.dumps(report))


def test_a_blend_has_gates_where_every_run_has(gated) -> None:
    flags = flags_of(gated, "head")
    assert call("tune", ["blend", *flags, "--runs", "head,none"]) == 0
    assert "gate_0" not in pd.read_csv(gated.output / "head+none" / "oof.csv")
    assert call("tune", [*flags, "--run", "head+none"]) == 0
    assert call("ensemble", [*flags, "--runs", "head,none"]) == 0
