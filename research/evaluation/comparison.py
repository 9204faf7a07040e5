"""Two policies on the same items: the paired difference, its interval, and a test by item."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from research.evaluation.record import Record, comparable
from research.evaluation.summary import MEASURES, over_items
from research.statistics import Interval, sign_flip_p


@dataclass(frozen=True, kw_only=True)
class Change:
    """A measure before, after, and its paired difference over items."""

    name: str
    before: float
    after: float
    difference: Interval
    """After less before, with its interval over items."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The differences between two records."""

    changes: list[Change]
    """One for each measure, accuracy first."""
    p: float
    """Two-sided p of equal accuracies."""
    test: str
    """The name of the test that gave p."""
    gained: list[str]
    """Prompts whose accuracy is higher after."""
    lost: list[str]
    """Prompts whose accuracy is lower after."""


def compare(before: Record, after: Record) -> Comparison:
    """Pair two records item by item.

    With one completion of each item the test is McNemar's, exact; with more it flips the signs of the items'
    differences, exactly up to 16 items and 2¹⁶ times at random above.

    Raises: UserError if the records differ in more than the policy.
    """
    comparable(before, after)
    changes = []
    for name, value in MEASURES.items():
        was, now = (record.each(value).mean((0, 2)) for record in (before, after))
        difference = over_items(now - was)
        changes.append(Change(name=name, before=float(was.mean()), after=float(now.mean()), difference=difference))
    was, now = (record.right().mean((0, 2)) for record in (before, after))
    p, test = _test(before, after)
    names = before.prompts
    return Comparison(
        changes=changes,
        p=p,
        test=test,
        gained=[names[i] for i in np.flatnonzero(now > was)],
        lost=[names[i] for i in np.flatnonzero(now < was)],
    )


def _test(before: Record, after: Record) -> tuple[float, str]:
    was, now = before.right(), after.right()
    S, _, k = was.shape
    if S * k == 1:
        gained, lost = int((now > was).sum()), int((now < was).sum())
        tail = float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5))
        return min(1.0, 2 * tail), "McNemar's exact test"
    return sign_flip_p((now.mean((0, 2)) - was.mean((0, 2))).tolist()), "sign flips by item"
