"""Charts and class scores of a report: what lies where."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from imaging.drawings import draw_contours
from reporting.blocks import Section, widen_alone
from reporting.charts import Axis, Series, draw_chart, fit_axis
from reporting.curves import size_axis, without_outliers
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


def test_sizes_of_one_order_have_an_axis_of_their_own() -> None:
    axis = size_axis("mask", np.array([0.71, 0.76, 0.82]))
    assert not axis.log
    assert 0.6 < axis.low <= 0.71
    assert 0.82 <= axis.high < 0.9
    wide = size_axis("mask", np.array([0.003, 0.4]))
    assert (wide.log, wide.low, wide.high) == (True, pytest.approx(0.001), pytest.approx(1.0))
    assert size_axis("mask", np.array([])).log


def test_one_early_value_does_not_flatten_a_curve() -> None:
    values = [50.0, 1.2, 1.0, 0.9, 0.8, 0.75]
    assert without_outliers(values) == values[1:]
    assert without_outliers(values[1:]) == values[1:]
    assert without_outliers([-1.0, -2.0]) == [-1.0, -2.0]


def test_a_half_without_a_neighbour_takes_the_width() -> None:
    halves = [True, True, True, False, True, True, False, True]
    shown = widen_alone([Section(str(at), "", half=half) for at, half in enumerate(halves)])
    assert [section.half for section in shown] == [
        True,
        True,
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_outlines_do_not_run_along_the_border_of_the_image() -> None:
    """Twin: a pixel is on an outline where the mask ends within the line's width of it."""
    image = np.zeros((40, 50, 3), np.uint8)
    mask = np.zeros((40, 50), np.uint8)
    mask[:, :20] = 1
    drawn = draw_contours(image, mask, (255, 0, 0), width=1).any(-1)
    assert drawn[:, 18:21].any(1).all()
    assert not drawn[:, :16].any()
    assert not draw_contours(image, np.ones_like(mask), (255, 0, 0), width=2).any()
