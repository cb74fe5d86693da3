"""Which files are the training images, their masks, and the test images; which tables say what."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from competition.contents import contents_line
from core.errors import UserError
from looking.asked import choose_test, place_of, without_asked
from looking.coco_parts import choose_coco, named_images
from looking.file_sets import FileSet
from looking.fuller import find_fuller, is_field_of_view
from looking.kinds import band_schemes, class_schemes
from looking.listing import (
    HALF,
    Listed,
    choose_volumes,
    name_objects,
    rank_training,
    read_tables,
)
from looking.outline_lines import find_drawn
from looking.published import SPLIT, join_parts_of_split, test_beside
from looking.schemes import (
    Scheme,
    padded,
    same_template,
    schemes_of,
    unpadded,
    widths_of,
    widths_of_ids,
    with_head,
)
from looking.sequences import join_sequences
from looking.stacks import find_single, page_by_page, paged
from looking.survey import SLIPS, Survey, folders_apart, what_to_do
from looking.twins import part_twins
from looking.unnamed import find_unnamed, is_other_part
from looking.words import COLOURED, EARLIER, IMAGE, MASK, TEST, TRAIN, VAL, words_in

# Words of mask files of single objects, or single annotators, where others show all of an image.
SINGLE = {"instance", "instances", "individual"}


@dataclass(frozen=True)
class Layout:
    """The parts of a competition.

    Attributes:
        survey: all that lies there.
        train: the training images.
        masks: mask files; None where masks are in a table or a COCO file.
        valid: files that say where there is data, which the test images have, too.
        test: the test images.
        listed: the table of the training images.
        meta: a second table of them.
        sample: the sample submission's name; "" where there is none.
        sampled: the same, read; None where it cannot be (a header alone).
        coco: COCO files of the training images; () where there are none.
        instances: the folder of folders of one an image, whose masks/ has a file an object.
        object_files: the folder of mask files, an object each, that `listed` names.
        drawn: other annotation files, one an image.
        drawing: one annotation file of all images that is not COCO's; "" where there is none.
        broken: tables that cannot be read, and why.
        twins: whether images of one file name are one picture, before and after.
        split: the part of the images' pattern that says train or val; "" where none does.
    """

    survey: Survey
    train: Scheme
    masks: Scheme | None
    valid: Scheme | None
    test: Scheme | None
    listed: Listed | None
    meta: Listed | None
    sample: str
    sampled: Listed | None
    coco: tuple[str, ...]
    instances: str
    object_files: str
    drawn: Scheme | None
    drawing: str
    broken: dict[str, str]
    twins: bool = False
    split: str = ""


def find_layout(survey: Survey) -> Layout:
    """The likeliest layout of a folder.

    Raises:
        UserError: no images in it.
    """
    if not survey.sets:
        raise UserError(
            f"{survey.root}: no images in it. " + contents_line(survey.root, what_to_do(survey))
        )
    tables, broken = read_tables(survey.root, survey.tables)
    widths = widths_of(one for one in survey.sets if one.words & MASK)
    widths |= widths_of_ids(img for one in tables for ids in one.ids.values() for img in ids)
    schemes = {id(one): _readings(one, survey, widths) for one in survey.sets}
    pictures = [one for one in survey.sets if not one.words & MASK] or survey.sets
    train, candidates = _choose_train(pictures, survey.sets, schemes, tables)
    ranked = rank_training(tables, train.paths)
    samples = [one for one in tables if one.is_sample and one not in ranked[:1]]
    test = choose_test(pictures, schemes, train, samples)
    fitting = [one for one in samples if test is None or one.names(test.paths)]
    sampled = min(fitting or samples, key=lambda one: len(one.name), default=None)
    if test is train and sampled and ranked and ranked[0].columns.rle:
        train = without_asked(train, sampled, ranked[0])
    headers = [name for name in broken if words_in(name) & {"sample", "submission"}]
    coco = choose_coco(survey.coco, train)
    masks, valid = _part_masks(candidates, survey, schemes, train, test)
    masks = masks and (find_fuller(train, masks, survey.sets, survey.root) or masks)
    drawn, drawing = None, ""
    if not (masks or coco):
        train, drawn, drawing = find_drawn(survey, [train, *schemes.get(id(train.files), [])])
    instances = "" if masks else _choose_instances(survey.sets, train)
    object_files = ""
    if not (masks or coco or instances) and (named := _choose_object_files(survey, ranked, train)):
        object_files, ranked = named
    in_table = bool(ranked and ranked[0].columns.rle)
    told = masks or coco or drawn or drawing or instances or object_files or in_table
    if not told:
        single = find_single(survey.sets, survey.root)
        if found := single or find_unnamed(train, test, survey.sets, survey.root):
            train, masks, test = found
        elif len(apart := folders_apart(survey.sets)) > len(survey.sets):
            other = find_layout(replace(survey, sets=apart))
            if other.masks is not None:
                return other
    if masks and ranked and _is_less(ranked[0], masks, train):
        ranked = []
    if masks and not ranked and (chosen := _choose_list(survey, masks, train)):
        ranked = [chosen]
        wanted = chosen.ids[chosen.columns.id]
        train = replace(train, paths={i: p for i, p in train.paths.items() if i in wanted})
    parts = None
    if valid is None:
        asked = test is not None and any(one.names(test.paths) for one in samples)
        drawn_on = named_images(survey.root, coco) if len(coco) > 1 else set()
        texts = {id(one): schemes_of(one, survey.drawings) for one in survey.drawings}
        parts = join_parts_of_split(
            train, masks or drawn, schemes | texts, named=ranked, drawn=drawn_on, asked=asked
        )
    if parts is None and (sequences := join_sequences(train, masks, schemes)):
        train, masks = sequences
    if parts:
        ranked = [one for one in ranked if one.names(parts[0].paths.keys() - train.paths.keys())]
        if test and parts[0].template.startswith(f"{{{SPLIT}}}_"):
            test = test_beside(test, parts[0].template)
        train, joined = parts
        masks, drawn = (None, joined) if drawn else (joined, None)
    if twins := part_twins(train, masks):
        train, masks = twins
    if test and train.template == f"{train.files.head}{{id}}" != test.template:
        train, test = with_head(train), with_head(test)
        masks = masks and with_head(masks)
    volumes = None
    if pages := page_by_page(train, masks, survey.root):
        volumes = choose_volumes(tables, train.paths)
        train, masks = pages
        ranked = []  # tables name stacks, not pages
        test = test and paged(test, survey.root)
    return Layout(
        survey=survey,
        train=train,
        masks=masks,
        valid=valid,
        test=test,
        listed=ranked[0] if ranked else None,
        meta=volumes or _choose_meta(tables, ranked, train),
        sample=sampled.name if sampled else min(headers, key=len, default=""),
        sampled=sampled,
        coco=coco,
        instances=instances,
        object_files=object_files,
        drawn=drawn,
        drawing=drawing,
        broken=broken,
        twins=bool(twins),
        split=SPLIT if parts else "",
    )


Schemes = dict[int, list[Scheme]]


def _readings(files: FileSet, survey: Survey, widths: set[int]) -> list[Scheme]:
    """The ways to read the names of a set: several files an image first, then the simplest."""
    plain = schemes_of(files, survey.sets)
    if files.words & MASK:
        return [*class_schemes(files, survey.sets, survey.root), *plain]
    bands = band_schemes(files, survey.sets, survey.root)
    padding = [way for one in plain for way in (*padded(one, widths), *unpadded(one))]
    return [*bands, *plain, *padding]


def _choose_train(
    pictures: Sequence[FileSet],
    sets: Sequence[FileSet],
    schemes: Schemes,
    tables: Sequence[Listed],
) -> tuple[Scheme, list[Scheme]]:
    """The training images, and the mask sets whose files are theirs, the best first.

    A set counts by the share of its images that a table or mask files name, then by its words.
    """
    best: tuple[tuple[float, ...], Scheme, list[Scheme]] | None = None
    for files in pictures:
        words = files.words
        for order, scheme in enumerate(schemes[id(files)]):
            masks = _masks_of(scheme, sets, schemes)
            ranked = rank_training(tables, scheme.paths)
            named = max((one.best_column(scheme.paths)[1] for one in ranked[:1]), default=0)
            covered = max(named, len(masks[0].paths.keys() & scheme.paths.keys()) if masks else 0)
            score = (
                round(covered / (len(scheme.paths) if scheme.kinds else len(files.files)), 1),
                -len(words & (TEST | VAL)),
                len(words & TRAIN),
                len(words & IMAGE),
                -len(scheme.clashes),
                0 if scheme.kinds else -order,
                len(files.files),
            )
            if best is None or score > best[0]:
                best = score, scheme, masks
    if best is None:
        raise UserError(
            f"{pictures[0].told()}: no part of these names tells images apart: give each image a "
            "file of its own name, or set TRAIN_PATH and IMAGE_PATTERN"
        )
    return best[1], best[2]


def _masks_of(train: Scheme, sets: Sequence[FileSet], schemes: Schemes) -> list[Scheme]:
    """Sets of mask files that have most of the images' ids, the best first."""
    found = []
    for files in sets:
        if files is train.files or not files.words & MASK:
            continue
        ways = schemes[id(files)]
        fitting = [one for one in ways if same_template(one.template, train.template)]
        # In one folder a mask is named by the image's id and an end, whatever its own parts are.
        fitting += [one for one in ways if not files.nested and one not in fitting]
        for scheme in fitting:
            if 2 * len(scheme.clashes) >= len(scheme.paths):  # ids of files of several folders
                continue
            common = len(scheme.paths.keys() & train.paths.keys())
            if common >= HALF * min(len(train.paths), len(scheme.paths)) and common:
                found.append((common, scheme))
                break
    families = [scheme for _, scheme in found if scheme.kinds]
    found = [pair for pair in found if not any(_is_kind_of(pair[1], one) for one in families)]
    deep = {id(scheme): scheme.files.folders.count(None) for _, scheme in found}
    found.sort(
        key=lambda pair: (
            is_other_part(pair[1].files, train.files),
            -pair[0],
            bool(pair[1].files.words & EARLIER),
            bool(pair[1].files.words & COLOURED),
            deep[id(pair[1])],
            _tells_objects(pair[1].files.words),
        )
    )
    return [scheme for _, scheme in found]


