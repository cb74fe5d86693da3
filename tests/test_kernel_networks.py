"""Networks beyond SMP's plain ones in kernels, each from a trained step to a submission there."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import Competition
from core.flags import _restore_environment
from imaging.images import read_image
from kernel_build import rehearsal
from kernel_build.rehearsal import Rehearsal, play, reference
from kernel_runs import SLUG, kernel
from Lightning_module import load_module
from model_dispatcher import MODELS
from postprocessing.rules import Rule
from runs.reports import Blend, read_report
from stages import checkpoint

pytestmark = pytest.mark.slow
CPU = {"KERNEL_REHEARSAL": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
ROWS = """
from functools import partial

from parts_of_ours.sizes import QUERIES

from model_dispatcher import MODELS
from networks.eomt import build_eomt
from networks.mask_transformers import build_mask2former

SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}
SIZES = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "num_queries": 8}
SIZES |= {"encoder_layers": 1, "decoder_layers": 2, "dim_feedforward": 64}
SIZES |= {"encoder_feedforward_dim": 64, "num_attention_heads": 2, "train_num_points": 256}
VIT = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
MODELS["mine_mask2former"] = partial(build_mask2former, "tiny", backbone_config=SWIN, **SIZES)
MODELS["mine_eomt"] = partial(build_eomt, "small", **VIT, **QUERIES)
"""
# What the recipe imports from beside it: a package, and a module that only the package asks for.
BESIDE = {
    "parts_of_ours/__init__.py": "",
    "parts_of_ours/sizes.py": "from count_of_ours import COUNT\n\n"
    'QUERIES = {"num_queries": COUNT, "train_num_points": 256, "num_blocks": 1}\n',
    "count_of_ours.py": "COUNT = 8",  # no line break at its end
}
# A run's name to its network and what else it is trained with.
RUNS = {
    "m2f": ("mine_mask2former", ()),
    "eomt": ("mine_eomt", ()),
    "uc": ("unetify_convnext_atto", ()),
    "uv": ("unetify_vit_tiny_patch16_224", ()),
    "gate": ("smp_linknet_tu-lcnet_035", ("--gate", "head")),
    "deep": ("smp_unet_tu-lcnet_035", ("--deep-supervision", "true")),
    "sm": ("small_unet", ()),
}


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[Path]:
    """A recipe with rows of its own; its path without suffix."""
    path = tmp_path / "networks_of_ours"
    path.with_suffix(".py").write_text(ROWS)
    (tmp_path / "parts_of_ours").mkdir()
    for name, text in BESIDE.items():
        (tmp_path / name).write_text(text)
    before = list(sys.path)
    yield path
    sys.path[:] = before
    for name in (path.name, "parts_of_ours", "parts_of_ours.sizes", "count_of_ours"):
        sys.modules.pop(name, None)
    for name in ("mine_mask2former", "mine_eomt"):
        MODELS.pop(name, None)


def run(script: str, words: list[str]) -> None:
    """main of a script; its flags are gone afterwards."""
    try:
        assert importlib.import_module(script).main(words) == 0
    finally:
        _restore_environment()
        sys.modules.pop("config", None)


def decide(competition: Competition) -> None:
    """A blend of all runs, whose threshold halves the pixels: each network's every bit counts."""
    image = read_image(competition.input / "test_hq" / "new0_01.jpg")
    batch = {"image": torch.from_numpy(image[:64, :64].copy()).movedim(-1, 0)[None]}
    with torch.inference_mode():
        probs = [
            load_module(checkpoint(competition, 0, one)).predict_step(batch)[:, :1] for one in RUNS
        ]
    rule = Rule(threshold=float(torch.stack(probs).mean(0).median()))
    reports = [read_report(competition.output, one) for one in RUNS]
    keys, weights = [report.oof_key for report in reports], [1 / len(RUNS)] * len(RUNS)
    name = "+".join(RUNS)
    blend = Blend(oof_keys=keys, weights=weights, kind="probs")
    blended = replace(reports[0], run=name, rules=[rule], blend=blend)
    blended.write(competition.output / name / "report.json")


def test_a_kernel_of_all_networks_predicts_what_ensemble_does(
    competition: Competition, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = competition.flags("--recipe", str(recipe), "--folds", "0", "--epochs", "1")
    for one, (network, more) in RUNS.items():
        words = [*shared, "--run", one, "--model-name", network, *more]
        run("Lightning_trainer", words)
        run("Lightning_tester", words)
    decide(competition)
    capsys.readouterr()
    assert kernel("infer", *shared, "--runs", ",".join(RUNS), "--competition", SLUG) == 0
    assert "note: a network needs transformers, " in capsys.readouterr().out
    folder = competition.output / "+".join(RUNS) / "kernel"
    working = play(folder, competition.input, Rehearsal(), tmp_path / "root", variables=CPU)
    job = json.loads((folder / "job.json").read_text())
    where = {"output": competition.output, "logs": competition.logs}
    expected = reference(job, competition.input, tmp_path / "reference", **where)
    ours = (working / "submission.csv").read_text()
    assert ours == expected.read_text()
    assert len(ours) > 1000, "masks full of detail"


@pytest.mark.parametrize("network", ["mine_eomt", "mine_mask2former"])
def test_a_recipes_network_is_trained_in_a_kernel_and_predicts_in_the_next(
    competition: Competition,
    recipe: Path,
    network: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(rehearsal, "USUAL", [Rehearsal("old")])
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    words = competition.flags("--recipe", str(recipe), "--run", "tr", "--model-name", network)
    words += ["--epochs", "1", "--competition", SLUG, "--loggers", "csv,wandb"]
    assert kernel("train", *words) == 0
    assert kernel("run", "--train", *words) == 0
    assert "2 of 2 folds are finished" in capsys.readouterr().out
    assert kernel("infer", "--from-kernel", "alice/tr-training", *words) == 0
    assert kernel("run", "--hidden", "3", *words) == 0
    assert "identical to ensemble.py's" in capsys.readouterr().out
