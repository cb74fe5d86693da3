"""Views come back to where they were, and a set of them is taken only when it helps."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import UserError
from inference.views import SETS, VIEWS, TestTimeModel, add_views
from scoring.objective import WholeScore

EXACT = [name for name in VIEWS if not name.startswith("scale")]


@pytest.mark.parametrize("size", [(32, 64), (37, 50), (64, 64)])
@pytest.mark.parametrize("name", EXACT)
def test_a_view_and_its_inverse_are_the_identity(name: str, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    view = VIEWS[name]
    assert torch.equal(view.invert(view.apply(image), size), image)
    assert not torch.equal(view.apply(image).reshape(-1), image.reshape(-1))


def test_turns_and_flips_are_all_different() -> None:
    image = torch.rand(1, 1, 8, 8)
    shown = [image, *(VIEWS[name].apply(image) for name in EXACT)]
    same = [torch.equal(a, b) for at, a in enumerate(shown) for b in shown[:at]]
    assert len(shown) == 8
    assert not any(same)


@pytest.mark.parametrize("name", [name for name in VIEWS if name.startswith("scale")])
@pytest.mark.parametrize("size", [(64, 96), (100, 90)])
def test_scales_come_back_near(name: str, size: tuple[int, int]) -> None:
    rows, columns = torch.meshgrid(
        torch.linspace(0, 6, size[0]), torch.linspace(0, 6, size[1]), indexing="ij"
    )
    image = (rows.sin() * columns.cos())[None, None]
    view = VIEWS[name]
    shown = view.apply(image)
    assert all(side % 32 == 0 for side in shown.shape[-2:])
    back = view.invert(shown, size)
    assert back.shape == image.shape
    assert (back - image)[..., 4:-4, 4:-4].abs().max() < 0.05


@pytest.mark.parametrize(("task", "classes"), [("binary", 1), ("multilabel", 3), ("multiclass", 3)])
def test_the_mean_is_over_probabilities(task: str, classes: int) -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, classes, 3, padding=1)
    image = torch.randn(2, 3, 32, 48)
    model = TestTimeModel(net, ["flip_h", "rot90"], task=task)

    def probs(logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(1) if task == "multiclass" else logits.sigmoid()

    with torch.no_grad():
        turned = probs(net(image.rot90(1, (2, 3)))).rot90(-1, (2, 3))
        mean = (probs(net(image)) + probs(net(image.flip(3))).flip(3) + turned) / 3
        assert torch.allclose(probs(model(image)), mean, atol=1e-5)


def test_a_mirrored_image_gets_the_mirrored_prediction() -> None:
    torch.manual_seed(1)
    net = nn.Conv2d(3, 1, 3, padding=1)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for name in ("flip", "flips", "turns"):
            model = TestTimeModel(net, SETS[name], task="binary")
            mirrored = model(image.flip(3)).flip(3)
            assert torch.allclose(mirrored, model(image), atol=1e-4)
        assert not torch.allclose(net(image.flip(3)).flip(3), net(image), atol=1e-2)


def test_no_view_changes_nothing_and_an_unknown_one_is_named() -> None:
    holder = nn.Module()
    holder.model = nn.Identity()
    add_views(holder, (), task="binary")
    assert isinstance(holder.model, nn.Identity)
    with pytest.raises(UserError, match="Did you mean flip_h"):
        add_views(holder, ("flip_hh",), task="binary")


@pytest.mark.parametrize("planted", [0.0, 0.05, -0.05])
def test_a_set_is_taken_only_when_it_helps(planted: float) -> None:
    from tuning.views import weigh_sets

    rng = np.random.default_rng(0)
    whole = WholeScore("dice", task="binary", classes=1)
    scores = 0.8 + rng.normal(0, 0.05, (60, 1)) + rng.normal(0, 0.02, (60, len(SETS)))
    scores[:, 1:] += np.minimum(planted, 0)
    scores[:, 2] += max(planted, 0)
    values = torch.stack([torch.from_numpy(scores), torch.ones(60, len(SETS))], -1).double()
    name, gain, each = weigh_sets(values, np.arange(60) % 4, np.arange(60), whole)
    assert gain.real is (planted > 0)
    if planted > 0:
        assert name == "flips"
        assert np.isclose(each[2].gain, (scores[:, 2] - scores[:, 0]).mean())
    if planted < 0:
        assert name == "none"


@pytest.mark.parametrize("metric", ["dice", "miou", "precision"])
@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_values_add_up_to_the_metric(task: str, metric: str) -> None:
    from metrics import build_metric

    classes = 1 if task == "binary" else 3
    rng = np.random.default_rng(3)
    shape = (6, 12, 14) if task == "multiclass" else (6, classes, 12, 14)
    top = 3 if task == "multiclass" else 2
    masks, truths = (torch.from_numpy(rng.integers(0, top, shape)) for _ in range(2))
    whole, twin = (
        WholeScore(metric, task=task, classes=classes),
        build_metric(metric, task=task, classes=classes),
    )
    twin.update(masks, truths)
    pairs = zip(masks, truths, strict=True)
    sums = torch.stack([whole.values(mask[None], truth[None]) for mask, truth in pairs]).sum(0)
    assert torch.isclose(whole.score(sums), twin.compute().double(), atol=1e-6)


def test_scores_and_submission_follow_the_flag(competition, tiny_net, capsys) -> None:
    import ensemble
    import Lightning_tester
    import Lightning_trainer
    import tune

    flags = competition.flags("--run", "t")
    assert Lightning_trainer.main(flags) == 0
    assert tune.main(["tta", *flags, "--limit", "3"]) == 0
    told = capsys.readouterr().out
    lines = told.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("use "))
    assert "dice of 6 images" in lines[at]
    assert "without" in lines[at]
    sets = [line.split()[:3] for line in lines[at + 1 : at + 6]]
    assert ["turns", "8", "views"] in sets
    # One line a set, its columns below each other, each with its price.
    assert len({line.index("views") for line in lines[at + 1 : at + 6]}) == 1
    assert all(re.search(r"[0-9.]+ times as long$", line) for line in lines[at + 1 : at + 6])
    report = competition.output / "t" / "report.json"
    scores = []
    for more in ((), ("--tta", "flip_h,rot90"), ()):
        assert Lightning_tester.main([*flags, *more]) == 0
        scores.append(json.loads(report.read_text())["score"])
    assert scores[0] == scores[2] != scores[1]
    assert Lightning_tester.main([*flags, "--tta", "flip_h"]) == 0
    assert json.loads(report.read_text())["tta"] == ["flip_h"]
    assert ensemble.main(flags) == 0
    assert Lightning_tester.main([*flags, "--tta", "flip_hh"]) == 2
    assert "Did you mean flip_h" in capsys.readouterr().err
