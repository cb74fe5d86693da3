"""Charts and class scores of a report: what lies where."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from reporting.charts import Axis, Series, draw_chart, fit_axis
from scoring.class_scores import score_classes


def test_a_class_that_is_nowhere_has_no_score() -> None:
    table = score_classes(np.array([[0, 0, 0, 9], [3, 1, 2, 3]]), ["none", "some"])
    assert table[["iou", "dice", "precision", "recall"]].iloc[0].isna().all()
    assert table["specificity"][0] == 1.0


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.913, 0.9131), (3.0, 3.0), (-2.0, 7e4)])
def test_an_axis_holds_its_values_and_has_round_ticks(low: float, high: float) -> None:
    axis = fit_axis("x", [low, high, float("nan")])
    assert axis.low <= low <= high <= axis.high
    assert 2 <= len(axis.ticks()) <= 12
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == 1


def test_points_lie_where_their_values_are() -> None:
    axis = Axis("x", 0.01, 1, log=True)
    assert [axis.place(value) for value in (0.01, 0.1, 1, 0)] == pytest.approx([0, 0.5, 1, 0])
    assert axis.ticks() == pytest.approx([0.01, 0.1, 1])
    nan = float("nan")
    series = Series("a", [(0, 0), (0.5, nan), (1, 1)])
    svg = draw_chart([series], x=Axis("x", 0, 1), y=Axis("<y>", 0, 1), alt="a line")
    root = ElementTree.fromstring(svg)
    (line,) = [one for one in root if "line" in (one.get("class") or "")]
    assert len(re.findall(r"[ML]", line.get("d") or "")) == 2
