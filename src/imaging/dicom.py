"""DICOM files: slices and frames in the units of their modality, 0 is black."""

import io
from typing import Any, BinaryIO

import numpy as np

from core.errors import UserError, reason_of
from core.memory import DECODING, largest_picture
from imaging.arrays import check_shape
from imaging.packed import check_deflated

# What stands behind the first 128 bytes.
DICOM = b"DICM"
# Where the first tags begin and how long they may be; among them what says that the rest is packed.
LENGTH_AT, HEAD, DEFLATED = 140, 1024, b"1.2.840.10008.1.2.1.99"


def read_dicom(data: bytes, name: str) -> tuple[np.ndarray, str]:
    """The pixels and their axes, HW, HWC, NHW or NHWC of frames.

    The file's own rescaling is applied (Hounsfield units of CT, float32), MONOCHROME1 is turned
    so that 0 is black, palettes and YBR become RGB.

    Raises:
        UserError: pydicom or one of its decoders is missing, or the file is cut off.
    """
    pydicom = _pydicom(name)
    try:
        check_packed(data)
        file = pydicom.dcmread(io.BytesIO(data))
        check_shape(_layout(file)[0], name, -(-int(file.BitsAllocated) // 8))
        pixels = pydicom.pixels.pixel_array(file)
    except UserError:
        raise
    except (NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{name}: no decoder for its compression ({reason_of(error)}): "
            "pip install pylibjpeg[all]"
        ) from None
    except Exception as error:  # pydicom raises what its tags lead to
        raise UserError(f"{name}: no DICOM picture ({reason_of(error)})") from None
    shape, axes = _layout(file)
    return _in_units(pydicom, file, pixels), axes if pixels.ndim == len(shape) else ""


def dicom_shape(stream: BinaryIO, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and axes of `read_dicom`'s pixels, from the tags.

    Raises:
        UserError: pydicom is missing, or tags that say no size.
    """
    pydicom, head = _pydicom(name), stream.read(HEAD)
    try:
        if DEFLATED in head:
            check_packed(head + stream.read())
        stream.seek(0)
        return _layout(pydicom.dcmread(stream, stop_before_pixels=True))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name}: no DICOM picture ({reason_of(error)})") from None


def check_packed(data: bytes) -> None:
    """Makes sure that a deflated file unpacks to no more than this machine takes.

    Raises:
        ValueError: it does: pydicom unpacks all of it to read a tag.
    """
    if DEFLATED in data[:HEAD]:
        size = int.from_bytes(data[LENGTH_AT : LENGTH_AT + 4], "little")
        packed = data[LENGTH_AT + 4 + size :]
        check_deflated(packed, DECODING * largest_picture(), raw=True)


def _layout(file: Any) -> tuple[tuple[int, ...], str]:
    frames = int(file.get("NumberOfFrames", 1) or 1)
    palette = file.PhotometricInterpretation == "PALETTE COLOR"
    bands = 3 if palette else int(file.get("SamplesPerPixel", 1))
    shape: tuple[int, ...] = (int(file.Rows), int(file.Columns))
    shape, axes = (shape, "HW") if bands == 1 else ((*shape, bands), "HWC")
    return ((frames, *shape), f"N{axes}") if frames > 1 else (shape, axes)


def _in_units(pydicom: Any, file: Any, pixels: np.ndarray) -> np.ndarray:
    kind = file.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        return pydicom.pixels.apply_color_lut(pixels, file)
    if kind == "MONOCHROME1":
        least = -(1 << int(file.BitsStored) - 1) if file.PixelRepresentation else 0
        pixels = 2 * least + (1 << int(file.BitsStored)) - 1 - pixels.astype(np.int32)
        pixels = pixels.astype(np.int16 if least else np.uint8 if file.BitsStored <= 8 else "u2")
    slope, offset = (
        float(file.get(f"Rescale{word}", d)) for word, d in (("Slope", 1), ("Intercept", 0))
    )
    if (slope, offset) == (1, 0):
        return pixels
    return pixels.astype(np.float32) * np.float32(slope) + np.float32(offset)


def _pydicom(name: str) -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise UserError(
            f"{name}: is DICOM, which needs one more package: pip install pydicom"
        ) from None
    return pydicom
