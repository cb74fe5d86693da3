"""report.json of runs: the one pointer to checkpoints and to what was decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.advice import command
from core.errors import UserError, nearest, raise_all
from core.files import write_json
from core.recipes import recipe_digest, recipe_file
from core.records import Record, known_values, read_values
from core.typed import misfits
from runs.records import UNKNOWN
from runs.seals import sealed, was_edited
from runs.standing import is_left_of_soup, why_not_scored

# What is made of report.json and the predictions, beside them.
PAGES = ("report.html", "classes.csv")

# --help and wrong flags answer at once: torch comes in where a report is read.
if TYPE_CHECKING:
    from data.specs import DataSpec
    from postprocessing.rules import Rule
    from runs.run import Run


@dataclass(frozen=True, kw_only=True)
class FoldReport:
    """One fold of a report.

    Attributes:
        fold: its number.
        checkpoint: of its network, relative to LOGS.
        images: how many were scored.
        scores: at native size, by metric.
        network: SHA-256 of the checkpoint that was scored; "" in what a kernel carries.
        data: key of the images and masks that it was scored on.
        pictures: key of the probabilities that it left in oof/.
    """

    fold: int
    checkpoint: str
    images: int = 0
    scores: Mapping[str, float | None] = field(default_factory=dict)
    network: str = ""
    data: str = ""
    pictures: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "FoldReport":
        """What a record of a scored fold, or report.json, says of it."""
        return cls(**known_values(cls, record))


@dataclass(frozen=True, kw_only=True)
class Blend:
    """How several runs become one.

    Attributes:
        weights: of each run.
        kind: of the mean, see `mean_probs`.
        runs: their names.
        score, equal, alone: out of fold: as chosen, of equal weights, of each run.
        in_sample, held_out, interval: gains over equal weights; the last with 95 %.
        oof_keys: of the predictions it was weighed on, in the order of the runs.
    """

    weights: Sequence[float]
    kind: str
    runs: Sequence[str] = ()
    score: float | None = None
    equal: float | None = None
    alone: Sequence[float] = ()
    in_sample: float | None = None
    held_out: float | None = None
    interval: Sequence[float] = ()
    oof_keys: Sequence[str | None] = ()


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """What is known of a scored run; `write` and `read` are the only way to report.json.

    Attributes:
        run: its name.
        metric: that best.ckpt follows.
        score: of `metric`, out of fold, over all images together; None: undefined.
        spec: of the networks.
        images: how many were scored.
        scores: by metric, as `score`.
        per_class: `score` of each class by its name.
        holdout: fold, images and scores of the fold that no network saw; or empty.
        tta: views besides the image as it is.
        threshold, min_area: the decision that was scored.
        recipe: of the training.
        folds: none in a blend.
        oof_key: of oof.csv's content.
        rules: of each class, as tune.py chose them; none: not tuned.
        tuning: what tune.py found, for the page and the ledger.
        blend: where the run is a mean of runs.
        trivial: `name` and `score` of the best mask that no network made; empty: not known.
        recipe_file: key of RECIPE's Python file as it was scored under; None without one, UNKNOWN
            of before, and in what a kernel carries.
    """

    run: str
    metric: str
    score: float | None
    spec: "DataSpec"
    images: int = 0
    scores: Mapping[str, float | None] = field(default_factory=dict)
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    holdout: Mapping[str, Any] = field(default_factory=dict)
    tta: Sequence[str] = ()
    threshold: float = 0.5
    min_area: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    folds: Sequence[FoldReport] = ()
    oof_key: str | None = None
    rules: "Sequence[Rule]" = ()
    tuning: Mapping[str, Any] = field(default_factory=dict)
    blend: Blend | None = None
    trivial: Mapping[str, Any] = field(default_factory=dict)
    recipe_file: str | None = UNKNOWN

    @property
    def decision(self) -> "list[Rule]":
        """The rule of each class: what tune.py stored, else the threshold that was scored."""
        from postprocessing.rules import Rule

        plain = Rule(self.threshold, min_area=self.min_area, split=self.spec.border)
        return list(self.rules) or [plain] * self.spec.classes

    def write(self, path: Path) -> None:
        """Writes the file; the page of an earlier report goes first: its scores are not these."""
        for name in PAGES:
            path.with_name(name).unlink(missing_ok=True)
        write_json(path, sealed(self.to_dict()))

    @classmethod
    def read(cls, path: Path) -> "Report":
        """The report in a file; one of before there were versions is read, too.

        Raises:
            UserError: no such file, a newer version, or broken.
        """
        scoring = command("Lightning_tester", run=path.parent.name)
        remedy = f"score the run: {scoring}"
        try:
            report = cls(**_arguments(read_values(path, cls.VERSION, remedy), path))
            raise_all(_misfits(report), f"{path} is broken, {remedy}:")
            return report
        except FileNotFoundError:
            there = sorted(one.parent.name for one in path.parents[1].glob("*/report.json"))
            near = nearest(path.parent.name, there)
            raise UserError(f"no report {path}.{near} Score the run: {scoring}") from None
        except UserError:
            raise
        except KeyError as error:
            raise UserError(f"{path} is broken, {error} is missing: {remedy}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is broken ({error}): {remedy}") from None


def _arguments(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Arguments of Report from what its file holds."""
    from data.specs import DataSpec

    needed = {name: values[name] for name in ("run", "metric", "score", "spec")}
    blend = values.get("blend")
    return {
        **known_values(Report, values),
        **needed,
        "spec": DataSpec.from_dict(values["spec"]),
        "folds": [FoldReport.of(fold) for fold in values.get("folds", ())],
        "rules": [_rule(rule, path) for rule in values.get("rules", ())],
        "blend": Blend(**known_values(Blend, blend)) if blend else None,
    }


