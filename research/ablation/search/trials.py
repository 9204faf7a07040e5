"""The search at one place: begins the runs of its trials, prunes trials while they run, and ends them."""

import sys
from collections.abc import Mapping
from math import isfinite

from optuna.trial import Trial, TrialState

from research.ablation.executors import Outcome, last_line
from research.ablation.mlflow_runs import Runs
from research.ablation.optuna_trials import ATTEMPTS
from research.ablation.plan import Plan, Run
from research.ablation.search.open_trial import OpenTrial, trial_runs
from research.ablation.search.place_study import STARTUP, PlaceStudy
from research.ablation.search_places import Place
from research.ablation.search_spec import SearchSpec
from research.ablation.stores import Stores
from research.runs.folder import claim

ENDED = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
"""State of an ended trial → MLflow's status for those of its runs that did not reach their last step."""


class Search:
    """The search at one place.

    Args:
        plan: the ablation study's.
        spec: its search.
        place: the combination of levels that is searched at.
        stores: the databases.
        runs: MLflow's runs of the study; every run of a trial is a child of its parent run.
        parallel: True if several runs are under way at once.

    Raises: UserError if the search was begun with other settings.
    """

    def __init__(
        self, plan: Plan, spec: SearchSpec, place: Place, stores: Stores, runs: Runs, *, parallel: bool
    ) -> None:
        self.spec, self.place, self.runs = spec, place, runs
        self.metric = plan.spec.metric["name"]
        self.folder = plan.folder / "search" / place.id
        self.study = PlaceStudy(plan, spec, place, self.folder, stores, parallel=parallel)
        self.open: dict[int, OpenTrial] = {}
        """Number → trial, for the trials that are under way."""
        self.running: dict[str, OpenTrial] = {}
        """Run → its trial, for the runs that the executor has; the trial may have ended."""
        for trial in self.study.under_way():
            self._open(trial)
        begun = self.study.trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        self.left = spec.trials - len(begun)
        """Trials still to ask for."""

    def catch_up(self) -> None:
        """End in MLflow the runs of ended trials, since a kill may have come between Optuna's end and MLflow's."""
        for trial in self.study.trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
            for run in self._runs(trial.number, trial.params):
                self.runs.finish(run, "FINISHED" if run.complete else ENDED[trial.state])

    def next(self) -> Run | None:
        """A run to begin or to continue now, of an open trial or of a new one; None if there is none."""
        while True:
            for opened in list(self.open.values()):
                if (run := self._next_of(opened)) is not None:
                    return run
            if self.left <= 0 or len(self.open) >= max(STARTUP, self.spec.trials // 4):
                return None
            self.left -= 1
            self._open(self.study.ask())

    def end(self, outcome: Outcome) -> None:
        """Record the end of a run; after a first failure or a stop it is begun again."""
        opened = self.running.pop(outcome.run)
        run = opened.run(outcome.run)
        if outcome.result is not None:
            self._complete(opened, run)
        elif not self._is_open(opened):
            self.runs.finish(run, "KILLED", "its trial was ended before it")
        elif not outcome.stopped and self._fails(opened, run):
            self.runs.finish(run, "FAILED", outcome.reason)
            self._close(opened, TrialState.FAIL, reason=outcome.reason)
        else:
            self.runs.pause(run)
            opened.queue.append(run)

    def mirror(self) -> None:
        """Send the metrics of the runs under way to MLflow."""
        for name, opened in self.running.items():
            self.runs.mirror(opened.run(name))

    def given_up(self) -> list[str]:
        """Prune the open trials that deserve it.

        Returns: the runs that the executor has and whose trial has ended.
        """
        for opened in list(self.open.values()):
            self._prune(opened)
        return [run for run, opened in self.running.items() if not self._is_open(opened)]

    @property
    def finished(self) -> bool:
        """True if no trial is under way or still to ask for."""
        return not self.open and self.left <= 0

    def _open(self, trial: Trial) -> None:
        """Queue the runs of a trial that is new or was left under way by an earlier process."""
        values, judged = self.study.values(trial), self.study.judged(trial)
        runs = self._runs(trial.number, values)
        opened = OpenTrial(trial=trial, values=values, runs=runs, queue=list(runs), judged=judged)
        self.open[trial.number] = opened
        if judged and trial.should_prune():  # killed between the evaluation and the end of the trial
            self._close(opened, TrialState.PRUNED)

    def _is_open(self, opened: OpenTrial) -> bool:
        return opened.trial.number in self.open

    def _runs(self, number: int, values: Mapping[str, float]) -> list[Run]:
        return trial_runs(self.spec, self.place, self.folder, number, values)

    def _next_of(self, opened: OpenTrial) -> Run | None:
        """The next run of a trial, marked as running; complete runs are only recorded."""
        while opened.queue and self._is_open(opened):
            run = opened.queue.pop(0)
            if not run.complete:
                claim(run.recipe, run.folder)
                self.runs.begin(run)
                self.running[run.id] = opened
                return run
            self._complete(opened, run)
        return None

    def _fails(self, opened: OpenTrial, run: Run) -> bool:
        """Count a failed attempt; True if it was the last one allowed."""
        opened.failures[run.id] += 1
        return opened.failures[run.id] >= ATTEMPTS

    def _complete(self, opened: OpenTrial, run: Run) -> None:
        """Record a complete run, and end its trial if it was the last one that the trial waited for.

        MLflow comes first: once the trial has ended, nothing looks at its runs again.
        """
        self.runs.finish(run, "FINISHED")
        if self._is_open(opened) and opened.complete and not self._prune(opened):
            value = opened.value(self.metric)
            if isfinite(value):
                self._close(opened, TrialState.COMPLETE, value)
            else:
                self._close(opened, TrialState.FAIL, reason=f"its {self.metric} is {value}")

    def _prune(self, opened: OpenTrial) -> bool:
        """Report new evaluations to the pruner, one after another; True if the trial is pruned at one of them.

        Every evaluation is judged, even if several are new, so the time of the call does not decide what is pruned.
        """
        for step, value in opened.evaluations(self.metric).items():
            if step not in opened.judged:
                opened.judged.add(step)
                opened.trial.report(value, step)
                if opened.trial.should_prune():
                    self._close(opened, TrialState.PRUNED)
                    return True
        return False

    def _close(self, opened: OpenTrial, state: TrialState, value: float | None = None, reason: str = "") -> None:
        """End a trial, and print a line about it."""
        row = self.study.tell(opened.trial, state, value, reason)
        del self.open[opened.trial.number]
        what = ", ".join(f"{name} {value:.3g}" for name, value in opened.values.items())
        how = last_line(reason) if row["value"] is None else f"{row['state']}, {self.metric} {row['value']:.4g}"
        say(f"search at {self.place.words}, trial {row['number']}: {what}: {how}")


def say(text: str) -> None:
    """A line on the terminal."""
    print(text, file=sys.stderr, flush=True)
