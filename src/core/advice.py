"""Commands that messages advise: with the recipe and the flags in force, ready to paste."""

import shlex
from collections.abc import Iterable

_in_force: dict[str, str] = {}
# Flags that name a run to begin from, or to learn from.
ELDERS = {"--init-ckpt", "--pseudo"}
MORE = "--trainer-kwargs"


def remember(files: Iterable[str], flags: Iterable[tuple[str, str]]) -> None:
    """Notes what the present command was given: @files, and knobs with their texts."""
    _in_force.clear()
    _in_force.update(dict.fromkeys(files, ""))
    _in_force.update(flags)


def command(script: str, *, run: str = "", verb: str = "") -> str:
    """Such as `python src/tune.py @recipes/mine.args --input data --run wide`.

    Args:
        script: its name without .py.
        verb: of it, such as tta.
        run: where it is of another run than the present command may be.
    """
    flags = dict(_in_force)
    if script == "Lightning_trainer" and "fast_dev_run" in flags.get(MORE, ""):
        del flags[MORE]  # leaves no network behind
    if run:
        flags = {flag: text for flag, text in flags.items() if flag not in ELDERS or text != run}
        flags["--run"] = run
    words = [word for flag, text in flags.items() for word in _spell(flag, text)]
    return shlex.join(["python", f"src/{script}.py", *([verb] if verb else []), *words])


def _spell(flag: str, text: str) -> list[str]:
    if flag.startswith("@"):
        return [flag]
    return [f"{flag}={text}"] if text.startswith("-") or not text else [flag, text]
