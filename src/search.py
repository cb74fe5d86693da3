"""Searches for better knobs with Optuna: each trial is a run in the ledger.

python src/search.py @recipes/mine.args --run wide --fold 0 --epochs 8 --trials 30
                     --search "LR=1e-4..1e-2:log" "LOSS=bce+dice|lovasz" "CROP_SIZE=256..512:64"

Trials are the runs RUN-000, RUN-001... Those that fall behind others are ended early, where they
train one fold and csv is among LOGGERS; the same command goes on where the last one stopped, with
more --trials too. A trial's score is the mean of its folds' own validation, with --oof that of
Lightning_tester.py. output/RUN/ receives search.html; recipes/RUN_best.args the flags of the best
trial. Needs: pip install optuna.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import importlib.util
import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import UserError, raise_all, script, told_problems
from core.files import naming, writing
from core.flags import as_flags, load_config, number
from core.knobs import PREFIX, ROOT
from core.locks import Claim
from core.quantities import counted
from core.search_space import Dial, read_space
from runs.attempts import call_script, mean_score, read_scores
from runs.experiment import identity_of, run_of
from runs.fold_table import choose_folds, read_fold_table
from runs.folder import RunFolder
from runs.identity import data_of, differences, with_gone
from runs.journals import left_before, mend_journal, next_run, tried
from runs.owners import owning
from runs.records import Begun
from runs.reports import Report
from runs.run import Run

STAGE = "search"
JOURNAL = "search.journal"
# Trials that fail one after the other before the search gives up.
FAILURES = 3
# Of a command: where it works, not what is trained.
PLACES = ("INPUT", "OUTPUT", "LOGS", "RUN", "TRAIN_FOLDS", "RECIPE")


@dataclass(frozen=True)
class Search:
    """What is searched, and where.

    Attributes:
        name: RUN, of which the trials' names are made.
        dials: knobs that are set.
        logs, output: folders of all runs.
        folds: that each trial trains.
        metric: that it is judged by.
        larger: whether more of it is better.
        oof: judged by Lightning_tester, else by the folds' own validation.
    """

    name: str
    dials: Sequence[Dial]
    logs: Path
    output: Path
    folds: Sequence[int]
    metric: str
    larger: bool
    oof: bool

    @property
    def folder(self) -> Path:
        """Of what the search leaves: journal, page, logs of its trials."""
        return self.output / self.name

    def open_study(self, identity: Begun, run: Run) -> Any:
        """The study in the journal, begun if there is none; `run` says what the data hold.

        Raises:
            UserError: it was begun with other knobs, folds, data or dials.
        """
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder.mkdir(parents=True, exist_ok=True)
        mend_journal(self.folder / JOURNAL)
        backend = JournalFileBackend(str(self.folder / JOURNAL))
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=self.name,
            load_if_exists=True,
            direction="maximize" if self.larger else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        )
        asked = {dial.name: repr(dial) for dial in self.dials}
        before = study.user_attrs.get("begun")
        known = Begun.of(before["identity"]) if before else None
        identity = replace(identity, **data_of(run, known))
        identity = with_gone(known, identity) if known else identity
        now = {
            "identity": identity.to_dict(),
            "dials": asked,
            "folds": list(self.folds),
            "oof": self.oof,
        }
        if before and known:
            problems = differences(known, identity)
            same = all(before[key] == now[key] for key in ("dials", "folds", "oof"))
            problems += [] if same else ["--search, --fold or --oof: not as when it began"]
            raise_all(problems, f"search {self.name!r} was begun otherwise, choose another --run:")
        study.set_user_attr("begun", now)
        return study

    def train(self, trial: Any) -> float:
        """Trains and scores the run of a trial.

        Raises:
            optuna.TrialPruned: it fell behind.
            UserError: it cannot be trained, or was stopped from outside.
        """
        import optuna

        values = {dial.name: dial.suggest(trial) for dial in self.dials}
        # One that was interrupted keeps its own.
        run = str(trial.user_attrs.get("run") or next_run(trial.study))
        trial.set_user_attr("run", run)
        trial.set_user_attr("values", values)
        folder, log = RunFolder(self.logs, run), self.folder / "trials" / f"{run}.log"
        words, told = as_flags({"RUN": run, **values}), set[int]()

        def go_on() -> bool:
            for epoch, score in read_scores(folder, self.folds[0], self.metric).items():
                if epoch not in told and math.isfinite(score):
                    trial.report(score, epoch)
                    told.add(epoch)
            return not trial.should_prune()

        alone = len(self.folds) == 1
        end = call_script("Lightning_trainer", words, log, go_on=go_on if alone else None)
        if end.pruned:
            raise optuna.TrialPruned
        score = mean_score(folder, self.folds)
        if end.code == 0 and self.oof:
            end = call_script("Lightning_tester", words, log)
            score = Report.read(self.output / run / "report.json").score if end.code == 0 else None
        if end.code or score is None or not math.isfinite(score):
            raise UserError(f"{end.words.removeprefix('error: ')} (all of it: {log})")
        return float(score)


def run_trials(search: Search, study: Any, count: int, seed: int) -> None:
    """Trials until `count` have ended, interrupted ones first.

    What a trial draws follows from `seed` and from the trials before it: a search that was stopped
    and called again draws what it would have drawn.

    Raises:
        UserError: several failed one after the other.
    """
    from optuna import TrialPruned
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState as State

    for trial in study.get_trials(states=(State.RUNNING,)):
        # Of a call that was killed: its run goes on where it was.
        known = {"run": trial.user_attrs["run"]} if "run" in trial.user_attrs else {}
        study.tell(trial.number, state=State.FAIL, skip_if_finished=True)
        study.enqueue_trial(trial.params, user_attrs={**known, "resumed": True})
    failed, reason = 0, ""
    while len(study.get_trials(states=(State.COMPLETE, State.PRUNED))) < count:
        ended = sum(trial.state.is_finished() for trial in tried(study))
        study.sampler = TPESampler(seed=seed + ended, multivariate=True)
        trial = study.ask()
        try:
            study.tell(trial, search.train(trial))
            failed = 0
        except TrialPruned:
            study.tell(trial, state=State.PRUNED)
            failed = 0
        except UserError as error:
            failed, reason = failed + 1, str(error)
            trial.set_user_attr("reason", reason)
            study.tell(trial, state=State.FAIL)
        print(trial_line(search, study, trial.number), flush=True)
        if failed == FAILURES:
            raise UserError(f"{FAILURES} trials failed one after the other, the last: {reason}")


def trial_line(search: Search, study: Any, number: int) -> str:
    """What a trial was, what it scored, and the best so far."""
    from optuna.trial import TrialState as State

    trial = study.trials[number]
    values = " ".join(f"{name}={text}" for name, text in trial.user_attrs["values"].items())
    told = {
        State.COMPLETE: f"{search.metric} {trial.value or 0:.4f}",
        State.PRUNED: "ended early",
        State.FAIL: f"failed: {trial.user_attrs.get('reason', '')}",
    }[trial.state]
    done = study.get_trials(states=(State.COMPLETE,))
    best = f"; best {study.best_value:.4f} of {study.best_trial.user_attrs['run']}" if done else ""
    return f"{trial.user_attrs['run']}: {values}: {told}{best}"


def check_target(target: Path, study: Any) -> None:
    """Makes sure that no file stands where the recipe goes but what this search left there.

    Raises:
        UserError: a file of another search, or one that was edited since.
    """
    if target.exists() and target.read_bytes().decode(errors="replace") not in left_before(
        study, target
    ):
        raise UserError(
            f"{target} is there, and not as this search left it: move it away, or choose another "
            "--target"
        )


def write_recipe(search: Search, study: Any, target: Path) -> None:
    """The flags of this command with the best trial's, as a file of flags.

    Raises:
        UserError: as `check_target`.
    """
    check_target(target, study)
    best = study.best_trial
    values = {
        name.removeprefix(PREFIX): text
        for name, text in sorted(os.environ.items())
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in PLACES
    }
    words = as_flags({**values, **best.user_attrs["values"]})
    lines = [
        f"# Best of {counted(len(tried(study)), 'trial')} of the search {search.name}: "
        f"{best.user_attrs['run']}, "
        f"{search.metric} {best.value:.4f} on folds {', '.join(map(str, search.folds))}.",
        *(shlex.quote(word) for word in words),
    ]
    text = "\n".join(lines) + "\n"
    # Both: a kill or a full disk may leave the one before.
    study.set_user_attr(f"recipe {target}", [*left_before(study, target)[-1:], text])
    with writing(target) as part:
        part.write_bytes(text.encode())


def check_ends(dials: Sequence[Dial], argv: Sequence[str] | None) -> None:
    """Makes sure that config.py takes every choice, and the ends of every range; rows are there.

    Raises:
        UserError: it does not, or there is no such row; all of them at once.
    """
    from runs.names import FITTED, ROWS, check_names

    problems = []
    for dial in dials:
        for text in dial.ends:
            try:
                config, _ = load_config(_with(argv, as_flags({dial.name: text})), add_arguments)
                if dial.name in (*FITTED, *ROWS):
                    check_names(config, dial.name)
            except UserError as error:
                problems += told_problems(error)
    raise_all(list(dict.fromkeys(problems)), "the space of the search goes beyond what is allowed:")


def _with(argv: Sequence[str] | None, words: Sequence[str]) -> list[str]:
    return [*(sys.argv[1:] if argv is None else argv), *words]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--search", nargs="+", action="extend", default=[], help="KNOB=low..high or KNOB=a|b"
    )
    parser.add_argument("--trials", type=number(1), default=20, help="in all, earlier ones too")
    parser.add_argument("--oof", action="store_true", help="judge by Lightning_tester.py")
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")
    parser.add_argument("--target", type=Path, help="the best trial's flags: recipes/RUN_best.args")


def dry_run(search: Search, trials: int) -> int:
    """Says what a search will take, by the trainer's plan; returns the trainer's exit code."""
    folds = ", ".join(map(str, search.folds))
    early = "; those that fall behind end early" if len(search.folds) == 1 else ""
    print(f"plan: {counted(trials, 'trial')} in all, each on folds {folds}{early}")
    print("one trial, with the knobs as they are:", flush=True)
    return call_script("Lightning_trainer", ["--dry-run"]).code


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    if importlib.util.find_spec("optuna") is None:
        raise UserError("search.py needs optuna: pip install optuna")
    dials = read_space(args.search, config)
    check_ends(dials, argv)
    config, args = load_config(argv, add_arguments)
    table = read_fold_table(config.FOLDS_CSV)

    from metrics import build_metric
    from reporting.search import write_search_page
    from runs.baseline import beside, best_trivial
    from runs.names import check_names

    check_names(config)
    metric = build_metric(config.METRIC, task=config.TASK, classes=config.CLASSES)
    search = Search(
        name=config.RUN,
        dials=dials,
        logs=config.LOGS,
        output=config.OUTPUT,
        folds=choose_folds(table, config.TRAIN_FOLDS, holdout=config.HOLDOUT),
        metric=config.METRIC,
        larger=bool(metric.higher_is_better),
        oof=args.oof,
    )
    if args.dry_run:
        return dry_run(search, args.trials)
    identity = identity_of(config)
    turned = {"RUN", *(dial.name for dial in dials)}
    knobs = {name: value for name, value in identity.knobs.items() if name not in turned}
    target = (args.target or ROOT / "recipes" / f"{config.RUN}_best.args").absolute()
    config.OUTPUT.mkdir(parents=True, exist_ok=True)
    run = run_of(config)
    journal = naming(config.RUN_OUTPUT / JOURNAL)
    with owning(STAGE, [Claim(config.OUTPUT, config.RUN, STAGE)]), journal:
        study = search.open_study(replace(identity, knobs=knobs), run)
        check_target(target, study)
        try:
            run_trials(search, study, args.trials, config.SEED)
        finally:
            page = write_search_page(search.folder, study, search.metric)
        write_recipe(search, study, target)
    trivial = beside(best_trivial(run))
    found = f"{search.metric} {study.best_value:.4f}, {study.best_trial.user_attrs['run']}"
    print(f"best of {counted(len(tried(study)), 'trial')}: {found}{trivial}")
    print(f"the page: {page}\nthe best trial's flags: {target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
