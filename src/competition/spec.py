"""What a competition ships, as plain values: where its files are and how they are to be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

# --help and wrong flags answer at once: what reads pictures comes in where it is used.
if TYPE_CHECKING:
    from imaging.images import PixelRules

# What config.py names as it ships; anything else was chosen by somebody.
SHIPPED_TABLE = "train_masks.csv"
SHIPPED_SAMPLE = "sample_submission.csv"
SHIPPED_MASKS = "train_masks"
SHIPPED_WEIGHTS = "weight"


@dataclass(frozen=True)
class Competition:
    """Paths, columns, mask and submission knobs, each called as in config.py, which explains them.

    `runs.experiment.competition_of` makes it; it can be pickled, hashed and compared.

    Attributes:
        table_chosen, sample_chosen, masks_chosen: whether somebody named `train_csv`, `test_csv`,
            `mask_path`: it must be there then.
    """

    input: Path
    train_path: Path
    mask_path: Path
    valid_path: Path
    test_path: Path
    train_csv: Path
    test_csv: Path
    meta_csv: str
    table_chosen: bool
    sample_chosen: bool
    masks_chosen: bool

    id_column: str
    rle_column: str
    class_column: str
    class_base: int
    class_pattern: str
    rle_order: Literal["auto", "row", "column"]
    rle_base: int | None
    rle_relative: bool | None
    absent: Literal["skip", "drop", "empty"]
    rle_empty: str
    submission: str
    submission_rows: Literal["auto", "image", "class", "instance"]
    submission_file: str
    answer_id: str
    answer_size: tuple[float, ...]
    answer_values: Literal["auto", "ids", "255", "values", "objects"]
    wkt_tolerance: float
    outline_units: str

    task: str
    classes: int
    class_names: tuple[str, ...]
    instances: str
    image_suffix: str
    image_pattern: str
    axes: str
    bands: tuple[str, ...]
    nodata: float | None
    ignore_nodata: bool
    test_pattern: str
    mask_pattern: str
    id_template: str
    mask_suffix: str
    valid_suffix: str
    mask_format: str
    mask_axes: str
    mask_values: Mapping[Any, int] | None = field(hash=False)
    mask_threshold: int | None
    soft_labels: bool
    ignore_index: int | None

    @property
    def pixels(self) -> "PixelRules":
        """How an image's own files are read, without a range and without its neighbours."""
        from imaging.images import PixelRules

        return PixelRules(axes=self.axes, bands=self.bands, nodata=self.nodata)
