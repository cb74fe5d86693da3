"""Processes of this machine: whether one still lives, and children that end with their parent."""

import contextlib
import ctypes
import errno
import functools
import hashlib
import multiprocessing
import os
import platform
import signal
import sys
import time
from pathlib import Path
from types import TracebackType

# Of Linux' prctl.h.
PR_SET_PDEATHSIG = 1
DEAD = ("Z", "X")
# Names the process that a script is called by as a part of its own work.
CALLER = "ENDS_WITH_PROCESS"
# Where torchrun, Lightning and Slurm tell a process its rank, and a person which machine it is on.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@functools.cache
def host_key() -> str:
    """Six letters for this host: a file's name has no room for its own.

    Containers that share a host's name do not see each other's processes: each is a host.
    """
    space = ""
    with contextlib.suppress(OSError):  # Linux has it
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()}{space}".encode()).hexdigest()[:6]


def birth_of(process: int) -> str:
    """When a process began, in the system's own words; "" where none of that number lives.

    A number is given again to later processes, together with its birth it is not. A zombie does
    not live. Where nobody can ask for the birth it is "unknown"; on Windows, where nobody can ask
    without ending it, no process lives.
    """
    if os.name == "nt":
        return ""
    stat = Path(f"/proc/{process}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name before it may hold anything, brackets and spaces too.
            state, *rest = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if state in DEAD else rest[18]
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:  # another user's
        pass
    return "unknown"


def process_age() -> float:
    """Seconds since this process began; 0 where nobody says."""
    try:
        text = Path("/proc/self/stat").read_text(errors="replace")
    except OSError:
        return 0.0
    ticks = int(text.rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def end_with_parent() -> None:
    """Ends this process when the one that started it dies, however that dies. Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent and not parent.is_alive():  # it died before it could be watched
        os.kill(os.getpid(), signal.SIGKILL)


def hush_lost_connections() -> None:
    """Says nothing of connections that the process which started this one gave up.

    It was stopped while a tensor was handed over, or there are too many files open, and tells so
    itself; the thread that hands them over would print its traceback.
    """

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        lost = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
        if not (lost or issubclass(kind, ConnectionError | EOFError)):
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = tell


def as_child() -> dict[str, str]:
    """The environment of a process that is to end when this one does, see `follow_caller`."""
    return {**os.environ, CALLER: str(os.getpid())}


def follow_caller() -> None:
    """Ends this process when the one that called it as its child dies."""
    if os.environ.get(CALLER) == str(os.getppid()):
        end_with_parent()


def is_main_process() -> bool:
    """Whether this process is the only one, or the first rank: the one that writes files."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)
