"""Writes the page to look at: output/<RUN>/report.html, and classes.csv, a row a class.

One file that needs nothing else: scores by fold, curves, classes, confusion, threshold,
calibration, worst and best cases, tuning, time, knobs. Lightning_tester.py and tune.py write it;
this script makes it again from what they left. What is missing is said on the page.
"""

from collections.abc import Sequence

from core.errors import script
from core.flags import load_config


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, _ = load_config(argv, description=__doc__)

    from reporting.build import write_page

    path = write_page(config)
    print(f"report of run {config.RUN!r}, {path.stat().st_size / 1e6:.1f} MB: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
