"""Arrays in files of other programs: HDF5 (and MATLAB 7.3), MATLAB, NIfTI."""

import gzip
import importlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.errors import UserError
from imaging.arrays import choose_array

HDF5, MATLAB, GZIP = b"\x89HDF\r\n\x1a\n", b"MATLAB 5.0", b"\x1f\x8b"
# The size of a NIfTI header, in either byte order.
NIFTI = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")


def read_hdf5(data: bytes, name: str, part: str = "") -> np.ndarray:
    """The dataset of an HDF5 file, or the one called `part`, its path in the file.

    Raises:
        UserError: h5py is missing, or the file has no dataset or several.
        Exception: any of h5py's, of a broken file.
    """
    h5py = _package("h5py", "HDF5", name)
    found: dict[str, Any] = {}

    def collect(path: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim >= 2 and node.dtype.kind in "buif":
            found[path] = node

    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(collect)
        return np.asarray(_only(found, part, name))


def read_matlab(data: bytes, name: str, part: str = "") -> np.ndarray:
    """The matrix of a MATLAB file, or the one called `part`.

    Raises:
        UserError: it has no matrix or several.
        Exception: any of SciPy's, of a broken file.
    """
    from scipy.io import loadmat

    found = loadmat(io.BytesIO(data))
    kept = {
        key: value
        for key, value in found.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "buif" and min(value.shape) > 1
    }
    return np.asarray(_only(kept, part, name))


def read_nifti(data: bytes, name: str) -> tuple[np.ndarray, str]:
    """The volume of a NIfTI file in its own units: (Z, Y, X) as pages, or (Y, X).

    Raises:
        UserError: nibabel is missing.
        Exception: any of gzip's and nibabel's, of another or a broken file.
    """
    plain = gzip.decompress(data) if data.startswith(GZIP) else data
    if not plain.startswith(NIFTI):
        raise ValueError("no NIfTI")
    nibabel = _package("nibabel", "NIfTI", name)
    volume = np.asanyarray(nibabel.Nifti1Image.from_bytes(plain).dataobj).T
    long = volume.reshape([side for side in volume.shape if side > 1] or [1])
    return (long, "NHW"[-long.ndim :]) if long.ndim in (2, 3) else (volume, "")


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
