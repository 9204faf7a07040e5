"""The direction of our gain against the paper's."""

from math import isnan
from typing import Literal

from research.statistics.intervals import Interval

Verdict = Literal["same direction", "opposite", "undecided", "no counterpart"]


def verdict(gain: Interval, paper_gain: float | None) -> Verdict:
    """Compare the direction of our gain with the paper's.

    Args:
        gain: our paired gain; positive is better.
        paper_gain: the paper's, positive is better; None if the paper has no such pair of rows.

    Returns: "same direction" or "opposite" if our interval excludes 0, "undecided" if it includes 0 or if there is
        none, "no counterpart" if the paper says nothing, or reports exactly 0, which has no direction.

    Example:
        >>> verdict(Interval(mean=2.0, low=1.0, high=3.0, n=3), 6.0)
        'same direction'
    """
    if paper_gain is None or paper_gain == 0:
        return "no counterpart"
    if isnan(gain.mean) or not gain.excludes_zero:
        return "undecided"
    return "same direction" if (gain.mean > 0) == (paper_gain > 0) else "opposite"
