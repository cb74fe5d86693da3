"""Intervals of gains: they are Student's, and keep their level from two groups up."""

import numpy as np
import pytest
import torch
from scipy import stats

from scoring.gains import Gain, paired_gain


def ratio(sums: torch.Tensor) -> torch.Tensor:
    """The mean of scores that are kept as (score, 1)."""
    return sums[..., 0] / sums[..., 1]


def pooled(sums: torch.Tensor) -> torch.Tensor:
    """Dice of true positive, false positive and false negative pixels."""
    tp, fp, fn = sums.unbind(-1)
    return 2 * tp / (2 * tp + fp + fn)


def gain_of(differences: np.ndarray, groups: np.ndarray | None = None) -> Gain:
    """The gain of images whose scores differ by `differences`."""
    before = torch.ones(len(differences), 2, dtype=torch.double)
    after = before.clone()
    after[:, 0] += torch.from_numpy(differences)
    return paired_gain(before, after, ratio, groups=groups)


@pytest.mark.parametrize("count", [2, 3, 5, 50])
def test_the_interval_is_students_t(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.01, 0.1, count)
    twin = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    gain = gain_of(differences)
    assert (gain.gain, gain.groups) == (pytest.approx(differences.mean()), count)
    assert (gain.low, gain.high) == (pytest.approx(twin.low), pytest.approx(twin.high))


def test_groups_of_one_size_are_their_means() -> None:
    effects = np.random.default_rng(1).normal(0.01, 0.1, 10)
    images = np.repeat(effects, 20) + np.random.default_rng(2).normal(0, 0.1, 200)
    gain = gain_of(images, np.repeat(np.arange(10), 20))
    twin = stats.ttest_1samp(images.reshape(10, 20).mean(1), 0).confidence_interval(0.95)
    assert (gain.low, gain.high) == (pytest.approx(twin.low), pytest.approx(twin.high))


@pytest.mark.parametrize("kind", ["equal sizes", "unequal sizes", "heavy tails"])
@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_what_is_nothing_is_called_real_as_rarely_as_promised(count: int, kind: str) -> None:
    rng, rounds = np.random.default_rng(count), 1500
    real = 0
    for _ in range(rounds):
        many = np.full(count, 4) if kind == "equal sizes" else rng.integers(1, 30, count)
        groups = np.repeat(np.arange(count), many)
        effects = rng.standard_t(2, count) if kind == "heavy tails" else rng.normal(size=count)
        images = effects[groups] + rng.normal(size=len(groups))
        real += gain_of(images, groups).real
    # 2.5 % are promised; three standard errors of the simulation above it.
    assert real / rounds < 0.025 + 3 * np.sqrt(0.025 * 0.975 / rounds)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_groups_of_unequal_areas_are_called_real_as_rarely(count: int) -> None:
    """Pooled pixels: one large image among small ones is hardly more than one group."""
    rng, rounds, real = np.random.default_rng(count), 1500, 0
    for _ in range(rounds):
        area = np.where(np.arange(count) == 0, 1e6, 1e4)
        before, after = (
            torch.from_numpy(area[:, None] * np.stack([s, 1 - s, 1 - s], 1))
            for s in (np.full(count, 0.8), 0.8 + rng.normal(0, 0.02, count))
        )
        real += paired_gain(before, after, pooled).real
    assert real / rounds < 0.025 + 3 * np.sqrt(0.025 * 0.975 / rounds)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_steps_alike_are_no_proof(count: int) -> None:
    """Scores that move in steps, as over a ladder of thresholds, are often alike by chance."""
    gain = gain_of(np.full(count, 0.1))
    assert not gain.real
    assert f"({count} groups, all alike: not enough groups to tell)" in str(gain)
    assert gain_of(np.full(6, 0.1)).real


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("others", [(0, 0, 0), (0, 3, 0)])
def test_groups_that_stay_as_they_are_prove_nothing(count: int, others: tuple[int, ...]) -> None:
    """A class that few of twelve groups show, which gain alike; the others nothing, or noise."""
    before = torch.tensor(others, dtype=torch.double).repeat(12, 1)
    after = before.clone()
    before[:count] = torch.tensor([50.0, 30, 30])
    after[:count] = torch.tensor([60.0, 20, 20])

    def recall(sums: torch.Tensor) -> torch.Tensor:
        return sums[..., 0] / (sums[..., 0] + sums[..., 2])

    gain = paired_gain(before, after, recall)
    assert gain.gain == pytest.approx(60 / 80 - 50 / 80)
    assert not gain.real
    assert "not enough groups to tell" in str(gain)


def test_a_gain_of_every_group_is_real() -> None:
    differences = np.random.default_rng(3).normal(0.1, 0.01, 40)
    assert gain_of(differences, np.repeat(np.arange(4), 10)).real


def test_one_group_cannot_tell() -> None:
    gain = gain_of(np.full(5, 0.1), np.zeros(5, int))
    assert not gain.real
    assert "not enough groups to tell" in str(gain)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_rare_large_gains_are_no_proof(count: int) -> None:
    """Many lose a little, few gain much: nothing in the mean."""
    rng, rounds = np.random.default_rng(count), 500
    real = sum(gain_of(rng.exponential(size=count) - 1).real for _ in range(rounds))
    assert real / rounds < 0.025


@pytest.mark.parametrize("count", [2, 5, 20])
def test_rare_large_losses_are_overlooked_no_more_often_than_the_docs_say(count: int) -> None:
    """Many gain a little, few lose much: nothing in the mean. docs/after.md: one in six."""
    rng, rounds = np.random.default_rng(count), 400
    losses = rng.exponential(size=(rounds, count)), rng.lognormal(size=(rounds, count))
    for loss, mean in zip(losses, (1, np.exp(0.5)), strict=True):
        real = sum(gain_of(mean - one).real for one in loss)
        assert real / rounds < 1 / 6 + 3 * np.sqrt(1 / 6 * 5 / 6 / rounds)
