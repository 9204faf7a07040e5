"""Figures over training: the metric over steps and over tokens processed, and what else moved."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from research.reporting.analysis import START, Analysis
from research.reporting.style import legend, looks, metric_scale, start_line
from research.reporting.tables import SHARES

PANELS: Mapping[str, str] = {
    "rollouts/entropy_mean": "Entropy, nats",
    "rollouts/length_mean": "Completion length, tokens",
    "rollouts/truncated": "Truncated completions, %",
    "rollouts/zero_variance_groups": "Groups of equal rewards, %",
}


SAMPLED, TRAINED = "cost/tokens_sampled", "cost/tokens_trained"
SMOOTH_FROM = 40
"""With at least this many steps the panels show running means over a twentieth of the steps."""


def _by_cell(analysis: Analysis, column: str) -> dict[str, pd.DataFrame]:
    """Cell id to a table of steps by seeds, complete runs only; the warm start is step 0 of the study's metric."""
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


def _draw_line(ax: Axes, analysis: Analysis, cell_id: str, x: pd.Series, table: pd.DataFrame, *, marks: bool) -> None:
    """Mean and range over seeds of one cell."""
    colour, marker, line = looks(analysis)[cell_id]
    if table.shape[1] > 1:
        ax.fill_between(x, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.12, linewidth=0)
    style = {"marker": marker, "markersize": 5} if marks else {}
    name = analysis.summary(cell_id).cell.label
    ax.plot(x, table.mean(axis=1), color=colour, linestyle=line, linewidth=2, label=name, **style)


def _steps(table: pd.DataFrame) -> pd.Series:
    return pd.Series(table.index, index=table.index)


def _finish(figure: Figure, ax: Axes, analysis: Analysis, xlabel: str) -> Figure:
    scale, unit = metric_scale(analysis)
    start_line(ax.axhline, analysis, scale=scale)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(analysis.metric_name + unit)
    ax.set_title("Mean and range over seeds", loc="left")
    legend(figure, ax)
    return figure


def draw_curves(analysis: Analysis) -> Figure | None:
    """The metric over steps: mean per cell, band from the lowest to the highest seed."""
    tables = _by_cell(analysis, analysis.results.study.metric)
    if not tables:
        return None
    figure = Figure(figsize=(9, 4.8))
    ax = figure.subplots()
    for cell_id, table in tables.items():
        _draw_line(ax, analysis, cell_id, _steps(table), metric_scale(analysis)[0] * table, marks=True)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return _finish(figure, ax, analysis, "Step")


def draw_compute(analysis: Analysis) -> Figure | None:
    """The metric over tokens processed, sampled and trained, mean over seeds, at the steps that all of them reached.

    None without their running totals, which never fall during a run.
    """
    metric = _by_cell(analysis, analysis.results.study.metric)
    sampled, trained = _by_cell(analysis, SAMPLED), _by_cell(analysis, TRAINED)
    tokens = {cell_id: sampled[cell_id] + trained[cell_id] for cell_id in sampled if cell_id in trained}
    if not metric or not all(cell_id in tokens for cell_id in metric):
        return None
    if any((table.diff() < 0).any(axis=None) for table in tokens.values()):
        return None
    figure = Figure(figsize=(9, 4.8))
    ax = figure.subplots()
    for cell_id, table in metric.items():
        spent = tokens[cell_id].mean(axis=1)
        spent.loc[0] = 0.0
        table = table.loc[table.index.isin(spent.index)].dropna()
        _draw_line(ax, analysis, cell_id, spent.loc[table.index], metric_scale(analysis)[0] * table, marks=True)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    return _finish(figure, ax, analysis, "Tokens processed")


def draw_panels(analysis: Analysis) -> Figure | None:
    """Entropy, completion length, truncated share and share of groups of equal rewards over steps."""
    shown = {column: tables for column in PANELS if (tables := _by_cell(analysis, column))}
    if not shown:
        return None
    rows = (len(shown) + 1) // 2
    figure = Figure(figsize=(10, 0.6 + 3.2 * rows))
    axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for ax, (column, tables) in zip(axes, shown.items(), strict=False):
        for cell_id, table in tables.items():
            window = len(table) // 20 if len(table) >= SMOOTH_FROM else 1
            smooth = pd.DataFrame(table.rolling(window, min_periods=1).mean())
            _draw_line(ax, analysis, cell_id, _steps(table), smooth * (100.0 if column in SHARES else 1.0), marks=False)
            ax.set_xlabel("Step" if window == 1 else f"Step (running mean over {window})")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        ax.set_title(PANELS[column], loc="left")
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    entries: dict[str, Artist] = {}
    for ax in axes:  # a cell may be missing in one panel
        handles, labels = ax.get_legend_handles_labels()
        entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in entries}
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=min(3, len(entries)))
    return figure
