"""Blending: weights that help are found, weights that do not are refused, ensemble.py follows."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

import compare_runs
import ensemble
import Lightning_tester
import Lightning_trainer
import tune
from postprocessing.means import mean_probs, weight_grid
from postprocessing.rules import Rule
from runs.predictions import open_oof
from scoring.objective import WholeScore
from scoring.oof import OofImages
from stages import report_of
from test_compare_runs import write_scored
from test_tune import Truth, write_oof
from tuning.climb import STEPS, climb_bags, thin
from tuning.weights import choose


@pytest.mark.parametrize("count", [2, 3])
def test_the_grid_holds_equal_weights_and_every_run_alone(count: int) -> None:
    grid = weight_grid(count)
    assert np.allclose(grid[0], 1 / count)
    assert len(grid) <= 140
    assert np.allclose(np.sum(grid, axis=1), 1)
    assert all(tuple(row) in grid for row in np.eye(count).tolist())


def test_a_useless_run_gets_no_weight(competition, capsys) -> None:
    write_scored(competition, "good", 0.12, 0)
    write_scored(competition, "bad", 1.5, 1)
    assert tune.main(["blend", *competition.flags(), "--runs", "good,bad"]) == 0
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


def test_alike_runs_keep_equal_weights_and_beat_each_alone(competition, capsys) -> None:
    write_scored(competition, "a", 0.4, 2)
    write_scored(competition, "b", 0.4, 3)
    assert tune.main(["blend", *competition.flags(), "--runs", "a,b"]) == 0
    made = report_of(competition, "a+b")["blend"]
    assert made["weights"] == [0.5, 0.5]
    assert made["score"] > max(made["alone"]) + 0.02
    # The verdict comes first: over the best run alone, with an interval.
    line = capsys.readouterr().out.partition("\n")[0]
    found = re.fullmatch(
        r"the blend is better than (.) alone: .* ([0-9.]+) against ([0-9.]+), "
        r"held out (\S+) \(95 % (\S+) to (\S+)\); trivial 0\.\d{4} \(.*\)",
        line,
    )
    assert found, line
    assert found[1] == "ab"[int(np.argmax(made["alone"]))]
    score, single, gain, low, high = map(float, found.groups()[1:])
    assert gain == pytest.approx(score - single, abs=2e-4)
    assert 0 < low < gain < high


def test_climbing_leaves_out_useless_runs(competition, capsys) -> None:
    for seed, (name, noise) in enumerate({"a": 0.4, "b": 0.4, "c": 3.0, "d": 3.0}.items()):
        write_scored(competition, name, noise, 10 + seed)
    assert tune.main(["blend", *competition.flags(), "--runs", "a,b,c,d"]) == 0
    made = report_of(competition, "a+b+c+d")["blend"]
    weights = np.array(made["weights"])
    assert np.isclose(weights.sum(), 1)
    assert weights[:2].min() > 0.25
    assert weights[2:].max() < 0.15
    assert made["interval"][0] > 0
    assert made["score"] > max(made["equal"], *made["alone"]) + 0.02
    # The first line compares what the interval is of: scores held out.
    found = re.search(r" ([0-9.]+) against ([0-9.]+), held out (\S+) ", capsys.readouterr().out)
    assert found
    score, single, gain = map(float, found.groups())
    assert gain == pytest.approx(score - single, abs=2e-4)
    assert tune.main(competition.flags("--run", "a+b+c+d")) == 0


def test_climbing_among_alike_runs_is_refused(competition) -> None:
    for seed, name in enumerate("abcd"):
        write_scored(competition, name, 0.4, 20 + seed)
    assert tune.main(["blend", *competition.flags(), "--runs", "a,b,c,d"]) == 0
    made = report_of(competition, "a+b+c+d")["blend"]
    assert made["weights"] == [0.25] * 4
    assert made["held_out"] <= made["in_sample"]


def test_climbing_is_greedy_on_the_other_blocks(competition) -> None:
    """Against a twin that adds run after run by plain loops over whole images."""
    from core.flags import load_config
    from runs.experiment import run_of

    for seed, noise in enumerate((0.5, 0.6, 0.8, 1.0)):
        write_scored(competition, "abcd"[seed], noise, 30 + seed)
    config, _ = load_config(competition.flags())
    runs = [open_oof(run_of(config), name)[0] for name in "abcd"]
    whole, rules = WholeScore("dice", task="binary", classes=1), [Rule(0.5)]
    blocks = np.array(runs[0].folds)
    got = climb_bags(runs, rules, whole, blocks)
    assert len(got) == 3
    for weights, among in zip(got, (blocks >= 0, blocks != 0, blocks != 1), strict=True):
        images = np.flatnonzero(among)
        truths = [runs[0].truth(at, (64, 80))[0] for at in images]

        def score(bag: list[int], images=images, truths=truths) -> float:
            scores = []
            for at, truth in zip(images, truths, strict=True):
                # A mean between two levels is rounded as a stored prediction would be.
                mean = np.mean([runs[run].levels(at)[0].astype(float) for run in bag], 0)
                mask = np.round(mean) > 127
                scores.append(2 * (mask & (truth > 0)).sum() / (mask.sum() + truth.sum()))
            return float(np.mean(scores))

        bag, best = [], (0.0, [])
        for _ in range(STEPS):
            bag = max(([*bag, run] for run in range(4)), key=score)
            best = max(best, (score(bag), bag), key=lambda pair: pair[0])
        twin = np.bincount(best[1], minlength=4) / len(best[1])
        own = [run for run, weight in enumerate(weights) for _ in range(round(weight * 840))]
        assert abs(score(best[1]) - score(own)) < 1e-3, (weights, twin)
        assert np.abs(weights - twin).max() < 0.1


def test_pixels_are_thinned_to_the_budget(competition) -> None:
    from core.flags import load_config
    from runs.experiment import run_of

    write_scored(competition, "a", 0.4, 40)
    config, _ = load_config(competition.flags())
    images, _ = open_oof(run_of(config), "a")
    (small,) = thin([images], budget=12 * 64 * 80 // 8)
    assert small.levels(3).shape == (1, 22, 27)
    assert np.array_equal(small.levels(3), images.levels(3)[:, ::3, ::3])
    whole_truth = images.truth(3, (64, 80))
    assert np.array_equal(small.truth(3, (22, 27)), whole_truth[:, ::3, ::3])


def test_a_small_first_image_leaves_the_others_within_the_budget(tmp_path) -> None:
    rng = np.random.default_rng(0)
    sizes = [(8, 8), (96, 120), (80, 100)]
    pairs = [(rng.random((1, *size)), np.zeros(size, np.uint8)) for size in sizes]
    images, budget = write_oof(tmp_path, pairs, folds=1), 4000
    (small,) = thin([images], budget)
    kept = sum(small.levels(at).size for at in range(3))
    assert budget // 2 < kept < budget * 1.1  # rows and columns are whole ones


def test_thinned_pixels_keep_the_border(tmp_path) -> None:
    """Of four runs or more with INSTANCES=border, for a metric of pixels."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 2, (4, 5)), np.ones((8, 8))).astype(np.uint8)
    pairs = [(rng.random((2, 32, 40)), np.stack([truth, truth])) for _ in range(4)]
    stored = write_oof(tmp_path, pairs, folds=2)
    masks = Truth({row["img"]: truth for row in stored.rows})
    images = OofImages(
        tmp_path, stored.rows, masks=masks, root=tmp_path, task="binary", classes=1, border=True
    )
    (small,) = thin([images], budget=4 * 2 * 32 * 40 // 4)
    assert np.array_equal(small.levels(1), images.levels(1)[:, ::2, ::2])
    whole, rules = WholeScore("dice", task="binary", classes=1), [Rule(split=True)]
    assert climb_bags([images] * 2, rules, whole, np.array([0, 1, 0, 1]))[0] == (1, 0)


def test_votes_of_many_classes_go_to_the_likeliest() -> None:
    """Stored levels are rounded one by one, so that those of a pixel do not sum to 1."""
    shares = torch.full((150, 1, 1), 1 / 151)
    shares[7] = 2 / 151
    stored = (shares * 255).round() / 255
    assert stored.sum() > 1.15
    assert mean_probs([stored] * 2, [1, 1], "votes").argmax(0).item() == 7


def test_noise_weights_are_refused() -> None:
    whole = WholeScore("dice", task="binary", classes=1)
    taken = 0
    for seed in range(20):
        scores = 0.8 + np.random.default_rng(seed).normal(0, 0.1, (60, 40))
        values = torch.stack([torch.from_numpy(scores), torch.ones(60, 40).double()], -1)
        found = choose(values, whole, np.arange(60) % 5, np.arange(60))
        assert found.in_sample > 0
        taken += found.gain.real
    assert taken <= 2


@pytest.mark.parametrize("runs", ["a", "", "a,a"])
def test_two_runs_are_needed(competition, runs: str, capsys) -> None:
    assert tune.main(["blend", *competition.flags(), "--runs", runs]) == 2
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
    trained = competition.logs / "a+b" / "fold_0" / "checkpoints"
    trained.mkdir(parents=True)
    (trained / "best.ckpt").touch()
    assert tune.main(["blend", *competition.flags(), "--runs", "a,b"]) == 2
    assert "run 'a+b' was trained" in capsys.readouterr().err
    shutil.rmtree(trained)
    assert tune.main(["blend", *competition.flags(), "--runs", "a,b"]) == 0
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
    assert "src/tune.py blend again" in capsys.readouterr().err


def test_pictures_are_kept_when_asked(competition, tiny_net) -> None:
    import cv2
    import pandas as pd

    from imaging.levels import read_probs
    from imaging.rle import rle_decode

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
