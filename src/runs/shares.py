"""Images of a stage shared out to several processes; the last puts together what each found."""

import glob
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.records import Record, read_values


@dataclass(frozen=True)
class Share:
    """The images of one process, of so many."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}of{self.count}"


WHOLE = Share()


def parse_share(text: str) -> Share:
    """The share that --shard names, "index/count".

    Raises:
        UserError: anything but 0/1, 0/2, 1/2...
    """
    numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    share = Share(*map(int, numbers.groups())) if numbers else Share(1, 1)
    if share.index >= share.count:
        raise UserError(f"--shard: got {text!r}, need index/count such as 0/2")
    return share


@dataclass(frozen=True, kw_only=True)
class ShareRecord(Record):
    """NAME.KofN.json: what one process found.

    Attributes:
        state: all that it comes from; shares of other states do not belong together.
        images: plain values by id.
        pictures: a key of what was left of these images beside the values.
    """

    state: Mapping[str, Any]
    images: Mapping[str, Any]
    pictures: str = ""


class Shares:
    """What the processes of a stage found of their images, in a folder that they have in common.

    Args:
        folder: of their records.
        name: of what is shared.
        share: of this process; a whole one keeps no record.
        state: all that the values come from.
        pictures: a key of what lies there of some images, by their ids; "" where one is missing.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        share: Share,
        state: Mapping[str, Any],
        pictures: Callable[[Iterable[str]], str],
    ):
        self.folder, self.name, self.share, self.state = folder, name, share, state
        self.pictures = pictures

    def own(self) -> Mapping[str, Any] | None:
        """What an earlier call of this process found; None where it has to be found."""
        return self._read(self.share) if self.share.count > 1 else None

    def keep(self, images: Mapping[str, Any]) -> None:
        """Leaves what this process found for the others."""
        if self.share.count > 1:
            record = ShareRecord(state=self.state, images=images, pictures=self.pictures(images))
            record.write(self._path(self.share))

    def gather(self, images: Mapping[str, Any], count: int) -> dict[str, Any] | None:
        """The values of all `count` images by id, in its order; None while a process is not done.

        Args:
            images: of this process.
            count: of images that there are.
        """
        shares = [Share(index, self.share.count) for index in range(self.share.count)]
        others = [self._read(share) for share in shares if share != self.share]
        found = dict(images)
        for other in others:
            found.update(other or {})
        if None in others or len(found) < count:
            return None
        return dict(sorted(found.items()))

    def drop(self) -> None:
        """Takes the records away, when what they tell is kept elsewhere."""
        for path in self.folder.glob(f"{glob.escape(self.name)}.*of*.json"):
            path.unlink(missing_ok=True)

    def _path(self, share: Share) -> Path:
        return self.folder / f"{self.name}.{share}.json"

    def _read(self, share: Share) -> Mapping[str, Any] | None:
        try:
            values = read_values(self._path(share), ShareRecord.VERSION, "delete it")
            record = ShareRecord.of(values)
        except (OSError, ValueError, KeyError):
            return None
        if record.state != self.state or not record.pictures:
            return None
        # A call of another state may have drawn over them since.
        return record.images if self.pictures(record.images) == record.pictures else None
