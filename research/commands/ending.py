"""The end of `research fit`: what was learned, what it cost, and what to do next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEARNED = (
    ("evaluation/avg_at_k", "accuracy, held-out prompts (avg@k)", "share"),
    ("evaluation/pass_at_k", "right at least once of k (pass@k)", "share"),
    ("rewards/reward_mean", "reward, training prompts", "number"),
    ("evaluation/truncated", "cut at the limit", "share"),
    ("evaluation/length_mean", "length, tokens", "tokens"),
)
"""Metric, its words, and how it is printed. The reward's first value is that of the first step."""


def ending_table(folder: Path, result: Mapping[str, Any]) -> Any:
    """Before and after, as far as they were measured, with the cost of the run below.

    Args:
        folder: the run's.
        result: what `result.json` holds.
    """
    from rich.table import Table

    before, after = {**result["first"], **result["start"]}, result["last"]
    table = Table(title=f"{folder}: {result['steps']} steps", caption=_cost(result), caption_justify="left")
    table.add_column("")
    for column in ("before", "after"):
        table.add_column(column, justify="right")
    for name, words, kind in LEARNED:
        if name in after:
            table.add_row(words, _shown(before.get(name), kind), _shown(after[name], kind))
    return table


def next_steps(folder: Path, ui: str) -> str:
    """Three commands that go on from here, with their paths."""
    return "\n".join(
        (
            "next:",
            f"  research samples {folder}      a page of completions, each token coloured by its advantage",
            f"  research compare --before {folder}@start --after {folder}      item by item, with a test",
            f"  {ui}      the curves in MLflow; as files they are in {folder}/metrics.jsonl",
        )
    )


def _shown(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    text = f"{value:.1%}" if kind == "share" else f"{value:.1f}" if kind == "tokens" else f"{value:.3f}"
    return text.replace("-", "−")


def _cost(result: Mapping[str, Any]) -> str:
    sampled, trained = (result["last"].get(f"cost/tokens_{kind}", 0) for kind in ("sampled", "trained"))
    seconds, peak = result["seconds"]["time/seconds"], result["memory"]["memory/peak_bytes"] / 2**20
    return f"{sampled:,.0f} tokens sampled, {trained:,.0f} trained on\n{seconds:,.0f} s, {peak:,.0f} MiB at the peak"
