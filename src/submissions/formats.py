"""Answer formats: SUBMISSIONS, a class a format, and the one that a sample submission asks for."""

from competition.spec import Competition
from competition.table_files import AUTO
from core.errors import UserError, pick
from submissions.answer_format import AnswerFormat
from submissions.plan import Plan
from submissions.run_lengths import ClassRows, ImageRows, InstanceRows

# The values of SUBMISSION_ROWS beside auto.
SUBMISSIONS: dict[str, type[AnswerFormat]] = {
    "image": ImageRows,
    "class": ClassRows,
    "instance": InstanceRows,
}


def build_format(competition: Competition, plan: Plan, *, task: str, classes: int) -> AnswerFormat:
    """The format that the configuration and the sample ask for, for networks of this task.

    Raises:
        UserError: as `choose_format`.
    """
    foreground = classes - (task == "multiclass")
    name = choose_format(competition.submission_rows, plan, foreground=foreground)
    return SUBMISSIONS[name].build(competition, task=task, classes=classes)


def choose_format(asked: str, plan: Plan, *, foreground: int = 1) -> str:
    """The row of SUBMISSIONS: auto takes class when the sample has a class column, else image.

    Args:
        asked: SUBMISSION_ROWS.
        plan: of the sample.
        foreground: number of classes beside the background.

    Raises:
        UserError: the sample's shape does not fit, or its rows cannot tell the classes apart.
    """
    name = ("class" if plan.class_of else "image") if asked == AUTO else asked
    form = pick(SUBMISSIONS, name, "SUBMISSION_ROWS")
    if foreground > 1 and not form.takes_classes:
        raise UserError(
            f"SUBMISSION_ROWS={name} has room for one class, the networks know {foreground} "
            "beside the background: set CLASS_COLUMN, or train on TASK=binary"
        )
    problem = form.plan_problem(plan)
    if problem:
        raise UserError(f"SUBMISSION_ROWS={name}, but {problem}")
    return name
