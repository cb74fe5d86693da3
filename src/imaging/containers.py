"""Arrays in files of other programs: HDF5 (and MATLAB 7.3), MATLAB, NIfTI."""

import functools
import gzip
import importlib
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from core.errors import UserError
from imaging.arrays import check_shape, choose_array, stack_page

HDF5, MATLAB, GZIP = b"\x89HDF\r\n\x1a\n", b"MATLAB 5.0", b"\x1f\x8b"
# HDF5 behind 512 bytes of MATLAB's own, with the axes the other way round.
MATLAB_73 = b"MATLAB 7.3 MAT-file"
# The size of a NIfTI header, in either byte order; its bytes.
NIFTI, NIFTI_HEADER = (b"\x5c\x01\0\0", b"\0\0\x01\x5c"), 348
# Bytes before the first variable of a MATLAB file; the kind of those that are packed.
MATLAB_HEADER, MATLAB_PACKED = 128, 15
# Classes of MATLAB that are numbers.
NUMBERS = re.compile(r"u?int(8|16|32|64)|single|double|logical")
# Those that hold others.
NESTED = ("struct", "cell")


def read_hdf5(stream: BinaryIO, name: str, part: str = "", page: int | None = None) -> np.ndarray:
    """The dataset of an HDF5 file, or the one called `part`, its path in the file.

    Args:
        stream: the file.
        name: of it, for messages.
        part: the dataset.
        page: index of the first axis that is read; None: all of it.

    Raises:
        UserError: h5py is missing, the file has no dataset or several, or one that is too large.
        Exception: any of h5py's, of a broken file.
    """
    with _dataset(stream, name, part) as (node, turned):
        shape = node.shape[::-1] if turned else node.shape
        page = stack_page(page, shape)
        check_shape(shape if page is None else shape[1:], name, node.dtype.itemsize)
        if turned:
            return np.asarray(node[...] if page is None else node[..., page]).T
        return np.asarray(node[...] if page is None else node[page])


def hdf5_shape(stream: BinaryIO, name: str, part: str = "") -> tuple[int, ...]:
    """The shape of `read_hdf5`'s dataset.

    Raises:
        UserError, Exception: as `read_hdf5`.
    """
    with _dataset(stream, name, part) as (node, turned):
        return tuple(node.shape[::-1] if turned else node.shape)


@contextmanager
def _dataset(stream: BinaryIO, name: str, part: str) -> Iterator[tuple[Any, bool]]:
    """A dataset of an open file, and whether its axes are MATLAB's, the other way round."""
    h5py = _package("h5py", "HDF5", name)
    turned = stream.read(len(MATLAB_73)) == MATLAB_73
    found: dict[str, Any] = {}

    def collect(path: str, node: Any) -> None:
        array = isinstance(node, h5py.Dataset) and node.ndim >= 2 and node.dtype.kind in "buif"
        if array and (not turned or _is_matrix(path, node)):
            found[path] = node

    with h5py.File(stream) as file:
        file.visititems(collect)
        yield _only(found, part, name), turned


def _is_matrix(path: str, node: Any) -> bool:
    """Whether a dataset of MATLAB is numbers, more than a row of them."""
    kind = node.attrs.get("MATLAB_class", "double")
    text = kind.decode() if isinstance(kind, bytes) else kind
    numbers = NUMBERS.fullmatch(text) is not None and "MATLAB_empty" not in node.attrs
    return numbers and min(node.shape) > 1 and not path.startswith("#")


def read_matlab(data: bytes, name: str, part: str = "") -> np.ndarray:
    """The matrix of a MATLAB file, or the one called `part`, its path where structs hold it.

    Raises:
        UserError: it has no matrix or several, or one that is too large.
        Exception: any of SciPy's, of a broken file.
    """
    from scipy.io import loadmat

    chosen, shape = _matrix(io.BytesIO(data), name, part)
    check_shape(shape, name)
    variable = chosen.partition("/")[0]
    stored = loadmat(io.BytesIO(data), variable_names=[variable])
    array = dict(_walk_matlab(variable, stored[variable]))[chosen]
    if array.dtype.kind not in "buif":
        raise UserError(f"{name}: holds {array.dtype}, need whole or floating numbers")
    return array


def matlab_shape(stream: BinaryIO, name: str, part: str = "") -> tuple[int, ...]:
    """The shape of `read_matlab`'s matrix.

    Raises:
        UserError, Exception: as `read_matlab`.
    """
    return _matrix(stream, name, part)[1]


def _matrix(stream: BinaryIO, name: str, part: str) -> tuple[str, tuple[int, ...]]:
    from scipy.io import loadmat, whosmat

    variables = whosmat(stream)
    found = {key: tuple(shape) for key, shape, kind in variables if NUMBERS.fullmatch(kind)}
    nested = [key for key, _, kind in variables if kind in NESTED]
    if nested:
        stream.seek(0)
        check_shape((_matlab_bytes(stream),), name, 1)
        stream.seek(0)
        for key, value in loadmat(stream, variable_names=nested).items():
            found |= {path: array.shape for path, array in _walk_matlab(key, value)}
    matrices = {path: (path, shape) for path, shape in found.items() if min(shape, default=0) > 1}
    chosen: tuple[str, tuple[int, ...]] = _only(matrices, part, name)
    return chosen