def _is_kind_of(scheme: Scheme, family: Scheme) -> bool:
    """Whether a set is of one class of a family: its files are not all masks of the images."""
    files, stem = scheme.files, scheme.files.tail.rpartition(".")[0]
    same = files.folders == family.files.folders and files.suffix == family.files.suffix
    return same and not scheme.kinds and stem.lstrip("_-. ") in family.kinds


def _tells_objects(words: set[str]) -> bool:
    return bool(words & SINGLE) and "semantic" not in words


def _part_masks(
    masks: Sequence[Scheme],
    survey: Survey,
    schemes: Schemes,
    train: Scheme,
    test: Scheme | None,
) -> tuple[Scheme | None, Scheme | None]:
    """Mask files, and fields of view: test images have such, too, or they are all alike."""
    beside = _masks_of(test, survey.sets, schemes) if test else []
    places = {place_of(one.files) for one in beside} - {""}
    seen = [one for one in masks if place_of(one.files) in places]
    if not test and len(masks) > 1:
        seen = [one for one in masks if one.plain and is_field_of_view(one, survey.root)]
    true = [one for one in masks if one not in seen]
    if not true:
        return (masks[0] if masks else None), None
    return true[0], seen[0] if seen and seen[0].template == "{id}" else None


def _is_less(listed: Listed, masks: Scheme, train: Scheme) -> bool:
    """Whether a table names less than half of the images that have mask files."""
    _, count = listed.best_column(train.paths)
    return count < HALF * len(masks.paths.keys() & train.paths.keys())


