"""Page that compares two evaluations: changes of the measures, and pairs of completions that show them."""

from collections.abc import Mapping, Sequence
from typing import Any

from research.evaluation.comparison import Comparison
from research.evaluation.record import IDENTITY, Record
from research.reporting.pages.evaluations import change_row
from research.reporting.pages.render import provenance, render

PAIRS = 12
"""Most items shown of each kind: gained, lost, unchanged."""
Item = Mapping[str, Any]
"""An entry of a record, as `research.evaluation.record.item_of` makes it."""


def comparison_page(before: Record, after: Record, comparison: Comparison, *, command: str) -> str:
    """Two evaluations of the same items as an HTML page.

    Args:
        before: the first evaluation.
        after: the second one.
        comparison: their comparison.
        command: the command that makes the page.
    """
    names = [str(record.settings["target"]) for record in (before, after)]
    accuracy = comparison.changes[0]
    gained, lost = set(comparison.gained), set(comparison.lost)
    items = before.prompts
    kinds = {
        "gained": [name for name in items if name in gained],
        "lost": [name for name in items if name in lost],
        "unchanged": [name for name in items if name not in gained | lost],
    }
    return render(
        "comparison.html.j2",
        title=f"{names[0]} → {names[1]}",
        headline=(
            f"{accuracy.before:.1%} → {accuracy.after:.1%} right, on {len(items)} items: "
            f"{len(gained)} gained, {len(lost)} lost."
        ),
        protocol="; ".join(f"{name.replace('_', ' ')} {before.settings[name]}" for name in IDENTITY),
        rows=[change_row(change) for change in comparison.changes],
        test=f"p = {comparison.p:.2g}, {comparison.test}, for equal accuracies.",
        parts=[
            {"anchor": kind, "title": kind, "count": len(found), "pairs": _pairs(before, after, found[:PAIRS])}
            for kind, found in kinds.items()
        ],
        items=len(items),
        facts={
            **provenance(command),
            "before": _origin(before),
            "after": _origin(after),
        },
    )


def _origin(record: Record) -> str:
    settings = record.settings
    return f"{settings['target']}: policy {settings['policy']}, step {settings['step']}, config {settings['config']}"


def _pairs(before: Record, after: Record, prompts: Sequence[str]) -> list[dict[str, object]]:
    """A completion before and one after for each prompt; where the accuracy rose, a wrong one and a right one."""
    was, now = _by_prompt(before), _by_prompt(after)
    pairs = []
    for prompt in prompts:
        first, second = was[prompt], now[prompt]
        better = _share(second) >= _share(first)
        pairs.append(
            {
                "prompt": prompt,
                "text": first[0]["text"],
                "reference": first[0]["reference"],
                "before": _side("before", first, wanted=not better),
                "after": _side("after", second, wanted=better),
            }
        )
    return pairs


def _by_prompt(record: Record) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in record.items:
        found.setdefault(item["prompt"], []).append(item)
    return found


def _share(items: Sequence[Item]) -> float:
    """Share of right completions."""
    completions = [completion for item in items for completion in item["completions"]]
    return sum(completion["right"] for completion in completions) / len(completions)


def _side(name: str, items: Sequence[Item], *, wanted: bool) -> dict[str, object]:
    """One side of a pair: the first completion with the wanted verdict, else the first of all, and the share right."""
    completions = [completion for item in items for completion in item["completions"]]
    shown = next((completion for completion in completions if completion["right"] == wanted), completions[0])
    right = sum(completion["right"] for completion in completions)
    return {"name": name, "share": f"{right}/{len(completions)}", **shown}
