"""Which images are to be predicted, and which of one folder are not to be trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from looking.file_sets import FileSet
from looking.listing import Listed
from looking.schemes import Scheme
from looking.words import TEST


def choose_test(
    pictures: Sequence[FileSet],
    schemes: Mapping[int, Sequence[Scheme]],
    train: Scheme,
    samples: Sequence[Listed],
) -> Scheme | None:
    """The images that a sample names, else those of a folder called test."""
    candidates = [
        scheme
        for files in pictures
        if files is not train.files
        for scheme in schemes[id(files)]
        if scheme.kinds == train.kinds
        if scheme.template == train.template or not files.nested
    ]
    if any(_asks(one, train) for one in samples):
        return train
    for scheme in candidates:
        if any(one.names(scheme.paths) for one in samples):
            return scheme
    called = [one for one in candidates if one.files.words & TEST]
    place = place_of(train.files)

    def rank(one: Scheme) -> tuple[bool, bool, bool, int]:
        same = one.template == train.template
        return same, one.text == train.text, place_of(one.files) == place, len(one.paths)

    return max(called, key=rank, default=None)


def _asks(sampled: Listed, train: Scheme) -> bool:
    """Whether a sample asks for images that lie among those to train on."""
    column, count = sampled.best_column(train.paths)
    named = count > 0 and column != sampled.columns.cls  # classes 1 and 2 are no images 1 and 2
    return named and sampled.ids[column] <= train.paths.keys()


def without_asked(train: Scheme, sampled: Listed, listed: Listed) -> Scheme:
    """The images of one folder without those that a sample asks for and the table does not name."""
    asked = sampled.ids[sampled.best_column(train.paths)[0]] - listed.ids[listed.columns.id]
    return replace(train, paths={i: p for i, p in train.paths.items() if i not in asked})


def place_of(files: FileSet) -> str:
    """What sets of training and test files have in common: the last folder, or the one name."""
    return files.tail.rpartition(".")[0] if files.fixed else (files.folders or ("",))[-1] or ""
