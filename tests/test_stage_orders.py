"""Stages after each other in odd orders: none takes what an earlier one left of another state."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Competition
from runs.ledger import read_runs
from runs.reports import Report
from stages import LEARN, call, checkpoint, errors_of, report_of
from training.checkpoints import write_checkpoint
from tuning.soups import write_soup


def output(own: Competition, name: str) -> Path:
    return own.output / "baseline" / name


def spoil(own: Competition, fold: int, by: float) -> None:
    """Another network in place of best.ckpt."""
    import torch

    path = checkpoint(own, fold)
    state = torch.load(path, weights_only=True)
    state["state_dict"]["model.head.0.bias"] += by
    write_checkpoint(path, state)


def test_a_soup_of_an_earlier_network_predicts_nothing(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own file is as it was scored, but the fold was trained since."""
    flags = own.flags(*LEARN)
    for fold in (0, 1):
        folder = checkpoint(own, fold).parent
        write_soup(folder, folder / "soup.ckpt")
    assert call("Lightning_tester", flags) == 0
    assert report_of(own)["folds"][1]["checkpoint"].endswith("soup.ckpt")
    for fold in (0, 1):
        spoil(own, fold, by=1.0)
    capsys.readouterr()
    for stage in ("ensemble", "tune"):
        assert call(stage, flags) == 2
        assert "an earlier best.ckpt, the fold was trained since" in errors_of(capsys)[0]
    assert call("compare_runs", flags) == 0
    assert "folds [0, 1] were trained again since it was scored" in capsys.readouterr().out
    for path in own.logs.rglob("soup.ckpt"):
        path.unlink()
    assert call("ensemble", flags) == 2
    assert "soup.ckpt. Score best.ckpt: python src/Lightning_tester.py" in errors_of(capsys)[0]
    assert call("Lightning_tester", flags) == 0
    assert call("ensemble", flags) == 0


def test_no_rules_are_sealed_into_a_report_that_a_hand_changed(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    path = output(own, "report.json")
    path.write_text(json.dumps({**report_of(own), "score": 0.9999}))
    before = path.read_bytes()
    assert call("tune", own.flags()) == 2
    assert f"{path} was changed by hand" in errors_of(capsys)[0]
    assert path.read_bytes() == before
    assert call("Lightning_tester", own.flags()) == 0
    assert call("tune", own.flags()) == 0
    assert report_of(own)["score"] < 0.999


def test_masks_that_are_gone_are_drawn_again(own: Competition) -> None:
    flags, folder = own.flags("--save-masks", "true"), output(own, "masks")
    assert call("ensemble", flags) == 0
    masks = {path.name: path.read_bytes() for path in folder.iterdir()}
    answer, gone = output(own, "submission.csv").read_bytes(), sorted(masks)[1]
    (folder / gone).unlink()
    assert call("ensemble", flags) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == masks
    assert output(own, "submission.csv").read_bytes() == answer


def test_shards_of_the_tester_do_not_take_pictures_of_other_views(own: Competition) -> None:
    """A call with views that was not done has drawn over pictures of a shard that was."""

    def pictures() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in output(own, "oof").glob("*.png")}

    whole = pictures()
    (output(own, "oof") / "fold_0.json").unlink()
    (output(own, "oof") / "fold_1.json").unlink()
    assert call("Lightning_tester", own.flags("--shard", "0/2")) == 0
    assert call("Lightning_tester", own.flags("--shard", "0/3", "--tta", "flip_h")) == 0
    assert pictures() != whole
    assert call("Lightning_tester", own.flags("--shard", "0/2")) == 0
    assert call("Lightning_tester", own.flags("--shard", "1/2")) == 0
    assert pictures() == whole
    assert report_of(own)["tta"] == []


def test_a_score_of_another_metric_is_no_tuned_score(own: Competition) -> None:
    path = output(own, "report.json")
    tuning = {"metric": "dice", "held_out": 0.95}
    replace(Report.read(path), tuning=tuning).write(path)
    assert read_runs(own.logs, own.output).table["tuned"].tolist() == [0.95]
    replace(Report.read(path), tuning={**tuning, "metric": "iou"}).write(path)
    table, _, notes, _ = read_runs(own.logs, own.output)
    assert table["tuned"].isna().all()
    assert table["score"].tolist() == [report_of(own)["score"]]
    assert "run 'baseline' is scored by dice and tuned for iou" in notes[0]


def test_a_blend_of_predictions_that_were_made_anew_is_not_tuned(
    own: Competition, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rules would be of means that no network gives any more."""
    other = own.flags(*LEARN, "--run", "other", "--seed", "7")
    assert [call(name, other) for name in ("Lightning_trainer", "Lightning_tester")] == [0, 0]
    assert call("tune", ["blend", "--runs", "baseline,other", *own.flags()]) == 0
    blended = own.flags("--run", "baseline+other")
    assert call("tune", blended) == 0
    before = (own.output / "baseline+other" / "report.json").read_bytes()
    assert call("Lightning_tester", [*other, "--tta", "flip_h"]) == 0
    capsys.readouterr()
    assert call("tune", blended) == 2
    need = "is of other predictions of its runs: run src/tune.py blend --runs baseline,other again"
    assert need in errors_of(capsys)[0]
    assert (own.output / "baseline+other" / "report.json").read_bytes() == before
