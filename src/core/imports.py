"""What an import path names, such as mypackage.nets.Net: it may stand where a row's name does."""

import pkgutil
from typing import Any

from core.errors import UserError, reason_of

# What was loaded in this process, by its path: a kernel carries the packages of it.
LOADED: dict[str, Any] = {}


def is_import_path(name: str) -> bool:
    """Whether a name reads as package.module.name."""
    parts = name.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def load_object(path: str, what: str) -> Any:
    """The class or function of an import path.

    Args:
        path: package.module.name, of a package that is installed.
        what: it names, for the message: "model".

    Raises:
        UserError: it cannot be imported, has no such name, or that cannot be called.
    """
    if path in LOADED:
        return LOADED[path]
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:  # whatever a foreign module raises while it is imported
        raise UserError(
            f"{what} {path!r}: {type(error).__name__}: {reason_of(error)}. An import path is "
            "package.module.name of an installed package; your own file is a recipe's .py"
        ) from error
    if not callable(found):
        raise UserError(f"{what} {path!r} is a {type(found).__name__}, need a class or function")
    LOADED[path] = found
    return found


def loaded_distributions() -> set[str]:
    """Distributions of the packages that import paths have named in this process."""
    from importlib.metadata import packages_distributions

    packages = {path.partition(".")[0] for path in LOADED}
    known = packages_distributions() if packages else {}
    return {known.get(package, [package])[0] for package in packages}
