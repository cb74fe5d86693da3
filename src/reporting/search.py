"""search.html: the trials of a search on one page that needs no network."""

import math
from pathlib import Path
from typing import Any

from core.files import writing
from reporting.blocks import Cell, Figure, Section, Table, number, render_page
from reporting.charts import Axis, Series, draw_chart, fit_axis
from runs.journals import tried

# Trials before it is said which knobs mattered.
ENOUGH = 8


def write_search_page(folder: Path, study: Any, metric: str) -> Path:
    """Writes search.html; returns its path.

    Args:
        folder: that receives it.
        study: of Optuna; its trials hold "run" and "values" (knob to text) as user attributes.
        metric: that the trials are judged by.
    """
    done = [
        trial
        for trial in tried(study)
        if trial.value is not None and trial.state.name == "COMPLETE"
    ]
    tiles = [
        ("trials", str(len(tried(study))), ""),
        ("finished", str(len(done)), "the others were ended early, or failed"),
        ("best", number(study.best_value) if done else "–", metric),
    ]
    sections = [_course(study, done, metric), _importance(study, done), _trials(study, done)]
    page = render_page(
        [section for section in sections if section],
        title=study.study_name,
        subtitle=f"a search for knobs, judged by {metric}",
        tiles=tiles,
        footer="",
    )
    path = folder / "search.html"
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _larger(study: Any) -> bool:
    return bool(study.direction.name == "MAXIMIZE")


def _course(study: Any, done: list[Any], metric: str) -> Section | None:
    """Each trial's score, and the best so far."""
    if not done:
        return None
    scores = [(trial.number, float(trial.value)) for trial in done]
    better = max if _larger(study) else min
    best = [(at, better(value for _, value in scores[: n + 1])) for n, (at, _) in enumerate(scores)]
    runs = [str(trial.user_attrs.get("run")) for trial in done]
    last = max(1, len(study.trials) - 1)
    chart = draw_chart(
        [
            Series("best so far", best, colour=0),
            Series("trial", scores, colour=1, dots=True, titles=runs),
        ],
        x=Axis("trial", 0, last),
        y=fit_axis(metric, [value for _, value in scores]),
        alt=f"{metric} of each trial and the best so far",
    )
    legend = [(0, "best so far"), (1, "trial")]
    return Section("course", "Course", [Figure(f"{metric} by trial", chart, legend)])


def _importance(study: Any, done: list[Any]) -> Section | None:
    """Shares of the scores' variance that each knob explains."""
    if len(done) < ENOUGH or len({trial.value for trial in done}) < 2:
        return None
    import optuna

    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    rows = [
        [Cell(name, text=True), Cell(f"{share:.0%}", shade=share)] for name, share in shares.items()
    ]
    table = Table("share of the scores' variance (fANOVA)", ["knob", "share"], rows)
    return Section("importance", "Which knobs mattered", [table])


def _trials(study: Any, done: list[Any]) -> Section:
    """Every trial, the best first."""
    names = list(dict.fromkeys(name for trial in tried(study) for name in _values(trial)))
    sign = -1 if _larger(study) else 1
    others = [trial for trial in tried(study) if trial not in done]
    ordered = [*sorted(done, key=lambda trial: sign * trial.value), *others]
    rows = [
        [
            Cell(str(trial.user_attrs.get("run", trial.number)), text=True),
            Cell(number(trial.value if trial in done else math.nan), mark=trial is ordered[0]),
            *(Cell(_values(trial).get(name, ""), text=True) for name in names),
            Cell(_state(trial), text=True),
        ]
        for trial in ordered
    ]
    table = Table("the best first", ["run", "score", *names, "end"], rows)
    figures = {
        "trials": [
            {"run": trial.user_attrs.get("run"), "score": trial.value, **_values(trial)}
            for trial in ordered
        ]
    }
    return Section("trials", "Trials", [table], figures=figures)


def _values(trial: Any) -> dict[str, str]:
    return dict(trial.user_attrs.get("values", {}))


def _state(trial: Any) -> str:
    words = {"COMPLETE": "finished", "PRUNED": f"ended early, epoch {(trial.last_step or 0) + 1}"}
    reason = str(trial.user_attrs.get("reason", "interrupted"))
    return words.get(trial.state.name, reason)
