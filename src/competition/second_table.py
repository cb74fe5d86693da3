"""A second table of the training images: patients, organs, depths, joined by the image's id."""

from pathlib import Path

import numpy as np
import pandas as pd

from competition.run_cells import SIZE_COLUMN
from competition.table_files import read_table
from competition.tables import Columns, image_id
from core.errors import raise_all


def join_second(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The training images with the second table's columns, where they have none of that name.

    Its ids are in the column that names most of the images; of several rows an image those columns
    join that agree in all of them.

    Raises:
        UserError: no such table, or images that it does not name.
    """
    second = read_table(path).rename(columns=lambda name: str(name).strip())
    wanted = set(table["img"])
    ids = {str(name): second[name].map(image_id) for name in second}
    key = max(ids, key=lambda name: len(wanted & set(ids[name])))
    missing = sorted(wanted - set(ids[key]))
    raise_all(
        [f"{img}: no row" for img in missing],
        f"META_CSV {path.name}: {len(missing)} of {len(wanted)} images are in no row (ids are in "
        f"{key!r}): add them, or leave META_CSV empty:",
    )
    second = second[ids[key].isin(wanted)]
    rows = one_row_an_image(second, ids[key][second.index], Columns(key, None, None))
    new = [name for name in rows if name not in table or name == "img"]
    return table.merge(rows[new], on="img", how="left", validate="one_to_one")


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
