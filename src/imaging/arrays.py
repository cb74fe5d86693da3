"""Masks in NumPy's files."""

import io

import numpy as np

from core.errors import UserError


def is_array(data: bytes) -> bool:
    """Whether a file is a .npy by its content."""
    return data.startswith(b"\x93NUMPY")


def load_array(data: bytes, name: str) -> np.ndarray:
    """The array of a .npy file, integers or bool; whole floats become integers.

    Raises:
        UserError: cut off, pickled objects, or floats between whole numbers.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{name}: no array that NumPy reads ({error})") from None
    if array.dtype.kind == "f" and (array == np.rint(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "bui":
        raise UserError(f"{name}: holds {array.dtype}, need whole numbers: round or threshold it")
    return array
