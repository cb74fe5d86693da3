"""Answers as mask files: a PNG or TIFF an image, in a zip or a folder."""

import base64
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Self

import cv2
import numpy as np

from competition.spec import Competition
from competition.table_files import AUTO
from core.errors import UserError
from core.files import writing, writing_folder
from imaging.arrays import check_shape
from imaging.mask_pixels import decode_mask
from imaging.palettes import palette_reader
from imaging.rle import Size
from imaging.sources import own_file
from submissions.answer_files import AnswerFile, Entry, Findings, Row
from submissions.answer_format import AnswerFormat, CellError, Frame, Item
from submissions.file_values import Values, file_values, usual_values, void_values
from submissions.plan import Plan
from submissions.row_ids import PAGES
from submissions.stacks import join_pages, split_pages

TIFFS = (".tif", ".tiff")
# How files of each suffix begin.
SUFFIXES: dict[str, tuple[bytes, ...]] = {
    ".png": (b"\x89PNG",),
    ".bmp": (b"BM",),
    **dict.fromkeys(TIFFS, (b"II", b"MM")),
}
# Tags of GeoTIFF: the scale, tie points and transformation of pixels, and what they mean.
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42113)
# The earliest date that a zip knows: the same masks make the same bytes.
DATE = (1980, 1, 1, 0, 0, 0)


class MaskArchive(AnswerFile):
    """submission.zip, or a folder where the name has no suffix; a file an image."""

    name = "submission.zip"
    ordered = False

    def assemble(self, path: Path, plan: Plan, rows_of: Callable[[str], list[Row]]) -> int:
        """Writes the files; returns how many."""
        named: dict[str, list[str]] = {}
        for img in plan.images:
            text = plan.rows[plan.rows_of[img][0]][0]
            named.setdefault(text.partition("/")[0] if plan.ids.paged else text, []).append(img)

        def data(name: str) -> bytes:
            pages = [_bytes(rows_of(img)) for img in named[name]]
            return join_pages(pages) if plan.ids.paged else pages[0]

        if path.suffix:
            with writing(path) as part, zipfile.ZipFile(part, "w") as archive:
                for name in named:
                    archive.writestr(zipfile.ZipInfo(name, DATE), data(name))
            return len(named)
        with writing_folder(path) as part:
            for name in named:
                (part / name).write_bytes(data(name))
        return len(named)

    def entries(self, path: Path, plan: Plan, found: Findings) -> Iterator[Entry]:
        """The files of a zip or folder, by name.

        Raises:
            UserError: there is neither.
        """
        if path.is_dir():
            for file in sorted(path.iterdir()):
                yield from _entries(file.name, file.read_bytes(), plan, found)
            return
        try:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        check_shape((info.file_size,), info.filename, 1)
                        data = archive.read(info)
                        yield from _entries(info.filename, data, plan, found)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}: run src/ensemble.py") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise UserError(f"{path}: no zip ({error}): write the file again") from None


def _entries(name: str, data: bytes, plan: Plan, found: Findings) -> Iterator[Entry]:
    """A file, or each page of a stack."""
    pages = {name: data}
    if plan.ids.paged:
        try:
            pages = {f"{name}/{number}": page for number, page in split_pages(data)}
        except (ValueError, UserError) as error:
            found.error("syntax", f"file {name}: is no stack of pages ({error}): need a TIFF")
            return
    for text, page in pages.items():
        yield Entry(f"file {text}", text, "", base64.b64encode(page).decode())


def _bytes(rows: Sequence[Row]) -> bytes:
    return base64.b64decode(rows[0].cell)


