"""Tuning finds what was planted, refuses noise, and its tables equal the rules applied."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from competition.mask_source import MaskSource
from core.errors import UserError
from imaging.levels import write_probs
from measures.matching import instance_map
from metrics import build_metric, decide
from postprocessing.rules import Rule, apply_rule, decide_by, drop_small, fill_holes
from scoring.gains import paired_gain
from scoring.nested import choose_nested, choose_plateau, fold_blocks, groups_of
from scoring.objective import build_objective, count_values
from scoring.oof import OofImages
from scoring.sweeps import THRESHOLDS, area_grid, object_values, sweep_parts, sweep_thresholds
from tuning.objects import tune_objects
from tuning.pixels import tune_pixels
from tuning.rules import summary
from tuning.steps import Class, propose_threshold

SIZE = (48, 56)


class Truth(MaskSource):
    """A mask source of arrays in memory."""

    has_objects = False

    def __init__(self, masks: dict[str, np.ndarray]):
        self.masks = masks

    def read(self, row: Any, size: tuple[int, int]) -> np.ndarray:
        return self.masks[row["img"]]

    def objects(self, row: Any, size: tuple[int, int]) -> None:
        return None


def blob(rng: np.random.Generator, radius: int) -> np.ndarray:
    """A disc inside the frame, bool (H, W)."""
    y, x = rng.integers(radius, SIZE[0] - radius), rng.integers(radius, SIZE[1] - radius)
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def smooth_levels(rng: np.random.Generator) -> np.ndarray:
    """Levels with parts, holes and touching corners at any threshold."""
    noise = ndimage.gaussian_filter(rng.random(SIZE), 2)
    return np.interp(noise, (noise.min(), noise.max()), (0, 255)).astype(np.uint8)


def write_oof(folder: Path, pairs: list[tuple[np.ndarray, np.ndarray]], folds: int) -> OofImages:
    """Probabilities (K, H, W) on disk and the truth (H, W) or (K, H, W) beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for at, (probs, _) in enumerate(pairs):
        write_probs(folder / f"i{at}.png", torch.from_numpy(probs).float())
        rows.append({"img": f"i{at}", "mask": "", "group": f"g{at}", "fold": at % folds})
    classes = pairs[0][0].shape[0]
    return OofImages(
        folder,
        rows,
        masks=Truth({f"i{at}": truth for at, (_, truth) in enumerate(pairs)}),
        root=folder,
        task="multilabel" if classes > 1 else "binary",
        classes=classes,
    )


