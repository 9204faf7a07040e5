"""Learning curves: the metric over steps, and over tokens sampled."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from scipy import stats

from research.reporting.analysis.analysis import START, Analysis
from research.reporting.figures.style import FAINT, legend, looks, metric_scale, start_line

TOKENS = "cost/tokens_sampled"
TOGETHER = 4
"""Most cells in one panel; the bands of more would hide one another, so each has a panel of its own."""


def by_cell(analysis: Analysis, column: str) -> dict[str, pd.DataFrame]:
    """Cell id to its complete runs' values: a row a step, a column a seed.

    Step 0 of the study's metric is the warm start.
    """
    results = analysis.results
    if column not in results.curves:
        return {}
    owners = results.complete[["run", "cell", "seed"]]
    long = results.curves[["run", "step", column]].dropna().merge(owners, on="run")
    tables = {}
    for cell_id, rows in long.groupby("cell"):
        table = rows.pivot_table(index="step", columns="seed", values=column)
        if column == results.study.metric and 0 not in table.index:
            start = pd.Series(results.by_seed(str(cell_id), START + column), dtype=float)
            if len(start):
                table.loc[0] = start.reindex(table.columns)
        tables[str(cell_id)] = table.sort_index()
    return {cell.id: tables[cell.id] for cell in results.study.cells if cell.id in tables}


def t_band(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Student's t interval of the mean over seeds, for each step.

        x̄ ± t_{n−1, 0.975} · s/√n

    Args:
        table: a row a step, a column a seed.

    Returns: low and high; NaN at steps with fewer than two seeds.

    Example:
        >>> low, high = t_band(pd.DataFrame({0: [1.0], 1: [2.0], 2: [3.0]}))
        >>> f"{low[0]:.3f} {high[0]:.3f}"
        '-0.484 4.484'
    """
    n = table.notna().sum(axis=1)
    half = pd.Series(stats.t.ppf(0.975, n.clip(lower=2) - 1), index=table.index) * table.std(axis=1) / np.sqrt(n)
    mean = table.mean(axis=1)
    return mean - half, mean + half


def draw_line(
    ax: Axes, analysis: Analysis, cell_id: str, x: pd.Series, table: pd.DataFrame, *, seeds: bool, marks: bool = True
) -> None:
    """Draws one cell: the mean over seeds, and with `seeds` also each seed as a thin line and the mean's interval."""
    colour, marker, line = looks(analysis)[cell_id]
    if seeds and table.shape[1] > 1:
        low, high = t_band(table)
        ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        for seed in table:
            ax.plot(x, table[seed], color=colour, linewidth=0.8, alpha=0.55)
    style = {"marker": marker, "markersize": 5} if marks else {}
    name = analysis.summary(cell_id).cell.label
    ax.plot(x, table.mean(axis=1), color=colour, linestyle=line, linewidth=2, label=name, **style)


def draw_curves(analysis: Analysis) -> Figure | None:
    """The metric over steps: mean, interval and every seed; one panel for all cells, or one for each."""
    scale = metric_scale(analysis)[0]
    tables = {cell_id: scale * table for cell_id, table in by_cell(analysis, analysis.results.study.metric).items()}
    if not tables:
        return None
    limits = _limits(tables, scale * analysis.start.mean if analysis.start.n else None)
    if len(tables) > TOGETHER:
        return _panels(analysis, tables, limits)
    figure = Figure(figsize=(9, 4.8))
    ax = figure.subplots()
    for cell_id, table in tables.items():
        draw_line(ax, analysis, cell_id, steps_of(table), table, seeds=True)
    ax.set_ylim(limits)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return _finish(figure, ax, analysis, "Step", _shown(tables))


def _shown(tables: dict[str, pd.DataFrame]) -> str:
    """The figure's title, which says what is drawn of each cell."""
    if all(table.shape[1] == 1 for table in tables.values()):
        return "One seed"
    return "Mean over seeds, its 95 % t interval, and every seed"


def _limits(tables: dict[str, pd.DataFrame], start: float | None) -> tuple[float, float]:
    """Limits of the y axis that hold every seed and the warm start; the interval of few seeds may reach beyond."""
    values = np.concatenate([table.to_numpy().ravel() for table in tables.values()])
    low, high = np.nanmin(values), np.nanmax(values)
    low, high = (low, high) if start is None else (min(low, start), max(high, start))
    margin = 0.06 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _panels(analysis: Analysis, tables: dict[str, pd.DataFrame], limits: tuple[float, float]) -> Figure:
    """One panel for each cell; the first cell's mean is a grey line in the others."""
    columns = 3 if len(tables) <= 9 else 4
    rows = -(-len(tables) // columns)
    figure = Figure(figsize=(3.1 * columns, 0.9 + 2.35 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    first = next(iter(tables))
    for ax, (cell_id, table) in zip(axes, tables.items(), strict=False):
        start_line(ax.axhline, analysis, scale=metric_scale(analysis)[0])
        if cell_id != first:
            ax.plot(tables[first].mean(axis=1), color=FAINT, linewidth=1.4, label=analysis.summary(first).cell.label)
        draw_line(ax, analysis, cell_id, steps_of(table), table, seeds=True)
        ax.set_title(fill(analysis.summary(cell_id).cell.label, 27), loc="left", fontsize=11)
        ax.set_ylim(limits)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    for ax in axes[len(tables) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(tables) - columns) : len(tables)]:  # the lowest of each column
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("Step")
    figure.supylabel(analysis.metric_name + metric_scale(analysis)[1], fontsize=12)
    handles, labels = axes[1].get_legend_handles_labels()
    shown = [(handle, label) for handle, label in zip(handles, labels, strict=True)][:-1]
    figure.legend(*zip(*shown, strict=True), loc="outside upper left", ncols=2, title=_shown(tables), alignment="left")
    return figure


def steps_of(table: pd.DataFrame) -> pd.Series:
    """The steps of a table, as a column to draw it over."""
    return pd.Series(table.index, index=table.index)


def draw_compute(analysis: Analysis) -> Figure | None:
    """The metric over tokens sampled, both as means over seeds: cells are compared at equal compute.

    None if a run lacks the running total of tokens sampled, or if the total falls during a run.
    """
    metric, tokens = by_cell(analysis, analysis.results.study.metric), by_cell(analysis, TOKENS)
    if not metric or not all(cell_id in tokens for cell_id in metric):
        return None
    if any((table.diff() < 0).any(axis=None) for table in tokens.values()):
        return None
    figure = Figure(figsize=(9, 4.8))
    ax = figure.subplots()
    for cell_id, table in metric.items():
        spent = tokens[cell_id].mean(axis=1)
        spent.loc[0] = 0.0
        table = metric_scale(analysis)[0] * table.loc[table.index.isin(spent.index)]
        draw_line(ax, analysis, cell_id, spent.loc[table.index], table, seeds=len(metric) <= TOGETHER)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    return _finish(
        figure, ax, analysis, "Tokens sampled", _shown(metric) if len(metric) <= TOGETHER else "Mean over seeds"
    )


def _finish(figure: Figure, ax: Axes, analysis: Analysis, xlabel: str, title: str) -> Figure:
    """Adds the warm start, the names of the axes, the title and the legend."""
    scale, unit = metric_scale(analysis)
    start_line(ax.axhline, analysis, scale=scale)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(analysis.metric_name + unit)
    ax.set_title(title, loc="left")
    legend(figure, ax)
    return figure
