"""Images whose masks are to be looked at: the network is sure, and the mask says otherwise."""

import numpy as np

from reporting.blocks import Gallery, Section
from reporting.cards import build_cards, case_legend, case_views
from reporting.run import ReportRun
from scoring.oof_counts import OofCounts
from scoring.sweeps import THRESHOLDS

MOST = 10
# Of what is of the class in the truth or surely predicted; less is the width of an outline.
LEAST = 0.05
# Of the image: a class of fewer pixels is contradicted by the slip of a hand.
PART = 1e-3
# Bytes of the pictures, beside those of the cases.
BUDGET = 2_000_000


def sure_and_wrong(counts: OofCounts) -> np.ndarray:
    """(N,) share of a class that is surely contradicted, of the worst class of each image.

    Surely: a probability above the highest of THRESHOLDS where the mask has not the class, or not
    above the lowest where it has; of the pixels that the mask has or that are surely of the class.
    nan where there are hardly any.
    """
    whole = counts.truth + counts.surely[..., 0]
    known = whole > PART * counts.pixels[:, None]
    shares = np.where(known, counts.surely.sum(-1) / np.maximum(whole, 1), -1)
    worst = shares.max(1)
    return np.where(worst < 0, np.nan, worst)


def suspects_of(counts: OofCounts) -> tuple[list[int], np.ndarray]:
    """Numbers of the images with most that is surely contradicted, and that share of all."""
    shares = sure_and_wrong(counts)
    order = np.argsort(-np.nan_to_num(shares), kind="stable")
    return [int(at) for at in order[:MOST] if shares[at] >= LEAST], shares


def suspects_section(run: ReportRun) -> Section:
    """The images of which most is surely contradicted."""
    chosen, shares = suspects_of(run.counts)
    low, high = THRESHOLDS[0], THRESHOLDS[-1]
    lead = [
        f"Networks that never saw these images are sure (above {high:g}, or at most {low:g}) where "
        "the mask says otherwise. Some are their mistakes, some the annotator's: look at them."
    ]
    if not chosen:
        lead = [f"No mask is surely contradicted in {LEAST:.0%}."]
        return Section("suspects", "Masks to look at", lead=lead)
    cards, notes = build_cards(run, chosen, lambda at: f"{shares[at]:.0%}", budget=BUDGET)
    what = "the foreground" if run.task == "binary" else "a class"
    title = f"Surely contradicted, as a share of {what}"
    gallery = Gallery(title, list(cards.values()), case_legend(run), case_views(run))
    figures = {run.images.rows[at]["img"]: round(float(shares[at]), 4) for at in chosen}
    blocks = [gallery] if cards else []
    return Section("suspects", "Masks to look at", blocks, lead, notes[:5], figures)
