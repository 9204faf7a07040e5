"""Optuna's study of one place: it proposes values, decides which trials are pruned, and keeps the results."""

from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from research.ablation.executors import last_line
from research.ablation.plan import Plan
from research.ablation.search_places import Place
from research.ablation.search_spec import SearchSpec
from research.ablation.stores import Stores, identity
from research.errors import UserError

STARTUP = 3
"""Trials before TPE models the earlier ones, and complete trials before one is pruned."""
REASON = "reason"
"""The attribute that holds why a trial failed."""


class PlaceStudy:
    """Optuna's study of one place.

    Args:
        plan: the ablation study's.
        spec: its search.
        place: the combination of levels that is searched at.
        folder: the folder of the place's trials, for an error sentence.
        stores: the databases.
        parallel: True if several runs are under way at once; a trial then keeps away from the values of open trials.

    Raises: UserError if the study was begun by another search.
    """

    def __init__(
        self, plan: Plan, spec: SearchSpec, place: Place, folder: Path, stores: Stores, *, parallel: bool
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.spec, self.place, self.parallel = spec, place, parallel
        self.study = optuna.create_study(
            study_name=f"{plan.folder.name}-{identity(plan.folder)}-search-{place.id}",
            storage=stores.optuna,
            direction=plan.spec.metric["direction"],
            pruner=_pruner(spec),
            load_if_exists=True,
        )
        self._refuse_another_search(folder)
        self._propose_the_recipes_values()

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, or all of them, by number."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def under_way(self) -> list[Trial]:
        """The trials that an earlier process began and did not end."""
        return [Trial(self.study, trial._trial_id) for trial in self.trials(TrialState.RUNNING)]

    def ask(self) -> Trial:
        """A new trial."""
        return self.study.ask()

    def values(self, trial: Trial) -> dict[str, float]:
        """The values of a trial; the same ones when a trial is continued.

        Each parameter of each trial has a sampler with its own seed, so that a kill does not change later values.
        """
        values: dict[str, float] = {}
        for index, (name, one) in enumerate(self.spec.parameters.items()):
            self.study.sampler = TPESampler(
                n_startup_trials=STARTUP,
                multivariate=False,
                constant_liar=self.parallel,
                seed=trial.number * len(self.spec.parameters) + index,
            )
            if one.integer:
                values[name] = trial.suggest_int(name, int(one.low), int(one.high), log=one.log)
            else:
                values[name] = trial.suggest_float(name, one.low, one.high, log=one.log)
        return values

    def judged(self, trial: Trial) -> set[int]:
        """The steps whose evaluations the pruner has seen."""
        return set(self.trials()[trial.number].intermediate_values)

    def tell(self, trial: Trial, state: TrialState, value: float | None, reason: str) -> Mapping[str, object]:
        """End a trial.

        Returns: its row.
        """
        if reason:
            trial.set_user_attr(REASON, reason)
        self.study.tell(trial, value, state=state)
        return _row(self.trials()[trial.number])

    @property
    def rows(self) -> list[dict[str, object]]:
        """A row for each trial, for search.csv."""
        return [{"combination": self.place.id, **self.place.levels, **_row(trial)} for trial in self.trials()]

    @property
    def found(self) -> dict[str, object]:
        """The place, the values and the metric of the best complete trial, and every trial, for search.yaml.

        Raises: UserError if no trial was completed.
        """
        if not self.trials(TrialState.COMPLETE):
            reasons = [trial.user_attrs[REASON] for trial in self.trials(TrialState.FAIL)]
            raise UserError(f"no trial of the search at {self.place.words} was completed: {last_line(reasons[-1])}")
        best = self.study.best_trial
        return {
            "levels": dict(self.place.levels),
            "config": self.place.recipe.digest,
            "values": dict(best.params),
            "metric": best.value,
            "trials": [_row(trial) for trial in self.trials()],
        }

    def _refuse_another_search(self, folder: Path) -> None:
        """Only the number of trials may change between two commands."""
        begun = {**self.spec.record, "trials": None, "config": self.place.recipe.digest}
        if self.study.user_attrs.get("search", begun) != begun:
            raise UserError(
                f"the search in {folder} was begun with other ranges, seeds or settings: give another folder with "
                "--output"
            )
        self.study.set_user_attr("search", begun)

    def _propose_the_recipes_values(self) -> None:
        """Give the first trial the recipe's own values, if they are all in range."""
        own = self.place.own
        if all(one.holds(own[name]) for name, one in self.spec.parameters.items()) and not self.trials():
            self.study.enqueue_trial(dict(own))


def _pruner(spec: SearchSpec) -> BasePruner:
    return MedianPruner(n_startup_trials=STARTUP) if spec.pruner == "median" else NopPruner()


def _row(trial: FrozenTrial) -> dict[str, object]:
    return {"number": trial.number, **trial.params, "value": trial.value, "state": trial.state.name.lower()}
