"""The floors of src/: a room imports only from rooms below its own, inside functions too."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from conftest import SRC, run_python
from kernel_build.image import local_imports

# From the roof to the ground; rooms on one floor do not know each other. The rest are scripts.
FLOORS = [
    ("looking",),
    ("reporting", "tuning", "kernel_build"),
    ("submissions",),
    ("runs",),
    ("scoring", "inference"),
    ("Lightning_module", "Lightning_datamodule"),
    ("dataset",),
    ("data",),
    ("training",),
    ("model_dispatcher", "losses", "metrics", "augmentations"),
    ("measures", "postprocessing", "networks", "criteria"),
    ("competition",),
    ("imaging",),
    ("streaming",),
    ("kernel_side", "demo", "config"),
    ("core",),
]
HEIGHT = {room: -at for at, floor in enumerate(FLOORS) for room in floor}


@pytest.mark.parametrize(
    "path", sorted(SRC.rglob("*.py")), ids=lambda path: path.relative_to(SRC).as_posix()
)
def test_a_room_imports_only_from_rooms_below(path: Path) -> None:
    room = path.relative_to(SRC).parts[0].removesuffix(".py")
    for module in local_imports(SRC, path.read_text(encoding="utf-8")):
        other = module.partition(".")[0]
        assert other == room or HEIGHT.get(other, 1) < HEIGHT.get(room, 1), module


def test_json_is_read_through_its_gate_alone() -> None:
    """Python's own reader has an error of its own for a text that is nested deeply."""
    read = {path for path in SRC.rglob("*.py") if "json.load" in path.read_text(encoding="utf-8")}
    assert {path.parent.name for path in read} == {"core", "kernel_side"}
    assert [path.name for path in read if path.parent.name == "core"] == ["gates.py"]


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {
        ".".join(path.relative_to(SRC).with_suffix("").parts): local_imports(
            SRC, path.read_text(encoding="utf-8")
        )
        for path in SRC.rglob("*.py")
    }
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle's files


def test_a_room_says_in_a_line_what_it_is() -> None:
    """And has an __init__.py: without one a package of its name in site-packages wins."""
    for room in {path.parent for path in SRC.rglob("*.py")} - {SRC}:
        assert re.fullmatch(r'"""[^\n]+"""\n', (room / "__init__.py").read_text()), room


HEAD = """
from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

"""


@pytest.mark.parametrize("path", sorted(SRC.glob("*.py")), ids=lambda path: path.name)
def test_a_script_hears_ctrl_c_before_it_imports_anything_else(path: Path) -> None:
    _, _, code = path.read_text(encoding="utf-8").partition('"""\n')
    assert code.startswith(HEAD) == ("raise SystemExit(main())" in code)


def test_a_wrong_flag_is_told_before_arrays_are_loaded() -> None:
    """NumPy, pandas and torch take up to seconds; folds.py and tiles.py need arrays at once."""
    scripts = [
        path.stem
        for path in SRC.glob("*.py")
        if "stop_while_loading" in path.read_text(encoding="utf-8")
        and path.stem not in ("folds", "tiles")
    ]
    assert len(scripts) > 12
    heavy = "('numpy', 'pandas', 'torch', 'cv2', 'PIL')"
    probe = f"import sys, {', '.join(scripts)}\nprint([m for m in {heavy} if m in sys.modules])"
    assert run_python("-c", probe, PYTHONPATH=str(SRC)).stdout.split() == ["[]"]


UNIX = {"fcntl", "resource", "termios", "pty", "pwd", "grp"}


@pytest.mark.parametrize(
    "path", sorted(SRC.rglob("*.py")), ids=lambda path: path.relative_to(SRC).as_posix()
)
def test_a_module_imports_on_windows(path: Path) -> None:
    """What only Unix has is imported inside the functions that only Unix calls."""
    lines = path.read_text(encoding="utf-8").splitlines()
    top = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert not {name.partition(".")[0] for name in top} & UNIX


def test_the_formatter_has_the_last_word() -> None:
    """No line asks the formatter to look away: what it makes ugly is written in another way."""
    mark = "fmt: " + "skip"
    files = [*SRC.rglob("*.py"), *Path(__file__).parent.glob("*.py")]
    assert [path.name for path in files if mark in path.read_text(encoding="utf-8")] == []
