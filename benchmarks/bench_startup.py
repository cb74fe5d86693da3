"""How long a command takes to say something."""

import subprocess
import sys
from pathlib import Path

from harness import ROOT, Line, Target, gate, per, race


def run(*, toy: bool) -> list[Line]:
    """--help of every script and a wrong flag; the floor is bare Python."""
    names = ["Lightning_trainer"] if toy else script_names()
    commands = [(name, ["--help"], 0) for name in names]
    commands.append(("Lightning_trainer", ["--epoch", "3"], 2))
    return [line_of(*command, repeats=2 if toy else 7) for command in commands]


def script_names() -> list[str]:
    """Every file of src/ that is a command."""
    paths = sorted((ROOT / "src").glob("*.py"))
    return [path.stem for path in paths if "\n@script\n" in path.read_text()]


def line_of(script: str, words: list[str], code: int, *, repeats: int) -> Line:
    """One command; against `import torch`, which costs seconds, where it is a wrong flag."""
    command = [sys.executable, str(ROOT / "src" / f"{script}.py"), *words]

    def call(*words: str) -> int:
        return subprocess.run(words, capture_output=True, cwd=Path(ROOT)).returncode

    arms = {
        "ours": lambda: call(*command),
        "floor": lambda: call(sys.executable, "-c", "pass"),
    }
    if code:
        arms["reference"] = lambda: call(sys.executable, "-c", "import torch")
    name = f"{script}.py {' '.join(words)}"
    checked = gate(call(*command) == code, f"exit code {code}")
    line = Line(name, "ms", per(race(arms, what=name, repeats=repeats), 1000), checked)
    line.notes = "Reference: `import torch` alone." if code else ""
    line.targets = [Target("ms", line.median("ours"), 300, at_least=False)]
    return line
