"""Does memory grow with the number of images? The whole process tree of ensemble.py, sampled."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from frames import frames, scratch
from harness import ROOT, Line, Target, gate
from noise import write_run

NETWORK = "smp_linknet_tu-mobilenetv3_small_050"


def run(*, toy: bool) -> list[Line]:
    """MB more a thousand images, by a straight line through the last two thirds of a run."""
    count = 60 if toy else 2000
    root, source = scratch("memory"), frames(toy=True)
    folder = root / "input"
    (folder / "test_hq").mkdir(parents=True)
    originals = sorted((source / "test_hq").glob("*.jpg"))
    ids = [f"x{at:05d}_01" for at in range(count)]
    for at, img in enumerate(ids):
        os.link(originals[at % len(originals)], folder / "test_hq" / f"{img}.jpg")
    with (folder / "sample_submission.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("img", "rle_mask"), *((f"{img}.jpg", "1 1") for img in ids)])
    write_run(root, NETWORK, 64, folds=1)
    code, samples = watch(root, folder)
    done, used = np.array(samples).T
    late, after = (done > count / 3) & (done < count), done == count
    slope = float(np.polyfit(done[late], used[late], 1)[0]) * 1000 if late.sum() > 2 else 0.0
    line = Line(
        f"memory of ensemble.py, {count:,} images",
        "MB (PSS)",
        {"ours": used[late].tolist() or used[-1:].tolist()},
        gate(code == 0, "a checked submission"),
        [Target("MB more per 1,000 images", slope, 5.0, at_least=False)],
        "Proportional set size of all its processes, every 0.1 s, while it predicts.",
    )
    if after.any():
        line.notes += f" Writing and checking the submission: {used[after].max():.0f} MB at most."
    print(f"{line.name}: {len(samples)} samples, {slope:.2f} MB per 1,000 images", flush=True)
    return [line]


def watch(root: Path, folder: Path) -> tuple[int, list[tuple[int, float]]]:
    """Exit code, and (images done, MB) while it predicts."""
    words = [
        *("--input", str(folder), "--output", str(root / "output"), "--logs", str(root / "logs")),
        *("--run", "bench", "--rle-order", "row"),
    ]
    log = (root / "log.txt").open("w")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "ensemble.py"), *words], stdout=log, stderr=log
    )
    part = root / "output" / "bench" / "submission.0of1.part.jsonl"
    samples = []
    while process.poll() is None:
        done = part.read_bytes().count(b"\n") - 1 if part.exists() else 0
        used = tree_memory(process.pid)
        if done > 0 and used > 0:  # 0: it has just ended
            samples.append((done, used))
        time.sleep(0.1)
    log.close()
    return process.returncode, samples or [(0, 0.0)]


def tree_memory(pid: int) -> float:
    """MB that a process and its descendants hold, shared pages counted once; 0: it has ended."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    mine = next(int(row.split()[1]) for row in rows if row.startswith("Pss:")) / 1024
    return mine + sum(tree_memory(int(child)) for child in children)
