"""Images whose masks are to be looked at: the network is sure, and the mask says otherwise."""

import numpy as np

from reporting.blocks import Card, Gallery, Section, number
from reporting.cases import draw_pair, encode_pictures, read_case
from reporting.run import ReportRun
from reporting.scores import case_legend
from scoring.oof_counts import OofCounts
from scoring.sweeps import THRESHOLDS

MOST = 10
# Of what is foreground in the truth or surely predicted; less is the width of an outline.
LEAST = 0.05
# Bytes of the pictures, beside those of the cases.
BUDGET = 2_000_000


def sure_and_wrong(counts: OofCounts) -> np.ndarray:
    """(N,) share of an image's foreground that is surely contradicted, the worst class of each.

    Surely: a probability above the highest of THRESHOLDS where the mask has none, or not above the
    lowest where it has; of the pixels that the mask has or that are surely foreground. nan where
    there is neither.
    """
    low, high = counts.above[:, :, 0], counts.above[:, :, -1]
    added, missed = high[..., 0] - high[..., 1], counts.truth - low[..., 1]
    whole = counts.truth + added
    shares = np.where(whole > 0, (added + missed) / np.maximum(whole, 1), -1)
    worst = shares.max(1)
    return np.where(worst < 0, np.nan, worst)


def suspects_section(run: ReportRun) -> Section | None:
    """The images of which most is surely contradicted; None where the likeliest class wins."""
    if run.task == "multiclass":
        return None
    shares = sure_and_wrong(run.counts)
    order = np.argsort(-np.nan_to_num(shares), kind="stable")
    chosen = [int(at) for at in order[:MOST] if shares[at] >= LEAST]
    low, high = THRESHOLDS[0], THRESHOLDS[-1]
    lead = [
        f"Networks that never saw these images are sure (above {high:g}, or at most {low:g}) where "
        "the mask says otherwise. Some are their mistakes, some the annotator's: look at them."
    ]
    if not chosen:
        return Section(
            "suspects", "Masks to look at", lead=[f"No mask is surely contradicted in {LEAST:.0%}."]
        )
    rows = [run.images.rows[at] for at in chosen]
    pictures = [
        draw_pair(*read_case(run.configured, row, run.rules), task=run.task) for row in rows
    ]
    cards = [
        Card(
            source,
            f"{row['img']}: truth and prediction, {shares[at]:.0%} surely contradicted",
            f"{row['img']}, {run.metric} {number(run.scores[at], 3)}",
            f"{shares[at]:.0%}",
            (picture.shape[1], picture.shape[0]),
        )
        for at, row, picture, source in zip(
            chosen, rows, pictures, encode_pictures(pictures, BUDGET), strict=True
        )
    ]
    gallery = Gallery("Surely contradicted, as a share of the foreground", cards, case_legend(run))
    figures = {
        row["img"]: round(float(shares[at]), 4) for at, row in zip(chosen, rows, strict=True)
    }
    return Section("suspects", "Masks to look at", [gallery], lead, figures=figures)
