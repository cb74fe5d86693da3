"""Weights and smallest parts of classes: what is planted is found, noise is refused, in exact
scores that the ensemble's own decision repeats."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import jaccard_score

from competition.mask_source import MaskSource
from imaging.levels import write_probs
from postprocessing.rules import Rule, Rules, decide_by, describe, label_by
from runs.reports import Report
from scoring.nested import choose_plateau
from scoring.objective import WholeScore
from scoring.oof import OofImages
from stages import CLASS_FLAGS, call, copy_of, train_and_score, write_classes
from tuning.class_sweeps import PLAIN, WEIGHTS, contest, part_moves
from tuning.classes import Contest, Parts, tune_ids
from tuning.wholes import LADDER, tune_wholes

SIZE = (40, 52)
METRICS = ("miou", "dice")


class Truth(MaskSource):
    """A mask source of arrays in memory."""

    has_objects = False

    def __init__(self, masks: list[np.ndarray]):
        self.masks = masks

    def read(self, row: Any, size: tuple[int, int]) -> np.ndarray:
        return self.masks[int(row["img"][1:])]


def scene(rng: np.random.Generator, classes: int = 3) -> np.ndarray:
    """Ids in smooth patches, with a strip of ignored pixels."""
    noise = np.stack([ndimage.gaussian_filter(rng.random(SIZE), 4) for _ in range(classes)])
    truth = noise.argmax(0).astype(np.uint8)
    truth[:, 20:23] = 255
    return truth


def planted(
    seed: int, count: int, *, bias: tuple[float, ...], specks: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probabilities whose classes are off by factors `bias`, and specks of a class that is not."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(count):
        truth = scene(rng, len(bias))
        hot = np.stack([truth == k for k in range(len(bias))]).astype(float)
        logits = ndimage.gaussian_filter(hot, (0, 2, 2)) * 6 + rng.normal(0, 0.5, hot.shape)
        logits += np.log(np.array(bias))[:, None, None]
        for _ in range(specks):
            y, x = rng.integers(0, SIZE[0] - 2), rng.integers(0, SIZE[1] - 3)
            logits[2, y : y + 2, x : x + 3] += 9
        probs = np.exp(logits)
        pairs.append((probs / probs.sum(0), truth))
    return pairs


def write_oof(folder: Path, pairs: list, folds: int) -> OofImages:
    """Probabilities on disk and the truth in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for at, (probs, _) in enumerate(pairs):
        write_probs(folder / f"i{at}.png", torch.from_numpy(probs).float())
        where = {"group": f"g{at // 2}", "volume": f"v{at // 2}", "fold": at % folds}
        rows.append({"img": f"i{at}", "mask": "", **where})
    return OofImages(
        folder,
        rows,
        masks=Truth([truth for _, truth in pairs]),
        root=folder,
        task="multiclass",
        classes=len(pairs[0][0]),
    )


def whole_of(metric: str, classes: int = 3) -> WholeScore:
    return WholeScore(metric, task="multiclass", classes=classes)


def ids_of(images: OofImages, at: int, rules: Rules) -> np.ndarray:
    probs = torch.from_numpy(images.levels(at)).float() / 255
    return decide_by(rules.each, probs, task="multiclass")


