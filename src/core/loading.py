"""The first half second of a script, while Python loads: it imports next to nothing itself."""

import os
import signal
import sys
from typing import Any, NoReturn

OLDEST = (3, 11)
GOES_ON = "the same command goes on"
# Bytes of addresses: with less, libraries hang or crash while they load.
LEAST_ADDRESSES = 4.5e9


def stop_while_loading() -> None:
    """From now on Ctrl-C and SIGTERM end this process at once, in one line.

    A script calls it before all other imports: nothing is begun then, and libraries make other
    errors of an exception that is raised while they are imported. `core.errors.script` takes over.
    A Python that is too old, a package that is not installed, and a limit of addresses that
    libraries do not load in, are one line, too: exit code 2.
    """
    if sys.version_info < OLDEST:
        _refuse(f"need Python 3.11 or newer, this is {sys.version.split()[0]}, {sys.executable}")
    limit = address_limit()
    if 0 < limit < LEAST_ADDRESSES:
        _refuse(
            f"ulimit -v allows {limit / 1e9:.1f} GB, need {LEAST_ADDRESSES / 1e9} GB to load "
            "libraries, more to train: ulimit -v unlimited, or ask for a larger job"
        )
    sys.excepthook = _tell_missing
    signal.signal(signal.SIGTERM, _leave)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def address_limit() -> int:
    """Bytes of addresses that this process may have, 0 without a limit."""
    if os.name == "nt":
        return 0
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if limit == resource.RLIM_INFINITY else limit


def _refuse(line: str) -> NoReturn:
    os.write(2, f"error: {line}\n".encode())
    sys.exit(2)


def _tell_missing(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """An exception hook: which package this Python lacks, and what brings it."""
    package = (getattr(error, "name", None) or "").partition(".")[0]
    here = os.path.join(os.path.dirname(os.path.dirname(__file__)), package)
    ours = os.path.exists(here) or os.path.exists(here + ".py")
    if issubclass(kind, ModuleNotFoundError) and package and not ours:
        _refuse(
            f"{package} is not installed for {sys.executable}: activate the environment that has "
            "it, or pip install -r requirements.txt"
        )
    sys.__excepthook__(kind, error, trace)


def _leave(number: int, frame: object) -> None:
    try:
        os.write(2, f"stopped: {GOES_ON}\n".encode())
    finally:
        os._exit(128 + number)
