"""The score that no network is needed for, computed once for folds, masks and metric."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import write_json
from core.gates import json_value
from runs.run import Run

FILE = "baseline.json"


def read_trivial(run: Run) -> dict[str, float]:
    """Scores of METRIC by what was predicted everywhere, see `trivial_scores`.

    Kept in output/baseline.json, and computed anew where folds, masks or METRIC have changed.
    """
    from Lightning_datamodule import rows_in
    from runs.predictions import data_key, table_key
    from scoring.baseline import trivial_scores

    rows = rows_in(run.table)
    data = data_key(run.input, run.spec, rows, run.masks)
    sources = [run.metric, table_key(run.table), data]
    key = hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]
    path = run.output / FILE
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json_value(path.read_text())
        if known["key"] == key:
            scores: dict[str, float] = known["scores"]
            return scores
    scores = trivial_scores(rows, run.input, run.masks, spec=run.spec, metric=run.metric)
    write_json(path, {"key": key, "metric": run.metric, "scores": scores})
    return scores


def best_trivial(run: Run) -> dict[str, Any]:
    """`name` and `score` of the best that needs no network; empty where there is none."""
    from scoring.baseline import best_of

    best = best_of(read_trivial(run), run.metric, run.spec)
    return dict(zip(("name", "score"), best, strict=True)) if best else {}


def trivial_words(best: Mapping[str, Any]) -> str:
    """Such as `trivial 0.8620 (all foreground)`, or nothing where there is none."""
    return f"trivial {best['score']:.4f} ({best['name']})" if best else ""


def beside(best: Mapping[str, Any]) -> str:
    """`trivial_words` as they follow a score, or nothing."""
    return f"; {trivial_words(best)}" if best else ""


def told_trivial(output: Path, metric: str, *, less: bool = False) -> dict[str, Any]:
    """`name` and `score` of the best of a metric as folds.py told it last; empty where unknown.

    Args:
        output: the folder of all results.
        metric: the row of METRICS.
        less: whether less of it is better.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json_value((output / FILE).read_text())
        if known["metric"] == metric and known["scores"]:
            name = (min if less else max)(known["scores"], key=known["scores"].__getitem__)
            return {"name": name, "score": float(known["scores"][name])}
    return {}
