"""What the sample submission will be worth once there is something to submit."""

from competition.listings import find_test_images
from competition.spec import Competition
from submissions.formats import build_format
from submissions.plan import match_images, read_plan


def sample_notes(competition: Competition) -> list[str]:
    """What will not work for want of files, a line each; none when ensemble.py has all it needs.

    Raises:
        UserError: ensemble.py would refuse the sample submission, or it and the test images do not
            go together.
    """
    path, folder = competition.test_csv, competition.test_path
    if not path.is_file():
        return [
            f"no sample submission {path}: training and scores need none, ensemble.py and "
            "kernel.py do (set TEST_CSV)"
        ]
    plan = read_plan(competition)
    build_format(competition, plan, task=competition.task, classes=competition.classes)
    if not folder.is_dir():
        return [f"no test images {folder}: ensemble.py needs them (set TEST_PATH)"]
    match_images(plan, find_test_images(competition), folder)
    return []
