"""What is wrong with names, tables and classes."""

from competition.tables import image_id
from looking.seen import Found, Seen, is_rare


def clashes(seen: Seen) -> Found:
    parts = (seen.layout.train, seen.layout.masks, seen.layout.test)
    for scheme in [part for part in parts if part is not None]:
        for img, path in [] if scheme.pieces else scheme.clashes:
            yield path, f"has the id {img}, as {scheme.paths[img]} has: rename or drop one"


def no_mask(seen: Seen) -> Found:
    masks, listed = seen.layout.masks, seen.layout.listed
    bare = [p.picture for p in seen.train if p.mask is not None and not p.mask.path]
    if masks is not None and is_rare(len(bare), len(seen.train)):
        for picture in bare:
            yield (
                picture.path,
                "has no mask file: add it, or drop the image (ABSENT=empty: its mask is empty)",
            )
    if masks is None and listed is not None and listed.columns.rle:
        known = listed.ids[listed.columns.id]
        absent = [pair.picture for pair in seen.train if pair.picture.img not in known]
        if is_rare(len(absent), len(seen.train)):
            for picture in absent:
                yield picture.path, f"is in no row of {listed.name}: add a row, or drop the image"


def no_image(seen: Seen) -> Found:
    layout, images = seen.layout, seen.layout.train.paths
    if layout.masks is not None:
        for img, path in layout.masks.paths.items():
            if img not in images:
                yield path, "is a mask without an image: add the image, or drop it"
    if layout.listed is not None:
        column, _ = layout.listed.best_column(images)
        lost = sorted(layout.listed.ids[column] - images.keys())
        if is_rare(len(lost), len(images)):
            for img in lost:
                yield img, f"is a row of {layout.listed.name} without an image: drop the row"


def twice(seen: Seen) -> Found:
    listed = seen.layout.listed
    if listed is None or (listed.columns.cls and listed.columns.rle):
        return
    column, _ = listed.best_column(seen.layout.train.paths)
    counts = listed.table[column].map(image_id).value_counts()
    several = counts[counts > 1]
    if is_rare(len(several), len(counts)):
        for img, count in several.items():
            yield str(img), f"has {count} rows in {listed.name}, others have one: keep one of them"


def odd_rows(seen: Seen) -> Found:
    sampled, test = seen.layout.sampled, seen.layout.test
    if sampled is None or test is None:
        return
    column, _ = sampled.best_column(test.paths)
    for img in sorted(sampled.ids.get(column, set()) - test.paths.keys()):
        yield img, f"is in {sampled.name} and has no test image"
    trained = set(seen.layout.train.paths.values())  # may lie in one folder with them
    for img in sorted(test.paths.keys() - sampled.ids.get(column, set())):
        if test.paths[img] not in trained:
            yield test.paths[img], f"is a test image that {sampled.name} does not list"


def absent_classes(seen: Seen) -> Found:
    if seen.task == "binary" or not seen.masked:
        return
    present = {k for pair in seen.masked for k, share in pair.mask.classes.items() if share}
    for number in range(seen.classes):
        if number not in present and not (seen.task == "multiclass" and number == 0):
            yield f"class {number}", "is in no training mask: no network can learn it"
