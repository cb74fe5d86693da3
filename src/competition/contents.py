"""What a folder of data holds instead of what was looked for, and what to do about it."""

from collections.abc import Sequence
from pathlib import Path

from imaging.readers import is_image

# Files and folders of INPUT that an error lists.
NAMED = 8
PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")


def contents_line(root: Path, otherwise: str, wanted: Sequence[Path] = ()) -> str:
    """What a folder of data holds, and what to do where what was looked for is not in it.

    Args:
        root: the folder, INPUT.
        otherwise: what helps where neither its place nor packed files are the matter.
        wanted: paths below it that were looked for; the folders beside it are tried for them.
    """
    if root.is_file():
        todo = "unpack it, and pass the folder" if _is_packed(root) else "pass the folder of it"
        return f"{root} is a file: {todo}: --input <folder>"
    names = [path.relative_to(root) for path in wanted if root in path.parents]
    inside = sorted(path for path in root.glob("*/") if path.is_dir())
    for folder in [*inside, root.parent]:
        there = [str(name) for name in names if (folder / name).exists()]
        if there:
            return f"{folder} holds {' and '.join(there)}: pass --input {folder}"
    if not root.is_dir():
        todo = "--input <folder>, or make a toy one: python src/demo_data.py"
        return f"There is no folder {root}: pass that of the competition's data, {todo}"
    found = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    if not found:
        return f"Put the competition's data into {root}, or make a toy one: python src/demo_data.py"
    packed = [path for path in found if _is_packed(path)]
    if packed:
        return f"{root} holds {_listed(found)}: unpack {_listed(packed)} there"
    return f"{root} holds {_listed(found)}: {otherwise}"


def _listed(paths: Sequence[Path]) -> str:
    names = [f"{path.name}/" if path.is_dir() else path.name for path in paths]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" * (len(names) > NAMED))


def _is_packed(path: Path) -> bool:
    name = path.name.lower()
    return path.is_file() and name.endswith(PACKED) and not is_image(name)
