"""Files that a recipe does not use, a line a set of them, with the reason."""

import re
from collections.abc import Callable, Iterator

from competition.contents import PACKED
from competition.mask_file_lists import CLASS_PART
from competition.patterns import FilePattern
from core.quantities import counted
from looking.file_sets import FileSet
from looking.layout import Layout
from looking.listing import HALF, read_tables
from looking.schemes import Scheme, schemes_of
from looking.words import MASK, TEST, TRAIN, VAL

PAGE_MARK = re.compile(r"\{page:\d+\}$")
# File types that go beside images and are none of them.
PLAIN = {".txt", ".md", ".html", ".pdf", ".json", ".xml", ".license", ".lock"}
# What a table may write otherwise, what to do, and how both are made alike.
MISSES: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    (
        "with .0 behind their numbers",
        "read it by pandas with dtype=str where it was written, or take the .0 away",
        lambda img: img.removesuffix(".0"),
    ),
    ("with other capitals", "call the files as it does, or the other way round", str.casefold),
    ("without zeros before their numbers", "write them as the files do", lambda i: i.lstrip("0")),
)
# Lines that are told; the others are counted.
SHOWN = 12


def unused_lines(layout: Layout) -> list[str]:
    """What lies there and is not used, and why: the largest sets of files first."""
    lines = [*_picture_lines(layout), *_table_lines(layout), *_other_lines(layout)]
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"and {counted(more, 'further set')} of files"]


def used_files(layout: Layout) -> set[str]:
    """Pictures and arrays that images, masks and fields of view are read of, from the root."""
    schemes = [layout.train, layout.masks, layout.valid, layout.test, layout.drawn]
    found = {path for scheme in schemes if scheme for path in _files_of(scheme, layout)}
    survey = layout.survey
    for folder in filter(None, (layout.instances, layout.object_files)):
        start = "" if folder == "." else f"{folder}/"
        for files in survey.sets:
            if files.words & MASK:
                found |= {path for path in files.files.values() if path.startswith(start)}
    return found


def _files_of(scheme: Scheme, layout: Layout) -> Iterator[str]:
    """The files of a scheme's images; where several are one image, all that fit its pattern."""
    if not (scheme.kinds or scheme.pieces):
        yield from (PAGE_MARK.sub("", path) for path in scheme.paths.values())
        return
    texts = [scheme.pattern]
    if CLASS_PART in scheme.pattern:
        texts = [scheme.pattern.replace(CLASS_PART, kind) for kind in scheme.kinds]
    knobs = ("IMAGE_PATTERN", "ID_TEMPLATE")
    rules = [FilePattern(t, scheme.template, knobs=knobs, bands=scheme.kinds) for t in texts]
    root = f"{scheme.files.root}/" if scheme.files.root else ""
    for files in layout.survey.sets:
        for path in files.files.values():
            if path.startswith(root) and any(rule.read(path[len(root) :]) for rule in rules):
                yield path


def _picture_lines(layout: Layout) -> Iterator[str]:
    """A line a reason, with the sets that share it."""
    used = used_files(layout)
    told: dict[str, list[str]] = {}
    for files in layout.survey.sets:
        whole = [*files.files.values(), *files.doubles]
        rest = [path for path in whole if path not in used]
        if rest:
            part = "" if len(rest) == len(whole) else f" of {len(whole)}"
            count = f"{len(rest)}{part} {files.told()}"
            told.setdefault(_why(files, layout), []).append(count)
    for why, counts in told.items():
        yield f"{', '.join(counts)}: {why}"


def _why(files: FileSet, layout: Layout) -> str:
    """Why pictures are not used, and the knob that takes them where one does."""
    owner = _owner(files, layout)
    if files is layout.train.files and layout.listed is not None:
        return f"{layout.listed.name} does not name these images"
    if files in (layout.train.files, layout.test and layout.test.files):
        return "their ids are those of other files, or their names do not fit the pattern"
    if layout.masks and {*files.files.values()} & {*layout.masks.paths.values()}:
        return "beside the masks that MASK_PATH names"
    if files.words & MASK:
        if owner == "test":
            return "masks of the test images, as it seems: no stage reads them"
        if owner == "training":
            return "further masks of the training images: MASK_PATH says which count"
        return "masks, as it seems, of no image that is used"
    if owner:
        return f"further files of the {owner} images: IMAGE_PATTERN says which are read"
    if files.words & TEST:
        if layout.sample:
            return f"test images, as it seems, which {layout.sample} does not ask for"
        return "test images, as it seems, beside those of TEST_PATH"
    if layout.listed is not None and layout.listed.columns.rle:
        return f"no row of {layout.listed.name} names them"
    if layout.masks or layout.drawn or layout.coco:
        return (
            "no masks of theirs were found; if nothing is on them, let IMAGE_PATTERN fit them, "
            "too, and set ABSENT=empty"
        )
    return "neither images with masks nor test images, as far as names tell"


def _owner(files: FileSet, layout: Layout) -> str:
    """Whether a set has the ids of the training or of the test images; "" of neither."""
    known = {"training": layout.train.paths.keys()}
    known |= {"test": layout.test.paths.keys()} if layout.test else {}
    shares = {"": 0.0}
    for owner, ids in known.items():
        if files.words & (TEST | VAL if owner == "training" else TRAIN):
            continue
        shares[owner] = max(
            (
                len(scheme.paths.keys() & ids) / max(1, min(len(ids), len(scheme.paths)))
                for scheme in schemes_of(files, layout.survey.sets)
            ),
            default=0.0,
        )
    best = max(shares, key=lambda owner: shares[owner])
    return best if shares[best] >= HALF else ""


def _table_lines(layout: Layout) -> Iterator[str]:
    used = {one.name for one in (layout.listed, layout.meta, layout.sampled) if one}
    used |= {layout.sample, *layout.coco, layout.drawing}
    rest = [name for name in layout.survey.tables if name not in used]
    for name in [name for name in rest if name in layout.broken]:
        yield f"{name}: {layout.broken[name].splitlines()[0]}"
    odd = {name: line for name in rest if (line := _near_miss(name, layout))}
    yield from odd.values()
    if told := [name for name in rest if name not in {*layout.broken, *odd}]:
        shown = ", ".join(told[:SHOWN]) + (", ..." if len(told) > SHOWN else "")
        yield f"{shown}: tables that no line of the recipe names"
    if told := [name for name in layout.survey.coco if name not in used]:
        yield f"{', '.join(told[:SHOWN])}: outlines beside those that MASK_PATH names"


def _near_miss(name: str, layout: Layout) -> str:
    """What keeps a table from naming the images where it is little; "" where it is more."""
    tables, _ = read_tables(layout.survey.root, [name])
    images = layout.train.paths.keys()
    if any(one.names(images) for one in tables):
        return ""
    for what, todo, change in MISSES:
        wanted = {change(img) for img in images}
        for ids in tables[0].ids.values() if tables else ():
            if len({change(img) for img in ids} & wanted) > HALF * min(len(ids), len(images)):
                return f"{name}: names the images, but {what}: {todo}"
    return ""


def _other_lines(layout: Layout) -> Iterator[str]:
    drawn = layout.drawn.files.suffix if layout.drawn else ""
    for suffix, count in layout.survey.other.items():
        if suffix in PACKED:
            yield f"{count} *{suffix}: not unpacked, what is in them is not seen: unpack them there"
        elif suffix not in PLAIN and suffix != drawn:
            yield f"{count} *{suffix}: nothing here reads this type"
