"""The steps of look.py: lines on files and masks, the look at all images, lines on training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from competition.spec import Competition
from core.errors import UserError
from core.flags import load_config
from core.quantities import counted
from looking.findings import FINDINGS
from looking.lines import Line
from looking.seen import Seen


def first_lines(layout: Any, told: dict[str, Line]) -> dict[str, dict[str, Line]]:
    """Lines on files, masks, images and the answer, by heading; what the user told stands."""
    from looking.answer_lines import answer_lines
    from looking.mask_lines import mask_lines
    from looking.place_lines import image_lines, place_lines

    masks = as_lines(mask_lines(layout), told)
    said = {knob: line.value for knob, line in {**masks, **told}.items()}
    count = said.get("CLASSES", "")
    answer = answer_lines(layout, said.get("TASK", ""), int(count) if count.isdigit() else 0)
    return {
        "Files": as_lines(place_lines(layout), told),
        "Masks": masks,
        "Images": as_lines(image_lines(layout.survey.root, layout.train), told),
        "Answer": {} if "SUBMISSION" in told else as_lines(answer, told),
    }


def as_lines(lines: Any, told: dict[str, Line]) -> dict[str, Line]:
    """Lines by knob, the user's own in their place."""
    return {line.knob: told.get(line.knob, line) for line in lines}


def flat(sections: dict[str, dict[str, Line]]) -> dict[str, Line]:
    """All lines by knob."""
    return {knob: line for lines in sections.values() for knob, line in lines.items()}


def look_at_all(
    competition: Competition,
    pixels: Mapping[str, Any],
    layout: Any,
    notes: list[str],
    *,
    every: int = 1,
) -> Seen:
    """Reads every image and mask; what keeps masks from being read at all is a note.

    Args:
        competition: where they are.
        pixels: arguments of `read_image`.
        layout: of the files.
        notes: are added to.
        every: of so many images one is looked at.
    """
    from competition.masks import build_masks
    from looking.rows import test_rows, training_rows
    from looking.scan import scan_pairs

    masks, root = None, competition.input
    try:
        masks = build_masks(competition)
    except UserError as error:
        notes.append(f"masks are not read: {error}")
    how: dict[str, Any] = {"pixels": pixels}
    train, test = training_rows(layout)[::every], test_rows(layout)[::every]
    return Seen(
        layout,
        scan_pairs(train, root, masks=masks, title="looking at training images", **how),
        scan_pairs(test, root, masks=None, title="at test images", **how),
        task=competition.task,
        classes=competition.classes,
    )


def machine_here(hours: float, weights: str) -> Any:
    """This machine as the fingerprint takes it, given ENCODER_WEIGHTS as it was told, or ""."""
    import os

    import torch

    from looking.fingerprint import Machine
    from looking.weights import can_fetch_weights
    from training.precision import cpu_has_bf16

    memory = 0
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
    return Machine(
        cores=os.cpu_count() or 1,
        bf16=cpu_has_bf16(),
        memory=memory,
        weights=weights.lower() != "none" if weights else can_fetch_weights(),
        hours=hours or (3.0 if memory else 1.0),
    )


def later_lines(seen: Seen, told: dict[str, Line], hours: float) -> tuple[dict[str, Any], Any]:
    """Lines on folds and training, by heading, and the grouping."""
    from looking.fingerprint import take_fingerprint, training_lines
    from looking.groups import FOLDS, find_grouping, split_lines
    from looking.likeness import join_looks

    names = [pair.picture.img for pair in seen.train]
    looks = join_looks([pair.picture.look for pair in seen.train])
    grouping = find_grouping(names, looks, seen.layout)
    shares = np.array(
        [np.nan if p.mask is None or p.mask.problem else p.mask.share for p in seen.train]
    )
    folds = as_lines(split_lines(names, grouping, seen.layout, shares=shares, looks=looks), told)
    count = 1 if folds["SPLIT"].value == "column" else FOLDS
    count = int(folds["N_FOLDS"].value) if "N_FOLDS" in folds else count
    mark = take_fingerprint(seen.train, task=seen.task, classes=seen.classes, folds=count)
    weights = told["ENCODER_WEIGHTS"].value if "ENCODER_WEIGHTS" in told else ""
    machine = machine_here(hours, weights)
    training = {} if mark is None else as_lines(training_lines(mark, machine), told)
    return {"Folds": folds, "Training": training}, grouping


def groups_of(seen: Seen, folds: dict[str, Line]) -> dict[str, str]:
    """Group by id, of training images as they are dealt and of test images by GROUP_PATTERN."""
    from competition.groups import bracket_of

    names = [pair.picture.img for pair in seen.test]
    pattern = folds["GROUP_PATTERN"].value if "GROUP_PATTERN" in folds else ""
    found = bracket_of(names, pattern) if pattern else []
    tests = {img: group for img, group in zip(names, found, strict=False) if group}
    return {**tests, **seen.groups}


def try_recipe(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(what folds.py will refuse, what keeps the sample submission from being understood)."""
    from competition.training_images import collect_images
    from runs.experiment import competition_of
    from submissions.answer import read_answer
    from submissions.outlook import form_notes, sample_notes, test_images

    config, _ = load_config(words)
    refused, unclear = [], []
    try:
        collect_images(competition_of(config))
    except UserError as error:
        refused.append(f"folds.py will stop: {error}")
    try:
        competition = competition_of(config)
        sample_notes(competition)
        refused += form_notes(competition, read_answer(competition, test_images(competition)))
    except UserError as error:
        unclear.append(str(error))
    return refused, unclear


def told_lines(args: Any) -> dict[str, Line]:
    """What the user said by flags, as lines."""
    known = {name: text for name, text in vars(args).items() if name.isupper()}
    places = {"INPUT", "OUTPUT", "LOGS", "RECIPE"}
    return {k: Line(k, text, "you said so") for k, text in known.items() if k not in places}


def left_out(lines: Mapping[str, Line], unused: Sequence[str]) -> list[str]:
    """What becomes of images without a mask, and which files are not used."""
    absent = [f"{line.why} (ABSENT={line.value})" for k, line in lines.items() if k == "ABSENT"]
    return [*absent, *(f"not used: {line}" for line in unused)]


def says_places(told: Mapping[str, Line]) -> bool:
    """Whether the user says where files lie, so that what was guessed of them does not count."""
    return any(knob.endswith(("_PATH", "_PATTERN", "_CSV", "BANDS")) for knob in told)


def tell(
    seen: Seen, counts: Counter[str], notes: Sequence[str], shift: str, left: Sequence[str]
) -> None:
    """Prints what was seen, a line each; `left` is of `left_out`."""
    print(f"{len(seen.train)} training and {counted(len(seen.test), 'test image')}; {shift}")
    for note in notes:
        print(f"note: {note}")
    for kind, count in counts.items():
        print(f"{FINDINGS[kind][0]}: {count}")
    if not counts and not notes:
        print("nothing wrong was found")
    for line in left:
        print(line)
