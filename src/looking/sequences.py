"""Numbered sequences beside folders of their masks: 01, 02 and 01_GT, 02_GT."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from looking.file_sets import FileSet
from looking.schemes import Scheme, read_scheme
from looking.words import TEST

# The part of the pattern, and so the column, that says which sequence.
SEQUENCE = "sequence"


def join_sequences(
    train: Scheme, masks: Scheme | None, readings: Mapping[int, Sequence[Scheme]]
) -> tuple[Scheme, Scheme] | None:
    """Images and masks of all sequences that lie as one does; None where there is one alone.

    Args:
        train, masks: of one sequence; its folder is a number, with more behind it for the masks.
        readings: of all sets, by the set's identity.
    """
    at = _place_of_number(train, masks)
    if masks is None or at is None:
        return None
    number = str(train.files.folders[at])
    affix = str(masks.files.folders[at])[len(number) :]
    sets = {id(one.files): one.files for ways in readings.values() for one in ways}.values()
    images, truths = _by_number(train, at, "", sets), _by_number(masks, at, affix, sets)
    common = sorted(images.keys() & truths.keys())
    if len(common) < 2:
        return None
    template = f"{{{SEQUENCE}}}_{train.template}"
    joined = [
        _join({number: found[number] for number in common}, like, at, end, template)
        for found, like, end in ((images, train, ""), (truths, masks, affix))
    ]
    return (joined[0], joined[1]) if joined[0] and joined[1] else None


def _place_of_number(train: Scheme, masks: Scheme | None) -> int | None:
    """Where the folder 01 stands that the masks' folder 01_GT begins with."""
    if masks is None or train.files.nested or masks.files.nested or train.kinds or masks.kinds:
        return None
    for at, (name, like) in enumerate(zip(train.files.folders, masks.files.folders, strict=False)):
        if name != like:
            name, like = str(name), str(like)
            found = name.isdigit() and like != name and like.startswith(name)
            return at if found else None
    return None


def _by_number(scheme: Scheme, at: int, affix: str, sets: Iterable[FileSet]) -> dict[str, FileSet]:
    """Sets that lie as that of a scheme, but for the number of their folder."""
    own = scheme.files.folders
    found = {}
    for files in sets:
        name = files.folders[at] if len(files.folders) == len(own) else None
        if name is None or not name.endswith(affix) or files.tail != scheme.files.tail:
            continue
        number = name.removesuffix(affix)
        same = files.folders[:at] == own[:at] and files.folders[at + 1 :] == own[at + 1 :]
        if number.isdigit() and same and not files.words & TEST:
            found[number] = files
    return found


def _join(
    sets: Mapping[str, FileSet], like: Scheme, at: int, affix: str, template: str
) -> Scheme | None:
    own = like.files.folders
    folders = (*own[:at], None, *own[at + 1 :])
    members = {
        (number, *key): path for number, one in sets.items() for key, path in one.files.items()
    }
    files = replace(like.files, folders=folders, files=members)
    below = [str(name) for name in own[at + 1 :]]
    pattern = "/".join([f"{{{SEQUENCE}}}{affix}", *below, like.pattern])
    return read_scheme(files, pattern, template)
