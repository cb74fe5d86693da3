"""Labels of outlines as classes: by MASK_VALUES, by CLASS_NAMES, or by their numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from competition.spec import Competition
from competition.tables import class_ids
from core.errors import UserError, nearest, raise_all
from imaging.mask_files import IGNORE


def classes_of(
    used: Sequence[Any], names: Mapping[Any, str], competition: Competition
) -> dict[Any, int]:
    """Class of each category in use, without those that are of none.

    MASK_VALUES decides where it is set; else those of CLASS_NAMES, or ids from CLASS_BASE.
    Binary: the one that CLASS_NAMES names is the foreground; without a name all are.

    Args:
        used: categories of the annotations.
        names: of categories; those without stand for themselves.
        competition: its classes.

    Raises:
        UserError: lists categories that are none of the classes, or that CLASS_NAMES spells
            otherwise; binary: it names none of several.
    """
    import pandas as pd

    categories = list(dict.fromkeys(used))
    called = {category: names.get(category, category) for category in categories}
    if competition.mask_values:
        return _declared_classes(called, competition)
    _refuse_spellings(called.values(), competition.class_names)
    if competition.task == "binary":
        wanted = [c for c in categories if called[c] in competition.class_names]
        if not wanted and len(categories) > 1 and competition.class_names:
            _refuse_other_name(competition.class_names[0], list(map(str, called.values())))
        return dict.fromkeys(wanted or categories, 0)
    named = {c: n for c in categories if (n := called[c]) in competition.class_names}
    found = class_ids(pd.Series([named.get(c, c) for c in categories], dtype=object), competition)
    known = range(competition.classes)
    # Numbers that do not count as the names do say nothing of a category without a name there.
    by_name = any(
        str(c) != str(competition.class_names.index(name) + competition.class_base)
        for c, name in named.items()
    )
    problems = [
        f"category {category!r} ({names.get(category, 'no name')})"
        for category, cls in zip(categories, found, strict=True)
        if cls not in known or (by_name and category not in named)
    ]
    raise_all(
        problems,
        f"categories that are none of the {competition.classes} classes: name them in CLASS_NAMES, "
        "or set CLASSES and CLASS_BASE so that ids fit; or give names their classes, 255 where one "
        "counts for nothing, as MASK_VALUES={'car': 1, 'unsure': 255}:",
    )
    return {category: int(cls) for category, cls in zip(categories, found, strict=True)}


def _refuse_spellings(labels: Iterable[Any], names: Sequence[str]) -> None:
    """Raises where labels differ from CLASS_NAMES in capitals or blanks: ids would count then."""
    plain = {name.strip().casefold(): name for name in names}
    texts = [label for label in labels if isinstance(label, str) and label not in names]
    near = {label: plain.get(label.strip().casefold()) for label in texts}
    raise_all(
        [f"{label!r}: CLASS_NAMES has {name!r}" for label, name in near.items() if name],
        "labels that CLASS_NAMES spells otherwise, write them alike there:",
    )


def _refuse_other_name(name: str, labels: Sequence[str]) -> None:
    raise UserError(
        f"CLASS_NAMES is {name!r}, which is none of the labels {', '.join(map(repr, labels[:20]))}."
        f"{nearest(name, labels)} Set CLASS_NAMES to the one that is the foreground, leave it away "
        f"where all of them are; or say MASK_VALUES={{{labels[0]!r}: 1, None: 0}}"
    )


def _declared_classes(called: Mapping[Any, str], competition: Competition) -> dict[Any, int]:
    """Classes by MASK_VALUES; in binary 1 is the foreground, which is class 0 here."""
    declared = competition.mask_values or {}
    # A label that reads as a number has become one; None is no label, but all others.
    values = {str(label): cls for label, cls in declared.items() if label is not None}
    unknown = [name for name in dict.fromkeys(called.values()) if str(name) not in values]
    raise_all(
        [f"{name!r}" for name in unknown if None not in declared],
        "labels that MASK_VALUES does not declare (255 = counts for nothing, None: 255 is for all "
        "others):",
    )
    ignored = (IGNORE, competition.ignore_index)
    known = {name: values.get(str(name), declared.get(None, IGNORE)) for name in called.values()}
    found = {category: known[name] for category, name in called.items()}
    ids = {category: IGNORE if cls in ignored else cls for category, cls in found.items()}
    if competition.task != "binary":
        return ids
    return {c: IGNORE if cls == IGNORE else 0 for c, cls in ids.items() if cls}
