"""Scores of what hangs together: information of parts, and numbers of parts, tunnels, cavities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import euler_number, label
from skimage.metrics import variation_of_information

from measures.overlaps import Overlaps

Volume = NDArray[np.bool_]
# Of parts, tunnels and cavities in the score of Vesuvius surface.
TOPO_WEIGHTS = np.array([0.34, 0.33, 0.33])


def object_information(objects: Overlaps) -> float:
    """Variation of information of an image's predicted and true objects, in bits; 0 at best.

    What one tells nothing of the other: H(true | predicted), of objects that were merged, and
    H(predicted | true), of such as were split. Background is one more object on both sides.

    Source: Meila 2007; Nunez-Iglesias et al. 2013.
    """
    return _information(objects.true, objects.pred)


def information_score(mask: Volume, truth: Volume, *, alpha: float) -> float:
    """1 / (1 + alpha VOI) of the parts of two masks (D, H, W), 0-1.

    VOI, in bits, is of the voxels of either mask; parts join at faces, edges and corners.

    Source: https://www.kaggle.com/competitions/vesuvius-challenge-surface-detection (alpha 0.3)
    """
    either = mask | truth
    found, real = (label(one, connectivity=mask.ndim)[either] for one in (mask, truth))
    return 1 / (1 + alpha * _information(real, found))


def betti_score(mask: Volume, truth: Volume) -> float:
    """Mean F1 of the numbers of parts, tunnels and cavities of two masks (D, H, W), 0-1.

    What neither has is left out; 0.5 / (n + 0.5) for n of what only the mask has. This is the
    TopoScore of Vesuvius surface with one thing lost: there a part, tunnel or cavity counts where
    Betti matching finds it in the truth, here wherever it is, which flatters.

    Source: https://www.kaggle.com/competitions/vesuvius-challenge-surface-detection
    """
    found, real = betti_numbers(mask), betti_numbers(truth)
    both = found + real
    scores = np.where(real > 0, 2 * np.minimum(found, real) / both.clip(1), 0.5 / (both + 0.5))
    return float(np.average(scores[both > 0], weights=TOPO_WEIGHTS[both > 0]))


def betti_numbers(mask: Volume) -> NDArray[np.int64]:
    """(3,) parts, tunnels and cavities of (D, H, W); parts join at faces, edges and corners."""
    parts = label(mask, return_num=True, connectivity=3)[1]
    outside = label(~np.pad(mask, 1), return_num=True, connectivity=1)[1]
    cavities = outside - 1
    return np.array([parts, parts + cavities - euler_number(mask, connectivity=3), cavities])


def _information(first: NDArray[Any], second: NDArray[Any]) -> float:
    # Entropies of equal objects cancel but for rounding.
    return round(float(sum(variation_of_information(first, second))), 12)
