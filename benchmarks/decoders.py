"""Every way to pixels that may be installed: bytes of a picture's file in, an array out."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import torch
from PIL import Image

Decode = Callable[[bytes], np.ndarray]
REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def by_pil_rgb(data: bytes) -> np.ndarray:
    """A frame as the template reads it."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def by_pil(data: bytes) -> np.ndarray:
    """A mask as the template reads it."""
    return np.array(Image.open(io.BytesIO(data)))


def by_opencv_grey(data: bytes) -> np.ndarray:
    """A mask in grey levels: OpenCV forgets palettes."""
    return _opencv(data, cv2.IMREAD_GRAYSCALE)


def by_opencv_reduced(data: bytes, factor: int) -> np.ndarray:
    """A frame of 1/factor of the size, which libjpeg decodes from a part of each block."""
    return cv2.cvtColor(_opencv(data, REDUCED[factor]), cv2.COLOR_BGR2RGB)


def jpeg_decoders() -> tuple[dict[str, Decode], list[str]]:
    """Decoders to RGB beside PIL and ours, and the names of those that are not installed."""
    found: dict[str, Decode] = {"OpenCV": lambda data: _opencv(data, cv2.IMREAD_COLOR_RGB)}
    builders = {"torchvision": _torchvision, "simplejpeg": _simplejpeg, "PyTurboJPEG": _turbojpeg}
    absent = []
    for name, build in builders.items():
        try:
            found[name] = build()
        except (ImportError, RuntimeError):  # PyTurboJPEG also needs a libturbojpeg of the system
            absent.append(name)
    return found, absent


def gif_decoders() -> dict[str, Decode]:
    """Decoders of a mask beside PIL and ours; OpenCV reads GIF since 4.11, if built so."""
    from torchvision.io import decode_gif

    found: dict[str, Decode] = {"torchvision": lambda data: decode_gif(_tensor(data)).numpy()[0]}
    if any("GIF" in row and "YES" in row for row in cv2.getBuildInformation().splitlines()):
        found["OpenCV"] = by_opencv_grey
    return found


def _opencv(data: bytes, flag: int) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    assert pixels is not None
    return pixels


def _torchvision() -> Decode:
    from torchvision.io import ImageReadMode, decode_jpeg

    return lambda data: decode_jpeg(_tensor(data), ImageReadMode.RGB).permute(1, 2, 0).numpy()


def _simplejpeg() -> Decode:
    import simplejpeg

    return lambda data: simplejpeg.decode_jpeg(data, colorspace="RGB")


def _turbojpeg() -> Decode:
    import turbojpeg

    library = turbojpeg.TurboJPEG()
    return lambda data: library.decode(data, pixel_format=turbojpeg.TJPF_RGB)


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
