"""Arrays in NumPy's files, .npy and .npz: as images, and as masks."""

import io
import math
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from core.errors import UserError
from core.memory import DECODING, largest_picture

# How the two kinds of files begin.
ARRAY, ARRAYS = b"\x93NUMPY", b"PK\x03\x04"
PARSING = threading.Lock()


def whole_numbers(array: np.ndarray, name: str) -> np.ndarray:
    """The array as a mask has it: integers or bool; whole floats become integers.

    Raises:
        UserError: no array of two axes, or floats between whole numbers.
    """
    if array.ndim < 2 or not array.size:
        raise UserError(f"{name}: holds {array.shape}, need (H, W)")
    if array.dtype.kind == "f" and (array == np.rint(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "bui":
        raise UserError(f"{name}: holds {array.dtype}, need whole numbers: round or threshold it")
    return array


def read_array(data: bytes, name: str, part: str = "") -> np.ndarray:
    """The array of a .npy file, or of an .npz the one that is there or is called `part`.

    Raises:
        UserError: cut off, no numbers, larger than this machine takes, or several arrays.
    """
    with _opened(io.BytesIO(data), name, part) as stream:
        shape, by_columns, kind = _declared(stream, name)
        check_shape(shape, name, kind.itemsize)
        array = np.empty(math.prod(shape), kind)
        count = stream.readinto(array.view(np.uint8))
        if count < array.nbytes:
            raise EOFError(f"{count} bytes of {shape}")
        return array.reshape(shape, order="F" if by_columns else "C")


def page_alone(stream: BinaryIO, page: int, name: str) -> bytes:
    """A .npy file of one index of the first axis of that in `stream`, whose others are not read.

    b"" where it has no such page, or a page's numbers do not lie together, as in an .npz.

    Raises:
        UserError: no header that NumPy reads.
    """
    head = stream.read(len(ARRAY))
    stream.seek(0)
    if head != ARRAY:
        return b""
    with _opened(stream, name, "") as inner:
        shape, by_columns, kind = _declared(inner, name)
    if by_columns or not is_stack(shape) or page >= shape[0]:
        return b""
    size = math.prod(shape[1:]) * kind.itemsize
    stream.seek(page * size, io.SEEK_CUR)
    cut = io.BytesIO()
    described = {"descr": kind.str, "fortran_order": False, "shape": shape[1:]}
    np.lib.format.write_array_header_1_0(cut, described)
    return cut.getvalue() + stream.read(size)


def check_shape(shape: Sequence[int], name: str, size: int = 8) -> None:
    """Makes sure that an array of the shape that its file claims fits into memory.

    Args:
        shape: of it.
        name: of its file.
        size: bytes of a number, the most where the file does not say.

    Raises:
        UserError: it does not.
    """
    if math.prod(shape) * size > DECODING * largest_picture():
        raise UserError(f"{name}: claims {tuple(shape)}, more than this machine takes")


def is_stack(shape: Sequence[int], axes: str = "") -> bool:
    """Whether the first axis of an array counts pages; its file may say what axes it has."""
    return axes.startswith("N") or (not axes and len(shape) > 2)


def stack_page(page: int | None, shape: Sequence[int], axes: str = "") -> int | None:
    """The index along the first axis that is a page; None: all of it, as page 0 of a picture is."""
    return None if page == 0 and not is_stack(shape, axes) else page


def array_shape(stream: BinaryIO, name: str, part: str = "") -> tuple[int, ...]:
    """The shape of `read_array`'s array, from its header.

    Raises:
        UserError: as `read_array`.
    """
    with _opened(stream, name, part) as inner:
        return _declared(inner, name)[0]


@contextmanager
def _opened(stream: BinaryIO, name: str, part: str) -> Iterator[Any]:
    """The stream of one array; what NumPy cannot read in it is told."""
    try:
        if stream.read(len(ARRAYS)) != ARRAYS:
            stream.seek(0)
            yield stream
            return
        with zipfile.ZipFile(stream) as archive:
            entries = [entry for entry in archive.namelist() if entry.endswith(".npy")]
            names = [entry.removesuffix(".npy") for entry in entries]
            if not names:
                raise UserError(f"{name}: is a zip without arrays: unpack it")
            with archive.open(f"{choose_array(names, part, name)}.npy") as inner:
                yield inner
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, SyntaxError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{name}: no array that NumPy reads ({error}): cut off, or not made of numbers; write "
            "it again with np.save"
        ) from None


def choose_array(names: list[str], part: str, name: str) -> str:
    """The name of the array that is asked for, or of the only one.

    Raises:
        UserError: there is no such array, or there are several.
    """
    if part in names or (not part and len(names) == 1):
        return part or names[0]
    raise UserError(
        f"{name}: holds the arrays {', '.join(names)}, need one: name it in AXES, or of "
        f"masks in MASK_AXES, before a colon, as {names[0] if names else 'image'}:H,W,C"
    )


def _declared(stream: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it lies column by column, and type from an array's header."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0
    # NumPy has Python parse a header, which threads must not do at once before 3.11.9 and 3.12.3
    # (https://github.com/python/cpython/issues/106905).
    with PARSING:
        shape, by_columns, kind = (
            read if version == (1, 0) else np.lib.format.read_array_header_2_0
        )(stream)
    if kind.kind not in "buif":
        raise UserError(f"{name}: holds {kind}, need whole or floating numbers")
    return shape, by_columns, kind
