"""A study before it runs: its cells, what can be compared, how long it takes and how small a gain it could find."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, nan, sqrt
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from research.ablation.plan import Plan
from research.ablation.search_places import search_lines
from research.reporting.analysis.factorial import FACTORIALS
from research.reporting.analysis.results import Results, as_number, read_results
from research.reporting.numbers import NONE, count, number
from research.statistics import POWER, detectable_gain
from research.terminal_text import unmarked

SEEDS = (3, 5, 8, 16, 32)
"""Numbers of seeds beside the study's own."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """Variance and time of earlier runs, from which those of a planned study are estimated."""

    source: str
    """Folder of the earlier runs."""
    deviation: float
    """Standard deviation of a run beyond its cell's and its seed's mean, in the metric's unit; NaN if unknown."""
    freedom: int
    """Degrees of freedom behind it."""
    seconds_a_step: Mapping[str, float]
    """Cell's id → seconds, and "" → the mean over the cells; evaluation and start included."""
    percent: bool
    """True if the metric lies in [0, 1]."""


def earlier_runs(folder: Path, metric: str) -> Earlier | None:
    """Read a results folder; None if it is not one, or none of its runs has the metric.

    Args:
        folder: of this study, or of one much like it.
        metric: the study's.
    """
    if not (folder / "study.yaml").exists():
        return None
    results = read_results(folder)
    runs = results.complete
    if metric not in runs or runs[metric].dropna().empty:
        return None
    deviation, freedom = residual_deviation(runs.pivot_table(index="seed", columns="cell", values=metric))
    return Earlier(
        source=str(folder),
        deviation=deviation,
        freedom=freedom,
        seconds_a_step=_seconds_a_step(results),
        percent=bool(runs[metric].between(0, 1).all()),
    )


def residual_deviation(table: pd.DataFrame) -> tuple[float, int]:
    """Standard deviation of runs around the means of their cell and their seed, and its degrees of freedom.

        s² = Σ (y_sc − ȳ_s· − ȳ_·c + ȳ)² / ((S − 1)(C − 1))

    Args:
        table: a row a seed, a column a cell; seeds that lack a cell are left out.

    Returns: NaN and 0 with fewer than two seeds or cells.

    Example:
        >>> residual_deviation(pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 4.0]}))
        (1.0, 1)
    """
    values = table.dropna().to_numpy(dtype=float)
    S, C = values.shape
    if S < 2 or C < 2:
        return nan, 0
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    freedom = (S - 1) * (C - 1)
    return float(sqrt(np.square(rest).sum() / freedom)), freedom


def _seconds_a_step(results: Results) -> dict[str, float]:
    if results.study.steps is None:
        return {}
    each: dict[str, list[float]] = {}
    for row in results.complete.to_dict("records"):
        seconds = as_number(row.get("time/seconds"))
        if seconds is not None:
            total = seconds + (as_number(row.get("time/overhead_seconds")) or 0.0)
            each.setdefault(str(row["cell"]), []).append(total / results.study.steps)
    means = {cell: fmean(seconds) for cell, seconds in each.items()}
    return {**means, "": fmean(means.values())} if means else {}


def detectable(plan: Plan, earlier: Earlier, seeds: int) -> tuple[float, float]:
    """The smallest gain found with a power of 80 %: for one comparison alone, and as the first of Holm's correction.

    A comparison of two cells varies by √2·s a seed, a contrast over all C cells of a factorial by 2s/√C.

    Returns: gains in the metric's unit; NaN with fewer than two seeds.
    """
    C = len(plan.cells)
    factorial = plan.spec.design in FACTORIALS
    spread = earlier.deviation * (2 / sqrt(C) if factorial else sqrt(2))
    family = max(1, len(plan.spec.factors) if factorial else len(plan.comparisons))
    return detectable_gain(spread, seeds), detectable_gain(spread, seeds, level=0.05 / family)


