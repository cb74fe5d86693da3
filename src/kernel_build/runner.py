"""Kaggle's batch runner, here: a notebook, read-only mounts, no network, the image's gaps.

With Linux namespaces (root, or users who may make them) /kaggle is real, /kaggle/input cannot be
written and there is no network. Elsewhere KAGGLE_ROOT stands for /kaggle, and Python refuses
connections.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from core.errors import UserError
from core.records import read_object

RUNNER = ("papermill", "ipykernel", "nbconvert")
# Hides what the image lacks in the folder where it is installed here, and there only.
SITE = """
import importlib.machinery, os, socket, sys
HIDDEN = {hidden!r}
class Gaps:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is not None or name not in HIDDEN:
            return None
        kept = [p for p in sys.path if os.path.realpath(p or ".") != HIDDEN[name]]
        found = importlib.machinery.PathFinder.find_spec(name, kept)
        if found is None:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
        return found
sys.meta_path.insert(0, Gaps)
if {offline!r}:
    def guard(method):
        def connect(self, address):
            if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1")) \\
                    and address[0] != "localhost":
                raise OSError("no network: " + repr(address))
            return method(self, address)
        return connect
    socket.socket.connect = guard(socket.socket.connect)
    socket.socket.connect_ex = guard(socket.socket.connect_ex)
"""
SCRIPT = """
set -eu
target=$1; root=$2; shift 2
ip link set lo up
[ "$target" = "$root" ] || mount --bind "$root" "$target"
mount --bind "$target/input" "$target/input"; mount -o remount,bind,ro "$target/input"
while [ "$1" != -- ]; do
  mount --bind "$1" "$target/$2"; mount -o remount,bind,ro "$target/$2"; shift 2
done
shift; cd "$target/working"; exec "$@"
"""


@cache
def namespaces() -> tuple[str, ...]:
    """The unshare command that this machine allows, or () for none."""
    if not (shutil.which("unshare") and shutil.which("ip") and shutil.which("mount")):
        return ()
    for flags in ("-mn", "-rmn"):
        words = ("unshare", flags, "--propagation", "private")
        probe = [*words, "sh", "-c", "ip link set lo up && mount --bind /tmp /tmp"]
        if not subprocess.run(probe, capture_output=True).returncode:
            return words
    return ()


def installed_at(module: str) -> str | None:
    """The folder on sys.path that holds a package."""
    found = find_spec(module)
    if found is None or not found.origin:
        return None
    return os.path.realpath(Path(found.origin).parents[1])


def run_notebook(
    notebook: Path,
    root: Path,
    *,
    mounted: Mapping[str, Path],
    hidden_modules: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    isolate: bool = True,
) -> Path:
    """Executes a notebook as Kaggle's batch runner does; returns its /kaggle/working.

    Args:
        root: folder that becomes /kaggle: input/ and working/ are made in it.
        mounted: path under root, such as input/demo, to the folder that is mounted there.
        hidden_modules: packages that Kaggle's image lacks.
        variables: more environment.
        isolate: False leaves namespaces out.

    Raises:
        UserError: a cell fails, with its error in one line.
    """
    missing = [name for name in RUNNER if find_spec(name) is None]
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}. pip install -r requirements-dev.txt")
    working = root / "working"
    for folder in (root / "input", working, root / "site"):
        folder.mkdir(parents=True, exist_ok=True)
    unshare = namespaces() if isolate else ()
    hidden = {name: installed_at(name) for name in hidden_modules if installed_at(name)}
    site = SITE.format(hidden=hidden, offline=not unshare)
    (root / "site" / "sitecustomize.py").write_text(site)
    shutil.copyfile(notebook, working / "__notebook__.ipynb")
    words = [sys.executable, "-m", "papermill", "--no-progress-bar", "__notebook__.ipynb"]
    words += ["__notebook__.ipynb"]
    # Short, as /tmp is there: names of sockets between processes hold a hundred characters.
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as scratch:
        more = {"TMPDIR": scratch, "HOME": scratch, **(variables or {})}
        if unshare:
            with _mount_point(Path("/kaggle")) as there:
                target = Path("/kaggle") if there else root
                command = _wrapped(unshare, root, target, mounted, words)
                done = _execute(command, working, _environment(root, target, more))
        else:
            _link(root, mounted)
            done = _execute(words, working, _environment(root, root, more))
    (root / "papermill.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise UserError(f"the notebook stops: {_error_of(working, done.stderr)}")
    return working


@contextmanager
def _mount_point(path: Path) -> Iterator[bool]:
    """Whether an empty folder is there to mount on; made where it may be, removed by the last.

    Removing it would end the mounts of other rehearsals: they hold a lock.
    """
    import fcntl  # Unix only, as namespaces are

    lock = Path(tempfile.gettempdir()) / f"rehearsal_{os.getuid()}.lock"
    with lock.open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        try:
            path.mkdir()
            stream.write("made\n")
            stream.flush()
        except OSError:
            pass
        yield path.is_dir()
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        stream.seek(0)
        if stream.read():
            stream.truncate(0)
            with suppress(OSError):
                path.rmdir()


def _execute(
    words: Sequence[str], working: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=working, env=dict(env), capture_output=True, text=True)


def _wrapped(
    unshare: Sequence[str],
    root: Path,
    target: Path,
    mounted: Mapping[str, Path],
    words: Sequence[str],
) -> list[str]:
    binds = []
    for name, source in mounted.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        binds += [str(source.resolve()), name]
    return [*unshare, "bash", "-c", SCRIPT, "_", str(target), str(root), *binds, "--", *words]


def _link(root: Path, mounted: Mapping[str, Path]) -> None:
    for name, source in mounted.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(source.resolve(), target_is_directory=True)


def _environment(root: Path, target: Path, more: Mapping[str, str]) -> dict[str, str]:
    ours = ("SEG_", "KAGGLE", "KERNEL_", "PYTHONPATH", "JUPYTER")
    env = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    # Nothing listens on port 1.
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _DEAD)
    return {
        **env,
        **dead,
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLE_ROOT": str(target),
        "PYTHONPATH": str(root / "site"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        **more,
    }


_DEAD = "http://127.0.0.1:1"


def _error_of(working: Path, stderr: str) -> str:
    """The failed cell's error in one line, or the runner's own last line."""
    notebook = read_object(working / "__notebook__.ipynb", "run it again", "cells")
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                message = "; ".join(part.strip() for part in output["evalue"].splitlines())
                known = output["ename"] == "UserError"
                return message if known else f"{output['ename']}: {message}"
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else "the runner said nothing"


def write_html(working: Path) -> None:
    """Converts the executed notebook as the platform does after a run.

    Raises:
        UserError: nbconvert fails.
    """
    words = [sys.executable, "-m", "nbconvert", "--to", "html", "--output", "__results__.html"]
    done = subprocess.run(
        [*words, "__notebook__.ipynb"], cwd=working, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"nbconvert fails: {_error_of(working, done.stderr)}")