def planted(seed: int, count: int, *, edge: float, specks: int) -> list:
    """Discs that end where the probability falls below `edge`, and specks of 2x3 pixels."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(count):
        truth = blob(rng, int(rng.integers(7, 12)))
        inside = ndimage.distance_transform_edt(truth)
        outside = ndimage.distance_transform_edt(~truth)
        probs = np.clip(edge + 0.06 * inside - 0.06 * outside + 0.01, 0, 1)
        probs = np.clip(probs + rng.normal(0, 0.01, SIZE), 0, 1)
        for _ in range(specks):
            y, x = rng.integers(0, SIZE[0] - 2), rng.integers(0, SIZE[1] - 3)
            probs[y : y + 2, x : x + 3] = 0.97
        pairs.append((probs[None], truth.astype(np.uint8)))
    return pairs


# ---------------------------------------------------------------- what is planted is found


@pytest.mark.parametrize("metric", ["dice", "iou", "dataset_dice"])
def test_a_planted_threshold_and_area_are_found(tmp_path: Path, metric: str) -> None:
    images = write_oof(tmp_path, planted(0, 40, edge=0.3, specks=6), folds=5)
    (one,) = tune_pixels(images, build_objective(metric), 0.5)
    rule = one.now.rule
    assert abs(rule.threshold - 0.3) <= 0.03
    assert rule.largest or 6 < rule.min_area <= 140
    assert [step.taken for step in one.steps if step.name != "pair"] == [True, True]
    score = one.objective.score
    assert score(one.now.outside.sum(0)) > score(one.start.outside.sum(0)) + 0.05


def test_a_planted_gate_is_found(tmp_path: Path) -> None:
    """Half of the images are empty but for a faint disc: only a high threshold tells."""
    rng, pairs = np.random.default_rng(1), []
    for at in range(60):
        disc = blob(rng, int(rng.integers(7, 12)))
        sure = ndimage.binary_erosion(disc, iterations=3)
        probs = np.where(disc, 0.6, 0.02)
        probs = np.where(sure & (at % 2 == 0), 0.95, probs) + rng.normal(0, 0.02, SIZE)
        pairs.append((np.clip(probs, 0, 1)[None], (disc & (at % 2 == 0)).astype(np.uint8)))
    (one,) = tune_pixels(write_oof(tmp_path, pairs, folds=4), build_objective("dice"), 0.5)
    pair = one.steps[1]
    assert pair.taken
    assert pair.rule.gate_area > 0
    assert pair.rule.threshold < 0.6 < pair.rule.high < 0.97
    assert float(one.objective.score(one.now.outside.sum(0))) > 0.97


def test_classes_are_tuned_apart(tmp_path: Path) -> None:
    pairs = [
        (np.concatenate([a[0], b[0]]), np.stack([a[1], b[1]]))
        for a, b in zip(
            planted(2, 30, edge=0.3, specks=0), planted(3, 30, edge=0.7, specks=0), strict=True
        )
    ]
    tuned = tune_pixels(write_oof(tmp_path, pairs, folds=3), build_objective("dice"), 0.5)
    found = [one.now.rule.threshold for one in tuned]
    assert np.allclose(found, [0.3, 0.7], atol=0.03)


@pytest.mark.parametrize("only", [(), (0, 2), (1,)])
def test_what_is_told_of_classes_is_the_metric_itself(tmp_path: Path, only: tuple) -> None:
    """A class that is nowhere has no say, and of only= the others have none."""
    rng, pairs = np.random.default_rng(3), []
    for _ in range(12):
        planes = [blob(rng, 9), blob(rng, 7), np.zeros(SIZE, bool)]
        faint = [0.8, 0.3, 0.0]
        noise = rng.random((3, *SIZE)) * np.array([0.6, 0.6, 0.2])[:, None, None]
        probs = np.clip(np.stack(planes) * np.array(faint)[:, None, None] + noise, 0, 1)
        pairs.append((probs, np.stack(planes).astype(np.uint8)))
    images = write_oof(tmp_path, pairs, folds=4)
    objective = build_objective("dataset_dice")
    tuned = tune_pixels(images, objective, 0.5)
    name = "dataset_dice" + (":only=" + "/".join(map(str, only)) if only else "")
    metric = build_metric(name, task="multilabel", classes=3)
    for at, (_, truth) in enumerate(pairs):
        mask = torch.from_numpy((images.levels(at) > 127.5).astype(np.uint8))
        metric.update(mask[None], torch.from_numpy(truth)[None])
    told = summary(tuned, images, objective, only=only)
    assert told["untuned"] == pytest.approx(float(metric.compute()))


def test_one_fold_is_tuned_by_blocks_of_groups(tmp_path: Path) -> None:
    images = write_oof(tmp_path, planted(4, 30, edge=0.3, specks=0), folds=1)
    (one,) = tune_pixels(images, build_objective("dice"), 0.5)
    assert one.count == 5
    assert abs(one.now.rule.threshold - 0.3) <= 0.03


def test_objects_take_a_minimum_area(tmp_path: Path) -> None:
    images = write_oof(tmp_path, planted(5, 24, edge=0.5, specks=6), folds=4)
    (one,) = tune_objects(images, build_objective("map"), 0.5)
    assert one.steps[-1].taken
    assert one.now.rule.min_area > 6
    levels = [apply_rule(images.levels(at)[0], one.now.rule) for at in range(len(images))]
    scores = [
        instance_map(ndimage.label(mask, np.ones((3, 3)))[0], images.instances(at, SIZE))
        for at, mask in enumerate(levels)
    ]
    assert np.isclose(np.mean(scores), float(one.objective.score(one.now.inside.sum(0))))


# ---------------------------------------------------------------- noise is refused


def noise_class(seed: int, images: int = 60, cells: int = 400) -> tuple[Class, torch.Tensor]:
    """A class whose every choice is as good as any other; the best in-sample is luck."""
    objective = build_objective("dice")
    rng = np.random.default_rng(seed)
    scores = 0.8 + rng.normal(0, 0.1, (images, cells))
    values = torch.from_numpy(np.stack([scores, np.ones_like(scores)], -1))
    blocks = np.arange(images) % 5
    one = Class(objective, blocks, np.arange(images), rule=Rule(0.5), values=values[:, 0])
    return one, values


def test_a_choice_among_noise_flatters_and_is_refused() -> None:
    steps = []
    for seed in range(40):
        one, values = noise_class(seed)
        places = np.linspace(0, 1, 400).tolist()
        steps.append(one.consider("noise", propose_threshold(one, values, places)))
        assert (one.now is one.start) is not steps[-1].taken
    inside = np.mean([step.in_sample for step in steps])
    outside = np.mean([step.held_out.gain for step in steps])
    assert inside > 0.015
    assert abs(outside) < 0.01
    assert sum(step.taken for step in steps) <= 3


def test_a_leaky_gain_is_shown_as_such() -> None:
    one = next(
        one
        for one, values in map(noise_class, range(50))
        if (step := one.consider("x", propose_threshold(one, values, [0.0] * 400))).in_sample > 0
        and step.held_out.gain <= 0
    )
    assert one.steps[-1].verdict()[0] == "not taken: only where it was chosen"
    assert not one.steps[-1].to_dict()["taken"]


def test_what_is_perfect_already_stays(tmp_path: Path) -> None:
    images = write_oof(tmp_path, planted(6, 20, edge=0.5, specks=0), folds=4)
    (one,) = tune_pixels(images, build_objective("dice"), 0.5)
    assert abs(one.now.rule.threshold - 0.5) <= 0.025
    assert not one.now.rule.gate_area
    assert not one.now.rule.fill_holes


# ---------------------------------------------------------------- tables equal the rules applied


@pytest.mark.parametrize("metric", ["dice", "iou", "dataset_iou", "precision", "recall"])
def test_values_of_a_choice_are_those_of_its_masks(tmp_path: Path, metric: str) -> None:
    rng, pairs = np.random.default_rng(7), []
    for at in range(12):
        probs = smooth_levels(rng) / 255
        truth = (probs + rng.normal(0, 0.1, SIZE) > 0.55) & (at % 3 > 0)
        pairs.append((probs[None], truth.astype(np.uint8)))
    images = write_oof(tmp_path, pairs, folds=3)
    objective = build_objective(metric)
    (one,) = tune_pixels(images, objective, 0.5)
    for at in range(len(images)):
        rules = (one.start.rule, one.now.rule, one.now.block_rules[one.blocks[at]])
        told = (one.start.inside[at], one.now.inside[at], one.now.outside[at])
        for rule, values in zip(rules, told, strict=True):
            mask = apply_rule(images.levels(at)[0], rule)
            assert torch.allclose(values, brute_values(objective, mask, pairs[at][1]))


def brute_values(objective: Any, mask: np.ndarray, truth: np.ndarray) -> torch.Tensor:
    tp = int((mask & truth).sum())
    counts = (tp, int(mask.sum()) - tp, int(truth.sum()) - tp)
    return objective.values(*(torch.tensor(value) for value in counts))


@pytest.mark.parametrize("seed", range(4))
def test_threshold_sweep_counts_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, SIZE).astype(np.uint8)
    truth = (rng.random(SIZE) > 0.6).astype(np.uint8)
    counts = sweep_thresholds(levels, truth, THRESHOLDS)
    for threshold, (decided, hits) in zip(THRESHOLDS, counts, strict=True):
        mask = apply_rule(levels, Rule(threshold))
        assert (decided, hits) == (mask.sum(), (mask & truth).sum())


@pytest.mark.parametrize("seed", range(4))
def test_part_sweep_counts_what_the_rule_leaves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels, truth = smooth_levels(rng), (rng.random(SIZE) > 0.6).astype(np.uint8)
    areas = [0, 4, 10, 40, 100, 5000]
    counts = sweep_parts(levels, truth, Rule(0.6), areas)
    for at, area in enumerate(areas):
        for filled in (0, 1):
            for largest in (0, 1):
                rule = Rule(0.6, fill_holes=bool(filled), min_area=area, largest=bool(largest))
                mask = apply_rule(levels, rule)
                got = counts[at, filled, largest].tolist()
                assert got == [mask.sum(), (mask & truth).sum()], rule


def test_object_scores_equal_the_metric() -> None:
    rng = np.random.default_rng(8)
    levels = smooth_levels(rng)
    labels = ndimage.label(levels > 150, np.ones((3, 3)))[0].astype(np.int32)
    values = build_objective("map").metric.values
    scores = object_values(levels[None], labels, Rule(0.55), [0, 5, 30], values)
    for at, area in enumerate([0, 5, 30]):
        for filled in (0, 1):
            mask = apply_rule(levels, Rule(0.55, min_area=area, fill_holes=bool(filled)))
            twin = instance_map(ndimage.label(mask, np.ones((3, 3)))[0], labels)
            assert np.allclose(scores[at, filled], [twin, 1])


@pytest.mark.parametrize("seed", range(5))
def test_pair_grid_equals_applying_every_pair(seed: int) -> None:
    from tuning.steps import propose_pair

    rng = np.random.default_rng(seed)
    thresholds, areas = [0.3, 0.5, 0.7, 0.8], [0, 200, 900]
    levels = [smooth_levels(rng) for _ in range(8)]
    truths = [((plane > 140) & (at % 2 > 0)).astype(np.uint8) for at, plane in enumerate(levels)]
    counts = torch.from_numpy(
        np.stack([sweep_thresholds(*pair, thresholds) for pair in zip(levels, truths, strict=True)])
    )
    truth = torch.tensor([int(mask.sum()) for mask in truths])
    objective = build_objective("dice")
    base = count_values(objective, counts, truth)[:, 1]
    one = Class(objective, np.arange(8) % 2, np.arange(8), rule=Rule(0.5), values=base)
    choice = propose_pair(one, counts, truth, thresholds, areas)
    for at in range(8):
        for rule, values in (
            (choice.rule, choice.inside),
            (choice.block_rules[at % 2], choice.outside),
        ):
            mask = apply_rule(levels[at], rule)
            assert torch.allclose(values[at], brute_values(objective, mask, truths[at]))


# ---------------------------------------------------------------- the pieces


def test_a_plateau_beats_a_needle() -> None:
    scores = np.array([0.5, 0.5, 0.99, 0.5, 0.5, 0.8, 0.81, 0.82, 0.81, 0.8, 0.5])
    plateau = choose_plateau(scores)
    assert plateau.cell == (7,)
    assert np.isclose(plateau.flatness, 0.01)
    assert choose_plateau(np.zeros(9)).cell == (4,)
    assert choose_plateau(np.ones((3, 2, 2)), switches=2).cell == (1, 0, 0)


def test_cells_without_a_score_are_none_to_choose() -> None:
    assert choose_plateau(np.array([np.nan, 0.2, 0.3, 0.3, 0.3, np.nan])).cell == (3,)
    assert choose_plateau(np.full((3, 5), np.nan)).cell == (1, 2)


def test_a_fold_has_no_say_in_its_own_choice() -> None:
    values = torch.zeros(2, 5, 2, dtype=torch.double)
    values[..., 1] = 1
    values[0, 1, 0], values[1, 3, 0] = 1, 1
    _, without = choose_nested(values, lambda sums: sums[..., 0] / sums[..., 1])
    assert [abs(one.cell[0] - at) <= 1 for one, at in zip(without, (3, 1), strict=True)] == [
        True
    ] * 2


def test_blocks_keep_groups_whole() -> None:
    groups = [f"car{at // 4}" for at in range(40)]
    blocks = fold_blocks([0] * 40, groups)
    assert len(set(blocks)) == 5
    assert all(len({blocks[at] for at in range(40) if groups[at] == g}) == 1 for g in set(groups))
    assert fold_blocks([3, 7, 3], ["a", "b", "c"]).tolist() == [0, 1, 0]


def test_one_video_is_judged_by_runs_of_neighbours() -> None:
    rows = [{"img": f"v_{at:03d}", "group": "v"} for at in range(50)][::-1]
    groups = groups_of(rows)
    assert len(set(groups)) == 10
    assert groups[:5] == [groups[0]] * 5
    assert len(set(fold_blocks([0] * 50, groups))) == 5
    assert groups_of([{"img": "a"}, {"img": "b", "group": ""}]) == ["a", "b"]


def test_images_of_one_group_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(10)
    effects = np.repeat(rng.normal(0.01, 0.1, 10), 20)
    before = torch.ones(200, 2, dtype=torch.double)
    after = before.clone()
    after[:, 0] += torch.from_numpy(effects)
    score = lambda sums: sums[..., 0] / sums[..., 1]  # noqa: E731
    apart = paired_gain(before, after, score)
    together = paired_gain(before, after, score, groups=np.repeat(np.arange(10), 20))
    assert together.high - together.low > 3 * (apart.high - apart.low)


@pytest.mark.parametrize("seed", range(4))
def test_filled_holes_equal_scipy(seed: int) -> None:
    mask = (smooth_levels(np.random.default_rng(seed)) > 110).astype(np.uint8)
    assert np.array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))
    assert fill_holes(np.ones((3, 4), np.uint8)).all()


def test_the_largest_part_stays() -> None:
    mask = np.zeros((9, 20), np.uint8)
    mask[1:3, 1:4], mask[5:9, 8:12] = 1, 1
    assert drop_small(mask, 0, largest=True).sum() == 16
    assert drop_small(mask, 17, largest=True).sum() == 0
    assert drop_small(mask, 7).sum() == 16
    assert drop_small(np.zeros((4, 4), np.uint8), 0, largest=True).sum() == 0


def test_a_plain_rule_is_the_plain_decision() -> None:
    probs = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    mask = decide_by([Rule(0.5)] * 3, probs, task="multilabel")
    assert np.array_equal(mask, decide(probs[None], task="multilabel")[0].numpy())
    ids = decide_by([Rule()] * 3, probs, task="multiclass")
    assert np.array_equal(ids, probs.argmax(0).numpy())


def test_areas_end_at_the_median() -> None:
    assert area_grid(np.array([0, 0, 0])) == [0]
    grid = area_grid(np.array([0, 10, 20, 40]))
    assert grid[:2] == [0, 4]
    assert grid[-1] <= 20


def test_a_metric_without_counts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.classification import BinaryJaccardIndex

    from metrics import METRICS

    monkeypatch.setitem(METRICS, "own", lambda task, classes, names: BinaryJaccardIndex())
    with pytest.raises(UserError, match="is no sum over images of which more is better"):
        build_objective("own")


# ---------------------------------------------------------------- from the tester to the ensemble


def test_the_chain_follows_the_tuned_rules(competition, tiny_net, capsys) -> None:
    import ensemble
    import Lightning_tester
    import Lightning_trainer
    import tune

    flags = competition.flags("--run", "t")
    assert Lightning_trainer.main(flags) == 0
    assert tune.main(flags) == 2
    assert "Lightning_tester.py" in capsys.readouterr().err
    assert Lightning_tester.main(flags) == 0
    path = competition.output / "t" / "report.json"
    before = json.loads(path.read_text())
    assert tune.main([*flags, "--dry-run"]) == 0
    assert json.loads(path.read_text()) == before
    assert tune.main(flags) == 0
    report = json.loads(path.read_text())
    tuning = report["tuning"]
    assert np.isclose(tuning["untuned"], report["score"], atol=2e-3)
    assert [step["step"] for step in tuning["classes"][0]] == [
        "threshold",
        "pair",
        "parts",
        "outline",
    ]
    assert Lightning_tester.main(flags) == 0
    assert json.loads(path.read_text())["tuning"] == tuning, "scoring again keeps the tuning"
    path.write_text(json.dumps({**report, "rules": [Rule(0.5, min_area=10**6).to_dict()]}))
    assert ensemble.main(flags) == 0
    lines = (competition.output / "t" / "submission.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == [""] * 3


@pytest.mark.parametrize("words", [["tune"], ["tune", "soup"], ["pseudo_label"]])
def test_lost_folds_are_a_line(competition, capsys, words: list[str]) -> None:
    from stages import call

    for path in (competition.logs / "t" / "run.json", competition.output / "t" / "report.json"):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    (competition.output / "train_folds.csv").unlink()
    assert call(words[0], [*words[1:], *competition.flags("--run", "t")]) == 2
    assert "src/folds.py" in capsys.readouterr().err
