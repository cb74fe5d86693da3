"""The first half second of a script, while Python loads: it imports next to nothing itself."""

import os
import signal

GOES_ON = "the same command goes on"


def stop_while_loading() -> None:
    """From now on Ctrl-C and SIGTERM end this process at once, in one line.

    A script calls it before all other imports: nothing is begun then, and libraries make other
    errors of an exception that is raised while they are imported. `core.errors.script` takes over.
    """
    signal.signal(signal.SIGTERM, _leave)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: object) -> None:
    try:
        os.write(2, f"stopped: {GOES_ON}\n".encode())
    finally:
        os._exit(128 + number)
