"""Files that lie alike: one set of a survey."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from looking.words import common_ends, words_in


@dataclass(frozen=True)
class FileSet:
    """Files that lie alike, as `{a}/images/*_mask.png`.

    Attributes:
        folders: names of the folders from the root; None where they differ from file to file.
        tail: what all names end with, `_mask.png`; the suffix at least, `.*` where they differ.
        files: (names of the folders that differ, name without head and tail) to the posix path.
        head: what all names begin with, where another set of the folder begins otherwise: `test_`.
        doubles: further files of a name that `files` has, with another suffix.
        silent: words of folders above that say nothing: they are of masks beside it, too.
        marked: folders of another set differ in these places, too, in other words.
        fixed: all are called alike, a file a folder: `tail` is the name, `files` has "" for it.
    """

    folders: tuple[str | None, ...]
    tail: str
    files: Mapping[tuple[str, ...], str]
    head: str = ""
    doubles: tuple[str, ...] = ()
    fixed: bool = False
    silent: frozenset[str] = frozenset()
    marked: bool = False

    @property
    def words(self) -> set[str]:
        """Words of the folders and of the tail, in small letters."""
        names = [name for name in (*self.folders, *self.forms) if name]
        return words_in("/".join(names), self.head, self.tail) - self.silent

    @cached_property
    def forms(self) -> tuple[str, ...]:
        """What the folders that differ have in common, # for the rest: GT_#, # masks, or #."""
        places = zip(*(key[:-1] for key in self.files), strict=True)
        return tuple("#".join(common_ends(set(names))) for names in places)

    @property
    def suffix(self) -> str:
        """The file type, `.png`."""
        return "." + self.tail.rpartition(".")[2].lower()

    @property
    def root(self) -> str:
        """The folders that are the same for all files, posix; "" is the root itself."""
        fixed = []
        for name in self.folders:
            if name is None:
                break
            fixed.append(name)
        return "/".join(fixed)

    @property
    def nested(self) -> bool:
        """Whether the files lie in more than one folder."""
        return None in self.folders

    def told(self) -> str:
        """The set as a person writes it: train/*/images/*.png."""
        names = [name or "*" for name in self.folders]
        return "/".join([*names, self.tail if self.fixed else f"{self.head}*{self.tail}"])
