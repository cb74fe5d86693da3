"""report.json: what is written is read, old ones too, and a mistake in one is a line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from data.specs import DataSpec
from postprocessing.rules import Rule
from runs.blends import read_blend
from runs.reports import Blend, FoldReport, Report, read_report

FIXTURES = Path(__file__).parent / "fixtures"
WHOLE = Report(
    run="a+b",
    metric="dice",
    score=0.75,
    spec=DataSpec(task="multilabel", classes=2, class_names=("left", "right"), size=(64, 96)),
    images=12,
    scores={"dice": 0.75, "iou": None},
    per_class={"left": 0.5, "right": 1.0},
    holdout={"fold": 4, "images": 3, "scores": {"dice": 0.5}},
    tta=["flip_h"],
    threshold=0.4,
    min_area=7,
    recipe={"loss": "bce"},
    folds=[FoldReport(fold=0, checkpoint="a/fold_0/checkpoints/best.ckpt", images=6)],
    oof_key="k",
    rules=[Rule(0.3, fill_holes=True), Rule(0.6, min_area=9)],
    tuning={"held_out": 0.8},
    blend=Blend(
        weights=[0.25, 0.75],
        kind="logits",
        runs=["a", "b"],
        score=0.75,
        alone=[0.5, 0.7],
        interval=[0.0, 0.1],
        oof_keys=["k", None],
    ),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a+b" / "report.json"
    WHOLE.write(path)
    assert Report.read(path) == WHOLE
    assert json.loads(path.read_text())["version"] == Report.VERSION


def test_an_undefined_score_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    replace(WHOLE, score=float("nan")).write(path)
    assert Report.read(path).score is None


def test_an_untuned_report_decides_as_it_was_scored() -> None:
    plain = replace(WHOLE, rules=())
    assert plain.decision == [Rule(0.4, min_area=7)] * 2
    border = replace(plain, spec=DataSpec(instances="border"))
    assert border.decision == [Rule(0.4, min_area=7, split=True)]
    assert WHOLE.decision == [Rule(0.3, fill_holes=True), Rule(0.6, min_area=9)]


@pytest.mark.parametrize("name", ["run", "blend"])
def test_a_report_from_before_there_were_versions(name: str) -> None:
    path = FIXTURES / f"{name}_without_version.json"
    values, report = json.loads(path.read_text()), Report.read(path)
    assert "version" not in values
    same = ("run", "metric", "score", "images", "threshold", "min_area")
    assert all(getattr(report, key) == values[key] for key in same)
    # What the file does not say, as VALUE_RANGE, is as it was before.
    assert report.spec.to_dict() == DataSpec().to_dict() | values["spec"]
    assert [fold.checkpoint for fold in report.folds] == [
        fold["checkpoint"] for fold in values["folds"]
    ]
    if name == "blend":
        assert report.blend is not None
        assert report.blend.weights == values["blend"]["weights"]
        assert report.decision == [Rule(**rule) for rule in values["rules"]]
    else:
        assert report.scores == values["scores"]
        assert report.folds[1].scores == values["folds"][1]["scores"]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in WHOLE.to_dict().items() if key != name}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("{", "is broken"),
        ("[]", "is broken"),
        (without("spec"), "'spec' is missing"),
        ({**WHOLE.to_dict(), "spec": {"colour": 1}}, "is broken"),
        ({**WHOLE.to_dict(), "folds": [{"fold": 0}]}, "is broken"),
        ({**WHOLE.to_dict(), "rules": [{}] * 9}, "Report: 9 rules for"),
        ({**WHOLE.to_dict(), "version": Report.VERSION + 1}, f"is of version {Report.VERSION + 1}"),
        ({**WHOLE.to_dict(), "rules": [], "min_area": -3}, "min_area is -3, need 0 or more"),
        ({**WHOLE.to_dict(), "rules": [], "threshold": 7.5}, "threshold is 7.5, need 0 to 1"),
        ({**WHOLE.to_dict(), "rules": [{"treshold": 0.4}]}, "Did you mean threshold?"),
    ],
)
def test_a_broken_or_newer_report_is_a_line(tmp_path: Path, values: Any, told: str) -> None:
    path = tmp_path / "base" / "report.json"
    path.parent.mkdir()
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    with pytest.raises(UserError, match=told.replace("?", r"\?")) as error:
        Report.read(path)
    assert str(path) in str(error.value)
    assert "run src/tune.py" in str(error.value) or "--run base" in str(error.value)


def test_no_report_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"python src/Lightning_tester\.py .*--run base"):
        Report.read(tmp_path / "base" / "report.json")


def test_another_runs_report_is_not_handed_out(tmp_path: Path) -> None:
    replace(WHOLE, run="b").write(tmp_path / "a" / "report.json")
    with pytest.raises(
        UserError, match=r"report\.json is of run 'b'.*Lightning_tester\.py.* --run a"
    ):
        read_report(tmp_path, "a")


@pytest.mark.parametrize("path", ["", "/x/best.ckpt", "../best.ckpt", "a/../../best.ckpt"])
def test_a_network_lies_below_logs(tmp_path: Path, path: str) -> None:
    replace(WHOLE, folds=[FoldReport(fold=0, checkpoint=path)]).write(tmp_path / "report.json")
    with pytest.raises(UserError, match="need a file below LOGS"):
        Report.read(tmp_path / "report.json")


def test_a_blend_of_other_predictions_is_refused(tmp_path: Path) -> None:
    runs = [replace(WHOLE, run="a"), replace(WHOLE, run="b", oof_key=None)]
    assert read_blend(tmp_path, runs) is None
    WHOLE.write(tmp_path / "report.json")
    assert read_blend(tmp_path, runs) == WHOLE
    assert read_blend(tmp_path, runs[:1]) is None
    with pytest.raises(UserError, match="other predictions"):
        read_blend(tmp_path, runs[::-1])


def test_a_blend_of_the_runs_in_another_order_is_not_overlooked(tmp_path: Path) -> None:
    runs = [replace(WHOLE, run=run) for run in "ba"]
    blend = Blend(weights=[0.2, 0.8], kind="probs", runs=["a", "b"])
    replace(WHOLE, run="a+b", blend=blend).write(tmp_path / "a+b" / "report.json")
    with pytest.raises(UserError, match="as --runs a,b: name them in that order"):
        read_blend(tmp_path / "b+a", runs)
    assert read_blend(tmp_path / "b", runs[:1]) is None
    assert read_blend(tmp_path / "b+c", [runs[0], replace(WHOLE, run="c")]) is None
