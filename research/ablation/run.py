"""Run a study: every cell at every seed, until each is complete, through an executor."""

from contextlib import suppress
from dataclasses import dataclass, replace

from research.ablation.executors import Executor, Job, Outcome
from research.ablation.folder.provenance import record_provenance
from research.ablation.folder.tables import write_outputs
from research.ablation.interrupts import Interrupts
from research.ablation.live import StudyView
from research.ablation.loop import drive
from research.ablation.mlflow_runs import Runs
from research.ablation.optuna_trials import Trials
from research.ablation.plan import Plan, Run
from research.ablation.stores import Stores
from research.ablation.unchanged import prove_null
from research.errors import UserError
from research.runs.folder import claim
from research.training.warm_start.builtin import resolve_path

FAILURE = "failure.txt"


def run_study(plan: Plan, stores: Stores, executor: Executor, *, command: str) -> dict[str, str]:
    """Run what is not complete yet, then write the study's files.

    Several processes may do this at once, on one machine or several, if the databases are shared and the folder is on a
    shared file system: each takes what nobody else is running, and all return when the study is complete.

    Args:
        plan: the checked plan.
        stores: databases of MLflow and Optuna.
        executor: what runs the cells; it is closed in the end.
        command: how the study was started, for the record.

    Returns: run → reason, for the runs that are missing; empty if the study is complete.

    Raises: UserError if the folder or a database cannot be used; KeyboardInterrupt after Ctrl-C or SIGTERM, once every
        running cell has finished its step and is at a checkpoint; at once after a second one.
    """
    if plan.spec.search is not None and not plan.spec.found:
        raise UserError(f"{plan.spec.name} searches before it compares: run its search, then plan it again")
    with executor, stores.folder(plan.folder):
        trials = Trials(plan, stores)
        with stores.alone(plan.folder.name):
            for run in plan.runs:
                claim(run.recipe, run.folder)
            state = _State(plan, trials, Runs(plan, stores.mlflow, stores.artifacts))
            state.runs.schedule(plan.runs)
            state.catch_up()
        resolve_path(plan.runs[0].recipe.config["model"]["policy"]["path"])
        with StudyView(plan) as view, Interrupts() as interrupts, trials.alive():
            try:
                if plan.ends is not None:
                    null = prove_null(plan.folder, *plan.ends, executor, interrupts, say=view.say)
                    plan = replace(plan, guarantees=[*plan.guarantees, null])
                drive(
                    executor,
                    interrupts,
                    begin=state.claim,
                    end=lambda outcome: view.ended(state.end(outcome), outcome),
                    finished=lambda: state.trials.finished,
                    say=view.say,
                    watch=lambda: _watch(state, executor, view),
                )
            finally:
                executor.close()
                with suppress(Exception):  # what was raised first says more
                    state.release_all()
            view.summary()
        with stores.alone(plan.folder.name):
            state.catch_up()
            write_outputs(plan, command=command, failures=state.failures, mlflow_ids=state.runs.ids)
        return state.failures


@dataclass
class _State:
    """The records that follow the runs."""

    plan: Plan
    trials: Trials
    runs: Runs

    def __post_init__(self) -> None:
        self.by_id = {run.id: run for run in self.plan.runs}
        self.recorded: set[str] = set()

    def catch_up(self) -> None:
        """Bring the records to what the run folders say, after a kill, or after what others have done."""
        for run in self.plan.runs:
            if run.complete and run.id not in self.recorded:
                self.complete(run)

    def claim(self) -> Job | None:
        """A run to start now; what turns out to be complete is only recorded."""
        while (name := self.trials.claim()) is not None:
            run = self.by_id[name]
            if not run.complete:
                record_provenance(run)
                self.runs.begin(run)
                return run.job
            self.complete(run)
        return None

    def end(self, outcome: Outcome) -> Run:
        """Record how a run ended; a first failure, or a stop, leaves it to be started again."""
        run = self.by_id[outcome.run]
        if outcome.result is not None:
            self.complete(run)
        elif outcome.stopped:
            self.runs.pause(run)
            self.trials.release(run)
        else:
            (run.folder / FAILURE).write_text(outcome.reason)
            if not self.trials.fail(run):
                self.runs.finish(run, "FAILED", outcome.reason)
        return run

    def complete(self, run: Run) -> None:
        """Record a complete run; MLflow first, since nobody looks at a run any more whose trial has ended."""
        self.runs.finish(run, "FINISHED")
        self.trials.complete(run, self.value(run))
        self.recorded.add(run.id)

    def release_all(self) -> None:
        """Leave what was claimed to others, or to the next time."""
        for name in list(self.trials.mine):
            self.trials.release(self.by_id[name])

    @property
    def failures(self) -> dict[str, str]:
        """Run → reason, for what is not complete and has failed."""
        return {
            run.id: (run.folder / FAILURE).read_text()
            for run in self.plan.runs
            if not run.complete and (run.folder / FAILURE).exists()
        }

    def value(self, run: Run) -> float:
        """The study's metric at the run's last step."""
        return run.value(self.plan.spec.metric["name"])


def _watch(state: _State, executor: Executor, view: StudyView) -> None:
    for name in executor.running:
        state.runs.mirror(state.by_id[name])
        if name not in state.trials.mine:  # another worker took it over while this one was silent
            executor.stop(name)
    view.update(set(executor.running))
