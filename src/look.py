"""Looks at a folder never seen, before anything is trained: what it holds, what is wrong in it.

python src/look.py --input ../data/mine    output/look.html, output/look.json, recipes/mine.args
python src/look.py --dry-run               how long that takes, by some of the images

Every flag of config.py may be given as well: what you say is not guessed.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from core.errors import UserError, script
from core.files import write_json
from core.flags import load_config, number
from core.gates import id_problem
from core.knobs import ROOT
from core.quantities import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="", help="of the recipe; default: the folder's name")
    parser.add_argument(
        "--recipes", type=Path, default=ROOT / "recipes", help="where it is written"
    )
    hours = "time for training all folds; default: 1 without a GPU, 3 with one"
    parser.add_argument("--hours", type=number(0.01, kind=float), default=0.0, help=hours)
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")


@script
def main(argv: Sequence[str] | None = None) -> int:
    """Writes look.json, look.html and the recipe."""
    config, args = load_config(argv, add_arguments, description=__doc__)
    if args.name and (problem := id_problem(args.name)):
        raise UserError(f"--name {problem}")
    from looking.layout import find_layout
    from looking.survey import survey

    layout = find_layout(survey(config.INPUT))  # a wrong INPUT is told before torch comes in

    from collections import Counter

    from looking.findings import find_all
    from looking.forecast import look_line
    from looking.lines import Line, words_of
    from looking.page import Painter, write_look_page
    from looking.recipe import recipe_text, write_recipe
    from looking.seen import Seen
    from looking.shift import compare_sets
    from looking.steps import (
        first_lines,
        flat,
        groups_of,
        later_lines,
        left_out,
        look_at_all,
        says_places,
        tell,
        told_lines,
        try_recipe,
    )
    from looking.unused import unused_lines
    from runs.experiment import competition_of, data_spec

    places = ["--input", str(config.INPUT), "--output", str(config.OUTPUT)]
    told, notes, output = told_lines(args), [], config.OUTPUT
    sections = first_lines(layout, told)
    own = {knob: line for knob, line in told.items() if knob not in flat(sections)}
    config, _ = load_config([*places, *words_of(flat(sections)), *words_of(own)])
    if "TASK" not in flat(sections):
        notes.append("no masks were found: set MASK_PATH or MASK_FORMAT, see docs/data.md")
    competition, spec = competition_of(config), data_spec(config)
    if args.dry_run:
        print(look_line(competition, spec.pixels, layout))
        return 0
    seen = look_at_all(competition, spec.pixels, layout, notes)
    later, grouping = later_lines(seen, told, args.hours)
    sections |= later
    if grouping is not None:
        ids = [pair.picture.img for pair in seen.train]
        seen = Seen(
            layout,
            seen.train,
            seen.test,
            seen.task,
            seen.classes,
            dict(zip(ids, map(str, grouping.groups), strict=True)),
        )
    sections["Yours"] = {k: line for k, line in own.items() if k not in flat(sections)}
    refused, unclear = try_recipe([*places, *words_of(flat(sections))])
    if unclear:
        notes += [f"the sample submission is left out: {line}" for line in unclear]
        sections["Files"]["TEST_CSV"] = Line(
            "TEST_CSV", "none.csv", "see TO DO above; take this line out when that is done"
        )
    findings = find_all(seen)
    train, test = ([pair.picture for pair in pairs] for pairs in (seen.train, seen.test))
    shift = compare_sets(train, test, groups_of(seen, sections["Folds"]))
    name = args.name or re.sub(r"[^\w.-]+", "_", config.INPUT.resolve().name)
    title = (
        f"{name}: {len(seen.train)} training and {counted(len(seen.test), 'test image')}, as "
        "look.py saw it"
    )
    if "INPUT" in args:
        place = Line("INPUT", args.INPUT, "where the data are")
        sections["Files"] = {"INPUT": place, **sections["Files"]}
    unused = [] if says_places(told) else unused_lines(layout)
    body = recipe_text(
        title,
        {key: list(lines.values()) for key, lines in sections.items()},
        [*notes, *refused],
        unused=unused,
    )
    recipe = write_recipe(args.recipes, name, body)
    counts = Counter(finding.kind for finding in findings)
    write_json(
        output / "look.json",
        {
            "recipe": str(recipe),
            "knobs": {line.knob: line.value for line in flat(sections).values()},
            "why": {line.knob: line.why for line in flat(sections).values() if line.why},
            "notes": [*notes, *refused],
            "unused": unused,
            "train": len(seen.train),
            "test": len(seen.test),
            "shift": shift.verdict(),
            "counts": counts,
            "findings": [finding._asdict() for finding in findings],
        },
    )
    painter = Painter(
        competition, spec, augmentation=config.AUGMENTATION, mix=config.MIX, seed=config.SEED
    )
    page = write_look_page(output / "look.html", name, seen, sections, findings, shift, painter)
    tell(seen, counts, [*notes, *refused], shift.verdict(), left_out(flat(sections), unused))
    print(f"wrote {page}, {output / 'look.json'} and {recipe}")
    print(f"next: python src/folds.py @{recipe}, then python src/Lightning_trainer.py @{recipe}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
