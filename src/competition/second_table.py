"""A second table of the training images: patients, organs, depths, joined by the image's id.

Or by a part of IMAGE_PATTERN, where the table has a row a volume, a patient, a place.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from competition.run_cells import SIZE_COLUMN
from competition.table_files import read_table
from competition.tables import Columns, image_id
from core.errors import raise_all
from imaging.sources import PAGE, SLICE


def join_second(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The training images with the second table's columns, where they have none of that name.

    Its ids are in the column that names most of the images; where that lacks some, in the first or
    one called as a part of IMAGE_PATTERN, if it names all values of that part. Of several rows an
    image, or a value, those columns join that agree in all of them.

    Raises:
        UserError: no such table, or images that it does not name.
    """
    second = read_table(path).rename(columns=lambda name: str(name).strip())
    ids = {str(name): second[name].map(image_id) for name in second}
    part, key = _joint(table, ids)
    wanted = set(table[part])
    missing = sorted(wanted - set(ids[key]))
    raise_all(
        [f"{img}: no row" for img in missing],
        f"META_CSV {path.name}: {len(missing)} of {len(wanted)} images are in no row (ids are in "
        f"{key!r}): add them, or leave META_CSV empty:",
    )
    second = second[ids[key].isin(wanted)]
    rows = one_row_an_image(second, ids[key][second.index], Columns(key, None, None))
    new = [name for name in rows if name not in table or name == "img"]
    rows = rows[new].rename(columns={"img": part})
    return table.merge(rows, on=part, how="left", validate="many_to_one")


def _joint(table: pd.DataFrame, ids: Mapping[str, pd.Series]) -> tuple[str, str]:
    """The column of the training images, and that of the second table, which names its values."""
    wanted = set(table["img"])
    key = max(ids, key=lambda name: len(wanted & set(ids[name])))
    if wanted <= set(ids[key]):
        return "img", key
    for part in table.columns.difference(["img", "image", "mask", PAGE, SLICE], sort=False):
        for name in dict.fromkeys([part, next(iter(ids))]):
            if name in ids and set(table[part]) <= set(ids[name]):
                return str(part), name
    return "img", key


def one_row_an_image(
    raw: pd.DataFrame, ids: pd.Series, columns: Columns, *, keep_class: bool = True
) -> pd.DataFrame:
    """img and the columns whose cells agree within every image, in order of appearance.

    Run lengths never survive; the class does when a row is an image.
    """
    dropped = {columns.id, columns.rle, SIZE_COLUMN, "img"} | (
        set() if keep_class else {columns.cls}
    )
    codes, names = pd.factorize(ids)
    first = np.full(len(names), len(ids), np.int64)
    np.minimum.at(first, codes, np.arange(len(ids)))
    kept = {"img": np.asarray(names, dtype=object)}
    for column in raw.columns:
        if column in dropped and column not in ("image", "mask"):
            continue
        if column == columns.rle:
            continue
        cells = raw[column].to_numpy(dtype=object)
        if (cells[first][codes] == cells).all():
            kept[str(column)] = cells[first]
    return pd.DataFrame(kept)
