"""The trials of a search at one place: asked of Optuna, judged while they run, and kept in its storage."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from statistics import fmean
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from research.ablation.designs import Cell
from research.ablation.executors import Outcome, last_line
from research.ablation.mlflow_runs import Runs
from research.ablation.nodes import compose
from research.ablation.optuna_trials import ATTEMPTS
from research.ablation.plan import Plan, Run
from research.ablation.search_places import Place
from research.ablation.search_spec import SearchSpec
from research.ablation.stores import Stores, identity
from research.errors import UserError
from research.recipe import Recipe
from research.runs.folder import claim
from research.tracking import merged_steps

STARTUP = 3
"""Trials before TPE models what it has seen, and complete trials before any is pruned."""
REASON = "reason"
"""What a failed trial says of itself."""
ENDED = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
"""How a trial ended → what MLflow calls its runs that did not reach their last step."""


@dataclass
class OpenTrial:
    """A trial that is under way."""

    trial: Trial
    values: Mapping[str, float]
    runs: Sequence[Run]
    """One for each of the search's seeds."""
    queue: list[Run] = field(default_factory=list)
    """What is not begun, or is to be continued."""
    reported: set[int] = field(default_factory=set)
    """Steps whose evaluations the pruner has seen."""


class Search:
    """The trials at one place.

    Args:
        plan: the study's.
        spec: its search.
        place: where.
        stores: the databases.
        runs: MLflow's view of the study; every run of a trial is a child of its parent run.
        parallel: whether several runs are under way at once; a trial then keeps away from what others are trying.

    Raises: UserError if trials of another search are there.
    """

    def __init__(
        self, plan: Plan, spec: SearchSpec, place: Place, stores: Stores, runs: Runs, *, parallel: bool
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan, self.spec, self.place, self.runs, self.parallel = plan, spec, place, runs, parallel
        self.metric = plan.spec.metric["name"]
        self.folder = plan.folder / "search" / place.id
        self.study = optuna.create_study(
            study_name=f"{plan.folder.name}-{identity(plan.folder)}-search-{place.id}",
            storage=stores.optuna,
            direction=plan.spec.metric["direction"],  # pyright: ignore[reportArgumentType]
            pruner=_pruner(spec),
            load_if_exists=True,
        )
        self._refuse_another()
        self.open: dict[int, OpenTrial] = {}
        self.running: dict[str, OpenTrial] = {}
        """Run → its trial, for what the executor has; the trial may have ended."""
        self.attempts: Counter[str] = Counter()
        self._first_is_the_recipes()
        for trial in self._trials(TrialState.RUNNING):
            self._open(Trial(self.study, trial._trial_id))
        self.left = spec.trials - len(self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))

    def catch_up(self) -> None:
        """End in MLflow's view what has ended in Optuna's: a kill may have come between the two."""
        for trial in self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
            for run in self._runs(trial.number, trial.params):
                self.runs.finish(run, "FINISHED" if run.complete else ENDED[trial.state])

    def next(self) -> Run | None:
        """A run to begin or to continue now, of a trial that is under way or of a new one; None if there is none."""
        while True:
            for trial in list(self.open.values()):
                while trial.queue and trial.trial.number in self.open:
                    run = trial.queue.pop(0)
                    if not run.complete:
                        claim(run.recipe, run.folder)
                        self.runs.begin(run)
                        self.running[run.id] = trial
                        return run
                    self._complete(trial, run)
            if self.left <= 0 or len(self.open) >= max(STARTUP, self.spec.trials // 4):
                return None
            self.left -= 1
            self._open(self.study.ask())

    def end(self, outcome: Outcome) -> None:
        """Record how a run ended; a first failure, or a stop, leaves it to be started again."""
        trial = self.running.pop(outcome.run)
        run = next(run for run in trial.runs if run.id == outcome.run)
        if outcome.result is not None:
            self._complete(trial, run)
            return
        if trial.trial.number not in self.open:
            self.runs.finish(run, "KILLED", "its trial was ended before it")
            return
        if not outcome.stopped:
            self.attempts[run.id] += 1
            if self.attempts[run.id] >= ATTEMPTS:
                self.runs.finish(run, "FAILED", outcome.reason)
                self._tell(trial, TrialState.FAIL, reason=outcome.reason)
                return
        self.runs.pause(run)
        trial.queue.append(run)

    def mirror(self) -> None:
        """Let MLflow have what the runs under way have logged since the last time."""
        for name, trial in self.running.items():
            self.runs.mirror(next(run for run in trial.runs if run.id == name))

    def given_up(self) -> list[str]:
        """The runs that the executor has and whose trial is over, those that the pruner ends now among them."""
        for trial in list(self.open.values()):
            self._judge(trial)
        return [run for run, trial in self.running.items() if trial.trial.number not in self.open]

    @property
    def finished(self) -> bool:
        """Whether no trial is under way or left to ask."""
        return not self.open and self.left <= 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each trial."""
        return [{"combination": self.place.id, **self.place.levels, **_row(trial)} for trial in self._trials()]

    @property
    def found(self) -> dict[str, Any]:
        """The place, the best complete trial's values and metric, and every trial.

        Raises: UserError if no trial was completed.
        """
        if not self._trials(TrialState.COMPLETE):
            reasons = [trial.user_attrs[REASON] for trial in self._trials(TrialState.FAIL)]
            raise UserError(f"no trial of the search at {self.place.words} was completed: {last_line(reasons[-1])}")
        best = self.study.best_trial
        return {
            "levels": dict(self.place.levels),
            "config": self.place.recipe.digest,
            "values": dict(best.params),
            "metric": best.value,
            "trials": [_row(trial) for trial in self._trials()],
        }

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _refuse_another(self) -> None:
        """What must not change between two commands: all but how many trials there are."""
        begun = {**self.spec.record, "trials": None, "config": self.place.recipe.digest}
        if self.study.user_attrs.get("search", begun) != begun:
            raise UserError(
                f"the search in {self.folder} was begun with other ranges, seeds or settings: give another folder with "
                "--output"
            )
        self.study.set_user_attr("search", begun)

    def _first_is_the_recipes(self) -> None:
        own = self.place.own
        ranges = self.spec.parameters.items()
        inside = all(type(own[name]) in (int, float) and one.low <= own[name] <= one.high for name, one in ranges)
        if inside and not self._trials():
            self.study.enqueue_trial(dict(own))

    def _open(self, trial: Trial) -> None:
        values = {}
        for index, (name, one) in enumerate(self.spec.parameters.items()):
            self.study.sampler = TPESampler(
                n_startup_trials=STARTUP,
                multivariate=False,
                constant_liar=self.parallel,
                seed=trial.number * len(self.spec.parameters) + index,  # of its own, so that a kill changes nothing
            )
            suggest = trial.suggest_int if one.integer else trial.suggest_float
            values[name] = suggest(name, one.low, one.high, log=one.log)  # pyright: ignore[reportArgumentType]
        runs = self._runs(trial.number, values)
        reported = set(self._trials()[trial.number].intermediate_values)
        opened = OpenTrial(trial=trial, values=values, runs=runs, queue=list(runs), reported=reported)
        self.open[trial.number] = opened
        if reported and trial.should_prune():  # killed between the evaluation and the trial's end
            self._tell(opened, TrialState.PRUNED)

    def _runs(self, number: int, values: Mapping[str, float]) -> list[Run]:
        return [self._run(number, values, seed) for seed in self.spec.seeds]

    def _run(self, number: int, values: Mapping[str, float], seed: int) -> Run:
        config = compose(self.place.recipe.config, {**self.spec.nodes(values), "model.seed": seed}, "search")
        name = f"{number}-s{seed}" if len(self.spec.seeds) > 1 else str(number)
        return Run(
            id=f"search-{self.place.id}-{name}",
            cell=Cell(id=self.place.id, label=self.place.words, levels=self.place.levels),
            seed=seed,
            recipe=Recipe(config=config),
            folder=self.folder / name,
            tries=values,
        )

    def _complete(self, opened: OpenTrial, run: Run) -> None:
        """Record a complete run; MLflow first, since nobody looks at a run any more whose trial has ended."""
        self.runs.finish(run, "FINISHED")
        if opened.trial.number in self.open:
            self._settle(opened)

    def _settle(self, opened: OpenTrial) -> None:
        """End a trial whose runs are all complete, unless it would have been pruned on the way."""
        if all(run.complete for run in opened.runs) and not self._judge(opened):
            value = fmean(run.value(self.metric) for run in opened.runs)
            if isfinite(value):
                self._tell(opened, TrialState.COMPLETE, value)
            else:
                self._tell(opened, TrialState.FAIL, reason=f"its {self.metric} is {value}")

    def _judge(self, opened: OpenTrial) -> bool:
        """Report each evaluation that all seeds have reached, one after the other; whether the pruner ends it at one.

        Each is judged, however late it is seen: what is pruned does not depend on when anybody looked.
        """
        for step, value in self._evaluations(opened.runs).items():
            if step not in opened.reported:
                opened.reported.add(step)
                opened.trial.report(value, step)
                if opened.trial.should_prune():
                    self._tell(opened, TrialState.PRUNED)
                    return True
        return False

    def _evaluations(self, runs: Sequence[Run]) -> dict[int, float]:
        """Step → the metric's mean over seeds, between the start, which is the same in all trials, and the last."""
        curves = [
            {step: metrics[self.metric] for step, metrics in merged_steps(run.folder).items() if self.metric in metrics}
            for run in runs
        ]
        last = runs[0].recipe.run_settings().budget.whole_steps or inf
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))[1:]
        return {step: fmean(curve[step] for curve in curves) for step in steps if step < last}

    def _tell(self, opened: OpenTrial, state: TrialState, value: float | None = None, reason: str = "") -> None:
        if reason:
            opened.trial.set_user_attr(REASON, reason)
        self.study.tell(opened.trial, value, state=state)
        del self.open[opened.trial.number]
        row = _row(self._trials()[opened.trial.number])
        what = ", ".join(f"{name} {value:.3g}" for name, value in opened.values.items())
        how = f"{row['state']}, {self.metric} {row['value']:.4g}" if row["value"] is not None else last_line(reason)
        say(f"search at {self.place.words}, trial {row['number']}: {what}: {how}")


def _pruner(spec: SearchSpec) -> BasePruner:
    return MedianPruner(n_startup_trials=STARTUP) if spec.pruner == "median" else NopPruner()


def _row(trial: FrozenTrial) -> dict[str, Any]:
    return {"number": trial.number, **trial.params, "value": trial.value, "state": trial.state.name.lower()}


def say(text: str) -> None:
    """A line on the terminal."""
    print(text, file=sys.stderr, flush=True)
