"""Measures, side by side, what others do, what we do, and what the machine allows.

python benchmarks/run.py              every benchmark of DEFAULT: minutes
python benchmarks/run.py loader rle   some of them
python benchmarks/run.py --table      writes RESULTS.md from the numbers there are
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from core.errors import UserError, script
from core.memory import keep_freed_memory
from harness import machine
from table import write_table

RESULTS = Path(__file__).resolve().parent / "results"
# Quick ones first; what needs quality data, hours or a GPU is asked for by name.
DEFAULT = (
    "startup",
    "rle",
    "folds",
    "decode",
    "cache",
    "loader",
    "memory",
    "ensemble",
    "step",
    "ladder",
    "epoch",
)
EXTRA = ("quality", "short", "recipe", "ablation", "growth", "stream", "gpu")


def measure(name: str, folder: Path, *, toy: bool = False) -> Path:
    """Runs one benchmark and writes its JSON into `folder`."""
    around = machine()
    begin = time.perf_counter()
    lines = importlib.import_module(f"bench_{name}").run(toy=toy)
    values = {
        "name": name,
        "machine": around,
        "seconds": round(time.perf_counter() - begin, 1),
        "date": time.strftime("%Y-%m-%d"),
        "toy": toy,
        "lines": [line.to_dict() for line in lines],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(values, indent=1) + "\n")
    return path


@script
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DEFAULT + EXTRA))
    parser.add_argument("--toy", action="store_true", help="tiny sizes: does it run? No numbers")
    parser.add_argument("--table", action="store_true", help="only write RESULTS.md anew")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in DEFAULT + EXTRA]
    if unknown:
        known = ", ".join(DEFAULT + EXTRA)
        raise UserError(f"no benchmark {', '.join(unknown)}; there are {known}")
    # Every arm alike, but those of `step` and `ladder`, which are processes of their own.
    keep_freed_memory()
    begin = time.perf_counter()
    for name in () if args.table else args.names or DEFAULT:
        measure(name, args.results, toy=args.toy)
    path = write_table(args.results, args.results.parent / "RESULTS.md")
    print(f"{time.perf_counter() - begin:.0f} s; table and plot: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
