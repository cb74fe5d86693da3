"""Several mask files an image: one a class, found by MASK_PATTERN, or one an object, in a table."""

from competition.label_classes import classes_of
from competition.listings import find_mask_names
from competition.outline_masks import Annotation, Entry, MaskFile, OutlineMasks
from competition.places import place_files
from competition.spec import Competition
from competition.tables import image_id, train_table
from core.errors import UserError, raise_all
from core.quantities import counted

CLASS_PART = "{class}"


def read_class_files(competition: Competition) -> OutlineMasks:
    """Masks of a file an image and class: `{class}` of MASK_PATTERN is a name of CLASS_NAMES.

    An image without a class's file has nothing of it, as long as it has another one.

    Raises:
        UserError: no names, a pattern without its part, or a class that no file is of.
    """
    names, pattern = competition.class_names, competition.mask_pattern
    if CLASS_PART not in pattern or not names:
        raise UserError(
            f"MASK_FORMAT=classes: MASK_PATTERN is {pattern!r}, CLASS_NAMES {','.join(names)!r}: "
            "need a part {class}, as in {class}/{id}_{class}.tif, and the names that it takes"
        )
    entries: dict[str, list[Entry]] = {}
    problems = []
    for number, name in enumerate(names):
        files = find_mask_names(competition, pattern.replace(CLASS_PART, name))
        if not files and (number or competition.task != "multiclass"):
            problems.append(f"{name}: no file {pattern.replace(CLASS_PART, name)}")
        cls = 0 if competition.task == "binary" else number
        for img, path in files.items():
            entry = entries.setdefault(img, [Entry(None, [])])[0]
            entry.annotations.append(Annotation(cls, MaskFile(competition.mask_path / path)))
    raise_all(problems, f"{competition.mask_path}: no mask files of these classes:")
    return OutlineMasks(entries, competition, by_area=False, tells_objects=False)


def read_object_files(competition: Competition) -> OutlineMasks:
    """Masks of a table with a file an object: Open Images.

    Raises:
        UserError: no column of files (RLE_COLUMN), files that are not there, unknown classes.
    """
    table, columns = train_table(competition)
    column = columns.rle or next((c for c in table if "mask" in str(c).lower()), None)
    if column is None or column == columns.id:
        raise UserError(
            f"{competition.train_csv.name}: no column of mask files beside the ids in "
            f"{columns.id!r}: set RLE_COLUMN to it, and ID_COLUMN"
        )
    labels = list(table[columns.cls]) if columns.cls else [None] * len(table)
    cls_of = classes_of(labels, {}, competition)
    root = competition.input
    found = place_files(table[column], (competition.mask_path, root), root)
    rows = list(zip(table[columns.id].map(image_id), labels, table[column], found, strict=True))
    lost = [f"{img}: {name}" for img, _, name, path in rows if name and not path]
    told = (
        f"of {competition.train_csv.name} {counted(len(lost), 'mask file', 'is', 'are')} missing:"
    )
    raise_all(lost, told)
    entries: dict[str, list[Entry]] = {}
    for img, label, name, path in rows:
        entry = entries.setdefault(img, [Entry(None, [])])[0]
        if name and label in cls_of:
            entry.annotations.append(Annotation(cls_of[label], MaskFile(root / path)))
    return OutlineMasks(entries, competition, by_area=True)
