"""What folds.py measured of the training files, for knobs that leave it to them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import write_json
from core.knobs import fill, knob_values
from core.ranges import percentiles_of

# --help and wrong flags answer at once: what reads pictures comes in where it is used.
if TYPE_CHECKING:
    from data.specs import Row
    from data.statistics import Statistics

FILE = "image_stats.json"
AUTO = "auto"


def is_measured(config: Any) -> bool:
    """Whether VALUE_RANGE, MODEL_MEAN or MODEL_STD ask for the training files."""
    return bool(percentiles_of(config.VALUE_RANGE)) or AUTO in (config.MODEL_MEAN, config.MODEL_STD)


def measure_files(config: Any, rows: "Sequence[Row]") -> "Statistics | None":
    """Statistics of the training files; None where no knob asks for them.

    Raises:
        UserError: a file that cannot be read.
    """
    from data.statistics import measure
    from imaging.images import PixelRules

    if not is_measured(config):
        return None
    asked = percentiles_of(config.VALUE_RANGE)
    value_range = () if asked else tuple(map(float, config.VALUE_RANGE))
    rules = fill(PixelRules, config, bits=config.IMAGE_BITS, value_range=value_range)
    return measure(rows, config.INPUT, rules, percentiles=asked)


def measured_notes(measured: "Statistics | None") -> list[str]:
    """What was measured, as folds.py says it."""
    if measured is None:
        return []
    told = {name: ", ".join(f"{v:.6g}" for v in values) for name, values in vars(measured).items()}
    ends = f"VALUE_RANGE {told['value_range']}; " if told["value_range"] else ""
    return [f"measured: {ends}mean {told['mean']}; std {told['std']} of values scaled to 0...1"]


def write_measured(config: Any, measured: "Statistics | None") -> None:
    """Writes what was measured, or takes away what was for other knobs."""
    path = config.OUTPUT / FILE
    if measured is None:
        path.unlink(missing_ok=True)
    else:
        write_json(path, {"key": _key(config), **asdict(measured)})


def pixel_values(config: Any, measured: "Statistics | None" = None) -> dict[str, tuple[float, ...]]:
    """value_range, mean and std of the configuration as numbers.

    Args:
        config: the configuration.
        measured: of the training files; None reads what folds.py wrote.

    Raises:
        UserError: they are to be measured, and were not for these knobs.
    """
    known = asdict(measured or _read(config)) if is_measured(config) else {}
    given = {
        "value_range": () if percentiles_of(config.VALUE_RANGE) else config.VALUE_RANGE,
        "mean": config.MODEL_MEAN,
        "std": config.MODEL_STD,
    }
    return {
        name: tuple(known[name]) if value == AUTO or (name == "value_range" and known) else value
        for name, value in given.items()
    }


def _read(config: Any) -> "Statistics":
    from data.statistics import Statistics

    path = config.OUTPUT / FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["key"] == _key(config):
            return Statistics(
                **{field.name: tuple(known[field.name]) for field in fields(Statistics)}
            )
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{path}: VALUE_RANGE, MODEL_MEAN or MODEL_STD are to be measured, and were not with these "
        "knobs: run src/folds.py again with the same flags"
    )


def _key(config: Any) -> dict[str, Any]:
    """Knobs that decide what is measured, as JSON holds them."""
    names = ("CHANNELS", "IMAGE_BITS", "VALUE_RANGE", "NODATA", "AXES", "BANDS", "STACK")
    values = knob_values(config)
    return {name: values[name] for name in names}
