"""A soup is the mean of two networks, is refused unless it is better, and is followed if so."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from Lightning_module import load_module
from runs.folder import RunFolder
from stages import call, checkpoint, copy_of, errors_of, report_of
from tuning.soups import mix, write_soup


def shift(competition: Any, name: str, by: float) -> None:
    """Adds to the last bias of both folds' networks: another threshold, as it were."""
    for fold in (0, 1):
        path = checkpoint(competition, fold).with_name(name)
        content = torch.load(path, weights_only=True)
        content["state_dict"]["model.head.0.bias"] += by
        torch.save(content, path)


def soups(competition: Any) -> list[Path]:
    return sorted(competition.logs.rglob("soup*"))


def test_weights_are_averaged_and_counters_kept(scored) -> None:
    folder = checkpoint(scored, 0).parent
    best, last = (
        torch.load(folder / f"{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("best", "last")
    )
    last = {k: v + 1 for k, v in last.items()}
    mixed = mix(best, last)
    assert mixed.keys() == best.keys()
    name = "model.encoder.1.running_var"
    assert torch.allclose(mixed[name], (best[name] + last[name]) / 2)
    counter = "model.encoder.1.num_batches_tracked"
    assert torch.equal(mixed[counter], last[counter])


def test_a_soup_loads_like_any_checkpoint(scored, tmp_path: Path) -> None:
    competition = copy_of(scored, tmp_path)
    shift(competition, "last.ckpt", 2.0)
    path = checkpoint(competition, 0)
    write_soup(path.parent, tmp_path / "s.ckpt")
    from unittest.mock import patch

    from model_dispatcher import MODELS
    from stages import NETWORKS

    image = torch.randint(0, 255, (1, 3, 64, 64)).float()
    with patch.dict(MODELS, NETWORKS), torch.inference_mode():
        best, last, soup = (
            load_module(one) for one in (path, path.with_name("last.ckpt"), tmp_path / "s.ckpt")
        )
        assert soup.spec == best.spec
        # One layer differs, by its bias: logits are linear in it.
        best.model.encoder = last.model.encoder = soup.model.encoder
        best.model.head[0].weight = last.model.head[0].weight = soup.model.head[0].weight
        assert torch.allclose(soup(image), (best(image) + last(image)) / 2, atol=1e-5)


def test_a_soup_that_does_not_help_is_refused(scored, tmp_path: Path, capsys) -> None:
    competition = copy_of(scored, tmp_path)
    shift(competition, "last.ckpt", -6.0)
    before = report_of(competition)
    assert call("tune", ["soup", *competition.flags()]) == 0
    assert "the soup is not taken: noise" in capsys.readouterr().out
    assert report_of(competition) == before
    assert soups(competition) == []


def test_a_soup_that_helps_is_taken_and_followed(scored, tmp_path: Path, capsys) -> None:
    """best.ckpt is off by 20 to one side, last.ckpt to the other: their mean is right."""
    competition = copy_of(scored, tmp_path)
    flags = competition.flags("--epochs", "6", "--lr", "0.03", "--ema-decay", "0")
    whole = report_of(competition)["score"]
    for name, by in (("best.ckpt", 20.0), ("last.ckpt", -20.0)):
        shift(competition, name, by)
    assert call("Lightning_tester", flags) == 0
    spoilt = report_of(competition)["score"]
    assert spoilt < whole - 0.1
    capsys.readouterr()
    assert call("tune", ["soup", *flags]) == 0
    told = capsys.readouterr().out
    assert "the soup is taken: " in told
    report = report_of(competition)
    assert [path.name for path in soups(competition)] == ["soup.ckpt"] * 2
    assert [fold["checkpoint"] for fold in report["folds"]] == [
        f"baseline/fold_{fold}/checkpoints/soup.ckpt" for fold in (0, 1)
    ]
    assert report["score"] > spoilt + 0.1
    told_score = float(told.split("mean with last.ckpt ")[1].split(",")[0])
    assert np.isclose(report["score"], told_score, atol=2e-3)
    assert call("ensemble", flags) == 0
    assert call("tune", ["soup", *flags]) == 0
    assert "has its soup" in capsys.readouterr().out
    for path in soups(competition):
        path.unlink()
    assert call("Lightning_tester", flags) == 0
    assert np.isclose(report_of(competition)["score"], spoilt)


def test_a_soup_is_one_of_its_very_network(scored, tmp_path: Path) -> None:
    """Whatever the times of both say: a copy has others, a network put back an older one."""
    import os

    competition = copy_of(scored, tmp_path)
    folder = RunFolder(competition.logs, "baseline")
    for fold in (0, 1):
        write_soup(folder.checkpoints(fold), folder.soup(fold))
        os.utime(folder.soup(fold), (1, 1))
    assert folder.scored_checkpoint(0).name == "soup.ckpt"
    best = folder.best(1)
    best.write_bytes(folder.last(1).read_bytes())
    os.utime(best, (0, 0))
    assert {folder.scored_checkpoint(fold).name for fold in (0, 1)} == {"best.ckpt"}


def test_what_is_missing_is_named(scored, tmp_path: Path, capsys) -> None:
    competition = copy_of(scored, tmp_path)
    checkpoint(competition, 1).with_name("last.ckpt").unlink()
    assert call("tune", ["soup", *competition.flags()]) == 2
    assert "a soup needs best.ckpt and last.ckpt" in "".join(errors_of(capsys))
    assert soups(competition) == []
    assert call("tune", ["soup", *competition.flags("--run", "other")]) == 2
