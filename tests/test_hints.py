"""What to try next: each hint appears with its evidence, and only then."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.flags import load_config
from core.knobs import knob_values
from report_runs import Fake, fake_run
from reporting.hints import next_section
from reporting.run import ReportRun
from runs.experiment import run_of
from scoring.sweeps import THRESHOLDS


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    with pytest.MonkeyPatch.context() as patch:
        yield fake_run(tmp_path_factory.mktemp("hints"), "binary", patch)


def hints(fake: Fake, metric: str = "dice", **changes: Any) -> dict[str, str]:
    """What the section says of the run, its report with `changes`."""
    config, _ = load_config(fake.flags)
    run = ReportRun(run_of(config), knob_values(config))
    run.report, run.metric = replace(run.report, **changes), metric
    return next_section(run).figures


def mean_dice(fake: Fake, threshold: float) -> float:
    scores = []
    for img, levels in fake.levels.items():
        mask, truth = levels[0] > 255 * threshold, fake.truth[img][0] > 0
        both = mask.sum() + truth.sum()
        scores.append(2 * (mask & truth).sum() / both if both else 1.0)
    return float(np.mean(scores))


@pytest.fixture
def kept(fake: Fake) -> Iterator[None]:
    """Puts back what `curves` writes."""
    files = {path: path.read_bytes() for path in fake.logs.rglob("*") if path.is_file()}
    yield
    for path, content in files.items():
        path.write_bytes(content)


def curves(fake: Fake, score: list[float], train: list[float], val: list[float]) -> None:
    """metrics.csv and finished.json of both folds, of a long training."""
    for fold in (0, 1):
        folder = fake.logs / "baseline" / f"fold_{fold}"
        table = pd.DataFrame({"epoch": range(len(score)), "train_loss": train, "val_loss": val})
        table.assign(val_dice=score).to_csv(folder / "metrics.csv", index=False)
        done = json.loads((folder / "finished.json").read_text())
        (folder / "finished.json").write_text(json.dumps({**done, "steps": 900}))


def test_a_better_threshold_is_told_with_its_gain(fake: Fake) -> None:
    best = max(THRESHOLDS, key=lambda at: mean_dice(fake, at))
    gain = mean_dice(fake, best) - mean_dice(fake, 0.9)
    told = hints(fake, threshold=0.9)["tune the decision"]
    assert told == f"threshold {best:g} scores {gain:+.4f} over 0.9 here"
    assert "plateau" in hints(fake, threshold=best)["tune the decision"]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_no_advice_to_tune_by_what_tune_refuses(
    task: str, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake if task == "binary" else fake_run(tmp_path, task, monkeypatch)
    for metric, known in (
        ("boundary_iou", {"tune the decision", "weigh views"}),
        ("dice3d", {"tune the decision"}),
        ("hausdorff", set()),
    ):
        told = hints(run, metric)
        assert {"tune the decision", "weigh views"} & told.keys() == known, metric


def test_few_steps_are_told(fake: Fake) -> None:
    assert hints(fake)["train longer"].startswith("9 optimiser steps")


def test_curves_tell_underfit_from_overfit(fake: Fake, kept: None) -> None:
    up, down = np.linspace(0.3, 0.9, 20), np.linspace(1.0, 0.2, 20)
    curves(fake, up.tolist(), down.tolist(), down.tolist())
    told = hints(fake)
    gain = up[-1] - up[-5]
    assert told["train longer"].startswith("underfit")
    assert f"{gain:+.4f}" in told["train longer"]
    assert "augment more, or fewer epochs" not in told
    flat, turned = [0.8] * 20, [*np.linspace(1.0, 0.5, 6), *np.linspace(0.5, 0.9, 14)]
    curves(fake, flat, down.tolist(), turned)
    told = hints(fake)
    assert "train longer" not in told
    assert "30% of the epochs" in told["augment more, or fewer epochs"]
    assert "+80%" in told["augment more, or fewer epochs"]
    curves(fake, flat, down.tolist(), down.tolist())
    assert not {"train longer", "augment more, or fewer epochs"} & set(hints(fake))


def test_a_network_no_better_than_none_is_told_first(fake: Fake) -> None:
    trivial = {"name": "all foreground", "score": 0.999}
    assert next(iter(hints(fake, trivial=trivial))) == "look at data and network"
    low = {**trivial, "score": 0.01}
    assert "look at data and network" not in hints(fake, trivial=low)


@pytest.mark.parametrize(
    ("real", "networks", "told"),
    [
        (True, {"0": "", "1": ""}, "predict with views"),
        (False, {"0": "", "1": ""}, ""),
        (True, {"0": "another", "1": ""}, "weigh views"),
    ],
)
def test_what_views_gained_counts_for_these_networks(
    fake: Fake, real: bool, networks: dict[str, str], told: str
) -> None:
    data = {"0": "", "1": ""}
    known = {"networks": networks, "data": data, "metric": "dice", "images": 12}
    known |= {"views": ["flip_h"], "gain": 0.0123, "times": 2.0}
    path: Path = fake.folder / "views.json"
    path.write_text(json.dumps({**known, "real": real}))
    found = hints(fake)
    path.unlink()
    assert {"predict with views", "weigh views"} & set(found) == ({told} if told else set())
    if told == "predict with views":
        assert found[told] == "+0.0123 held out on 12 images, 2.0 times as long to predict"
    assert not {"predict with views", "weigh views"} & set(hints(fake, tta=("flip_h",)))
