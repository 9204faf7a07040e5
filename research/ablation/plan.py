"""A study's plan: every cell parsed and every toggle checked to change only what it names, before anything runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from research.ablation.designs import Cell, Comparison, Fractional, design_cells
from research.ablation.executors import Job
from research.ablation.fractions import Aliases, aliases_of
from research.ablation.guarantees import check_baseline, check_single_changes
from research.ablation.nodes import covers, differences
from research.ablation.search_places import Place, guarantee, places, with_found
from research.ablation.spec import METHODS, StudySpec
from research.errors import UserError
from research.recipe import Recipe, parse
from research.runs.folder import is_complete
from research.tracking import METRICS, RESULT
from research.training.budget import Budget


@dataclass(frozen=True, kw_only=True)
class Run:
    """One cell at one seed, in its own folder."""

    id: str
    cell: Cell
    seed: int
    recipe: Recipe
    folder: Path
    tries: Mapping[str, float] = field(default_factory=dict)
    """Searched parameter → value, in a trial of the study's search; empty in a cell's run."""

    @property
    def complete(self) -> bool:
        """True if the run reached its last step."""
        return is_complete(self.folder)

    @property
    def begun(self) -> bool:
        """True if the run has measured anything."""
        return (self.folder / METRICS).exists()

    @property
    def job(self) -> Job:
        """The run as an executor takes it."""
        return Job(run=self.id, config=dict(self.recipe.config), folder=self.folder.resolve())

    def value(self, metric: str) -> float:
        """A metric at the last step of a complete run.

        Raises: UserError if no metric has this name.
        """
        last = json.loads((self.folder / RESULT).read_text())["last"]
        if metric not in last:
            raise UserError(f"no metric is called {metric!r}; a run's last step has {', '.join(sorted(last))}")
        return last[metric]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All runs of a study, in the order they are started: seed by seed, so that a partial study is paired."""

    spec: StudySpec
    folder: Path
    cells: Sequence[Cell]
    comparisons: Sequence[Comparison]
    runs: Sequence[Run]
    guarantees: Sequence[str] = ()
    """Properties of the configs that were proved, in sentences."""
    unproven: str = ""
    """Result of a null run that failed and was accepted; empty otherwise."""
    searched: Sequence[Place] = ()
    """Combinations of levels at which numbers are searched before the cells run."""
    ends: tuple[Recipe, Recipe] | None = None
    """The base recipe with what is held, and the cell of all first levels, at the first seed; None for no check."""

    @property
    def budget(self) -> Budget:
        """Budget of each run."""
        return self.runs[0].recipe.run_settings().budget

    @property
    def steps(self) -> int | None:
        """Steps of each run, if nothing but their number ends it."""
        return self.budget.whole_steps

    @property
    def aliases(self) -> Aliases | None:
        """Effects that a fraction cannot tell apart; None for other designs."""
        return aliases_of(cell.levels for cell in self.cells) if self.spec.design == Fractional.name else None


def make_plan(spec: StudySpec, folder: Path, overrides: Mapping[str, Any] | None = None) -> Plan:
    """Compose and check every run of the study.

    Args:
        spec: the study.
        folder: its results folder; each run lives in `cells/<run>` below it.
        overrides: nodes replaced in every run (from the command line), for instance `run.steps`.

    Raises: UserError if a cell does not parse, or differs from another in more than its levels name.
    """
    cells, comparisons = design_cells(spec.design, spec.factors, spec.baseline, spec.labels, spec.options)
    searched = places(spec, spec.search, overrides) if spec.search else []
    spec, cells = with_found(spec, cells, searched, folder)
    recipes = {cell.id: parse(spec.config(cell.levels, spec.seeds[0], overrides)) for cell in cells}
    if spec.design == METHODS:
        for cell in cells[1:]:
            check_same_start_and_budget(cells[0], cell, recipes)
        proved = [f"All methods have the same {', '.join(SAME[:-1])} and {SAME[-1]}."]
    else:
        proved = check_single_changes(spec, cells, recipes)
    first = {factor: next(iter(levels)) for factor, levels in spec.factors.items()}
    base, baseline = (parse(spec.config(levels, spec.seeds[0], overrides)) for levels in ({}, first))
    proved += [check_baseline(base, baseline), *guarantee(spec)]
    runs = []
    for seed in spec.seeds:
        for cell in cells:
            config = {**recipes[cell.id].config}
            config["model"] = {**config["model"], "seed": seed}
            config["run"] = {**config["run"], "save_policy": False}
            name = f"{cell.id}-s{seed}"
            runs.append(
                Run(id=name, cell=cell, seed=seed, recipe=Recipe(config=config), folder=folder / "cells" / name)
            )
    return Plan(
        spec=spec,
        folder=folder,
        cells=cells,
        comparisons=comparisons,
        runs=runs,
        guarantees=proved,
        searched=searched,
        ends=(base, baseline),
    )


SAME: Sequence[str] = ("model.policy", "model.evaluation", "data.train", "data.evaluation", "run", "trainer")
"""Parts of the config that two methods must share to be compared: start, data, budget and evaluation."""


def check_same_start_and_budget(reference: Cell, cell: Cell, recipes: Mapping[str, Recipe]) -> None:
    """Two methods start from the same policy, see the same data, and have one budget; in steps, of as many completions.

    Raises: UserError naming the first path at which they must not differ.
    """
    one, other = recipes[reference.id].config, recipes[cell.id].config
    for path in differences(one, other):
        if any(covers(same, path) for same in SAME):
            raise UserError(f"methods {reference.label} and {cell.label} differ at {path}: hold it, to compare them")
    if one["run"]["steps"] and completions_a_step(one) != completions_a_step(other):
        raise UserError(
            f"methods {reference.label} and {cell.label} ask for {completions_a_step(one)} and "
            f"{completions_a_step(other)} completions a step: give them one budget"
        )


def completions_a_step(config: Mapping[str, Any]) -> int:
    """Prompts a step times completions a prompt."""
    return config["data"]["prompts_per_step"] * config["model"]["rollouts"]["completions_per_prompt"]
