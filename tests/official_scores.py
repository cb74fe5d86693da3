"""The official rules of competitions, written out; nothing here uses the project."""

from collections.abc import Callable, Sequence

import numpy as np
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment

from answer_forms import ONE, VOID, Answer

Score = Callable[[Answer, Answer], float]


def dice(a: np.ndarray, b: np.ndarray, empty: float = 1.0) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else empty


def union(answer: Answer, img: str, cls: str, like: np.ndarray) -> np.ndarray:
    return np.maximum.reduce([0 * like, *answer.get(img, {}).get(cls, [])])


def objects_of(answer: Answer, img: str, cls: str = ONE) -> list[np.ndarray]:
    return [mask for mask in answer[img].get(cls, []) if mask.any()]


def pairs_of(found: Answer, truth: Answer) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks and truth of each image and class."""
    pairs = []
    for img, classes in truth.items():
        for cls, masks in classes.items():
            like = masks[0]
            pairs.append((union(found, img, cls, like), union(truth, img, cls, like)))
    return pairs


def mean_dice(found: Answer, truth: Answer) -> float:
    return float(np.mean([dice(*pair) for pair in pairs_of(found, truth)]))


def ladder(score: Callable[[int, int, int], float]) -> Callable[..., float]:
    """The mean over images and thresholds of a score of objects found, false and missed."""

    def of_answers(found: Answer, truth: Answer, steps: Sequence[int] = range(10, 20)) -> float:
        scores = []
        for img, classes in truth.items():
            for step in steps:
                total = np.zeros(3, int)
                for cls in classes.keys() | found[img].keys():
                    mine, real = (objects_of(answer, img, cls) for answer in (found, truth))
                    pairs = [(int((a & b).sum()), int((a | b).sum())) for a in mine for b in real]
                    tp = sum(20 * both > step * either for both, either in pairs)
                    total += tp, len(mine) - tp, len(real) - tp
                scores.append(score(*total))
        return float(np.mean(scores))

    return of_answers


def precision_of(tp: int, fp: int, fn: int) -> float:
    return tp / (tp + fp + fn) if tp + fp + fn else 1.0


def f2_of(tp: int, fp: int, fn: int) -> float:
    return 5 * tp / (5 * tp + 4 * fn + fp) if tp + fp + fn else 1.0


def mean_ladder(found: Answer, truth: Answer) -> float:
    """The mean over images of the share of ten thresholds that the IoU of whole masks exceeds."""
    scores = []
    for mine, real in pairs_of(found, truth):
        both, either = int((mine & real).sum()), int((mine | real).sum())
        reached = sum(20 * both > step * either for step in range(10, 20)) / 10
        scores.append(reached if real.any() else float(not mine.any()))
    return float(np.mean(scores))


ORGANS = ("large_bowel", "small_bowel", "stomach")


def score_uwmgi(found: Answer, truth: Answer) -> float:
    """0.4 of the mean Dice of rows that are not empty twice, 0.6 of near volumes."""
    rows = [dice(*pair, empty=np.nan) for pair in pairs_of(found, truth)]
    near = []
    for case in dict.fromkeys(name.partition("_slice_")[0] for name in truth):
        names = [name for name in truth if name.startswith(f"{case}_slice_")]
        for organ in ORGANS:
            like = truth[names[0]][organ][0]
            mine, real = (
                np.stack([union(a, n, organ, like) for n in names]) for a in (found, truth)
            )
            if mine.any() and real.any():
                points = [np.argwhere(v) / v.shape for v in (mine, real)]
                table = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
                near.append(1 - max(table.min(0).max(), table.min(1).max()) / 3**0.5)
            elif mine.any() or real.any():
                near.append(0)
    return float(0.4 * np.nanmean(rows) + 0.6 * np.mean(near))


def counts_of(found: Answer, truth: Answer, cls: str = ONE) -> tuple[int, int, int]:
    """Pixels of a class over all images: true and found, found, true; void is left out."""
    both = mine = real = 0
    for img, classes in truth.items():
        known = 1 - union(truth, img, VOID, classes[cls][0])
        a, b = (union(answer, img, cls, known) * known for answer in (found, truth))
        both, mine, real = both + int((a & b).sum()), mine + int(a.sum()), real + int(b.sum())
    return both, mine, real


def pooled_dice(found: Answer, truth: Answer) -> float:
    both, mine, real = counts_of(found, truth)
    return 2 * both / (mine + real)


def pooled_iou(found: Answer, truth: Answer) -> float:
    """The mean over classes; those that are nowhere are left out."""
    scores = []
    for cls in next(iter(truth.values())):
        both, mine, real = counts_of(found, truth, cls)
        if cls != VOID and mine + real:
            scores.append(both / (mine + real - both))
    return float(np.mean(scores))


def mean_f_half(found: Answer, truth: Answer) -> float:
    """The mean over images of F-beta, beta 0.5, of precision and recall."""
    scores = []
    for mine, real in pairs_of(found, truth):
        both = int((mine & real).sum())
        precision, recall = both / max(mine.sum(), 1), both / max(real.sum(), 1)
        scores.append(1.25 * precision * recall / max(0.25 * precision + recall, 1e-9))
    return float(np.mean(scores))


def cut_jaccard(found: Answer, truth: Answer) -> float:
    """The mean over images of the Jaccard index, 0 where it is below 0.65."""
    scores = [int((a & b).sum()) / max(int((a | b).sum()), 1) for a, b in pairs_of(found, truth)]
    return float(np.mean([score if score >= 0.65 else 0 for score in scores]))


def panoptic(found: Answer, truth: Answer) -> float:
    """Sum of the IoU of pairs above one half, over TP + FP / 2 + FN / 2 of all images."""
    total, bottom = 0.0, 0.0
    for img, classes in truth.items():
        real = [m for m in classes[ONE] if m.any()]
        mine = [m for m in found[img][ONE] if m.any()]
        ious = [int((a & b).sum()) / int((a | b).sum()) for a in mine for b in real]
        total += sum(iou for iou in ious if iou > 0.5)
        bottom += (len(mine) + len(real)) / 2  # TP counts a half on either side
    return total / bottom


def gland_dice(found: Answer, truth: Answer) -> float:
    """Dice of each object and that which it shares most with, by area, both ways, halved."""

    def one_way(ours: Answer, others: Answer) -> float:
        total = weighted = 0.0
        for img in truth:
            theirs = objects_of(others, img)
            for mask in objects_of(ours, img):
                shared = [int((mask & other).sum()) for other in theirs]
                best = theirs[int(np.argmax(shared))] if any(shared) else 0 * mask
                weighted += int(mask.sum()) * dice(mask, best)
                total += int(mask.sum())
        return weighted / total

    return (one_way(found, truth) + one_way(truth, found)) / 2


def assigned_f1(found: Answer, truth: Answer) -> float:
    """The mean over images of the F1 of the best pairs, over the larger count."""
    scores = []
    for img in truth:
        mine, real = objects_of(found, img), objects_of(truth, img)
        if not mine or not real:
            scores.append(float(not mine and not real))
            continue
        table = np.array([[dice(a, b) for b in real] for a in mine])
        pairs = linear_sum_assignment(-table)
        scores.append(table[pairs].sum() / len(real) * len(real) / max(len(mine), len(real)))
    return float(np.mean(scores))


def coco_ap(
    found: Answer, truth: Answer, thresholds: Sequence[float] | None = None, most: int = 10
) -> float:
    """COCO's own evaluation: the mean over classes, with so many objects an image at most."""
    kinds = sorted({cls for classes in truth.values() for cls in classes})
    images = {img: at for at, img in enumerate(truth, 1)}
    shapes = [next(iter(truth[img].values()))[0].shape for img in images]
    sides = []
    for answer in (truth, found):
        notes = [
            {
                "id": 0,
                "image_id": number,
                "category_id": kinds.index(cls) + 1,
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": [0, 0, 1, 1],
                "segmentation": coco.encode(np.asfortranarray(mask)),
                "score": getattr(mask, "score", 1.0),
            }
            for img, number in images.items()
            for cls in kinds
            for mask in objects_of(answer, img, cls)
        ]
        for at, note in enumerate(notes, 1):
            note["id"] = at
        side = COCO()
        side.dataset = {
            "images": [
                {"id": number, "height": shape[0], "width": shape[1]}
                for number, shape in zip(images.values(), shapes, strict=True)
            ],
            "annotations": notes,
            "categories": [{"id": at} for at in range(1, len(kinds) + 1)],
        }
        side.createIndex()
        sides.append(side)
    evaluation = COCOeval(*sides, "segm")
    evaluation.params.maxDets = [most]
    evaluation.params.iouThrs = np.array(thresholds or np.linspace(0.5, 0.95, 10))
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return float(precision[precision > -1].mean())
