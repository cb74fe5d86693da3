"""An arm in a process of its own: settings of the allocator hold for a process, for good."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from core.memory import keep_freed_memory

_made: dict[str, Callable[[], Any]] = {}


class Elsewhere:
    """Calls what `build(*args)` made, in a process that stays warm; returns the seconds it took.

    Attributes:
        first: what the first call returned, for a gate.
        first_seconds: how long it took.
    """

    def __init__(self, build: Callable[..., Callable[[], Any]], *args: Any, keep: bool):
        # Spawned: a forked process would have this one's allocator.
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, spawn, _start, (build, args, keep))
        self.first_seconds, self.first = self._pool.submit(_call).result()

    def __call__(self) -> float:
        return self._pool.submit(_call).result()[0]

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown()


def _start(build: Callable[..., Callable[[], Any]], args: tuple[Any, ...], keep: bool) -> None:
    if keep:
        keep_freed_memory()
    _made["call"] = build(*args)


def _call() -> tuple[float, Any]:
    begin = time.perf_counter()
    value = _made["call"]()
    return time.perf_counter() - begin, value
