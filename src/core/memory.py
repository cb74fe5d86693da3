"""Memory: what glibc's allocator does with what is freed, and how large a picture may be."""

import ctypes
import functools
import os
import sys

from core.gates import whole_number

# Bytes a pixel while a picture is decoded: four channels, and a copy in another order.
DECODING = 8
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


@functools.cache
def largest_picture() -> int:
    """Pixels that a picture may have: MAX_PIXELS, else what half of the memory decodes."""
    asked = whole_number(os.environ.get("SEG_MAX_PIXELS", "0"))
    return asked or physical_memory() // 2 // DECODING


def memory_of_process() -> float:
    """GB that this process holds; nan where nobody says."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30
    except OSError:  # no Linux
        return float("nan")


def physical_memory() -> int:
    """Bytes of memory of this machine; 8 GB where nobody can ask."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 8 << 30
