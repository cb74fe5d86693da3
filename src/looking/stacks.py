"""Pages of stacks and axes of arrays: what they are taken for."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.errors import UserError
from imaging.axes import resolve_axes
from imaging.images import shape_of
from imaging.readers import without_suffix
from looking.file_sets import FileSet
from looking.lines import Line
from looking.schemes import Scheme, read_scheme
from looking.words import IMAGE, MASK, TEST, common_ends, words_in

# Channels that a picture of an array has.
COLOURS = 4
# Files of a data set whose images are one stack.
FEW = 12


def page_by_page(train: Scheme, masks: Scheme | None, root: Path) -> tuple[Scheme, Scheme] | None:
    """Images and masks a page each, where the stacks of both have as many; else None."""
    if masks is None or masks.kinds or train.kinds:
        return None
    img = next(iter(sorted(train.paths.keys() & masks.paths.keys())), "")
    counts = {_pages(root / scheme.paths[img]) for scheme in (train, masks)} if img else {1}
    if len(counts) > 1 or counts == {1}:
        return None
    return paged(train, root), paged(masks, root)


def paged(scheme: Scheme, root: Path) -> Scheme:
    """A reading of stacks in which each page is an image."""
    paths = {}
    for img, path in scheme.paths.items():
        count = _pages(root / path)
        for page in range(count):
            paths[f"{img}_{page:0{len(str(count - 1))}d}"] = f"{path}{{page:{page}}}"
    name, mark, excludes = scheme.pattern.partition(" !")
    pattern, template = f"{name}/{{page}}{mark}{excludes}", f"{scheme.template}_{{page}}"
    return replace(scheme, pattern=pattern, template=template, paths=paths)


def find_single(sets: Sequence[FileSet], root: Path) -> tuple[Scheme, Scheme, Scheme | None] | None:
    """(images, their masks, test images) where each is one stack: train-volume, train-labels.

    None where there is not one stack of images and one of masks, of as many pages.
    """
    files = [(path, one) for one in sets for path in one.files.values()]
    if len(files) > FEW:
        return None
    stacks = {path: one for path, one in files if _pages(root / path) > 1}
    words = {path: words_in(path) for path in stacks}
    tests = [path for path in stacks if words[path] & TEST and not words[path] & MASK]
    known = [path for path in stacks if not words[path] & (TEST | MASK)]
    true = [path for path in stacks if words[path] & MASK and not words[path] & TEST]
    asked = [_single(stacks[path], path, Path(path).name) for path in tests]
    test = asked[0] if len(asked) == 1 else None
    if len(known) == len(true) > 1 and (pairs := _pairs(known, true, stacks, root)):
        return *pairs, test
    if len(known) != 1 or len(true) != 1:
        return None
    if _pages(root / known[0]) != _pages(root / true[0]):
        return None
    name = Path(known[0]).name
    train, masked = (_single(stacks[path], path, name) for path in (known[0], true[0]))
    return train, masked, test


def _pairs(
    known: Sequence[str], true: Sequence[str], stacks: Mapping[str, FileSet], root: Path
) -> tuple[Scheme, Scheme] | None:
    """Several stacks and their masks: images_ct.npy and masks_ct.npy, images_mr.npy...; or None."""
    schemes = []
    for paths in (known, true):
        start, end = common_ends([Path(path).name for path in paths])
        first = stacks[paths[0]]
        members: dict[tuple[str, ...], str] = {
            (Path(p).name[len(start) :].removesuffix(end),): p for p in paths
        }
        files = replace(first, tail=end, head="", files=members)
        same = end and all(stacks[path].folders == first.folders for path in paths)
        schemes.append(read_scheme(files, f"{start}{{id}}{end}", "{id}") if same else None)
    images, masks = schemes
    if images is None or masks is None or images.paths.keys() != masks.paths.keys():
        return None
    pages = [
        {_pages(root / path), _pages(root / masks.paths[img])} for img, path in images.paths.items()
    ]
    return (images, masks) if all(len(counts) == 1 for counts in pages) else None


def _single(files: FileSet, path: str, name: str) -> Scheme:
    """A reading of one file of a set, whose images are called by a file's name."""
    known = without_suffix(name)
    own = path.removeprefix(f"{files.root}/") if files.root else path
    return Scheme(files, f"{{id={known}}}{own}", "{id}", {known: path}, [])


def _pages(path: Path) -> int:
    """Pages of a TIFF, or pictures of an array; 1 of any other file."""
    try:
        shape, own, _ = shape_of(path)
    except UserError:
        return 1
    if own or len(shape) != 3:
        return shape[0] if own.startswith("N") or len(shape) == 4 else 1
    try:
        return 1 if resolve_axes(shape, own, (), path.name)[:2] == ("H", "W") else shape[0]
    except UserError:  # its shape does not tell where the channels are: there are none
        return shape[0]


def axes_line(path: Path) -> Iterator[Line]:
    """AXES where a file's own tags and shape leave a doubt."""
    array = ""
    try:
        shape, own, _ = shape_of(path)
    except UserError:
        array = _image_array(path)
        if not array:
            return
        try:
            shape, own, _ = shape_of(path, array)
        except UserError:  # a finding of the scan
            return
    if len(shape) < 2:
        return
    try:
        resolve_axes(shape, own, (), path.name)
    except UserError:
        names, why = _axes(shape, own)
        yield Line("AXES", array + names, f"{path.name} holds {shape}: {why}")
        return
    if array:
        yield Line("AXES", array, f"{path.name} holds several arrays")


def _image_array(path: Path) -> str:
    """The array of an .npz that is the image, with a colon; "" where none is called so."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    return next((f"{name}:" for name in names if name.lower() in IMAGE), "")


def _axes(shape: tuple[int, ...], own: str) -> tuple[str, str]:
    """AXES of a shape that is in doubt, and why."""
    if own == "NHW" or len(shape) == 3:
        first = own == "NHW" or shape[0] == min(shape)
        return "C,H,W" if first else "H,W,C", "the axis that is not the picture's is its channels"
    middle = shape[0] // 2
    end = "H,W,C" if shape[-1] <= COLOURS else "C,H,W"
    if len(shape) != 4:
        return ",".join(["0"] * (len(shape) - 3) + [end]), "the first of each is taken: say which"
    return f"{middle},{end}", f"one of {shape[0]} is taken, the middle one: say which counts"
