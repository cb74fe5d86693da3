"""VOI and Betti numbers against entropies of counted pairs and against cells counted one by one."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from core.errors import UserError
from measures.topology import betti_numbers
from metrics import build_metric
from official_volumes import betti, information, information_score
from scoring.objective import build_objective


def volumes(seed, count=2, size=(6, 11, 9)):
    noise = np.random.default_rng(seed).normal(size=(count, *size))
    return [ndimage.gaussian_filter(one, 0.9) > 0.1 for one in noise]


def score(name, mask, truth):
    metric = build_metric(name, task="binary", classes=1)
    planes = (torch.from_numpy(one)[:, None].long() for one in (mask, truth))
    metric.update(*planes, [("v", f"slice_{at}") for at in range(len(mask))])
    return float(metric.compute())


def test_information_of_objects_equals_entropies():
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 4, (9, 12)), rng.integers(0, 5, (9, 12)) * 7) for _ in range(3)]
    pairs += [(true, true) for _, true in pairs[:1]]
    metric = build_metric("voi", task="binary", classes=1)
    for pred, true in pairs:
        metric.update(pred, true)
    expected = np.mean([information(*pair) for pair in pairs])
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)
    assert metric.higher_is_better is False
    with pytest.raises(UserError, match="of which more is better"):
        build_objective("voi")


@pytest.mark.parametrize("seed", range(4))
def test_information_of_volumes_equals_entropies(seed):
    mask, truth = volumes(seed)
    expected = information_score(mask, truth)
    bits = (1 / expected - 1) / 0.3
    assert bits > 0
    assert score("voi3d", mask, truth) == pytest.approx(expected)
    assert score("voi3d:alpha=2", mask, truth) == pytest.approx(1 / (1 + 2 * bits))


@pytest.mark.parametrize("seed", range(4))
def test_numbers_of_parts_tunnels_and_cavities_are_counted_cell_by_cell(seed):
    for mask in volumes(seed):
        assert betti_numbers(mask).tolist() == betti(mask)


def test_shapes_that_one_knows_by_name():
    ring, shell = np.zeros((2, 5, 7, 7), bool)
    ring[2, 1:6, 1:6], ring[2, 2:5, 2:5] = True, False
    shell[1:4, 1:6, 1:6], shell[2, 2:5, 2:5] = True, False
    assert betti_numbers(ring).tolist() == [1, 1, 0]
    assert betti_numbers(shell).tolist() == [1, 0, 1]
    # A part each; of tunnels the mask has one too many, of cavities it lacks one.
    expected = (0.34 * 1 + 0.33 * 0.5 / 1.5 + 0.33 * 0) / 1
    assert score("topo3d", ring, shell) == pytest.approx(expected)
    assert score("topo3d", shell, shell) == score("voi3d", shell, shell) == 1
    nothing = np.zeros_like(ring)
    assert score("topo3d", nothing, shell) == 0
    assert np.isnan(score("topo3d", nothing, nothing))
    assert score("voi3d:empty=1", nothing, nothing) == 1


def test_the_parts_of_a_published_score_add_up():
    mask, truth = volumes(9)
    parts = {"surface_dice3d": 0.35, "voi3d": 0.35, "topo3d": 0.3}
    whole = "+".join(f"{weight}*{name}" for name, weight in parts.items())
    expected = sum(weight * score(name, mask, truth) for name, weight in parts.items())
    assert score(whole, mask, truth) == pytest.approx(expected)