def expected_seconds(plan: Plan, earlier: Earlier, workers: int) -> float | None:
    """Seconds that the missing runs take on so many workers; None if the time of a step is unknown.

    A search that is to come is in it, as if none of its trials were ended early.
    """
    if plan.steps is None or not earlier.seconds_a_step:
        return None
    own = {run.id: earlier.seconds_a_step.get(run.cell.id, earlier.seconds_a_step[""]) for run in plan.runs}
    left = [own[run.id] * plan.steps for run in plan.runs if not run.complete]
    if (search := plan.spec.search) is not None and not plan.spec.found:
        trials = len(plan.searched) * search.trials * len(search.seeds)
        left += [earlier.seconds_a_step[""] * (search.steps or plan.steps)] * trials
    return max(sum(left) / workers, max(left, default=0.0))


def print_plan(plan: Plan, console: Console, *, earlier: Path | None, workers: int) -> None:
    """Print cells, comparisons, aliases, what was proved, the time and the gains that the seeds can find.

    Args:
        plan: the checked plan.
        console: where to.
        earlier: results folder of a study much like it; None takes the study's own, if it has begun.
        workers: runs at once.
    """
    console.print(_cells(plan))
    labels = {cell.id: cell.label for cell in plan.cells}
    for comparison in plan.comparisons:
        console.print(unmarked(f"compares {labels[comparison.cell]!r} with {labels[comparison.reference]!r}"))
    if plan.spec.design in FACTORIALS:
        console.print("estimates every factor's main effect, and interactions of two, over all cells")
    if plan.aliases:
        console.print(unmarked(yaml.safe_dump(plan.aliases.record, sort_keys=False, allow_unicode=True).strip()))
    for sentence in plan.guarantees:
        console.print(unmarked(sentence))
    for line in search_lines(plan.spec):
        console.print(unmarked(line))
    done = sum(run.complete for run in plan.runs)
    console.print(
        unmarked(
            f"{len(plan.runs)} runs of {plan.budget} ({count(len(plan.spec.seeds), 'seed')}), {done} complete already, "
            f"in {plan.folder}"
        )
    )
    found = earlier_runs(earlier or plan.folder, plan.spec.metric["name"])
    if found is None:
        console.print(
            unmarked(
                "Time and detectable gains are unknown: no run of this study is complete; name a results folder of one "
                "like it with --earlier."
            )
        )
        return
    _print_expectations(plan, found, console, workers)


def _cells(plan: Plan) -> Table:
    table = Table(title=unmarked(plan.spec.question, "table.title"))
    for column in ("cell", *plan.spec.factors):
        table.add_column(unmarked(column))
    for cell in plan.cells:
        table.add_row(*(unmarked(text) for text in (cell.label, *(cell.levels[f] for f in plan.spec.factors))))
    return table


def _print_expectations(plan: Plan, earlier: Earlier, console: Console, workers: int) -> None:
    seconds = expected_seconds(plan, earlier, workers)
    if seconds is None:
        console.print(unmarked(f"Time is unknown: the runs in {earlier.source} do not say how long a step is."))
    else:
        console.print(
            unmarked(
                f"About {ceil(seconds / 60)} min for what is left on {count(workers, 'worker')}, from the runs in "
                f"{earlier.source}."
            )
        )
    what = "main effect" if plan.spec.design in FACTORIALS else "gain of a comparison"
    unit = "points" if earlier.percent else plan.spec.metric["name"]
    table = Table(title=f"Smallest {what} found with a power of {POWER:.0%}, {unit}")
    for column in ("seeds", "alone", "first under Holm"):
        table.add_column(column, justify="right")
    own = len(plan.spec.seeds)
    for seeds in sorted({*SEEDS, own}):
        gains = detectable(plan, earlier, seeds)
        name = f"{seeds} (this study)" if seeds == own else str(seeds)
        table.add_row(name, *(number(gain, percent=earlier.percent) if gain == gain else NONE for gain in gains))
    console.print(table)
    console.print(
        unmarked(
            f"From a deviation of {number(earlier.deviation, percent=earlier.percent)} between runs, beyond their "
            f"cell's and their seed's mean, in {earlier.source} ({count(earlier.freedom, 'degree')} of freedom)."
        )
    )
