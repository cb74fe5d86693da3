"""What images and masks hold, as a key that does not care where they lie or how old they are."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from competition.mask_source import MaskSource
from core.errors import UserError
from data.specs import Row
from imaging.sources import stored_files
from streaming.files import digest_of


def content_key(
    rows: Sequence[Row],
    root: Path,
    masks: MaskSource,
    *,
    stack: Sequence[int] = (),
    tables: Iterable[Path] = (),
) -> str:
    """A key of the bytes of every image and mask, by image; reads them all.

    Args:
        rows: of train_folds.csv.
        root: folder that their paths start from.
        masks: says which files an image's mask lies in.
        stack: steps to slices that networks see beside an image, without masks, too.
        tables: files that hold masks of many images.
    """
    from tqdm import tqdm

    files = [(row["img"], path) for row in rows for path in _files_of(row, root, masks)]
    own = {path for _, path in files}
    beside = (path for row in rows for path in stored_files(root / row["image"], stack))
    files += [(path.name, path) for path in dict.fromkeys(beside) if path not in own]
    files += [("", path) for path in tables if path.is_file()]
    each = list(dict.fromkeys(path for _, path in files))  # parts of an image share its file
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(
            pool.map(digest_of, each),
            "knowing the data again",
            len(each),
            unit="file",
            leave=False,
            disable=None,
        )
        digests = dict(zip(each, bar, strict=True))
    named = [(img, digests[path]) for img, path in files]
    named.sort(key=lambda file: file[0])  # bands and masks of an image stay in their order
    return hashlib.sha256(repr(named).encode()).hexdigest()[:16]


def _files_of(row: Row, root: Path, masks: MaskSource) -> list[Path]:
    paths: list[Path] = []
    with contextlib.suppress(UserError):  # told, with all others, when it is read
        paths += stored_files(root / row["image"])
        paths += masks.files(row)
    return paths
