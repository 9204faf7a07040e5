"""Run a study: every cell at every seed, until each is complete, on worker processes of one machine."""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from filelock import FileLock, Timeout

from research.ablation.live import StudyView
from research.ablation.outputs import record_provenance, write_outputs
from research.ablation.plan import Plan, Run
from research.ablation.records import Runs, Trials
from research.ablation.worker import Outcome, Worker
from research.errors import UserError
from research.fit import claim
from research.training.run import RESULT
from research.training.warm_start import resolve_path

ATTEMPTS = 2
"""A run that fails is tried again once; then it is reported as missing."""


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where the study's databases are."""

    mlflow: str
    optuna: str
    artifacts: Path


def run_study(plan: Plan, stores: Stores, *, workers: int, threads: int, command: str) -> dict[str, str]:
    """Run what is not complete yet, then write the study's files.

    Args:
        plan: the checked plan.
        stores: databases of MLflow and Optuna.
        workers: processes at once.
        threads: torch threads of each; a run's numbers may depend on it, never on `workers`.
        command: how the study was started, for the record.

    Returns: run → reason, for the runs that are missing; empty if the study is complete.

    Raises: UserError if the folder cannot be used; KeyboardInterrupt after Ctrl-C, with all finished work kept.
    """
    with _alone(plan.folder):
        for run in plan.runs:
            claim(run.recipe, run.folder)
        resolve_path(plan.runs[0].recipe.config["model"]["policy"]["path"])
        state = _State(plan, Trials(plan, stores.optuna), Runs(plan, stores.mlflow, stores.artifacts))
        state.catch_up()
        with StudyView(plan) as view:
            _drive(state, view, min(workers, len(state.pending)), threads)
        write_outputs(plan, command=command, failures=state.failures, mlflow_ids=state.runs.ids)
        return state.failures


@dataclass
class _State:
    """Which runs wait, which have failed, and the records that follow them."""

    plan: Plan
    trials: Trials
    runs: Runs
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_id = {run.id: run for run in self.plan.runs}
        self.pending = deque(run for run in self.plan.runs if not run.complete)
        self.attempts: dict[str, int] = {}

    def catch_up(self) -> None:
        """Bring the records to what the run folders say, after a kill."""
        for run in self.plan.runs:
            if run.complete:
                self.trials.finish(run, self.value(run))
                self.runs.begin(run)
                self.runs.finish(run, "FINISHED")

    def begin(self, run: Run) -> None:
        """Record that a run starts."""
        self.attempts[run.id] = self.attempts.get(run.id, 0) + 1
        record_provenance(run)
        self.trials.begin(run)
        self.runs.begin(run)

    def end(self, outcome: Outcome) -> Run:
        """Record how a run ended; a first failure puts it back in the queue."""
        run = self.by_id[outcome.run]
        if outcome.result is not None:
            self.failures.pop(run.id, None)
            self.trials.finish(run, self.value(run))
            self.runs.finish(run, "FINISHED")
            return run
        (run.folder / "failure.txt").write_text(outcome.reason)
        self.failures[run.id] = outcome.reason
        if self.attempts[run.id] < ATTEMPTS:
            self.pending.append(run)
        else:
            self.trials.finish(run, None)
            self.runs.finish(run, "FAILED", outcome.reason)
        return run

    def value(self, run: Run) -> float:
        """The study's metric at the run's last step."""
        last = json.loads((run.folder / RESULT).read_text())["last"]
        name = self.plan.spec.metric["name"]
        if name not in last:
            raise UserError(f"no metric is called {name!r}; a run's last step has {', '.join(sorted(last))}")
        return last[name]


def _drive(state: _State, view: StudyView, count: int, threads: int) -> None:
    crew = [Worker(threads) for _ in range(count)]
    try:
        while state.pending or any(worker.run for worker in crew):
            for k, worker in enumerate(crew):
                if worker.run is None and state.pending:
                    crew[k] = worker = worker if worker.alive else Worker(threads)
                    run = state.pending.popleft()
                    state.begin(run)
                    worker.give(run.id, dict(run.recipe.config), run.folder)
            busy = [worker for worker in crew if worker.run]
            ready = wait([end for worker in busy for end in (worker.connection, worker.process.sentinel)], timeout=1.0)
            for worker in busy:
                if worker.connection in ready or worker.process.sentinel in ready:
                    run = state.end(worker.outcome())
                    view.ended(run, state.failures.get(run.id))
            for worker in crew:
                if worker.run:
                    state.runs.mirror(state.by_id[worker.run])
            view.update({worker.run for worker in crew if worker.run})
    finally:
        for worker in crew:
            worker.stop()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise UserError(f"another process is running the study in {folder}; wait for it or stop it") from error
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}. Give another folder with --output.") from error
    try:
        yield
    finally:
        lock.release()
