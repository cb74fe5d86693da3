"""What a kernel is told of the call that makes it: its runs, names, knobs and sample submission."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from competition.spec import Competition
from core.errors import UserError, raise_all
from core.knobs import PREFIX, fill, spell
from core.recipes import recipe_file
from runs.measured import Asked, pixel_values

if TYPE_CHECKING:
    from submissions.answer import Answer

HOST_KNOBS = (
    *("INPUT", "OUTPUT", "LOGS", "RUN", "COMPETITION", "ENCODER_WEIGHTS"),
    *("ACCELERATOR", "DEVICES", "STRATEGY", "NUM_WORKERS", "SHARDS"),
)
# The fields of imaging.rle.Layout.
LAYOUT_KNOBS = ("RLE_ORDER", "RLE_BASE", "RLE_RELATIVE")
MEASURED_KNOBS = ("VALUE_RANGE", "MODEL_MEAN", "MODEL_STD")
MOST_TITLE = 50
UNDER_INPUT = ("TRAIN_PATH", "MASK_PATH", "VALID_PATH", "TEST_PATH", "TRAIN_CSV", "TEST_CSV")


def travelling_knobs(config: Any) -> list[str]:
    """Flags for Kaggle: every override of this call but those that describe this machine.

    What config.py itself says travels with the file.

    Raises:
        UserError: a path outside INPUT.
    """
    asked, flags = fill(Asked, config), []
    numbers = zip(MEASURED_KNOBS, pixel_values(asked).values(), strict=True)
    measured = dict(numbers) if asked.measured else {}
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX)):
        name, text = variable.removeprefix(PREFIX), os.environ[variable]
        if name in (*HOST_KNOBS, *LAYOUT_KNOBS, *measured):
            continue
        if name == "RECIPE":
            # Its flags are among these already.
            path = recipe_file()
            flags += ["--recipe", path.stem] if path else []
            continue
        if name in UNDER_INPUT and Path(text).is_absolute():
            if not Path(text).is_relative_to(config.INPUT):
                raise UserError(f"{name}: {text} is outside INPUT, Kaggle mounts INPUT only")
            text = Path(text).relative_to(config.INPUT).as_posix()
        flags += ["--" + name.lower().replace("_", "-"), text]
    flags += ["--shards", ""] if config.SHARDS else []  # Kaggle mounts INPUT
    for name, values in measured.items():
        flags += ["--" + name.lower().replace("_", "-"), spell(values)]
    from competition.run_layout import run_layout
    from runs.experiment import competition_of

    # What was recognised here is told there, where TRAIN_CSV may be missing.
    layout = run_layout(competition_of(config))
    for name, value in zip(LAYOUT_KNOBS, layout, strict=True):
        flags += ["--" + name.lower().replace("_", "-"), str(value).lower()]
    return flags


def runs_of(args: argparse.Namespace, run: str) -> list[str]:
    """The runs of --runs, or RUN."""
    return args.runs or [run]


def kernel_folder(output: Path, runs: Sequence[str], args: argparse.Namespace) -> Path:
    """Where the kernel of these runs is: output/<runs>/kernel/."""
    training = args.verb == "train" or getattr(args, "train", False)
    return output / "+".join(runs) / ("train_kernel" if training else "kernel")


def names_of(
    args: argparse.Namespace, runs: Sequence[str], competition: str, kind: str
) -> tuple[str, str, str]:
    """(owner, kernel title, data set title).

    Raises:
        UserError: no owner or no competition, or a title that Kaggle does not take.
    """
    owner = args.owner or os.environ.get("KAGGLE_USERNAME", "")
    if not owner:
        raise UserError("--owner: need your Kaggle user name")
    if not competition:
        raise UserError("COMPETITION: need the slug of kaggle.com/competitions/<slug>")
    title = args.title or f"{'+'.join(runs)} {kind}".replace("_", " ")
    dataset = args.dataset_title or f"{title} bundle"
    asked = (("--title", title, 5), ("--dataset-title", dataset, 6))
    raise_all(
        [
            f"{flag}: got {len(text)} characters, {text!r}, need {least} to {MOST_TITLE}"
            for flag, text, least in asked
            if not least <= len(text) <= MOST_TITLE
        ],
        "titles that Kaggle does not take:",
    )
    return owner, title, dataset


def sample_of(competition: Competition, answer: "Answer") -> dict[str, Any]:
    """What a Job says of the sample submission and of the answer.

    Raises:
        UserError: the sample has no header, to which the answer is compared on Kaggle.
    """
    from competition.table_files import table_form
    from kernel_side.mount import read_rows

    path, root = competition.test_csv, competition.input
    if not path.is_file():
        path = competition.test_path
    is_table = path.suffix.lower() == ".csv"
    if is_table and not table_form(path)[1]:
        raise UserError(
            f"{path} has no header, what a kernel hands in has one: kernels are for samples with a "
            "header; send answer.csv, as folds.py's note says"
        )
    columns = read_rows(path)[0] if is_table else []
    return {
        "columns": tuple(columns),
        "id_column": answer.plan.columns.id,
        "rle_column": answer.plan.columns.rle,
        "sample": path.relative_to(root).as_posix(),
        "answer": answer.name,
        "listed": bool(columns) and not answer.plan.ids.template,
    }


def answer_knobs(answer: "Answer") -> list[str]:
    """Flags for what was recognised here and must be the same where training files are missing."""
    from submissions.formats import SUBMISSIONS

    name = next(name for name, kind in SUBMISSIONS.items() if type(answer.form) is kind)
    flags = ["--submission", name, "--submission-rows", answer.plan.kind]
    return [*flags, f"--rle-empty={answer.form.empty}", *answer.form.knobs()]
