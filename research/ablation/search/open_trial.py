"""A trial that is under way: its runs, one for each of the search's seeds, and what they have measured."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from statistics import fmean

from optuna.trial import Trial

from research.ablation.designs import Cell
from research.ablation.nodes import compose
from research.ablation.plan import Run
from research.ablation.search_places import Place
from research.ablation.search_spec import SearchSpec
from research.recipe import Recipe
from research.tracking import merged_steps


@dataclass
class OpenTrial:
    """A trial that is under way."""

    trial: Trial
    values: Mapping[str, float]
    """Parameter → value."""
    runs: Sequence[Run]
    """One for each of the search's seeds."""
    queue: list[Run]
    """Runs to begin, or to continue."""
    judged: set[int]
    """Steps whose evaluations the pruner has seen."""
    failures: Counter[str] = field(default_factory=Counter)
    """Run → failed attempts."""

    @property
    def complete(self) -> bool:
        """True if every run has reached its last step."""
        return all(run.complete for run in self.runs)

    def run(self, name: str) -> Run:
        """The run of this name."""
        return next(run for run in self.runs if run.id == name)

    def value(self, metric: str) -> float:
        """The mean over seeds of a metric at the last step; every run is complete."""
        return fmean(run.value(metric) for run in self.runs)

    def evaluations(self, metric: str) -> dict[int, float]:
        """Step → mean over seeds of a metric, at the evaluations that every seed has reached.

        The first evaluation is left out, since it is the same in all trials, and the last, which is the trial's value.
        """
        curves = [
            {step: metrics[metric] for step, metrics in merged_steps(run.folder).items() if metric in metrics}
            for run in self.runs
        ]
        last = self.runs[0].recipe.run_settings().budget.whole_steps or inf
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))[1:]
        return {step: fmean(curve[step] for curve in curves) for step in steps if step < last}


def trial_runs(spec: SearchSpec, place: Place, folder: Path, number: int, values: Mapping[str, float]) -> list[Run]:
    """The runs of a trial, one for each of the search's seeds.

    Args:
        spec: the search.
        place: its recipe is run with the trial's values.
        folder: the folder of the place's trials.
        number: the trial's.
        values: parameter → value.
    """
    cell = Cell(id=place.id, label=place.words, levels=place.levels)
    runs = []
    for seed in spec.seeds:
        config = compose(place.recipe.config, {**spec.nodes(values), "model.seed": seed}, "search")
        name = f"{number}-s{seed}" if len(spec.seeds) > 1 else str(number)
        runs.append(
            Run(
                id=f"search-{place.id}-{name}",
                cell=cell,
                seed=seed,
                recipe=Recipe(config=config),
                folder=folder / name,
                tries=values,
            )
        )
    return runs
