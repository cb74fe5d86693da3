"""COMMANDS.md: what to type to bring a kernel to Kaggle, and --push, which types it."""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from core.errors import UserError
from core.files import writing
from kernel_build.notebook import METADATA, Kernel, slugify

COMMANDS = "COMMANDS.md"
# The client leaves with 0 after some failures: what it says on success is the test.
CREATED = "is being created"
PUSHED = "successfully pushed"
READY = "ready"
COMPLETE = "COMPLETE"
FAILED = ("ERROR", "CANCEL")
POLL = 20.0
PATIENCE = 13 * 3600.0


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of --push."""
    parser.add_argument(
        "--push", action="store_true", help="run the commands with your own kaggle client"
    )
    parser.add_argument("--submit", default="", help="with --push: submit, with this message")


def write_commands(folder: Path, kernel: Kernel, *, submit: str) -> None:
    """Writes COMMANDS.md into a kernel's folder.

    Args:
        submit: slug of the competition to submit to; "" leaves that step out.
    """
    name = f"{kernel.owner}/{slugify(kernel.title)}"
    lines = [
        "# Commands, in this order",
        "",
        "`pip install kaggle six`; run them in this folder.",
        "",
    ]
    if kernel.datasets:
        dataset = kernel.datasets[0]
        lines += [
            "The bundle: the first line once, the second for every later version.",
            "Folders would be left out and archives unpacked, so it holds plain files only.",
            "",
            "```",
            "kaggle datasets create -p bundle --dir-mode zip",
            "kaggle datasets version -p bundle --dir-mode zip -m 'new bundle'",
            f"kaggle datasets status {dataset}   # again until it says ready",
            "```",
            "",
        ]
    lines += [
        "The kernel. Only `successfully pushed` means success: the client leaves with 0 after some",
        "failures. Sources that it calls not valid are missing in the kernel.",
        "",
        "```",
        "kaggle kernels push -p notebook",
        f"kaggle kernels status {name}   # again until it says COMPLETE",
        f"kaggle kernels output {name} -p fetched",
        "```",
    ]
    if submit:
        lines += [
            "",
            "The submission; N is the version that the push named.",
            "",
            "```",
            f"kaggle competitions submit {submit} -k {name} -v N -f submission.csv -m 'message'",
            "```",
        ]
    with writing(folder / COMMANDS) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _client(words: Sequence[str], folder: Path) -> str:
    """What the kaggle client prints for a command.

    Raises:
        UserError: there is no client, or it leaves with an error.
    """
    beside = Path(sys.executable).with_name("kaggle")
    client = str(beside) if beside.is_file() else shutil.which("kaggle")
    if not client:
        raise UserError("no kaggle client: pip install kaggle six, and set up its API token")
    print("kaggle " + " ".join(words), flush=True)
    done = subprocess.run([client, *words], cwd=folder, capture_output=True, text=True)
    # Progress bars are on the other stream than the verdict.
    parts = (done.stdout, done.stderr) if done.returncode else (done.stderr, done.stdout)
    text = "\n".join(parts).strip()
    if done.returncode:
        raise UserError(f"kaggle {' '.join(words[:2])} failed: {_last(text)}")
    return text


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _expect(words: Sequence[str], folder: Path, success: str) -> str:
    text = _client(words, folder)
    if success not in text:
        raise UserError(
            f"kaggle {' '.join(words[:2])} did not say {success!r}: {_last(text)}. Stopped here"
        )
    return text


def _exists(dataset: str, folder: Path) -> bool:
    try:
        _client(["datasets", "status", dataset], folder)
    except UserError as error:
        if "404" in str(error) or "not found" in str(error).lower():
            return False
        # A foreign or missing data set is 403 to some clients; creating it tells the truth.
        if "403" in str(error) or "denied" in str(error).lower():
            return False
        raise
    return True


def _wait(words: Sequence[str], folder: Path, success: str) -> None:
    began = time.monotonic()
    while True:
        text = _client(words, folder)
        if success.lower() in text.lower():
            return
        if any(word in text.upper() for word in FAILED):
            raise UserError(f"kaggle {' '.join(words)}: {_last(text)}")
        if time.monotonic() - began > PATIENCE:
            raise UserError(f"kaggle {' '.join(words)}: not {success} after hours, {_last(text)}")
        time.sleep(POLL)


def push(folder: Path, *, submit: str = "") -> None:
    """Runs the commands of COMMANDS.md, stopping at the first that does not say success.

    Args:
        submit: message of the submission; "" ends with the fetched output.

    Raises:
        UserError: what the client said.
    """
    metadata = json.loads((folder / "notebook" / METADATA).read_text())
    name = metadata["id"]
    for dataset in metadata["dataset_sources"]:
        words = ["-p", "bundle", "--dir-mode", "zip"]
        if _exists(dataset, folder):
            bundle = json.loads((folder / "bundle" / "manifest.json").read_text())["bundle_id"]
            _expect(["datasets", "version", *words, "-m", f"bundle {bundle}"], folder, CREATED)
        else:
            _expect(["datasets", "create", *words], folder, CREATED)
        # At once the answer may be about the version before.
        time.sleep(POLL)
        _wait(["datasets", "status", dataset], folder, READY)
    text = _expect(["kernels", "push", "-p", "notebook"], folder, PUSHED)
    if "not valid" in text:
        raise UserError(f"kaggle kernels push: sources are missing in the kernel: {_last(text)}")
    words = text.partition("Kernel version ")[2].split()
    version = words[0] if words else "1"
    time.sleep(POLL)
    _wait(["kernels", "status", name], folder, COMPLETE)
    _client(["kernels", "output", name, "-p", "fetched"], folder)
    if submit and metadata["competition_sources"]:
        competition = metadata["competition_sources"][0]
        flags = ["-k", name, "-v", version, "-f", "submission.csv", "-m", submit]
        _expect(["competitions", "submit", competition, *flags], folder, "uccessfully submitted")
    print(f"done: https://www.kaggle.com/code/{name}")
