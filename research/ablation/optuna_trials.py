"""Optuna's trials of a study: one for each run, claimed by one worker at a time."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from secrets import token_hex

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from research.ablation.plan import Plan, Run
from research.ablation.stores import Stores, identity
from research.errors import UserError

ATTEMPTS = 2
"""Attempts at a run that fails; after the last one it is reported as missing."""


class Trials:
    """Optuna's trials of a study, one for each run, through which workers share the runs.

    A trial is WAITING until a worker claims it, RUNNING while that worker sends heartbeats, and COMPLETE or FAIL in the
    end. If the worker of a RUNNING trial falls silent, another one claims the trial and continues the run.

    Args:
        plan: the study's plan.
        stores: its databases.

    Raises: UserError if the storage cannot be used, or if other workers run another study under this name.
    """

    def __init__(self, plan: Plan, stores: Stores) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module="optuna")
        self.plan, self.stores, self.name = plan, stores, plan.folder.name
        self.owner = token_hex(8)
        self.mine: dict[str, int] = {}
        """Run → Optuna's id of its trial, for the runs that this worker has claimed."""
        with stores.asking_optuna(), stores.alone(self.name), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.storage = optuna.storages.RDBStorage(
                stores.optuna, heartbeat_interval=max(1, int(stores.grace / 6)), grace_period=int(stores.grace)
            )
            self.study = optuna.create_study(
                study_name=f"{self.name}-{identity(plan.folder)}",
                storage=self.storage,
                direction=plan.spec.metric["direction"],
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
            self.id = self.storage.get_study_id_from_name(self.study.study_name)
            self._refuse_others()
            self._enqueue()

    def claim(self) -> str | None:
        """Claim the next run, in the plan's order, that no worker is running; None if there is none."""
        with self.stores.alone(self.name):
            trials, free = self._by_run(), self._abandoned()
            for run in self.plan.runs:
                trial = trials.get(run.id)
                if trial is None or run.id in self.mine:
                    continue
                if trial.state == TrialState.WAITING or trial._trial_id in free:
                    # The heartbeat comes first: without one, a RUNNING trial would never count as abandoned.
                    self.storage.record_heartbeat(trial._trial_id)
                    self.storage.set_trial_user_attr(trial._trial_id, "worker", self.owner)
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
                    self.mine[run.id] = trial._trial_id
                    return run.id
        return None

    def complete(self, run: Run, value: float) -> None:
        """End a run's trial as COMPLETE, whichever worker ran it; does nothing the second time.

        Args:
            run: a complete run.
            value: the study's metric at its last step.
        """
        trial = self._by_run()[run.id]
        self.mine.pop(run.id, None)
        if trial.state != TrialState.COMPLETE:
            if trial.state == TrialState.WAITING:
                self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            self._set(trial._trial_id, TrialState.COMPLETE, [value])

    def fail(self, run: Run) -> bool:
        """Put a failed run back, or end its trial as FAIL after the last attempt.

        Returns: True if the run is tried again, here or by the worker that has taken it over.
        """
        if (id_ := self.mine.pop(run.id, None)) is None:
            return True
        failures = self.storage.get_trial_user_attrs(id_).get("failures", 0) + 1
        self.storage.set_trial_user_attr(id_, "failures", failures)
        again = failures < ATTEMPTS
        self._set(id_, TrialState.WAITING if again else TrialState.FAIL)
        return again

    def release(self, run: Run) -> None:
        """Give up the claim, so that any worker can continue the run."""
        if (id_ := self.mine.pop(run.id, None)) is not None:
            self._set(id_, TrialState.WAITING)

    @property
    def finished(self) -> bool:
        """True if every run has ended, for all workers."""
        return all(trial.state.is_finished() for trial in self._by_run().values())

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Within the block, send heartbeats for the claimed runs, and drop those that another worker has taken over."""
        if not self.stores.shared:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(self.stores.grace / 6):
            with suppress(Exception):  # the database may be away for a moment, shorter than the grace period
                for run, id_ in list(self.mine.items()):
                    if self.storage.get_trial_user_attrs(id_).get("worker") == self.owner:
                        self.storage.record_heartbeat(id_)
                    else:
                        self.mine.pop(run, None)
        self.storage.remove_session()

    def _enqueue(self) -> None:
        """Add a WAITING trial for every run that has no trial or only failed ones."""
        spec = self.plan.spec
        distributions: dict[str, BaseDistribution] = {
            **{factor: CategoricalDistribution(list(levels)) for factor, levels in spec.factors.items()},
            "seed": IntDistribution(min(spec.seeds), max(spec.seeds)),
        }
        there = self._by_run()
        for run in self.plan.runs:
            if run.id in there and there[run.id].state != TrialState.FAIL:
                continue
            trial = create_trial(
                state=TrialState.WAITING,
                params={**run.cell.levels, "seed": run.seed},
                distributions=distributions,
                user_attrs={"run": run.id},
            )
            try:
                self.study.add_trial(trial)  # one transaction: a kill leaves it whole or not at all
            except ValueError as error:
                raise UserError(
                    f"Optuna's study {self.study.study_name!r} has other levels or seeds than this one: {error} "
                    "Give another database with --storage."
                ) from error

    def _refuse_others(self) -> None:
        """Refuse to join workers of another study: of the same name from another folder, or with other cells."""
        digest = sha256("".join(f"{run.id}{run.recipe.digest}" for run in self.plan.runs).encode()).hexdigest()[:12]
        if not self.stores.shared:
            return
        for study in self.storage.get_all_studies():
            other = study.study_name != self.study.study_name
            if other and study.study_name.rpartition("-")[0] == self.name and self._busy(study._study_id):
                raise UserError(
                    f"workers run a study {self.name} on this database from another results folder: give their folder "
                    "with --output to join it, or a folder of another name for another study"
                )
        if self.study.user_attrs.get("cells", digest) != digest and self._busy(self.id):
            raise UserError(
                f"workers run the study {self.name} with other cells, seeds or settings than this command: "
                "give the same ones to join it, or wait until they have ended"
            )
        self.study.set_user_attr("cells", digest)

    def _by_run(self) -> dict[str, FrozenTrial]:
        """Run → its last trial."""
        return {
            trial.user_attrs["run"]: trial
            for trial in self.storage.get_all_trials(self.id, deepcopy=False)
            if "run" in trial.user_attrs
        }

    def _busy(self, study: int) -> bool:
        """True if a worker of this study sends heartbeats."""
        running = self.storage.get_all_trials(study, deepcopy=False, states=(TrialState.RUNNING,))
        return bool({trial._trial_id for trial in running} - set(self.storage._get_stale_trial_ids(study)))

    def _abandoned(self) -> set[int]:
        """Optuna's ids of the RUNNING trials whose worker is gone; without other workers, all but this one's own."""
        if self.stores.shared:
            return set(self.storage._get_stale_trial_ids(self.id))  # the public function fails them too
        running = self.storage.get_all_trials(self.id, deepcopy=False, states=(TrialState.RUNNING,))
        return {trial._trial_id for trial in running} - set(self.mine.values())

    def _set(self, id_: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        with suppress(UpdateFinishedTrialError):  # another worker took it over and has ended it
            self.storage.set_trial_state_values(id_, state, values)
