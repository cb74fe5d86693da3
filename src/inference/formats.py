"""FORMATS: a name to a way of writing a network for other programs, and of reading it back."""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.errors import UserError, reason_of
from core.rows import pick
from inference.portable import Export, Portable
from inference.weights_file import write_weights
from Lightning_module import load_module

# Name of what is known of a network inside the archives of torch.
ABOUT = "about.json"
# Probabilities that differ by no more are those of the network itself: other programs add up in
# another order. A network whose logits are large or steep on noise is farther from itself in
# float64, and both programs may be, on either side.
TOLERANCE, ROUNDINGS = 1e-4, 3


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        suffix: of its name.
        write: (network, path) writes it.
        read: path to a function of raw images, in the program that it is made for.
        needs: packages beside requirements.txt.
    """

    suffix: str
    write: Callable[[Export, Path], None]
    read: Callable[[Path], Callable[[Tensor], Tensor]]
    needs: tuple[str, ...] = ()


def write_onnx(export: Export, path: Path) -> None:
    """An ONNX model; axes batch, height and width are open."""
    import onnx

    options: dict[str, Any] = {"input_names": ["image"], "output_names": ["probs"]}
    with _quiet():
        torch.onnx.export(
            export.program, (), path, dynamo=True, external_data=False, verbose=False, **options
        )
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {"about": export.about})
        onnx.save(model, path)


def read_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """By onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def write_torchscript(export: Export, path: Path) -> None:
    """A traced module; torch.jit.load, in C++ too, needs nothing of this house."""
    with _quiet():
        traced = torch.jit.trace(export.network, export.example, check_trace=False)
        packed = BytesIO()  # torch's own writer of files aborts the process where a disk is full
        torch.jit.save(traced, packed, _extra_files={ABOUT: export.about})
    path.write_bytes(packed.getbuffer())


def read_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    """By torch.jit."""
    with _quiet():
        module: Callable[[Tensor], Tensor] = torch.jit.load(path, map_location="cpu")
    return module


def write_program(export: Export, path: Path) -> None:
    """A program of torch.export; AOTInductor and ExecuTorch start from it."""
    packed = BytesIO()
    with _quiet():
        torch.export.save(export.program, packed, extra_files={ABOUT: export.about})
    path.write_bytes(packed.getbuffer())


def read_program(path: Path) -> Callable[[Tensor], Tensor]:
    """By torch.export."""
    with path.open("rb") as stream:
        module: Callable[[Tensor], Tensor] = torch.export.load(stream).module()
    return module


def read_weights(path: Path) -> Callable[[Tensor], Tensor]:
    """By this project."""
    return Portable(load_module(path))


# The quickest first: what refuses a network does so before torch.export takes its minutes.
FORMATS: dict[str, Format] = {
    "safetensors": Format(
        ".safetensors", lambda export, path: write_weights(export.module, path), read_weights
    ),
    "torchscript": Format(".ts", write_torchscript, read_torchscript),
    "program": Format(".pt2", write_program, read_program),
    "onnx": Format(".onnx", write_onnx, read_onnx, ("onnx", "onnxscript", "onnxruntime")),
}


def find_format(name: str) -> Format:
    """The row of FORMATS of that name.

    Raises:
        UserError: an unknown name, or packages that are not installed.
    """
    row = pick(FORMATS, name, "format of --format")
    missing = [package for package in row.needs if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"--format {name}: not installed here: pip install {' '.join(missing)}")
    return row


def write_file(export: Export, name: str, folder: Path) -> tuple[Path, float]:
    """Writes one format into a folder, and compares what is read back with the network itself.

    Returns:
        The file, and the largest difference of a probability.

    Raises:
        UserError: the network cannot be written so, or gives other probabilities.
    """
    row = find_format(name)
    path = folder / f"network{row.suffix}"
    try:
        row.write(export, path)
        gap = export.gap(row.read(path))
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # exporters raise what their passes meet
        raise UserError(f"--format {name}: {reason_of(error)}. Choose others") from error
    if not (gap <= TOLERANCE or gap <= ROUNDINGS * export.rounding):
        most = max(TOLERANCE, ROUNDINGS * export.rounding)
        raise UserError(
            f"--format {name}: its probabilities differ by {gap:.2g} from the network's, "
            f"{most:.2g} at most are rounding. Choose others"
        )
    return path, gap


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of themselves."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
