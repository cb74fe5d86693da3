"""Do test images look like training images: sizes, channels, and whether a classifier tells."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from looking.scan import Picture

# Images a side that the classifier sees; fewer than LEAST, or groups than FOLDS, tell nothing.
SEEN, LEAST = 2000, 12
FOLDS = 5
# The lower end of the interval above which sets differ.
APART = 0.6


@dataclass(frozen=True)
class Shift:
    """Training against test images.

    Attributes:
        auc: how well a classifier tells them, 0.5 not at all; nan where too few are there.
        low, high: its 95 % interval.
        sizes: sizes of test images that no training image has, counted.
        means: mean value of each channel, training and test.
        histograms: shares (2, C, BINS).
    """

    auc: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    sizes: dict[str, int] = field(default_factory=dict)
    means: tuple[Sequence[float], Sequence[float]] = ((), ())
    histograms: np.ndarray | None = None

    def verdict(self) -> str:
        """In one line."""
        parts = []
        if np.isfinite(self.auc):
            word = "differ" if self.low > APART else "look alike"
            parts.append(
                f"training and test images {word}: a classifier tells them with an AUC of "
                f"{self.auc:.2f} ({self.low:.2f} to {self.high:.2f}; 0.5 is a guess)"
            )
        if self.sizes:
            shown = ", ".join(f"{size} ({n})" for size, n in list(self.sizes.items())[:5])
            parts.append(f"test images of sizes that training has not: {shown}")
        return "; ".join(parts) or "too few images or groups to hold training against test"


def compare_sets(
    train: Sequence[Picture], test: Sequence[Picture], groups: Mapping[str, str] | None = None
) -> Shift:
    """How test images differ from training images.

    Args:
        train, test: images.
        groups: group by id; an id that has none is a group of its own.
    """
    train = [one for one in train if len(one.histogram)]
    test = [one for one in test if len(one.histogram)]
    if not train or not test:
        return Shift()
    known = {one.size for one in train}
    new = Counter("{} x {}".format(*one.size) for one in test if one.size not in known)
    histograms = np.stack([_mean_histogram(train), _mean_histogram(test)])
    centres = (np.arange(histograms.shape[2]) + 0.5) / histograms.shape[2]
    means = (histograms * centres).sum(2)
    seen = [some(pictures) for pictures in (train, test)]
    labels = [[(groups or {}).get(one.img, one.img) for one in side] for side in seen]
    auc, low, high = separability(_features(seen[0]), _features(seen[1]), labels)
    return Shift(
        auc, low, high, dict(new.most_common()), (means[0].tolist(), means[1].tolist()), histograms
    )


def some(pictures: Sequence[Picture]) -> Sequence[Picture]:
    """SEEN of them at most, evenly."""
    return pictures[:: -(-len(pictures) // SEEN) or 1]


def separability(
    one: np.ndarray, other: np.ndarray, groups: Sequence[Sequence[str]]
) -> tuple[float, float, float]:
    """AUC of a logistic regression between rows of two sets, out of fold, and its 95 % interval.

    A group is in one fold, and counts once in the interval: views of one car look alike, whatever
    set the car is of.

    Args:
        one, other: (N, V) and (M, V) values.
        groups: N and M labels.

    Source: Hanley and McNeil 1982, for the interval.
    """
    n, m = (len(set(labels)) for labels in groups)
    if min(len(one), len(other)) < LEAST or min(n, m) < FOLDS:
        return (float("nan"),) * 3
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values = np.concatenate([one, other])
    labels = np.repeat([0, 1], [len(one), len(other)])
    # A group of one name in both sets is two: nothing else tells which set it is of.
    parts = [f"{side} {group}" for side, names in enumerate(groups) for group in names]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    told = cross_val_predict(
        model, values, labels, groups=parts, cv=folds, method="decision_function"
    )
    auc = float(roc_auc_score(labels, told))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = auc * (1 - auc) + (m - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)
    half = 1.96 * (error / (n * m)) ** 0.5
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def _features(pictures: Sequence[Picture]) -> np.ndarray:
    rows = [[*np.ravel(p.histogram), p.mean, p.std, p.low, p.high] for p in pictures]
    return np.array(rows, np.float64)


def _mean_histogram(pictures: Sequence[Picture]) -> np.ndarray:
    return np.mean([one.histogram for one in pictures], axis=0)
