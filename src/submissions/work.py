"""What a call of ensemble.py has to do: images, networks, and how masks become rows."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from competition.listings import find_test_images
from core.errors import UserError
from core.quantities import counted
from core.recipes import recipe_digest
from data.specs import DataSpec
from imaging.sources import stored_files
from inference.stream import files_of
from postprocessing.rules import describe
from runs.blends import read_blend
from runs.reports import Report, check_same_task, checkpoints_of, read_report
from runs.run import Run
from runs.shares import Share
from runs.sources import files_state
from streaming.files import digest_of
from submissions.answer import Answer, read_answer
from submissions.part_file import fingerprint
from submissions.plan import match_images
from submissions.predicting import How


@dataclass(frozen=True)
class Work:
    """What is predicted, and by which networks.

    Attributes:
        run: of this call: files, machine.
        runs: names of those to average.
        reports: theirs.
        blend: of tune.py, where it made one for these runs.
        checkpoints: networks of each run.
        answer: what is asked for.
        found: images by id.
        folder: that receives the answer.
        how: images become rows.
    """

    run: Run
    runs: Sequence[str]
    reports: Sequence[Report]
    blend: Report | None
    checkpoints: list[list[Path]]
    answer: Answer
    found: Mapping[str, Path]
    folder: Path
    how: How

    @property
    def path(self) -> Path:
        """The answer."""
        return self.folder / self.answer.name

    @property
    def out_of_fold(self) -> Path:
        """Folder of the predictions that the answer should look like."""
        return self.run.output / ("+".join(self.runs) if self.blend else self.runs[0])

    def todo(self, share: Share, done: Collection[str] = ()) -> list[tuple[str, Path]]:
        """Id and file of the images of a share that are not done."""
        mine = self.answer.plan.images[share.index :: share.count]
        return [(img, self.found[img]) for img in mine if img not in done]

    def drawn(self, images: Iterable[str]) -> list[str]:
        """Those of some images whose pictures, where they are asked for, lie there."""
        asked = {"masks": self.how.save_masks, "probs": self.how.save_probs}
        folders = {self.folder / name for name, wanted in asked.items() if wanted} - {self.path}
        there = [{path.stem for path in folder.glob("[!.]*")} for folder in folders]
        return [img for img in images if all(img in names for names in there)]

    def words(self) -> str:
        """Networks and decision."""
        count = sum(map(len, self.checkpoints))
        decision = describe(self.how.rules, self.answer.task)
        return f"{counted(count, 'network')} of {', '.join(self.runs)}, {decision}"

    def key(self) -> str:
        """Of all that an image's rows are made of, but the image.

        Networks count by content: of machines that share a submission each has its own copies.
        """
        run, how = self.run, self.how
        windows = [run.window, run.overlap, run.blend]
        # What is asked for after an image is predicted predicts it again.
        asked = [how.save_masks, how.save_probs, how.skip, recipe_digest(), windows, run.precision]
        states = [digest_of(path) for networks in self.checkpoints for path in networks]
        reports = [*self.reports, *([self.blend] if self.blend else [])]
        decided = [report.to_dict() for report in reports]
        return fingerprint(decided, self.answer.key(), states, asked, *self.samples())

    def states(self) -> dict[str, str]:
        """Of each image a key of the files that networks read: their names, sizes and times."""
        specs = list(dict.fromkeys(report.spec for report in self.reports))
        return {
            img: files_state(files_of(self.found[img], specs)) for img in self.answer.plan.images
        }

    def taken(self) -> dict[str, str]:
        """Of each image a key of all its files, as `submissions.check` compares it."""
        return {
            img: files_state(stored_files(self.found[img], self.stack))
            for img in self.answer.plan.images
        }

    @property
    def stack(self) -> list[int]:
        """Steps to the slices that some network sees beside an image."""
        return sorted({step for report in self.reports for step in report.spec.stack})

    def samples(self) -> list[Path]:
        """The sample submission, if there is one."""
        path = self.run.competition.test_csv
        return [path] if path.is_file() else []


def read_work(run: Run, runs: Sequence[str], unlisted: Path | None, **kept: bool) -> Work:
    """What is to be predicted, with a note where a knob is not as the runs were scored.

    Args:
        run: of this call.
        runs: names of those to average.
        unlisted: folder of the images, or the one; None: TEST_PATH, as the sample lists them.
        kept: skip, save_masks and save_probs, as of `How`.

    Raises:
        UserError: no report, of another task, or other networks than it has; images that the
            sample does not list.
    """
    reports = [read_report(run.output, name) for name in runs]
    # Of several runs each other's are compared where their networks are loaded.
    check_same_task(run, reports[0].spec, name=runs[0])
    folder = run.output / "+".join(runs)
    blend = read_blend(folder, reports)
    checkpoints = [checkpoints_of(report, run.logs, run.train_folds) for report in reports]
    if unlisted:
        place = unlisted.resolve()
        folder /= f"predicted_{place.stem if place.is_file() else place.name}"
    answer, found = open_answer(run, reports[0].spec, unlisted)
    how = choose_how(run, reports, blend, **kept)
    return Work(run, runs, reports, blend, checkpoints, answer, found, folder, how)


def open_answer(
    run: Run, spec: DataSpec, unlisted: Path | None
) -> tuple[Answer, Mapping[str, Path]]:
    """What is asked for, and the images by id.

    Raises:
        UserError: the sample submission is broken, or lists other images than there are.
    """
    competition = run.competition
    # A sample that is a header alone may come without test images.
    there = unlisted or competition.test_path.is_dir()
    if not there and not competition.test_csv.is_file():
        raise UserError(
            f"no test images {competition.test_path}, and no sample submission: set TEST_PATH, or "
            "pass a folder of images by --predict"
        )
    found = find_test_images(competition, unlisted) if there else {}
    answer = read_answer(
        competition, found, task=spec.task, classes=spec.classes, listed=not unlisted
    )
    if not found and not answer.plan.images and competition.test_csv.is_file():
        print(f"note: {competition.test_csv.name} is a header alone, and there are no test images")
        return answer, {}
    found = found or find_test_images(competition)
    folder = unlisted or competition.test_path
    match_images(answer.plan, found, folder, shared=folder == competition.train_path)
    return answer, found


def choose_how(run: Run, reports: Sequence[Report], blended: Report | None, **kept: bool) -> How:
    """How images become rows: as the runs were scored, whatever the knobs are now."""
    first, blend = reports[0], blended.blend if blended else None
    plain = not (blended or first).rules
    for name, then, now in (
        ("THRESHOLD", first.threshold, run.threshold if plain else first.threshold),
        ("MIN_AREA", first.min_area, run.min_area if plain else first.min_area),
        ("TTA", tuple(first.tta), run.tta),
    ):
        if then != now:
            print(
                f"note: {name} is {then} as when {first.run} was scored, not {now}: score it "
                "again to change it"
            )
    return How(
        rules=(blended or first).decision,
        views=[report.tta for report in reports],
        weights=blend.weights if blend else None,
        kind=blend.kind if blend else "probs",
        **kept,
    )
