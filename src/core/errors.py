"""How a mistake is told: one clear line, all problems of one pass together, exit code 2."""

import contextlib
import difflib
import errno
import functools
import os
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.loading import GOES_ON, address_limit

SHOWN = 20
# Seconds until a wish to stop that was dropped comes again.
AGAIN = 0.05


class UserError(ValueError):
    """A mistake the user can mend: says what is wrong, got X, need Y, do Z.

    What names of files and words of a command bring along reaches no terminal as it is: a control
    character, which could clear the screen, is told as \\x1b.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """A text whose characters can be seen, but for blanks and ends of lines."""
    return "".join(
        char if char in " \n" or char.isprintable() else repr(char)[1:-1] for char in text
    )


class Stopped(KeyboardInterrupt):
    """A wish to stop, as Ctrl-C and SIGTERM are.

    Args:
        line: what is told of it; "": another process has told it.
        by: the signal.

    Attributes:
        way: how the work goes on.
    """

    def __init__(self, line: str = "stopped", by: int = signal.SIGINT):
        super().__init__(line)
        self.code, self.way = 128 + by, GOES_ON


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name` as " Did you mean X?", or "" when none is close."""
    plain = {one.lstrip("-"): one for one in known}  # the dashes of flags make none alike
    close = difflib.get_close_matches(name.lstrip("-"), list(plain), n=1, cutoff=0.6)
    return f" Did you mean {plain[close[0]]}?" if close else ""


def raise_all(problems: Sequence[str], headline: str) -> None:
    """Raises one error that lists every problem of a pass; returns when there is none.

    Raises:
        UserError: `headline` and the first problems, a line each, with a count of the rest.
    """
    if not problems:
        return
    lines = [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more of the same pass")
    raise UserError("\n".join([headline, *lines]))


def told_problems(error: UserError) -> list[str]:
    """The problems that an error lists under its headline, or its one line."""
    headline, *problems = str(error).splitlines()
    return [problem.strip() for problem in problems] or [headline]


def is_out_of_memory(error: object) -> bool:
    """Whether an error is for want of memory: torch, OpenCV and mmap tell so by words alone."""
    return isinstance(error, MemoryError) or (
        isinstance(error, Exception) and any(words in str(error) for words in NO_MEMORY)
    )


def reason_of(error: BaseException, checkpoint: Path | None = None) -> str:
    """A library's error in one short line.

    torch's advice to read a pickle that may run code is not handed on, nor what it says of a file
    that is none of its own.

    Args:
        error: of the library.
        checkpoint: that torch.load could not read.

    Raises:
        MemoryError: it is for want of memory: nothing is wrong with what was read.
    """
    if is_out_of_memory(error):
        raise MemoryError from error
    if checkpoint and (told := _wrong_with(checkpoint)):
        return told
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than plain tensors and values, which could run code: it is not read"
    return " ".join(str(error).split())[:300]


def _wrong_with(checkpoint: Path) -> str:
    """What keeps torch.load from a file; "" where it is the content, or a file of another kind."""
    import zipfile

    if checkpoint.suffix == ".safetensors":
        return ""
    try:
        if zipfile.is_zipfile(checkpoint):
            with zipfile.ZipFile(checkpoint) as archive:
                ours = any(name.endswith("/data.pkl") for name in archive.namelist())
            return "" if ours else "it is another kind of zip file"
        with checkpoint.open("rb") as stream:
            head = stream.read(2)
    except (OSError, zipfile.BadZipFile):
        return "it cannot be read"
    kinds = {b"": "it is empty", b"PK": "it is cut off", b"\x80\x02": ""}  # the last before 2020
    return kinds.get(head, "it is no file of torch.save")


# Of errors for want of memory that have no class of their own.
NO_ROOM = "ailed to map segment"  # of a library that is loaded
NO_MEMORY = (
    NO_ROOM,
    "an't allocate memory",
    "annot allocate memory",
    "nsufficient memory",
    "ut of memory",
)
# Limits that an error has no class of its own for.
PROCESSES = "raise the limit of processes, ulimit -u or the container's, or use --num-workers 0"
LIMITS = {
    "an't start new thread": f"no other thread may be started: {PROCESSES}",
    "oo many open files": "too many open files: ulimit -n 4096 raises the limit; or use "
    "--num-workers 0",
    # Of what a data-loading process hands a batch over in: memory, which counts as a file.
    "right size: File too large": "ulimit -f allows no file as large as a batch: "
    "ulimit -f unlimited lifts the limit; or use --num-workers 0",
    # Of Optuna, about search.journal.
    "did not possess lock": "the lock of the search's journal cannot be given back: look at the "
    "rights of its folder, and whether another search.py works there; the same command goes on",
}
# What helps against errors of the system, by errno.
REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, the quota is used up",
    errno.EFBIG: "the file system or ulimit -f allows no larger file",
    errno.EACCES: "give yourself the right to it, or choose another --output or --logs",
    errno.EPERM: "give yourself the right to it, or choose another --output or --logs",
    errno.EROFS: "choose another --output or --logs, this one is read-only",
    errno.EMFILE: "raise the limit: ulimit -n 4096",
    errno.EAGAIN: PROCESSES,
    errno.ENFILE: "the system has too many open files",
    errno.EISDIR: "a folder is where a file should be: move it away",
    errno.ENOTDIR: "a file is where a folder should be: move it away",
    errno.EEXIST: "a file, or a link to nothing, is where a folder should be: move it away",
    errno.ELOOP: "a link leads back to itself: remove it",
}


