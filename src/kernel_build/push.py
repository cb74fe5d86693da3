"""COMMANDS.md: what to type to bring a kernel to Kaggle, and --push, which types it."""

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from core.errors import UserError
from core.files import writing
from core.records import read_object
from kernel_build.notebook import AGAIN, METADATA, Kernel, slugify

COMMANDS = "COMMANDS.md"
# The client leaves with 0 after some failures: what it says on success is the test.
CREATED = "is being created"
PUSHED = "successfully pushed"
READY = "READY"
COMPLETE = "COMPLETE"
FAILED = ("ERROR", "CANCEL", "FAILED", "DELETED")
# Foreign or missing: to some clients one, to others the other.
ABSENT = {"403", "404"}
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


class ClientError(UserError):
    """The client left with an error.

    Attributes:
        answer: all that it said, on both streams.
    """

    def __init__(self, words: Sequence[str], answer: str):
        lines = [line.strip() for line in answer.splitlines() if line.strip()]
        told = "; ".join(lines) or "it said nothing"
        super().__init__(f"kaggle {' '.join(words[:2])} failed: {told}")
        self.answer = answer


def _client(words: Sequence[str], folder: Path) -> str:
    """What the kaggle client prints for a command.

    Raises:
        ClientError: it leaves with an error.
        UserError: there is no client.
    """
    beside = Path(sys.executable).with_name("kaggle")
    client = str(beside) if beside.is_file() else shutil.which("kaggle")
    if not client:
        raise UserError("no kaggle client: pip install kaggle six, and set up its API token")
    print("kaggle " + " ".join(words), flush=True)
    done = subprocess.run([client, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        # Clients before 2 tell errors on stdout.
        raise ClientError(words, f"{done.stdout}\n{done.stderr}")
    return done.stdout


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
    """Whether the user has this data set, by the client's exit code.

    Raises:
        ClientError: an answer of the server that says neither, such as 401 or 500.
    """
    try:
        _client(["datasets", "status", dataset], folder)
    except ClientError as error:
        codes = set(re.findall(r"\b([45]\d\d) (?:Client|Server) Error", error.answer))
        # Without a code it is taken as missing too: creating it tells the truth.
        if codes - ABSENT:
            raise
        return False
    return True


def _state(text: str) -> str:
    """The state a status command names, upper case: `ready` or `me/x has status "A.COMPLETE"`."""
    quoted = re.search(r' has status "(?:\w+\.)?(\w+)"', text)
    return (quoted[1] if quoted else _last(text)).upper()


def _wait(words: Sequence[str], folder: Path, success: str) -> None:
    began = time.monotonic()
    while True:
        text = _client(words, folder)
        state = _state(text)
        if state == success:
            return
        if state.startswith(FAILED):
            raise UserError(f"kaggle {' '.join(words)}: {_last(text)}")
        if time.monotonic() - began > PATIENCE:
            raise UserError(f"kaggle {' '.join(words)}: not {success} after hours, {_last(text)}")
        time.sleep(POLL)


def _version(text: str) -> str:
    """The version that a push names."""
    named = re.search(r"Kernel version (\d+)", text)
    if not named:
        raise UserError(
            f"kaggle kernels push names no version: {_last(text)}. Submit by hand, {COMMANDS} "
            "says how"
        )
    return named[1]


def push(folder: Path, *, submit: str = "") -> None:
    """Runs the commands of COMMANDS.md, stopping at the first that does not say success.

    Args:
        submit: message of the submission; "" ends with the fetched output.

    Raises:
        UserError: what the client said.
    """
    sources = ("id", "dataset_sources", "competition_sources")
    metadata = read_object(folder / "notebook" / METADATA, AGAIN, *sources)
    name = metadata["id"]
    for dataset in metadata["dataset_sources"]:
        words = ["-p", "bundle", "--dir-mode", "zip"]
        if _exists(dataset, folder):
            manifest = read_object(folder / "bundle" / "manifest.json", AGAIN, "bundle_id")
            bundle = manifest["bundle_id"]
            _expect(["datasets", "version", *words, "-m", f"bundle {bundle}"], folder, CREATED)
        else:
            _expect(["datasets", "create", *words], folder, CREATED)
        # At once the answer may be about the version before.
        time.sleep(POLL)
        _wait(["datasets", "status", dataset], folder, READY)
    text = _expect(["kernels", "push", "-p", "notebook"], folder, PUSHED)
    if "not valid" in text:
        raise UserError(f"kaggle kernels push: sources are missing in the kernel: {_last(text)}")
    submits = bool(submit and metadata["competition_sources"])
    version = _version(text) if submits else ""
    time.sleep(POLL)
    _wait(["kernels", "status", name], folder, COMPLETE)
    _client(["kernels", "output", name, "-p", "fetched"], folder)
    if submits:
        competition = metadata["competition_sources"][0]
        flags = ["-k", name, "-v", version, "-f", "submission.csv", "-m", submit]
        _expect(["competitions", "submit", competition, *flags], folder, "uccessfully submitted")
    print(f"done: https://www.kaggle.com/code/{name}")
