"""A metric of each kind through training, scoring, tuning and the page."""

import json

import pytest

from stages import call, train_and_score

KINDS = [
    *("dataset_fbeta:beta=0.5", "object_f1:iou=0.3", "0.4*dice+0.6*boundary_iou:ratio=0.05"),
    *("hausdorff95", "ap"),
]
UNFOLLOWED = ("hausdorff95", "ap")


@pytest.mark.parametrize("metric", KINDS)
def test_a_metric_goes_through_all_stages(competition, tiny_net, capsys, metric):
    flags = competition.flags("--metric", metric)
    train_and_score(competition, "--metric", metric)
    report = json.loads((competition.output / "baseline" / "report.json").read_text())
    assert report["metric"] == metric
    assert report["scores"][metric] == report["score"]
    capsys.readouterr()
    assert call("tune", flags) == (2 if metric in UNFOLLOWED else 0)
    told = capsys.readouterr()
    if metric in UNFOLLOWED:
        instead = "map or object_f1" if metric == "ap" else "dice or iou"
        assert f"use --metric {instead} for them" in told.err
        return
    assert f"{metric} of " in told.out
    tuned = json.loads((competition.output / "baseline" / "report.json").read_text())["tuning"]
    assert tuned["untuned"] == pytest.approx(report["score"], abs=2e-3)
    page = (competition.output / "baseline" / "report.html").read_text()
    assert metric in page