def system_error_line(error: OSError) -> str:
    """An error of the system in one line: which file, what happened, what helps."""
    name = error.filename2 or error.filename  # of a renaming the name that was to be
    path = f"{name}: " if name else ""
    remedy = REMEDIES.get(error.errno or 0, "")
    return printable(f"{path}{error.strerror or error}{': ' + remedy if remedy else ''}")


def limit_line(error: BaseException) -> str:
    """What a library tells of a limit of the system, by words alone, in one line; "" of others."""
    if is_out_of_memory(error):
        return memory_line(error)
    return next((line for words, line in LIMITS.items() if words in str(error)), "")


def memory_line(error: BaseException) -> str:
    """Want of memory in one line, with what helps."""
    limit = address_limit()
    more = f"raise ulimit -v, which is {limit / 1e9:.1f} GB" if limit else "use a machine with more"
    if NO_ROOM in str(error):
        return f"out of memory while libraries are loaded: {more}"
    return f"out of memory: a smaller batch, crop or --num-workers 0 takes less; or {more}"


def _send_again(number: int) -> None:
    """Sends this process a signal, a moment later."""
    send = signal.raise_signal if os.name == "nt" else functools.partial(os.kill, os.getpid())
    timer = threading.Timer(AGAIN, send, [number])
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def _wishes_to_stop() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does, and no wish to stop is lost.

    One that something swallows, Python in a finalizer or a hook of a fork, a library by a bare
    `except`, comes again; one that a library makes another error of, as imports do, is one still.
    What finalizers say of things that were stopped half-made is not told.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wishes: list[int] = []
    ended = False

    def swallowed(number: int) -> None:
        if not ended:
            _send_again(number)

    def wish(number: int) -> Stopped:
        # Not in the handler, whose frame the error's own traceback keeps.
        error = Stopped(by=number)
        weakref.finalize(error, swallowed, number).atexit = False
        return error

    def stop(number: int, frame: Any) -> None:
        wishes.append(number)
        raise wish(number)

    def dropped(unraisable: Any) -> None:
        if not wishes:
            hook(unraisable)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, stop)}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    hook, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        yield
    except Exception:
        if not wishes:
            raise
        raise Stopped(by=wishes[-1]) from None
    finally:
        ended = True
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _open_streams() -> None:
    """Where a stream is closed (`>&-`) words go nowhere, and no file takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  for all of the process


def _name_stdout(error: OSError) -> None:
    """Gives an error without a name that of standard output, if nothing can be said there."""
    try:
        print(end="\n" if error.filename is None else "", flush=True)
    except OSError:
        error.filename = error.filename or "standard output"
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  the interpreter flushes it at its end


def script(main: Callable[..., int]) -> Callable[..., int]:
    """Wraps a script's main(argv): what a user can mend is one line on stderr and exit code 2.

    Ctrl-C ends with 130 and SIGTERM with 143, as shells have it, in one line, too.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        _open_streams()
        try:
            with _wishes_to_stop():
                code = main(argv)
            sys.stdout.flush()  # a closed pipe is told here, not by the interpreter at its end
            return code
        except UserError as error:
            line = str(error)
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  the interpreter flushes it at its end
            line = "stdout was closed before the end: nothing of the work is lost"
        except OSError as error:
            _name_stdout(error)
            line = system_error_line(error)
        except KeyboardInterrupt as stop:
            told = stop if isinstance(stop, Stopped) else Stopped()
            if str(told):
                print(f"{told}: {told.way}", file=sys.stderr)
            return told.code
        except AttributeError as error:
            if getattr(error.obj, "__name__", "") != "config":
                raise
            line = f"config.py has no knob {error.name}: it was deleted or renamed, put it back"
        except Exception as error:
            line = limit_line(error)
            if not line:
                raise
        print(f"error: {line}", file=sys.stderr)
        return 2

    return wrapped
