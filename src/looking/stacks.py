"""Pages of stacks and axes of arrays: what they are taken for."""

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from core.errors import UserError
from imaging.axes import resolve_axes
from imaging.images import shape_of
from looking.lines import Line
from looking.schemes import Scheme
from looking.words import IMAGE

# Channels that a picture of an array has.
COLOURS = 4


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


def _pages(path: Path) -> int:
    """Pages of a TIFF; 1 of any other file."""
    try:
        shape, own, _ = shape_of(path)
    except UserError:
        return 1
    return shape[0] if own.startswith("N") else 1


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