def _misfits(report: Report) -> list[str]:
    """A line for each value of a report, its folds, rules and blend that is of another kind."""
    from data.specs import DataSpec
    from postprocessing.rules import Rule

    parts = [report, *report.folds, *report.rules, *([report.blend] if report.blend else [])]
    known = {"DataSpec": DataSpec, "Rule": Rule}
    found = [f"{type(part).__name__}: {line}" for part in parts for line in misfits(part, known)]
    if not found:
        found += [f"Rule: {line}" for rule in report.decision for line in rule.out_of_range()]
    if report.rules and len(report.rules) != report.spec.classes:
        found.append(f"Report: {len(report.rules)} rules for {report.spec.classes} classes")
    paths = [] if found else [fold.checkpoint for fold in report.folds]
    return found + [
        f"FoldReport: checkpoint is {path!r}, need a file below LOGS"
        for path in paths
        if path in ("", ".") or Path(path).is_absolute() or ".." in Path(path).parts
    ]


def _rule(values: Mapping[str, Any], path: Path) -> "Rule":
    """A rule, all of it: what nobody reads would change masks silently."""
    from postprocessing.rules import Rule

    names = [known.name for known in fields(Rule)]
    raise_all(
        [f"{name!r}.{nearest(name, names)}" for name in values if name not in names],
        f"{path}: a rule has what this code does not know, it knows {', '.join(names)}. Mend it, "
        "or run src/tune.py again:",
    )
    return Rule(**values)


def report_path(output: Path, run: str) -> Path:
    """Where the report of a run lies."""
    return output / run / "report.json"


def read_report(output: Path, run: str) -> Report:
    """The report of a run.

    Raises:
        UserError: as `Report.read`, or it is of another run.
    """
    path = report_path(output, run)
    report = Report.read(path)
    if report.run != run:
        raise UserError(
            f"{path} is of run {report.run!r}: its rules and networks are not "
            f"this one's. Score it: {command('Lightning_tester', run=run)}"
        )
    _note_edited(path, path.stat().st_mtime_ns)
    return report


@cache
def _note_edited(path: Path, _time: int) -> None:
    """Says once of a file where it is not what a stage wrote: its scores may be of other rules."""
    if was_edited(path):
        print(
            f"note: {path} was changed by hand: its scores may not be of its rules and threshold. "
            f"Score again: {command('Lightning_tester', run=path.parent.name)}"
        )