def score_by_hand(metric: str, masks: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """mIoU of all pixels by sklearn; Dice as the mean over images of the classes they hold."""
    valid = [truth != 255 for truth in truths]
    pairs = [(t[v], m[v]) for t, m, v in zip(truths, masks, valid, strict=True)]
    if metric == "miou":
        together = [np.concatenate(side) for side in zip(*pairs, strict=True)]
        return float(jaccard_score(*together, average="macro"))
    return float(np.mean([_dice(*pair) for pair in pairs]))


def _dice(truth: np.ndarray, mask: np.ndarray) -> float:
    return float(
        np.mean(
            [
                2 * ((truth == k) & (mask == k)).sum() / ((truth == k).sum() + (mask == k).sum())
                for k in np.union1d(truth, mask)
            ]
        )
    )


# ---------------------------------------------------------------- what is planted is found


def shrunken(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two discs, one a class, whose probabilities are too low by a factor: they come out small."""
    rng, pairs = np.random.default_rng(4), []
    for _ in range(count):
        truth = np.zeros(SIZE, np.uint8)
        for k in (1, 2):
            centre = (int(rng.integers(10, 18)) + 24 * (k - 1), int(rng.integers(10, 30)))
            cv2.circle(truth, centre, 6, k, -1)
        hot = np.stack([truth == k for k in range(3)]).astype(float)
        logits = ndimage.gaussian_filter(hot, (0, 2, 2)) * 6 + np.array([3.5, 0, 0])[:, None, None]
        probs = np.exp(logits)
        pairs.append((probs / probs.sum(0), truth))
    return pairs


def test_a_metric_of_objects_weighs_the_background(tmp_path: Path) -> None:
    """Too little foreground is found; the ensemble's own decision scores what is told."""
    images, whole = write_oof(tmp_path, shrunken(12), folds=2), whole_of("map50")
    (one,) = tune_wholes(images, whole)
    rules = one.now.rule
    assert one.steps[0].taken
    assert rules.each[0].weight < 0.6
    assert {rule.weight for rule in rules.each[1:]} == {1.0}
    values = []
    for at in range(len(images)):
        probs = torch.from_numpy(images.levels(at)).float() / 255
        mask = torch.from_numpy(label_by(rules.each, probs, task="multiclass"))[None]
        values.append(whole.values(mask, images.instances(at, SIZE)[None]))
    told, again = one.now.inside.sum(0), torch.stack(values).sum(0)
    assert float(whole.score(told)) == pytest.approx(float(whole.score(again)))


def band_iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """IoU of the pixels inside both outlines; 2 % of this diagonal are one pixel."""
    bands = [
        plane & ~ndimage.binary_erosion(np.pad(plane, 1), np.ones((3, 3)))[1:-1, 1:-1]
        for plane in (mask, truth)
    ]
    return float((bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum())


def wholes_by_hand(metric: str, masks: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """The mean over classes and images, or pairs of them, that hold a class on either side."""
    sides = [np.stack(one) for one in (masks, truths)]
    known = sides[1] != 255
    scores = []
    for k in range(3):
        found, real = ((side == k) & known for side in sides)
        if metric == "boundary_iou":
            planes = zip(found, real, strict=True)
            scores += [band_iou(*pair) for pair in planes if np.any(pair)]
        else:
            for pair in zip(np.split(found, 2), np.split(real, 2), strict=True):
                scores += [2 * (pair[0] & pair[1]).sum() / np.sum(pair)] if np.any(pair) else []
    return float(np.mean(scores))


@pytest.mark.parametrize("metric", ["boundary_iou", "dice3d"])
def test_the_weight_for_whole_masks_is_that_of_brute_force(tmp_path: Path, metric: str) -> None:
    """Two images a volume; every weight that is tried decides all of them anew."""
    pairs = planted(0, 4, bias=(3.0, 1, 1))
    images = write_oof(tmp_path, pairs, folds=1)
    (one,) = tune_wholes(images, whole_of(metric))
    scores = []
    for weight in LADDER:
        shares = np.array([weight, 1, 1])[:, None, None]
        masks = [(images.levels(at) * shares).argmax(0) for at in range(4)]
        scores.append(wholes_by_hand(metric, masks, [truth for _, truth in pairs]))
    best = choose_plateau(np.array(scores))
    assert one.steps[0].rule.each[0].weight == LADDER[best.cell[0]] < 1
    assert one.steps[0].in_sample == pytest.approx(best.score - scores[LADDER.index(1)])


@pytest.mark.parametrize("metric", METRICS)
def test_planted_weights_are_found(tmp_path: Path, metric: str) -> None:
    images = write_oof(tmp_path, planted(0, 24, bias=(1.0, 0.3, 1.0)), folds=4)
    (one,) = tune_ids(images, whole_of(metric))
    weights = np.array([rule.weight for rule in one.now.rule.each])
    assert one.steps[0].taken
    assert 2 < weights[1] / weights[[0, 2]].mean() < 5
    score = one.objective.score
    assert score(one.now.outside.sum(0)) > score(one.start.outside.sum(0)) + 0.015


@pytest.mark.parametrize("metric", METRICS)
def test_planted_specks_fall_to_the_class_around_them(tmp_path: Path, metric: str) -> None:
    images = write_oof(tmp_path, planted(1, 24, bias=(1, 1, 1), specks=8), folds=4)
    (one,) = tune_ids(images, whole_of(metric))
    rule = one.now.rule
    assert one.steps[1].taken
    assert rule.each[2].min_area > 6
    score = one.objective.score
    assert score(one.now.outside.sum(0)) > score(one.start.outside.sum(0)) + 0.005
    assert max(ids_of(images, at, rule).max() for at in range(24)) <= 2


def test_one_fold_is_tuned_by_blocks_of_groups(tmp_path: Path) -> None:
    images = write_oof(tmp_path, planted(2, 20, bias=(1.0, 0.3, 1.0)), folds=1)
    (one,) = tune_ids(images, whole_of("miou"))
    assert one.count == 5
    assert one.steps[0].taken


# ---------------------------------------------------------------- noise is refused


def test_choices_among_noise_flatter_and_are_refused(tmp_path: Path) -> None:
    """Each image's classes are off by factors of its own: any weights fit other images by luck."""
    steps = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        pairs = [
            planted(100 * seed + at, 1, bias=tuple(np.exp(rng.normal(0, 1, 3))))[0]
            for at in range(8)
        ]
        (one,) = tune_ids(write_oof(tmp_path / str(seed), pairs, folds=4), whole_of("miou"))
        steps.append(one.steps[0])
        assert (one.now.rule == one.start.rule) or any(step.taken for step in one.steps)
    inside = np.mean([step.in_sample for step in steps])
    outside = np.mean([step.held_out.gain for step in steps])
    assert inside > 0.004
    assert outside < inside / 2
    assert sum(step.taken for step in steps) <= 1


def test_what_is_right_already_stays(tmp_path: Path) -> None:
    images = write_oof(tmp_path, planted(3, 16, bias=(1, 1, 1)), folds=4)
    (one,) = tune_ids(images, whole_of("miou"))
    assert one.now.rule == one.start.rule == Rules((Rule(),) * 3)


# ---------------------------------------------------------------- tables equal the rules applied


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_those_of_the_masks(tmp_path: Path, metric: str) -> None:
    pairs = planted(4, 16, bias=(1.0, 0.3, 1.0), specks=8)
    images = write_oof(tmp_path, pairs, folds=4)
    (one,) = tune_ids(images, whole_of(metric))
    assert all(step.taken for step in one.steps)
    truths = [truth for _, truth in pairs]
    own = [one.now.block_rules[block] for block in one.blocks]
    for values, rules in (
        (one.start.inside, [one.start.rule] * 16),
        (one.now.inside, [one.now.rule] * 16),
        (one.now.outside, own),
    ):
        masks = [ids_of(images, at, rule) for at, rule in enumerate(rules)]
        told = float(one.objective.score(values.sum(0)))
        assert np.isclose(told, score_by_hand(metric, masks, truths))


@pytest.mark.parametrize("metric", METRICS)
def test_sums_of_weights_equal_deciding_with_them(metric: str) -> None:
    whole, pairs = whole_of(metric), planted(5, 4, bias=(1.0, 0.5, 1.5))
    levels = [(probs * 255).round().astype(np.uint8) for probs, _ in pairs]
    truths = [truth for _, truth in pairs]
    both = zip(levels, truths, strict=True)
    pool = Contest([contest(*pair, limit=10**6, seed=0) for pair in both], whole)
    cells = [PLAIN, PLAIN + 3, PLAIN - 2]
    for k in range(3):
        sums = pool.sums(k, cells)
        for at in (0, 5, PLAIN, len(WEIGHTS) - 1):
            places = [*cells[:k], at, *cells[k + 1 :]]
            rules = [Rule(weight=WEIGHTS[place]) for place in places]
            masks = [
                decide_by(rules, torch.from_numpy(one).float() / 255, task="multiclass")
                for one in levels
            ]
            by_hand = score_by_hand(metric, masks, truths)
            # A level of 100 weighed twice as much as one of 200: rounding decides such ties.
            assert np.isclose(float(whole.score(sums[at])), by_hand, atol=5e-4)


def test_a_sample_of_pixels_stands_for_all_of_them() -> None:
    whole, pairs = whole_of("miou"), planted(6, 30, bias=(1.0, 0.5, 1.0))
    scores = []
    for limit in (10**6, 200):
        images = [
            contest((probs * 255).round().astype(np.uint8), truth, limit=limit, seed=at)
            for at, (probs, truth) in enumerate(pairs)
        ]
        assert all(len(one.truth) <= limit for one in images)
        scores.append(whole.score(Contest(images, whole).sums(1, [PLAIN] * 3)).numpy())
    assert np.abs(scores[0] - scores[1]).max() < 0.02
    assert abs(int(scores[0].argmax()) - int(scores[1].argmax())) <= 1


@pytest.mark.parametrize("metric", METRICS)
def test_counts_of_parts_equal_dropping_them(metric: str) -> None:
    whole, grids = whole_of(metric), [[0, 6, 30], [0, 4, 20, 300], [0, 8]]
    pairs, before = planted(7, 3, bias=(1, 1, 1), specks=9), Rules(tuple(map(_weighted, (1, 2, 1))))
    shown = [torch.from_numpy(probs).float() for probs, _ in pairs]
    parts = Parts(
        [part_moves(before, one, pair[1], grids) for one, pair in zip(shown, pairs, strict=True)],
        grids,
        whole,
    )
    for cells in ([0, 0, 0], [2, 0, 1], [1, 3, 1], [2, 2, 0]):
        each = [
            Rule(weight=rule.weight, min_area=grid[cell])
            for rule, grid, cell in zip(before.each, grids, cells, strict=True)
        ]
        masks = [decide_by(each, one, task="multiclass") for one in shown]
        by_hand = score_by_hand(metric, masks, [truth for _, truth in pairs])
        assert np.isclose(float(whole.score(parts.values(cells).sum(0))), by_hand)
        for k in range(3):
            sums = parts.sums(k, cells, torch.ones(3, dtype=torch.bool))
            assert np.isclose(float(whole.score(sums[cells[k]])), by_hand)


def _weighted(weight: float) -> Rule:
    return Rule(weight=weight)


# ---------------------------------------------------------------- the decision


def test_a_small_part_falls_to_the_next_likeliest_class() -> None:
    probs = torch.zeros(3, 8, 8)
    probs[0], probs[1, 2:4, 2:4], probs[2, 2:4, 2:3] = 0.3, 0.9, 0.5
    plain = decide_by([Rule()] * 3, probs, task="multiclass")
    assert (plain == 1).sum() == 4
    ids = decide_by([Rule(), Rule(min_area=5), Rule()], probs, task="multiclass")
    assert ((ids == 2).sum(), (ids == 0).sum()) == (2, 62)
    both = [Rule(), Rule(min_area=5), Rule(weight=0.5)]
    assert (decide_by(both, probs, task="multiclass") == 0).all()


def test_rules_in_words() -> None:
    rules = [Rule(weight=2, min_area=9), Rule(), Rule(weight=0.5)]
    assert describe(rules, "multiclass") == "weights 2, 1, 0.5; parts of 9, 0, 0 px"
    assert describe([Rule(0.4)], "binary") == "threshold 0.4"


# ---------------------------------------------------------------- from the tester to the ensemble


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A scored multiclass run, of masks with void and odd sizes."""
    made = write_classes(tmp_path_factory.mktemp("classes"))
    assert call("folds", made.flags(*CLASS_FLAGS)) == 0
    return train_and_score(made, *CLASS_FLAGS)


def test_the_chain_follows_the_tuned_classes(scored, tmp_path: Path, capsys) -> None:
    competition = copy_of(scored, tmp_path)
    flags = competition.flags(*CLASS_FLAGS, "--epochs", "6", "--lr", "0.03", "--ema-decay", "0")
    path = competition.output / "baseline" / "report.json"
    before = json.loads(path.read_text())
    assert call("tune", flags) == 0
    report = json.loads(path.read_text())
    tuning = report["tuning"]
    assert np.isclose(tuning["untuned"], before["score"], atol=5e-3)
    assert [step["step"] for step in tuning["classes"][0]] == ["weights", "parts"]
    assert len(Report.read(path).decision) == 3
    rules = [Rule(weight=16.0).to_dict(), Rule(weight=1e-9).to_dict(), Rule().to_dict()]
    path.write_text(json.dumps({**report, "rules": rules}))
    capsys.readouterr()
    assert call("ensemble", flags) == 0
    assert "weights 16, 1e-09, 1" in capsys.readouterr().out
    lines = (path.parent / "submission.csv").read_text().splitlines()
    assert all(line.endswith(",-1") for line in lines if ",red," in line)


def test_a_blend_of_multiclass_runs_is_tuned(scored, tmp_path: Path) -> None:
    competition = copy_of(scored, tmp_path)
    flags = competition.flags(*CLASS_FLAGS)
    train_and_score(competition, *CLASS_FLAGS, "--run", "b", "--seed", "5")
    assert call("tune", ["blend", *flags, "--runs", "baseline,b"]) == 0
    assert call("tune", [*flags, "--run", "baseline+b"]) == 0
    report = json.loads((competition.output / "baseline+b" / "report.json").read_text())
    assert report["tuning"]["images"] == 12
    assert call("compare_runs", [*flags, "--pair", "baseline,baseline+b"]) == 0
