"""What is wrong with masks."""

import numpy as np

from looking.seen import FAR, Found, Seen, deviations, is_rare, same_of

# A mask is that much more ragged than the median: shredded by a wrong order, or noise.
SHREDDED = 3.0
# An outline that crosses less of an edge than so much of the median one is somewhere else.
MISPLACED = 0.35
# A mask that follows edges so much better when flipped lies wrong, if it does so as others do.
BETTER, AS_OTHERS = 1.4, 0.5
# Specks that are no noise.
SOME_SPECKS = 20


def bad_mask(seen: Seen) -> Found:
    for pair in seen.train:
        missing = seen.layout.masks is not None and pair.mask is not None and not pair.mask.path
        if pair.mask is not None and pair.mask.problem and not missing:
            yield pair.mask.path or pair.picture.path, pair.mask.problem


def lossy(seen: Seen) -> Found:
    lossy = [pair for pair in seen.masked if pair.mask.lossy]
    if is_rare(len(lossy), len(seen.masked)):
        for pair in lossy:
            yield pair.mask.path, "is a lossy file (JPEG), others are not: export it again"


def empty(seen: Seen) -> Found:
    empty = [pair for pair in seen.masked if not pair.mask.share]
    if is_rare(len(empty), len(seen.masked)):
        for pair in empty:
            yield pair.place, "is empty, others hardly are: is nothing there?"


def full(seen: Seen) -> Found:
    if seen.task == "multiclass":
        return
    full = [pair for pair in seen.masked if pair.mask.share > 0.995]
    if is_rare(len(full), len(seen.masked)):
        for pair in full:
            yield pair.place, "is all foreground: is it the right mask?"


def inverted(seen: Seen) -> Found:
    if seen.task == "multiclass":
        return
    turned = [pair for pair in seen.masked if pair.mask.touches == 4 and pair.mask.share < 0.995]
    if is_rare(len(turned), len(seen.masked)):
        for pair in turned:
            yield pair.place, "touches all four borders, others do not: inverted?"


def outlier(seen: Seen) -> Found:
    """Foreground far beyond what others have, in the logarithm of its odds."""
    if seen.task == "multiclass":
        return
    filled = [pair for pair in seen.masked if 0 < pair.mask.share < 0.995]
    odds = np.array([np.log(p.mask.share / (1 - p.mask.share)) for p in filled])
    for at, far in enumerate(deviations(odds)):
        if abs(far) > FAR:
            word = "more" if far > 0 else "less"
            yield (
                filled[at].place,
                f"has {filled[at].mask.share:.2%} foreground, much {word} than others",
            )


def shredded(seen: Seen) -> Found:
    filled = [pair for pair in seen.masked if pair.mask.ragged]  # a full mask has no outline
    ragged = np.array([pair.mask.ragged for pair in filled])
    if not len(ragged):
        return
    middle = float(np.median(ragged))
    for pair, far in zip(filled, deviations(np.log(ragged)), strict=True):
        if far > FAR and pair.mask.ragged > SHREDDED * middle:
            yield (
                pair.place,
                f"has {pair.mask.ragged / middle:.0f} times the outline of others: shredded by a "
                "wrong pixel order, or noise",
            )


def specks(seen: Seen) -> Found:
    specked = [pair for pair in seen.masked if pair.mask.specks >= SOME_SPECKS]
    if is_rare(len(specked), len(seen.masked)):
        for pair in specked:
            yield pair.place, f"has {pair.mask.specks} parts of one or two pixels: noise?"


def same_masks(seen: Seen) -> Found:
    for twins in same_of(seen.masked, lambda pair: pair.mask.digest):
        if len({pair.picture.digest for pair in twins}) == len(twins):
            for pair in twins[1:]:
                yield pair.place, f"is the very mask of {twins[0].picture.img}: another's?"


def misplaced(seen: Seen) -> Found:
    """Masks whose outlines follow no edges of their image, or only if flipped, where others' do."""
    filled = [pair for pair in seen.masked if pair.mask.edge]
    edges = np.array([pair.mask.edge for pair in filled])
    if len(edges) < 10 or np.median(edges) < 2:
        return
    middle = float(np.median(edges))
    for pair, far in zip(filled, deviations(np.log(edges)), strict=True):
        word, best = max(pair.mask.flipped.items(), key=lambda flip: flip[1])
        if best > BETTER * pair.mask.edge and best > AS_OTHERS * middle:
            told = f"follows the edges of its image far better when {word}: flipped by mistake?"
            yield pair.place, told
        elif far < -FAR / 2 and pair.mask.edge < MISPLACED * middle and pair.mask.edge < 1.3:
            yield (
                pair.place,
                "has an outline that follows no edge of its image: another's, flipped or shifted?",
            )
