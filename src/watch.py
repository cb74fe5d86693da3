"""All runs of LOGS while they train: a table here, their curves in output/watch.html.

Both come from the runs' files alone and renew themselves until Ctrl-C: open the page in a browser
and leave it open.
--every 10   seconds between looks
--once       one look, and the end
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import time
from collections.abc import Sequence

from core.errors import UserError, script
from core.flags import load_config, number

DAY = 86400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--every", type=number(1, DAY, kind=float), default=10, help="seconds between two looks"
    )
    parser.add_argument("--once", action="store_true", help="look once")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)

    from reporting.watching import fold_rows, look_at_runs, write_watch_page

    shown: list[str] = []
    while True:
        runs = look_at_runs(config.LOGS, config.OUTPUT)
        if not runs and args.once:
            raise UserError(f"no run in {config.LOGS} to watch")
        path = write_watch_page(config.OUTPUT / "watch.html", runs, 0 if args.once else args.every)
        lines = fold_rows(runs)
        if lines != shown:
            print("\n".join(lines) or f"no run in {config.LOGS} yet", flush=True)
            shown = lines
        if args.once:
            print(f"curves: {path}")
            return 0
        time.sleep(args.every)


if __name__ == "__main__":
    raise SystemExit(main())
