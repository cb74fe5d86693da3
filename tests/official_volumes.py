"""Scores of volumes (D, H, W) by their definitions, written out; nothing here uses the project."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

from answer_forms import ONE, VOID, Answer
from official_scores import union

EDGES = np.ones((3, 3, 3))  # voxels that share a face, an edge or a corner
# DeepMind's areas of a piece of surface in a cell: of voxels that hang together, each with so many
# of them beside it: a corner, an edge, a bend, a square, a twisted chain, a corner and its three.
AREAS = {
    (0,): 3**0.5 / 8,
    (1, 1): 2**0.5 / 2,
    (1, 1, 2): 0.5 + 3 * 3**0.5 / 8,
    (2, 2, 2, 2): 1.0,
    (1, 1, 2, 2): 2**0.5 / 2 + 4 * 3**0.5 / 8,
    (1, 1, 1, 3): 6 * 3**0.5 / 8,
}


def piece_of_surface(code: int) -> float:
    """The area within eight voxels of which those of a bit each, 1, 2, 4 ... 128, are set."""
    bits = code if code.bit_count() <= 4 else 255 - code
    corners = [at for at in itertools.product((0, 1), repeat=3) if bits >> _number(at) & 1]
    beside = [
        (a, b)
        for a, b in itertools.combinations(corners, 2)
        if sum(x != y for x, y in zip(a, b, strict=True)) == 1
    ]
    area = 0.0
    while corners:
        part = {corners[0]}
        for _ in corners:
            part |= {at for pair in beside if part & set(pair) for at in pair}
        area += AREAS[tuple(sorted(sum(at in pair for pair in beside) for at in part))]
        corners = [at for at in corners if at not in part]
    return area


def _number(corner: Sequence[int]) -> int:
    return 4 * corner[0] + 2 * corner[1] + corner[2]


def surface_share(
    mask: np.ndarray,
    truth: np.ndarray,
    tolerance: float,
    spacing: Sequence[float] = (1, 1, 1),
    area_of: Callable[[int], float] = piece_of_surface,
) -> float:
    """Area near the other surface, over all area: elements between eight voxels, one by one."""
    elements = []
    for one in (mask, truth):
        padded = np.pad(one, 1)
        found = {}
        for at in itertools.product(*(range(n - 1) for n in padded.shape)):
            cell = padded[tuple(slice(a, a + 2) for a in at)].ravel()
            if cell.any() and not cell.all():
                found[at] = area_of(int((cell.astype(int) << np.arange(8)).sum()))
        elements.append(found)
    if not all(elements):
        return 0.0
    near = 0.0
    for mine, other in (elements, elements[::-1]):
        distances = cdist(*(np.array(list(at)) * spacing for at in (mine, other))).min(1)
        pairs = zip(mine.values(), distances, strict=True)
        near += sum(area for area, far in pairs if far <= tolerance)
    return near / sum(sum(found.values()) for found in elements)


def entropy(labels: Sequence[Any]) -> float:
    counts = np.array(list(Counter(labels).values()))
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def information(first: np.ndarray, second: np.ndarray) -> float:
    """2 H(both) - H(first) - H(second), in bits."""
    pairs = list(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
    return 2 * entropy(pairs) - sum(entropy([pair[k] for pair in pairs]) for k in (0, 1))


def information_score(mask: np.ndarray, truth: np.ndarray) -> float:
    """1 / (1 + 0.3 VOI) of the parts within either mask."""
    either = (mask | truth) > 0
    parts = [ndimage.label(one, EDGES)[0][either] for one in (mask, truth)]
    return 1 / (1 + 0.3 * information(*parts))


def betti(mask: np.ndarray) -> list[int]:
    """Parts and cavities by SciPy; tunnels by the corners, edges, faces and cubes of the voxels."""
    cells = [
        {
            tuple(2 * c + s for c, s in zip(voxel, step, strict=True))
            for voxel in np.argwhere(mask).tolist()
            for step in itertools.product((-1, 0, 1), repeat=3)
            if sum(s == 0 for s in step) == axes
        }
        for axes in range(4)
    ]
    euler = sum((-1) ** axes * len(of_kind) for axes, of_kind in enumerate(cells))
    parts = ndimage.label(mask, EDGES)[1]
    cavities = ndimage.label(ndimage.binary_fill_holes(mask) & (mask == 0))[1]
    return [parts, parts + cavities - euler, cavities]


def betti_score(mask: np.ndarray, truth: np.ndarray) -> float:
    """F1 of the numbers of parts, tunnels, cavities; what only the mask has is 0.5 / (n + 0.5)."""
    total = weight = 0.0
    for n, real, share in zip(betti(mask), betti(truth), (0.34, 0.33, 0.33), strict=True):
        if n or real:
            total += share * (2 * min(n, real) / (n + real) if real else 0.5 / (n + 0.5))
            weight += share
    return total / weight


def mean_of_volumes(
    measure: Callable[[np.ndarray, np.ndarray], float], found: Answer, truth: Answer
) -> float:
    """The mean over volumes, whose slices are numbered; void is background on both sides."""
    volumes: dict[str, list[str]] = {}
    for img in truth:
        volumes.setdefault(img.rpartition("_")[0], []).append(img)
    scores = []
    for names in volumes.values():
        planes = []
        for img in names:
            known = 1 - union(truth, img, VOID, truth[img][ONE][0])
            planes.append([union(answer, img, ONE, known) * known for answer in (found, truth)])
        scores.append(measure(*np.stack(planes, 1)))
    return float(np.mean(scores))


def surface_of_vesuvius(mask: np.ndarray, truth: np.ndarray) -> float:
    """The sum of surface Dice within two voxels, of information, and of Betti numbers unmatched."""
    near = surface_share(mask, truth, 2)
    return 0.35 * near + 0.35 * information_score(mask, truth) + 0.3 * betti_score(mask, truth)


mean_surface = partial(mean_of_volumes, partial(surface_share, tolerance=0))
mean_of_vesuvius = partial(mean_of_volumes, surface_of_vesuvius)
