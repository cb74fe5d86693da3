"""Memory and open files of ensemble.py over a hundred thousand small test images.

python tests/soak.py --images 100000    a table: images done, memory, open files, of all processes

The images are noise of 32 x 32 pixels, the network is that of tiny_net.py. The exit code is 1 where
memory or open files grow after the first tenth by more than what --growth allows.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd

SIDE = 32
# Bytes an image may add: its id, its place in the part file and in the plan.
GROWTH = 2000
# Files that batches on their way may hold open, now more and now fewer.
FILES = 10


class Sample(NamedTuple):
    """What the processes of a call hold at a moment."""

    images: int
    megabytes: float
    files: int


def write_test_images(competition: Any, count: int) -> None:
    """Replaces the test images and the sample by `count` pictures of noise."""
    rng = np.random.default_rng(0)
    folder = competition.input / "test_hq"
    for path in folder.iterdir():
        path.unlink()
    names = [f"soak{at:06d}_01.png" for at in range(count)]
    for name in names:
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    sample = pd.DataFrame({"img": names, "rle_mask": "1 1"})
    sample.to_csv(competition.input / "sample_submission.csv", index=False)


def family(process: int) -> list[int]:
    """A process and those that it has started."""
    try:
        told = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(one for child in told for one in family(int(child)))]


def sample(process: int, part: Path) -> Sample:
    """Memory that is not shared, and open files, of a process and its workers."""
    size, files = 0, 0
    for one in family(process):
        try:
            told = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            size += sum(int(line.split()[1]) for line in told if line.startswith("Pss:"))
            files += len(os.listdir(f"/proc/{one}/fd"))
        except OSError:  # it ended
            continue
    done = part.read_bytes().count(b"\n") - 1 if part.is_file() else 0
    return Sample(max(0, done), size / 1024, files)


def follow(process: int, part: Path, every: float, ended: threading.Event) -> list[Sample]:
    """Samples of a call until it ends."""
    samples = []
    while not ended.wait(every):
        samples.append(sample(process, part))
        print("| {:,} | {:.0f} | {} |".format(*samples[-1]), flush=True)
    return samples


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=10, help="seconds between two looks")
    parser.add_argument("--growth", type=float, default=GROWTH, help="bytes an image may add")
    args = parser.parse_args()
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]
    os.environ["KAGGLE_ROOT"] = "/nowhere"

    import kills
    from conftest import write_competition
    from stages import train_and_score

    with tempfile.TemporaryDirectory() as name:
        competition = train_and_score(write_competition(Path(name).resolve()))
        write_test_images(competition, args.images)
        words = competition.flags("--num-workers", str(args.workers), "--val-batch-size", "64")
        print("| images | memory, MB | open files |\n| --- | --- | --- |", flush=True)
        began = time.monotonic()
        child = kills.start(competition, "ensemble", words, lambda: None)
        ended, samples = threading.Event(), list[Sample]()
        part = competition.output / "baseline" / "submission.0of1.part.jsonl"

        def look() -> None:
            samples.extend(follow(child, part, args.every, ended))

        looking = threading.Thread(target=look)
        looking.start()
        _, status = os.waitpid(child, 0)
        ended.set()
        looking.join()
        kills.SCRIBES.pop(child).wait()
        print(kills.log_of(competition).read_text().strip().splitlines()[-1])
    code = os.waitstatus_to_exitcode(status)
    print(f"{args.images:,} images in {time.monotonic() - began:.0f} s, exit code {code}")
    return code or judge(samples, args.images, args.growth)


def judge(samples: list[Sample], images: int, growth: float) -> int:
    """1 where what is held grows with the images after the first tenth of them."""
    later = [one for one in samples if images / 10 <= one.images < images]
    if len(later) < 4:
        print("too few looks to tell: look more often (--every)")
        return 1
    done = np.array([one.images for one in later])
    slope = np.polyfit(done, [one.megabytes for one in later], 1)[0] * 2**20
    halves = [
        np.median([one.files for one in half])
        for half in (later[: len(later) // 2], later[len(later) // 2 :])
    ]
    print("{:.0f} bytes an image; open files {:.0f}, later {:.0f}".format(slope, *halves))
    return int(slope > growth or halves[1] > halves[0] + FILES)


if __name__ == "__main__":
    raise SystemExit(main())
