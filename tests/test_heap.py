"""Memory that is freed and needed again is not fetched from the system again."""

import ctypes
import platform
import sys
from pathlib import Path

import pytest

from conftest import SRC, run_python
from core import memory as heap

GLIBC = platform.libc_ver()[0] == "glibc"
# Pages that were fetched (minor faults) while 96 MB are filled and freed ten times; then by a
# process that was forked, as data-loading workers are.
PROBE = """
import os, resource, sys
{first}
import numpy as np

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.empty(96 << 20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

np.empty(96 << 20, np.uint8).fill(1)
print(fetched(), flush=True)
if os.fork() == 0:
    fetched()
    print(fetched(), flush=True)
    os._exit(0)
os.wait()
"""
SCRIPT = "from core.flags import load_config; load_config([])"


def fetched(tmp_path: Path, first: str = SCRIPT, **variables: str) -> list[int]:
    env = {"PYTHONPATH": str(SRC), **variables}
    done = run_python("-c", PROBE.format(first=first), cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not GLIBC, reason="another allocator than glibc's")
def test_freed_memory_is_used_again(tmp_path: Path) -> None:
    plain, ours = fetched(tmp_path, first=""), fetched(tmp_path)
    assert min(plain) > 400
    assert max(ours) < 0.02 * min(plain)


@pytest.mark.skipif(not GLIBC, reason="another allocator than glibc's")
@pytest.mark.parametrize("told", ["MALLOC_ARENA_TEST=8", "GLIBC_TUNABLES=glibc.malloc.perturb=0"])
def test_what_the_user_told_the_allocator_stands(tmp_path: Path, told: str) -> None:
    name, _, text = told.partition("=")
    assert min(fetched(tmp_path, **{name: text})) > 400


@pytest.mark.parametrize("system", ["linux", "win32", "darwin"])
def test_other_systems_and_allocators_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(sys, "platform", system)
    # A C library without mallopt, such as musl's.
    monkeypatch.setattr(ctypes, "CDLL", opened.append)
    heap.keep_freed_memory()
    assert opened == [None] * (system == "linux")
