"""What glibc's allocator does with freed memory: it should keep it."""

import ctypes
import os
import sys

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Freed memory stays with this process, and with those it forks, to be used again.

    glibc hands large blocks back to the system at once. A network on the CPU frees its activations
    in every step and needs them again in the next: a step is 1.15 (256²) to 1.65 times (512²) as
    fast without the pages being fetched anew (benchmarks/bench_ladder.py). The peak is what it was,
    or up to a fifth higher. What the user tells the allocator, by MALLOC_ variables or
    GLIBC_TUNABLES, stands; other systems and allocators have no such switch.
    """
    told = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if sys.platform != "linux" or told:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