def check_same_task(run: "Run", spec: "DataSpec", *, name: str = "") -> None:
    """Makes sure that the configuration means what a run's network was made for.

    Args:
        run: as it is configured.
        spec: of the network, as a report or a checkpoint holds it.
        name: of the run that it is of; "" = of this one.

    Raises:
        UserError: another TASK, CLASSES or INSTANCES.
    """
    now = run.spec
    if (spec.task, spec.classes, spec.instances) != (now.task, now.classes, now.instances):
        raise UserError(
            f"run {(name or run.name)!r} has TASK={spec.task}, CLASSES={spec.classes}, "
            f"INSTANCES={spec.instances}: got {now.task}, {now.classes}, {now.instances}, "
            "set them as they were"
        )


def checkpoints_of(report: Report, logs: Path, wanted: Sequence[int] | None) -> list[Path]:
    """Checkpoints of the report's folds that TRAIN_FOLDS asks for; None: of all.

    Raises:
        UserError: none is left, one is gone or not the network that was scored, or RECIPE has
            changed since.
    """
    chosen = [fold for fold in report.folds if wanted is None or fold.fold in wanted]
    if not report.folds:
        scoring = command("Lightning_tester", run=report.run)
        raise UserError(f"the report of run {report.run!r} has no folds: {scoring}")
    if not chosen:
        known = [fold.fold for fold in report.folds]
        raise UserError(f"run {report.run!r} has folds {known}, TRAIN_FOLDS asks for {wanted}")
    check_scored(chosen, logs, report.run)
    check_same_recipe(report)
    paths = [logs / fold.checkpoint for fold in chosen]
    if gone := [path for path in paths if not path.is_file()]:
        remedy = (
            f"Put it back, train this fold again ({command('Lightning_trainer', run=report.run)}), "
            "or leave it out by TRAIN_FOLDS"
        )
        if all(map(is_left_of_soup, gone)):
            remedy = f"Score best.ckpt: {command('Lightning_tester', run=report.run)}"
        raise UserError(f"no checkpoint {', '.join(map(str, gone))}. {remedy}")
    return paths


def check_scored(folds: Sequence[FoldReport], logs: Path, run: str) -> None:
    """Makes sure that the networks of a run are those that were scored.

    Raises:
        UserError: one was trained or replaced since, or is a soup of one that was.
    """
    for fold in folds:
        path = logs / fold.checkpoint
        if told := why_not_scored(path, fold.network):
            raise UserError(
                f"{path} {told}, so its rules and threshold are not its own. Score it first: "
                f"{command('Lightning_tester', run=run)}"
            )


def check_same_recipe(report: Report) -> None:
    """Makes sure that a run was scored with the rows that RECIPE's Python file has now.

    Raises:
        UserError: the file has changed since, or one is missing or new.
    """
    then, now = report.recipe_file, recipe_digest()
    if then in (UNKNOWN, now):
        return
    again = f"score it again: {command('Lightning_tester', run=report.run)}"
    if report.blend:
        again = (
            f"weigh it again: {command('tune', verb='blend')} --runs {report.run.replace('+', ',')}"
        )
    if now is None:
        what = "with a recipe's Python file, none is given: pass its --recipe, or "
    elif then is None:
        what = f"without {recipe_file()}: leave --recipe out, or "
    else:
        what = f"before {recipe_file()} was changed, networks or metric may be others: "
    raise UserError(f"run {report.run!r} was scored {what}{again}")


def was_scored(fold: FoldReport, logs: Path) -> bool:
    """Whether a fold's checkpoint is the one that its report tells of; True of one that is gone."""
    return not why_not_scored(logs / fold.checkpoint, fold.network)


def made_of(
    runs: Sequence[str], *, output: Path, logs: Path, folds: Sequence[int] | None
) -> list[Path]:
    """Files that predictions of some runs are made of: their reports, their blend's, networks.

    Raises:
        UserError: as `checkpoints_of`.
    """
    networks = [checkpoints_of(read_report(output, run), logs, folds) for run in runs]
    reports = dict.fromkeys(report_path(output, run) for run in (*runs, "+".join(runs)))
    return [*reports, *chain(*networks)]
