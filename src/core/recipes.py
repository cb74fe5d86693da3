"""Recipes: a competition's flags in recipes/x.args, and rows of its own in recipes/x.py beside.

The Python file adds rows to tables by importing them: `from metrics import METRICS`, then
`METRICS["mine"] = ...`. Every process that reads a table loads it once, by SEG_RECIPE.
"""

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from itertools import chain
from pathlib import Path

from core.errors import UserError, nearest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
VARIABLE = "SEG_RECIPE"
# Digests of recipes as they were loaded: a file that is edited meanwhile is not what runs.
_LOADED: dict[Path, str] = {}


def find_recipe(name: str) -> Path:
    """A recipe's path without suffix: of recipes/, or of a path such as ../mine/x.

    Raises:
        UserError: there is neither name.args nor name.py.
    """
    base = Path(name.removesuffix(".args").removesuffix(".py"))
    folder = ROOT / "recipes"
    places = [base.absolute()] if len(base.parts) > 1 else [folder / base]
    places += [ROOT / base]
    for place in places:
        if any(Path(f"{place}{suffix}").is_file() for suffix in (".args", ".py")):
            return place.resolve()
    known = sorted({path.stem for path in folder.glob("*.args")})
    raise UserError(
        f"--recipe: no {base}.args or {base}.py.{nearest(name, known)} Known: {', '.join(known)}; "
        "or a path such as ../mine/x"
    )


def recipe_file() -> Path | None:
    """The Python file of the recipe that this process runs under, if it has one."""
    name = os.environ.get(VARIABLE, "")
    path = Path(f"{find_recipe(name)}.py") if name else None
    return path if path and path.is_file() else None


def recipe_files() -> list[Path]:
    """That file first, then the modules beside it that it imports, directly or not."""
    path = recipe_file()
    return _with_imports(path) if path else []


def recipe_digest() -> str | None:
    """A key of what those files held when they were loaded; None without any."""
    path = recipe_file()
    return (_LOADED.get(path) or _digest(path)) if path else None


def _digest(path: Path) -> str:
    # A notebook's cell ends every file by a line break.
    texts = [file.read_bytes().rstrip(b"\n") + b"\n" for file in _with_imports(path)]
    return hashlib.sha256(b"".join(texts)).hexdigest()


def _with_imports(path: Path) -> list[Path]:
    files = [path]
    for file in files:  # grows by what each imports
        files += [one for one in _imported(file, path.parent) if one not in files]
    return files


def _imported(path: Path, folder: Path) -> list[Path]:
    """Modules of a folder that a Python file imports, of a package all; none of what is none."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):  # told when it is loaded
        return []
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {file.stem for file in SRC.iterdir()}  # those come first
    tops = sorted({name.partition(".")[0] for name in names} - own - {""})
    files = [folder / f"{top}.py" for top in tops]
    packages = [sorted((folder / top).rglob("*.py")) for top in tops]
    return [file for file in chain(files, *packages) if file.is_file()]


def load_recipe() -> None:
    """Runs the recipe's Python file, once a process; without one nothing happens.

    Raises:
        UserError: it fails, with file and line, or it bears the name of another module.
    """
    path = recipe_file()
    if path is None:
        return
    _LOADED[path] = _digest(path)
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return
    # A process that unpickles one of its rows imports the file by its name.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    found = None if loaded else importlib.util.find_spec(path.stem)
    if found is None or found.origin != str(path):
        raise UserError(f"{path}: another module is called {path.stem}, rename the recipe")
    try:
        importlib.import_module(path.stem)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}:{_line(error, path)}: {type(error).__name__}: {error}") from error


def _line(error: Exception, path: Path) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)
