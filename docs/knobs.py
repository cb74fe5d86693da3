"""Writes the table of every knob into docs/training.md, from the comments of src/config.py.

python docs/knobs.py
"""

import re
import sys
from itertools import groupby
from pathlib import Path

PAGE = Path(__file__).with_name("training.md")
SRC = PAGE.parents[1] / "src"
MARK = "<!-- knobs: written by `python docs/knobs.py` -->"


def knob_tables() -> str:
    """A heading and a table for each section of config.py: knob (* if free), default, meaning."""
    from core.knobs import read_knobs

    path, lines = SRC / "config.py", []
    free = set(re.findall(r"^(\w+): Free\[", path.read_text(encoding="utf-8"), re.MULTILINE))
    for section, knobs in groupby(read_knobs(path), key=lambda knob: knob[0]):
        lines += [f"### {section}", "", "| knob | default | meaning |", "| --- | --- | --- |"]
        for _, name, default, comment in knobs:
            cells = [f"`{name}`" + " \\*" * (name in free), f"`{default}`", comment]
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def page_with_knobs(text: str) -> str:
    """The page `text` with everything after the mark made anew."""
    return text.partition(MARK)[0] + f"{MARK}\n\n{knob_tables()}"


def main() -> int:
    """Writes docs/training.md."""
    PAGE.write_text(page_with_knobs(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote the knobs of src/config.py: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(SRC))
    raise SystemExit(main())
