"""Blending: weights that help are found, weights that do not are refused, ensemble.py follows."""

import json

import numpy as np
import pytest
import torch

import blend
import compare_runs
import ensemble
import Lightning_tester
import Lightning_trainer
import tune
from means import weight_grid
from objective import WholeScore
from test_compare_runs import write_scored


def report_of(competition, run: str) -> dict:
    return json.loads((competition.output / run / "report.json").read_text())


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8])
def test_the_grid_holds_equal_weights_and_every_run_alone(count: int) -> None:
    grid = weight_grid(count)
    assert np.allclose(grid[0], 1 / count)
    assert len(grid) <= 140
    assert np.allclose(np.sum(grid, axis=1), 1)
    assert all(tuple(row) in grid for row in np.eye(count).tolist())


def test_a_useless_run_gets_no_weight(competition, capsys) -> None:
    write_scored(competition, "good", 0.12, 0)
    write_scored(competition, "bad", 1.5, 1)
    assert blend.main([*competition.flags(), "--runs", "good,bad"]) == 0
    made = report_of(competition, "good+bad")["blend"]
    assert made["weights"][0] > 0.5
    assert np.isclose(made["score"], made["alone"][0], atol=0.01)
    assert made["interval"][0] > 0
    assert made["score"] > made["equal"]
    assert "taken" in capsys.readouterr().out
    flags = competition.flags("--run", "good+bad")
    assert tune.main(flags) == 0
    assert report_of(competition, "good+bad")["tuning"]["images"] == 12
    assert compare_runs.main([*competition.flags(), "--pair", "bad,good+bad"]) == 0


def test_alike_runs_keep_equal_weights_and_beat_each_alone(competition) -> None:
    write_scored(competition, "a", 0.4, 2)
    write_scored(competition, "b", 0.4, 3)
    assert blend.main([*competition.flags(), "--runs", "a,b"]) == 0
    made = report_of(competition, "a+b")["blend"]
    assert made["weights"] == [0.5, 0.5]
    assert made["score"] > max(made["alone"]) + 0.02


def test_noise_weights_are_refused() -> None:
    whole = WholeScore("dice", task="binary", classes=1)
    taken = 0
    for seed in range(20):
        scores = 0.8 + np.random.default_rng(seed).normal(0, 0.1, (60, 40))
        values = torch.stack([torch.from_numpy(scores), torch.ones(60, 40).double()], -1)
        _, inside, gain = blend.choose(values, whole, np.arange(60) % 5, np.arange(60))
        assert inside > 0
        taken += gain.real
    assert taken <= 2


@pytest.mark.parametrize("runs", ["a", "", "a,a"])
def test_two_runs_are_needed(competition, runs: str, capsys) -> None:
    assert blend.main([*competition.flags(), "--runs", runs]) == 2
    assert "two different runs" in capsys.readouterr().err


def test_the_ensemble_follows_the_blend(competition, tiny_net, capsys) -> None:
    for run, seed in (("a", "1"), ("b", "2")):
        flags = competition.flags("--run", run, "--seed", seed)
        assert Lightning_trainer.main(flags) == 0
        assert Lightning_tester.main(flags) == 0

    def submitted(*more: str) -> str:
        assert ensemble.main([*competition.flags("--run", "a"), *more]) == 0
        folder = more[1].replace(",", "+") if more else "a"
        return (competition.output / folder / "submission.csv").read_text()

    alone, equal = submitted(), submitted("--runs", "a,b")
    assert blend.main([*competition.flags(), "--runs", "a,b"]) == 0
    path = competition.output / "a+b" / "report.json"
    report = report_of(competition, "a+b")
    report["blend"] |= {"weights": [0.5, 0.5], "kind": "probs"}
    path.write_text(json.dumps(report))
    assert submitted("--runs", "a,b") == equal
    report["blend"]["weights"] = [1.0, 0.0]
    path.write_text(json.dumps(report))
    assert submitted("--runs", "a,b") == alone
    for kind in ("logits", "votes"):
        report["blend"] |= {"weights": [0.9, 0.1], "kind": kind}
        path.write_text(json.dumps(report))
        assert submitted("--runs", "a,b").count("\n") == 4
    report["blend"]["oof_keys"] = ["x", "y"]
    path.write_text(json.dumps(report))
    capsys.readouterr()
    assert ensemble.main([*competition.flags(), "--runs", "a,b"]) == 2
    assert "src/blend.py again" in capsys.readouterr().err


def test_pictures_are_kept_when_asked(competition, tiny_net) -> None:
    import cv2
    import pandas as pd

    from masks import rle_decode
    from probs import read_probs

    flags = competition.flags("--run", "a")
    assert Lightning_trainer.main(flags) == 0
    assert Lightning_tester.main(flags) == 0
    assert ensemble.main(flags) == 0
    folder = competition.output / "a"
    assert not (folder / "masks").exists()
    assert ensemble.main([*flags, "--save-masks", "true", "--save-probs", "true"]) == 0
    table = pd.read_csv(folder / "submission.csv", dtype=str, keep_default_na=False)
    for name, text in table.itertuples(index=False):
        img = name.removesuffix(".jpg")
        mask = cv2.imread(str(folder / "masks" / f"{img}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(mask, 255 * rle_decode(text, (64, 80), order="row"))
        assert np.array_equal(read_probs(folder / "probs" / f"{img}.png", 1)[0] > 127, mask > 0)
