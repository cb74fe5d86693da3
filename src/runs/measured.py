"""What folds.py measured of the training files, for knobs that leave it to them."""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import write_json
from core.gates import json_value
from core.ranges import percentiles_of
from runs.fold_table import folds_digest

# --help and wrong flags answer at once: what reads pictures comes in where it is used.
if TYPE_CHECKING:
    from data.specs import Row
    from data.statistics import Statistics

FILE = "image_stats.json"
AUTO = "auto"


@dataclass(frozen=True)
class Asked:
    """What the knobs of pixel values ask for; each field as the knob of its name."""

    input: Path
    output: Path
    channels: int
    image_bits: int
    value_range: tuple[float, ...] | tuple[str, ...]
    model_mean: tuple[float, ...] | str
    model_std: tuple[float, ...] | str
    nodata: float | None
    axes: str
    bands: tuple[str, ...]
    stack: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Where folds.py keeps what it measured."""
        return self.output / FILE

    @property
    def percentiles(self) -> tuple[float, ...]:
        """The two percentiles of VALUE_RANGE, () where it holds values."""
        return percentiles_of(self.value_range)

    @property
    def measured(self) -> bool:
        """Whether VALUE_RANGE, MODEL_MEAN or MODEL_STD ask for the training files."""
        return bool(self.percentiles) or AUTO in (self.model_mean, self.model_std)

    @property
    def key(self) -> dict[str, Any]:
        """What decides what is measured, as JSON holds it."""
        names = ("channels", "image_bits", "value_range", "nodata", "axes", "bands", "stack")
        values = {name: getattr(self, name) for name in names}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def measure_files(asked: Asked, rows: "Sequence[Row]") -> "Statistics | None":
    """Statistics of the training files; None where no knob asks for them.

    Raises:
        UserError: a file that cannot be read.
    """
    from data.statistics import measure
    from imaging.images import PixelRules

    if not asked.measured:
        return None
    rules = PixelRules(
        channels=asked.channels,
        bits=asked.image_bits,
        value_range=() if asked.percentiles else tuple(map(float, asked.value_range)),
        nodata=asked.nodata,
        axes=asked.axes,
        bands=asked.bands,
        stack=asked.stack,
    )
    return measure(rows, asked.input, rules, percentiles=asked.percentiles)


def measured_notes(measured: "Statistics | None") -> list[str]:
    """What was measured, as folds.py says it."""
    if measured is None:
        return []
    told = {name: ", ".join(f"{v:.6g}" for v in values) for name, values in vars(measured).items()}
    ends = f"VALUE_RANGE {told['value_range']}; " if told["value_range"] else ""
    return [f"measured: {ends}mean {told['mean']}; std {told['std']} of values scaled to 0...1"]


def write_measured(asked: Asked, measured: "Statistics | None") -> None:
    """Writes what was measured, or takes away what was for other knobs."""
    before = kept_beside(asked.path, _table_digest(asked))  # of the same table
    before.unlink(missing_ok=True)
    if measured is None:
        asked.path.unlink(missing_ok=True)
    else:
        write_json(asked.path, {"key": asked.key, **asdict(measured)})


def kept_beside(path: Path, digest: str) -> Path:
    """Where folds.py keeps a file of its own that goes with the table of a digest."""
    return path.with_stem(f"{path.stem}.{digest[:8]}")


def _table_digest(asked: Asked) -> str:
    path = asked.output / "train_folds.csv"
    return folds_digest(path) if path.is_file() else "none"


def pixel_values(asked: Asked, measured: "Statistics | None" = None) -> dict[str, Any]:
    """value_range, mean and std of the configuration as numbers.

    Args:
        asked: by the knobs.
        measured: of the training files; None reads what folds.py wrote.

    Raises:
        UserError: they are to be measured, and were not for these knobs.
    """
    known = asdict(measured or _read(asked)) if asked.measured else {}
    given = {
        "value_range": () if asked.percentiles else asked.value_range,
        "mean": asked.model_mean,
        "std": asked.model_std,
    }
    return {
        name: tuple(known[name]) if value == AUTO or (name == "value_range" and known) else value
        for name, value in given.items()
    }


def _read(asked: Asked) -> "Statistics":
    from data.statistics import Statistics

    # A table that was copied back has its numbers beside it.
    for path in (kept_beside(asked.path, _table_digest(asked)), asked.path):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json_value(path.read_text(encoding="utf-8"))
            if known["key"] == asked.key:
                values = {field.name: tuple(known[field.name]) for field in fields(Statistics)}
                return Statistics(**values)
    raise UserError(
        f"{asked.path}: VALUE_RANGE, MODEL_MEAN or MODEL_STD are to be measured, and were not with "
        "these knobs: run src/folds.py again with the same flags"
    )
