"""Optuna's trials of a study: one for each run, and which worker has claimed it."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from secrets import token_hex
from typing import Any

from research.ablation.plan import Plan, Run
from research.ablation.stores import Stores, identity
from research.errors import UserError

ATTEMPTS = 2
"""A run that fails is tried again once; then it is reported as missing."""


class Trials:
    """Optuna's view of a study, and who runs what: one trial a run, claimed by one worker at a time.

    A trial is WAITING until a worker claims it, RUNNING while that worker gives signs of life, and COMPLETE or FAIL in
    the end. A RUNNING trial whose worker has gone silent is claimed by another, which continues the run.

    Args:
        plan: the study's plan.
        stores: its databases.

    Raises: UserError if the storage cannot be used, or if other workers run another study under this name.
    """

    def __init__(self, plan: Plan, stores: Stores) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module="optuna")
        self.plan, self.stores, self.name = plan, stores, plan.folder.name
        self.states = optuna.trial.TrialState
        self.owner = token_hex(8)
        self.mine: dict[str, int] = {}
        """Run → Optuna's id of the trial, for what this worker has claimed."""
        with stores.asking_optuna(), stores.alone(self.name), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.storage = optuna.storages.RDBStorage(
                stores.optuna, heartbeat_interval=max(1, int(stores.grace / 6)), grace_period=int(stores.grace)
            )
            self.study = optuna.create_study(
                study_name=f"{self.name}-{identity(plan.folder)}",
                storage=self.storage,
                direction=plan.spec.metric["direction"],  # pyright: ignore[reportArgumentType]
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
            self.id = self.storage.get_study_id_from_name(self.study.study_name)
            self._refuse_others()
            self._enqueue()

    def claim(self) -> str | None:
        """The next run in the plan's order that nobody is running, now this worker's; None if there is none."""
        with self.stores.alone(self.name):
            trials, free = self._by_run(), self._abandoned()
            for run in self.plan.runs:
                trial = trials.get(run.id)
                if trial is None or run.id in self.mine:
                    continue
                if trial.state == self.states.WAITING or trial._trial_id in free:
                    # The sign of life first: a trial that is RUNNING without one would never be found abandoned.
                    self.storage.record_heartbeat(trial._trial_id)
                    self.storage.set_trial_user_attr(trial._trial_id, "worker", self.owner)
                    self.storage.set_trial_state_values(trial._trial_id, self.states.RUNNING)
                    self.mine[run.id] = trial._trial_id
                    return run.id
        return None

    def complete(self, run: Run, value: float) -> None:
        """COMPLETE with the metric's value, whoever ran it; again, nothing."""
        trial = self._by_run()[run.id]
        self.mine.pop(run.id, None)
        if trial.state != self.states.COMPLETE:
            if trial.state == self.states.WAITING:
                self.storage.set_trial_state_values(trial._trial_id, self.states.RUNNING)
            self._set(trial._trial_id, self.states.COMPLETE, [value])

    def fail(self, run: Run) -> bool:
        """Whether the run was put back to be tried again; if it was not, its trial is FAIL."""
        if (id_ := self.mine.pop(run.id, None)) is None:
            return True
        failures = self.storage.get_trial_user_attrs(id_).get("failures", 0) + 1
        self.storage.set_trial_user_attr(id_, "failures", failures)
        again = failures < ATTEMPTS
        self._set(id_, self.states.WAITING if again else self.states.FAIL)
        return again

    def release(self, run: Run) -> None:
        """Anybody's again, to be continued."""
        if (id_ := self.mine.pop(run.id, None)) is not None:
            self._set(id_, self.states.WAITING)

    @property
    def finished(self) -> bool:
        """Whether no run waits, and none is running anywhere."""
        return all(trial.state.is_finished() for trial in self._by_run().values())

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Within the block, give signs of life for what is claimed; what another has taken over is no longer mine."""
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
            with suppress(Exception):  # a database that is away for a moment; the grace period is for that
                for run, id_ in list(self.mine.items()):
                    if self.storage.get_trial_user_attrs(id_).get("worker") == self.owner:
                        self.storage.record_heartbeat(id_)
                    else:
                        self.mine.pop(run, None)
        self.storage.remove_session()

    def _enqueue(self) -> None:
        """A WAITING trial for every run that has none but failed ones."""
        from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
        from optuna.trial import create_trial

        spec = self.plan.spec
        distributions: dict[str, BaseDistribution] = {
            **{factor: CategoricalDistribution(list(levels)) for factor, levels in spec.factors.items()},
            "seed": IntDistribution(min(spec.seeds), max(spec.seeds)),
        }
        there = self._by_run()
        for run in self.plan.runs:
            if run.id in there and there[run.id].state != self.states.FAIL:
                continue
            trial = create_trial(
                state=self.states.WAITING,
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
        """One study under one name at a time: from one folder, with the same cells."""
        digest = sha256("".join(f"{run.id}{run.recipe.digest}" for run in self.plan.runs).encode()).hexdigest()[:12]
        if not self.stores.shared:
            return
        for study in self.storage.get_all_studies():
            other = study.study_name != self.study.study_name
            if other and study.study_name.rpartition("-")[0] == self.name and self._busy(study._study_id):
                raise UserError(
                    f"workers run a study {self.name} on this database from another results folder: give the folder "
                    "that they share with --output to join it, or a folder of another name for another study"
                )
        if self.study.user_attrs.get("cells", digest) != digest and self._busy(self.id):
            raise UserError(
                f"workers run the study {self.name} with other cells, seeds or settings than this command has: "
                "start it with theirs to join it, or wait until they have ended"
            )
        self.study.set_user_attr("cells", digest)

    def _by_run(self) -> dict[str, Any]:
        """The last trial of every run."""
        return {
            trial.user_attrs["run"]: trial
            for trial in self.storage.get_all_trials(self.id, deepcopy=False)
            if "run" in trial.user_attrs
        }

    def _busy(self, study: int) -> bool:
        """Whether a worker of this study gives signs of life."""
        running = self.storage.get_all_trials(study, deepcopy=False, states=(self.states.RUNNING,))
        return bool({trial._trial_id for trial in running} - set(self.storage._get_stale_trial_ids(study)))

    def _abandoned(self) -> set[int]:
        """Optuna's ids of the RUNNING trials whose worker is gone: alone in the folder, all but this worker's own."""
        if self.stores.shared:
            return set(self.storage._get_stale_trial_ids(self.id))  # Optuna's public way would fail the trial
        running = self.storage.get_all_trials(self.id, deepcopy=False, states=(self.states.RUNNING,))
        return {trial._trial_id for trial in running} - set(self.mine.values())

    def _set(self, id_: int, state: Any, values: Sequence[float] | None = None) -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        with suppress(UpdateFinishedTrialError):  # another worker took it over and was quicker
            self.storage.set_trial_state_values(id_, state, values)
