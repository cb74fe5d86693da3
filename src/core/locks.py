"""One owner a run: who works on it, on which host, since when; taken over when the owner is gone.

A lock is a small file an owner. While the owner lives it touches the file every few seconds. On
this host the system says whether the owner lives; of an owner on another host the file's age says.
"""

import contextlib
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from core.errors import UserError
from core.files import write_json
from core.gates import json_value
from core.processes import birth_of, host_key
from core.typed import misfits

# Folder beside the runs' own; it holds a folder a run, which holds a file an owner.
LOCKS = ".locks"
# Seconds between two signs of life, and after how many without one an owner elsewhere is gone.
BEAT, SILENT = 10.0, 120.0


class Claim(NamedTuple):
    """What a stage wants to have of a run.

    Attributes:
        folder: of runs.
        run: its name.
        part: of the run's folder, "" for all of it.
        reads: leaves it as it is, and lets others read it too.
    """

    folder: Path
    run: str
    part: str = ""
    reads: bool = False


@dataclass(frozen=True)
class Owner:
    """Who has a part of a run.

    Attributes:
        stage: the script.
        part, reads: as in Claim.
        host, process, born: the process; `born` tells it from a later one of the same number.
        since: seconds of the clock.
        key: `host_key` of the host, "" where nobody has told.
    """

    stage: str
    part: str
    reads: bool
    host: str
    process: int
    born: str
    since: float
    key: str = ""

    @classmethod
    def here(cls, stage: str, claim: Claim) -> "Owner":
        """This process."""
        process, host = os.getpid(), platform.node()
        born, now = birth_of(process), time.time()
        return cls(stage, claim.part, claim.reads, host, process, born, now, host_key())

    @classmethod
    def read(cls, path: Path) -> "Owner | None":
        """The owner in a lock's file; None if it is gone or broken."""
        try:
            owner = cls(**json_value(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return None if misfits(owner) else owner

    @property
    def is_near(self) -> bool:
        """Whether this host can tell if it lives."""
        same = self.host == platform.node() and self.key in ("", host_key())
        return same and os.name != "nt"

    def lives(self, silence: float) -> bool:
        """Whether the owner is at work, `silence` seconds after its last sign of life."""
        if self.is_near:
            return birth_of(self.process) == self.born != ""
        return abs(silence) < SILENT  # a copy may be of tomorrow

    def excludes(self, other: "Owner") -> bool:
        """Whether the two, of different processes, may not have their parts at once."""
        same = self._process() == other._process()
        apart = self.part != other.part and "" not in (self.part, other.part)
        return not (same or apart or (self.reads and other.reads))

    def _process(self) -> tuple[str, int, str, str]:
        return self.host, self.process, self.born, self.key

    def told(self) -> str:
        """Stage, part, process and host in words."""
        stage = f"{self.stage}, {self.part}" if self.part else self.stage
        return f"{stage}, process {self.process} on {self.host}"


@contextlib.contextmanager
def locked(stage: str, claims: Sequence[Claim]) -> Iterator[None]:
    """Makes this process the owner of all that is claimed, until the block ends.

    In a folder that may not be written to there is nothing to guard: no lock is left.

    Args:
        stage: the script.
        claims: in folders that exist.

    Raises:
        UserError: another owner that lives; says who, where and since when.
    """
    taken: dict[Path, Owner] = {}
    gone: list[str] = []
    try:
        for folder in dict.fromkeys(claim.folder for claim in claims):
            with guarded(folder) as writable:
                for claim in claims if writable else []:
                    if claim.folder == folder:
                        path, owner = _take(claim, stage, gone)
                        taken[path] = owner
        for line in dict.fromkeys(gone):
            print(line)
        ended = threading.Event()
        threading.Thread(target=_beat, args=(taken, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
    finally:
        _leave(taken)


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[bool]:
    """One process at a time looks at a folder's locks; False where none can be left."""
    from filelock import FileLock

    guard = FileLock(folder / LOCKS / "guard", timeout=60)  # held for milliseconds
    try:
        (folder / LOCKS).mkdir(exist_ok=True)
        guard.acquire()
    except OSError:
        if os.access(folder, os.W_OK):
            raise
        yield False
        return
    try:
        yield True
    finally:
        guard.release()


def others(folder: Path, run: str) -> list[Owner]:
    """Owners of parts of a run, in other processes of this host or elsewhere."""
    me, found = (os.getpid(), birth_of(os.getpid())), []
    for path in (folder / LOCKS / run).glob("*.json"):
        owner = Owner.read(path)
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            silence = time.time() - path.stat().st_mtime
            if owner and owner.lives(silence) and (owner.process, owner.born) != me:
                found.append(owner)
    return found


def _take(claim: Claim, stage: str, gone: list[str]) -> tuple[Path, Owner]:
    """Writes a lock unless an owner that lives forbids it; adds whose place it took to `gone`."""
    mine, place = Owner.here(stage, claim), claim.folder / LOCKS / claim.run
    place.mkdir(exist_ok=True)
    clock = place / "clock"  # the folder's own, which another host may serve
    clock.touch()
    now = clock.stat().st_mtime
    clock.unlink()
    for path in sorted(place.glob("*.json")):
        other, silence = Owner.read(path), now - path.stat().st_mtime
        if other is None or not other.lives(silence):
            told = other.told() if other else path.name
            gone.append(f"run {claim.run!r}: {told}, ended without a word: taken over")
            path.unlink()
        elif other.excludes(mine):
            since = _age(time.time() - other.since)
            raise UserError(
                f"run {claim.run!r} is in use: {other.told()}, for {since} now. Wait for it or "
                f"stop it{_patience(other)}"
            )
    path = place / f"{claim.part or 'all'}.{host_key()}-{mine.process}.json"
    write_json(path, asdict(mine))
    return path, mine


def _leave(taken: dict[Path, Owner]) -> None:
    for path, owner in taken.items():
        with guarded(path.parents[2]):
            if Owner.read(path) == owner:
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others still work on the run
                path.parent.rmdir()


def _patience(other: Owner) -> str:
    if other.is_near:
        return ""
    return f"; without a sign of life it is taken over after {_age(SILENT)}"


def _age(seconds: float) -> str:
    for unit, scale in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _beat(taken: dict[Path, Owner], ended: threading.Event) -> None:
    """Touches the locks until the end; a process that slept and lost its place is stopped."""
    while not ended.wait(BEAT):
        for path in taken:
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
                continue
            if not ended.is_set():
                print("this process was silent for too long, its run was taken", file=sys.stderr)
                os.kill(os.getpid(), signal.SIGTERM)
                return
