"""Run a study: every cell at every seed, until each is complete, through an executor."""

from contextlib import suppress
from dataclasses import dataclass, replace
from shutil import rmtree

from research.ablation.executors import Executor, Job, Outcome
from research.ablation.folder.provenance import record_provenance
from research.ablation.folder.tables import write_outputs
from research.ablation.interrupts import Interrupts
from research.ablation.live import StudyView
from research.ablation.loop import drive
from research.ablation.mlflow_runs import Runs
from research.ablation.optuna_trials import Trials
from research.ablation.plan import Plan, Run
from research.ablation.stores import Stores, forget_identity
from research.ablation.unchanged import prove_null
from research.errors import UserError
from research.runs.folder import claim
from research.runs.outside import changed
from research.training.warm_start.builtin import resolve_path

FAILURE = "failure.txt"


def run_study(
    plan: Plan,
    stores: Stores,
    executor: Executor,
    *,
    command: str,
    accept_unproven: bool = False,
    redo: bool = False,
) -> dict[str, str]:
    """Run the cells that are not complete yet, then write the study's files.

    Several processes, on one machine or several, may run one study at once if they share the databases and the results
    folder. Each takes runs that no other one has, and all of them return when the study is complete.

    Args:
        plan: the checked plan.
        stores: databases of MLflow and Optuna.
        executor: runs the cells; it is closed in the end.
        command: the command that started the study, for its record.
        accept_unproven: whether the study goes on if its baseline does not reproduce its base recipe.
        redo: whether runs that began with other code or data than there is now are deleted and run again.

    Returns: run → reason, for the missing runs; empty if the study is complete.

    Raises: Unproven if the baseline does not reproduce the base recipe, unless that is accepted; UserError if the
        folder or a database cannot be used, the study's search has not been made, or code or data outside the package
        changed since a run began, unless that is redone; KeyboardInterrupt after Ctrl-C or SIGTERM, once every running
        cell has finished its step and is at a checkpoint, and at once after a second one.
    """
    if plan.spec.search is not None and not plan.spec.found:
        raise UserError(f"{plan.spec.name} has a search: run that first, then plan the study again")
    with executor, stores.folder(plan.folder):
        _refuse_stale(plan, redo)
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
                    plan = _proved(plan, executor, interrupts, view, accept_unproven)
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
                with suppress(Exception):  # the first error says more
                    state.release_all()
            view.summary()
        with stores.alone(plan.folder.name):
            state.catch_up()
            write_outputs(plan, command=command, failures=state.failures, mlflow_ids=state.runs.ids)
        return state.failures


def _refuse_stale(plan: Plan, redo: bool) -> None:
    """Refuse, or delete, the runs that began with other code or data outside the package than there is now."""
    stale = [(run, names) for run in plan.runs if run.begun and (names := changed(run.recipe, run.folder))]
    if not stale:
        return
    if not redo:
        files = sorted({name for _, names in stale for name in names})
        runs = [run.id for run, _ in stale]
        more = f" and {len(runs) - 4} more" if len(runs) > 4 else ""
        raise UserError(
            f"{', '.join(files)} changed since these runs of the study began: {', '.join(runs[:4])}{more}. Their "
            "numbers are of the old code or data: run the study in another folder with --output, or run them again "
            "with --redo"
        )
    for run, _ in stale:
        rmtree(run.folder)
    forget_identity(plan.folder)


def _proved(plan: Plan, executor: Executor, interrupts: Interrupts, view: StudyView, accept: bool) -> Plan:
    """The plan with the result of the null run."""
    assert plan.ends is not None
    proof = prove_null(plan.folder, *plan.ends, executor, interrupts, say=view.say, accept=accept)
    if proof.holds:
        return replace(plan, guarantees=[*plan.guarantees, proof.sentence])
    view.say(f"not proven, and accepted: {proof.sentence}")
    return replace(plan, unproven=proof.sentence)


@dataclass
class _State:
    """Keeps Optuna's trials and MLflow's runs in step with the study's runs."""

    plan: Plan
    trials: Trials
    runs: Runs

    def __post_init__(self) -> None:
        self.by_id = {run.id: run for run in self.plan.runs}
        self.recorded: set[str] = set()

    def catch_up(self) -> None:
        """Record the runs that are complete by their folders: after a kill, or after other workers."""
        for run in self.plan.runs:
            if run.complete and run.id not in self.recorded:
                self.complete(run)

    def claim(self) -> Job | None:
        """Claim a run to start now; None if there is none. Claimed runs that are already complete are only recorded."""
        while (name := self.trials.claim()) is not None:
            run = self.by_id[name]
            if not run.complete:
                record_provenance(run)
                self.runs.begin(run)
                return run.job
            self.complete(run)
        return None

    def end(self, outcome: Outcome) -> Run:
        """Record the end of a run. After a stop, or a failure that is not the last attempt, it can be claimed again.

        Returns: the run.
        """
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
        """Record a complete run. MLflow comes first: once its trial has ended, nothing looks at a run again."""
        self.runs.finish(run, "FINISHED")
        self.trials.complete(run, self.value(run))
        self.recorded.add(run.id)

    def release_all(self) -> None:
        """Give up all claims, to other workers or to the next command."""
        for name in list(self.trials.mine):
            self.trials.release(self.by_id[name])

    @property
    def failures(self) -> dict[str, str]:
        """Run → reason, for the incomplete runs that have failed."""
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
        if name not in state.trials.mine:  # another worker took it over, since this one was silent
            executor.stop(name)
    view.update(set(executor.running))
