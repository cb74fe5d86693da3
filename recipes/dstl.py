"""Units of DSTL's polygons: grid_sizes.csv has Xmax and Ymin, which is negative, of each scene."""

from competition.outline_units import UNITS


def grid(row, size):
    height, width = size
    x, y = float(row["Xmax"]), float(row["Ymin"])
    return width * width / (width + 1) / x, height * height / (height + 1) / y


UNITS["dstl"] = grid
