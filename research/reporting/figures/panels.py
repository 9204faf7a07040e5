"""Quantities beside the metric over steps: entropy, lengths of completions, truncation, groups of equal rewards."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from research.reporting.analysis.analysis import Analysis
from research.reporting.analysis.columns import SHARES
from research.reporting.figures.curves import TOGETHER, by_cell, draw_line, steps_of
from research.reporting.figures.style import legend_below

PANELS: Mapping[str, str] = {
    "rollouts/entropy_mean": "Entropy, nats",
    "rollouts/truncated": "Truncated completions, %",
    "evaluation/length_right_mean": "Length of right completions, evaluation",
    "evaluation/length_wrong_mean": "Length of wrong completions, evaluation",
    "rollouts/length_mean": "Completion length, rollouts",
    "rollouts/zero_variance_groups": "Groups of equal rewards, %",
}
"""Column of curves.csv to the panel's title; lengths are in tokens."""
SMOOTH_FROM = 40
"""Steps from which on a panel shows the running mean over a twentieth of the steps."""


def draw_panels(analysis: Analysis) -> Figure | None:
    """One panel for each quantity of `PANELS` that was recorded; intervals and seeds only where cells are few."""
    shown = {column: tables for column in PANELS if (tables := by_cell(analysis, column))}
    if not shown:
        return None
    rows = (len(shown) + 1) // 2
    cells = len(set().union(*shown.values()))
    figure = Figure(figsize=(10, 0.4 + 3.0 * rows))
    axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for ax, (column, tables) in zip(axes, shown.items(), strict=False):
        windows = set()
        for cell_id, table in tables.items():
            window = len(table) // 20 if len(table) >= SMOOTH_FROM else 1
            windows.add(window)
            smooth = pd.DataFrame(table.rolling(window, min_periods=1).mean()) * (100.0 if column in SHARES else 1.0)
            few = len(table) < SMOOTH_FROM // 4
            draw_line(ax, analysis, cell_id, steps_of(table), smooth, seeds=cells <= TOGETHER, marks=few)
        window = max(windows)
        ax.set_xlabel("Step" if window == 1 else f"Step (running mean over {window})")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        ax.set_title(PANELS[column], loc="left")
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    entries: dict[str, Artist] = {}
    for ax in axes:  # a panel may lack a cell
        handles, labels = ax.get_legend_handles_labels()
        entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in entries}
    order = [label for label in (summary.cell.label for summary in analysis.summaries) if label in entries]
    legend_below(figure, [entries[label] for label in order], order)
    return figure