def _choose_list(survey: Survey, masks: Scheme, train: Scheme) -> Listed | None:
    """Where many images have no mask: the longest list of those that have, as Pascal VOC's."""
    have = masks.paths.keys() & train.paths.keys()
    if len(train.paths) - len(have) <= SLIPS * len(train.paths):
        return None
    lists = read_tables(survey.root, survey.lists)[0]
    fitting = [one for one in lists if (ids := one.ids.get(one.columns.id)) and ids <= have]
    return max(fitting, key=lambda one: len(one.ids[one.columns.id]), default=None)


def _choose_instances(sets: Sequence[FileSet], train: Scheme) -> str:
    """The folder below which an image's folder has masks/ with a file an object."""
    for files in sets:
        if files.folders[-2:] == (None, "masks") and files.nested and files.suffix == ".png":
            named = {folder for *_, folder, _ in files.files}
            if len(named & train.paths.keys()) >= HALF * len(train.paths):
                return files.root or "."
    return ""


def _choose_object_files(
    survey: Survey, tables: Sequence[Listed], train: Scheme
) -> tuple[str, list[Listed]] | None:
    """The folder of mask files that a table names, an object each, and the table."""
    for files in survey.sets:
        if files is not train.files and files.words & MASK:
            names = {path.rpartition("/")[2] for path in files.files.values()}
            if named := name_objects(tables, train.paths, names):
                return files.root or ".", named
    return None


def _choose_meta(
    tables: Sequence[Listed], ranked: Sequence[Listed], train: Scheme
) -> Listed | None:
    """A second table that names every training image, with columns that the first lacks."""
    first = ranked[0] if ranked else None
    have = set(first.table) if first else set()
    for one in tables:
        if one is first or one.is_sample or one.columns.rle or not set(one.table) - have:
            continue
        column, count = one.best_column(train.paths)
        wanted = set(train.paths) & first.ids[first.columns.id] if first else set(train.paths)
        if count and wanted <= one.ids[column]:
            return one
    return None