def _matlab_bytes(stream: BinaryIO) -> int:
    """Bytes that the variables of a MATLAB file claim to be once they are unpacked."""
    stream.seek(MATLAB_HEADER - 4)
    order = "<" if stream.read(4).endswith(b"IM") else ">"
    claimed = 0
    while len(tag := stream.read(8)) == 8:
        kind, size = struct.unpack(f"{order}II", tag)
        packed = stream.read(size)
        if kind == MATLAB_PACKED:
            head = zlib.decompressobj().decompress(packed, 8)
            _, size = struct.unpack(f"{order}II", head)
        claimed += size
    return claimed


def _walk_matlab(path: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of numbers in a variable, by path: of a struct its fields, of a cell array 1, 2..."""
    if not isinstance(value, np.ndarray):
        return
    if value.dtype.names:
        inner = {field: value[field] for field in value.dtype.names}
        for field, cells in inner.items():
            yield from _walk_matlab(f"{path}/{field}", cells.item() if cells.size == 1 else cells)
    elif value.dtype == object:
        for at, cell in enumerate(value.ravel(order="F"), 1):
            yield from _walk_matlab(path if value.size == 1 else f"{path}/{at}", cell)
    else:
        yield path, value


def read_nifti(data: bytes, name: str, page: int | None = None) -> tuple[np.ndarray, str]:
    """The volume of a NIfTI file in its own units: (Z, Y, X) as pages, or (Y, X); or a page of it.

    Raises:
        UserError: nibabel is missing, or the volume is too large.
        Exception: any of gzip's and nibabel's, of another or a broken file.
    """
    header = nifti_header(io.BytesIO(data), name)
    shape, axes = _nifti_layout(header)
    kind = header.get_data_dtype()
    check_shape(shape, name, kind.itemsize)
    plain, behind = data, max(NIFTI_HEADER + 4, int(header["vox_offset"]))
    if data.startswith(GZIP):  # that much of it and no more, whatever is packed behind
        check_shape((behind,), name, 1)
        plain = _unpacked(data, behind + math.prod(shape) * kind.itemsize)
    nibabel = _package("nibabel", "NIfTI", name)
    stored = nibabel.Nifti1Image.from_bytes(plain).dataobj
    page = stack_page(page, shape, axes)
    if page is None:
        return np.asanyarray(stored).T.reshape(shape), axes
    kept = [side > 1 or not axes for side in stored.shape]
    at: list[Any] = [slice(None) if keep else 0 for keep in kept]
    at[max(axis for axis, keep in enumerate(kept) if keep)] = range(shape[0])[page]
    return np.asanyarray(stored[tuple(at)]).T, axes[1:]


def nifti_shape(stream: BinaryIO, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and axes of `read_nifti`'s volume, from its header.

    Raises:
        UserError, Exception: as `read_nifti`.
    """
    return _nifti_layout(nifti_header(stream, name))


def nifti_header(stream: BinaryIO, name: str) -> Any:
    """The header of a NIfTI file, packed or not, as nibabel's Nifti1Header.

    Raises:
        UserError: nibabel is missing.
        ValueError: another kind of file.
        Exception: any of gzip's and nibabel's, of a broken one.
    """
    packed = stream.read(len(GZIP)) == GZIP
    stream.seek(0)
    header = (
        gzip.GzipFile(fileobj=stream).read(NIFTI_HEADER) if packed else stream.read(NIFTI_HEADER)
    )
    if not header.startswith(NIFTI):
        raise ValueError("no NIfTI")
    nibabel = _package("nibabel", "NIfTI", name)
    return nibabel.Nifti1Header(header)


def _nifti_layout(header: Any) -> tuple[tuple[int, ...], str]:
    shape = tuple(header.get_data_shape())[::-1]
    long = tuple(side for side in shape if side > 1) or (1,)
    return (long, "NHW"[-len(long) :]) if len(long) in (2, 3) else (shape, "")


@functools.lru_cache(maxsize=1)
def _unpacked(data: bytes, count: int) -> bytes:
    """A packed file's first bytes: slices of one volume are read in turns."""
    # One more: where nothing is behind them, the checksum is compared.
    return gzip.GzipFile(fileobj=io.BytesIO(data)).read(count + 1)


def _only(found: Mapping[str, Any], part: str, name: str) -> Any:
    if not found:
        raise UserError(f"{name}: holds no array of numbers with height and width")
    return found[choose_array(list(found), part, name)]


def _package(package: str, kind: str, name: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(
            f"{name}: is {kind}, which needs one more package: pip install {package}"
        ) from None