@dataclass(frozen=True)
class MaskFiles(AnswerFormat):
    """A grey PNG, BMP or TIFF an image, or one in colours, with a value a class or an object.

    Attributes:
        suffix: of the files.
        kind: what values are, see ANSWER_VALUES.
        values: of each class in a file, the background's first; numbers or (r, g, b); none:
            objects are numbered from 1.
        task: binary or multiclass.
        void: values that a truth may have beside, for what counts for nothing; None: all others.
    """

    suffix: str = ".png"
    kind: str = "ids"
    values: Values = (0, 1)
    task: str = "binary"
    void: Values | None = ()

    file: ClassVar[type[AnswerFile]] = MaskArchive
    names_classes: ClassVar[bool] = True
    writes_empty: ClassVar[bool] = True

    @classmethod
    def build(
        cls, competition: Competition, plan: Plan, *, empty: str, cells: Sequence[str]
    ) -> Self:
        """The format with the values of ANSWER_VALUES.

        Raises:
            UserError: TASK=multilabel, names of another kind of file, or MASK_VALUES has no value
                for a class.
        """
        suffix = Path(plan.ids.template.removesuffix(PAGES)).suffix.lower()
        if suffix not in SUFFIXES:
            raise UserError(
                f"ANSWER_ID: got {plan.ids.template!r}, need a name of a mask file, "
                f"{{id}}_mask.png or {{id}}.tif"
            )
        if competition.task == "multilabel":
            raise UserError(
                "SUBMISSION=files: a file holds one class a pixel, masks of TASK=multilabel may "
                "overlap: set TASK=multiclass, or another SUBMISSION"
            )
        kind = competition.answer_values
        if kind == AUTO:
            kind = usual_values(competition)
        values = file_values(competition, kind)
        return cls(
            empty,
            plan.labels,
            suffix=suffix,
            kind=kind,
            values=values,
            task=competition.task,
            void=void_values(competition, values),
        )

    def knobs(self) -> list[str]:
        """What the training masks showed."""
        return ["--answer-values", self.kind]

    @property
    def takes_objects(self) -> bool:
        """Whether objects are numbered."""
        return not self.values

    def is_empty(self, cell: str) -> bool:
        """Never: an empty mask is a file of background."""
        return False

    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """The file's bytes as base64."""
        numbers = np.zeros(frame.size, np.uint16)
        for at, item in enumerate(items, 1):
            numbers[item.mask > 0] = at if not self.values else self._number(item.cls)
        pixels = np.array(self.values)[numbers] if self.values else numbers
        pixels = pixels.astype(np.uint16 if pixels.max(initial=0) > 255 else np.uint8)
        return base64.b64encode(self._encode(pixels, frame.source)).decode()

    @property
    def fills(self) -> bool:
        """Whether values are classes."""
        return bool(self.values)

    def read(self, cell: str, size: Size) -> list[Item]:
        """A mask a class or object that the file holds.

        Raises:
            CellError: no picture, of another size, or with other values.
        """
        return self._items(self._decode(cell, size))

    def read_truth(self, cell: str, size: Size) -> tuple[list[Item], np.ndarray | None]:
        """As `read`; pixels of `void` count for nothing.

        Raises:
            CellError: as `read`.
        """
        pixels = self._decode(cell, size)
        if not self.values:
            return self._items(pixels), None
        if self.void is None:
            void = ~np.any([_equal(pixels, value) for value in self.values], axis=0)
        else:
            void = np.any([_equal(pixels, value) for value in self.void], axis=0)
        pixels[void] = self.values[0]
        return self._items(pixels), void

    def _items(self, pixels: np.ndarray) -> list[Item]:
        if not self.values:
            numbers = [int(n) for n in np.unique(pixels) if n]
            return [Item((pixels == n).astype(np.uint8)) for n in numbers]
        coloured = isinstance(self.values[0], tuple)
        if (pixels.ndim == 3) != coloured:
            what = f"has {pixels.shape[2] if pixels.ndim == 3 else 1} channels"
            raise CellError("values", f"{what}, need {'3' if coloured else '1'}")
        planes = [_equal(pixels, value) for value in self.values]
        strange = ~np.any(planes, axis=0)
        if strange.any():
            shown = np.unique(pixels[strange], axis=0)[:5].tolist()
            raise CellError("values", f"holds {shown}, need {list(self.values)}: see ANSWER_VALUES")
        first = 0 if self.task == "binary" else 1
        return [
            Item(plane.astype(np.uint8), at - 1 + first)
            for at, plane in enumerate(planes)
            if at and plane.any()
        ]

    def _number(self, cls: int) -> int:
        """Where a class stands in `values`."""
        return cls + 1 if self.task == "binary" else cls

    def _encode(self, pixels: np.ndarray, source: Path | None) -> bytes:
        if self.suffix in TIFFS:
            return write_tiff(pixels, source)
        if self.suffix == ".bmp" and pixels.dtype != np.uint8:
            raise UserError(
                f"an image of {pixels.max()} objects, a BMP numbers 255: set ANSWER_ID={{id}}.png"
            )
        colours = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
        return cv2.imencode(self.suffix, np.ascontiguousarray(colours))[1].tobytes()

    def _decode(self, cell: str, size: Size) -> np.ndarray:
        data = base64.b64decode(cell)
        if not data.startswith(SUFFIXES[self.suffix]):
            raise CellError("syntax", f"is no {self.suffix} file by its content")
        try:
            pixels = decode_mask(data, "", palette_reader(None))
        except UserError as error:
            raise CellError("syntax", f"cannot be read{error}") from None
        if pixels.shape[:2] != size:
            what = f"is {pixels.shape[:2]}, the answer is {size}"
            raise CellError("size", f"{what}: write it at that size, or set ANSWER_SIZE")
        return pixels.copy()


def _equal(pixels: np.ndarray, value: Any) -> np.ndarray:
    """bool (H, W): where pixels (H, W) or (H, W, 3) are a grey value or a colour."""
    if pixels.ndim == 2:
        return np.asarray(pixels == (value if np.isscalar(value) else -1))
    return np.asarray((pixels == value).all(-1))


def write_tiff(pixels: np.ndarray, source: Path | None) -> bytes:
    """A compressed TIFF; where the source is a GeoTIFF, in the same place on Earth."""
    import tifffile

    stream = BytesIO()
    source = own_file(source) if source else None
    tags = geo_tags(source) if source and source.suffix.lower() in TIFFS else []
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(
        stream, pixels, photometric=kind, compression="zlib", extratags=tags, metadata=None
    )
    return stream.getvalue()


def geo_tags(source: Path) -> list[tuple[int, int, int, Any, bool]]:
    """The georeferencing of a TIFF, as tifffile takes extra tags."""
    import tifffile

    with tifffile.TiffFile(source) as file:
        tags = file.pages.first.tags
        return [
            (tag.code, int(tag.dtype), tag.count, tag.value, True)
            for code in GEO_TAGS
            if (tag := tags.get(code)) is not None
        ]
