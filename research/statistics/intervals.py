"""Intervals of a mean over seeds.

A paired gain has Student's t: what is skewed in both cells is symmetric in their difference. A cell's own mean may be
skewed, and from `BOOTSTRAP_FROM` values on has the studentised bootstrap. benchmarks/simulated_studies.md has how often
each holds the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from scipy import stats

BOOTSTRAP_FROM = 8
"""With at least this many values a cell's own mean has the studentised bootstrap, below it Student's t."""
RESAMPLES = 9999
"""Bootstrap resamples."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds and its interval.

    Example:
        >>> Interval(mean=2.0, low=1.0, high=3.0, n=3).excludes_zero
        True
    """

    mean: float
    """NaN when there are no values."""
    low: float | None
    """None when there are fewer than two values: one value has no interval."""
    high: float | None
    n: int
    """Number of seeds."""

    @property
    def excludes_zero(self) -> bool:
        """True if there is an interval and 0 lies outside it."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def width(self) -> float | None:
        """High less low; None if there is no interval."""
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def above_zero(self) -> bool:
        """True if there is an interval and all of it is above 0."""
        return self.low is not None and self.low > 0


def t_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean.

        x̄ ± t_{n−1, (1+level)/2} · s/√n,   s the sample standard deviation

    Args:
        values: n ≥ 2 independent values; for a gain, the per-seed paired differences.
        level: coverage, in (0, 1).

    Returns: low and high, in the values' unit; equal if all the values are equal.

    Raises: ValueError with fewer than two values.

    Source: Student 1908.

    Example:
        >>> low, high = t_interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"t_interval: an interval needs at least 2 values, got {n}")
    mean = float(np.mean(values))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * float(np.std(values, ddof=1)) / sqrt(n)
    return mean - half, mean + half


def bootstrap_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Studentised bootstrap interval of a mean, with a fixed random seed.

        [ x̄ − q_{(1+level)/2} · s/√n,  x̄ − q_{(1−level)/2} · s/√n ],   q the quantiles of (x̄* − x̄) / (s*/√n)

    Args:
        values: n ≥ 2 independent values.
        level: coverage, in (0, 1).

    Returns: low and high, in the values' unit; equal if all the values are equal; Student's t interval where ties leave
        so many resamples without a deviation that a quantile is infinite.

    Raises: ValueError with fewer than two values.

    Source: Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, §10; Hall 1988.

    Example:
        >>> low, high = bootstrap_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
        >>> 1.5 < low < 4.5 < high < 7.5
        True
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"bootstrap_interval: an interval needs at least 2 values, got {n}")
    if min(values) == max(values):
        return float(values[0]), float(values[0])
    sample = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).choice(sample, size=(RESAMPLES, n))
    off = drawn.mean(1) - sample.mean()
    off[np.abs(off) < 1e-12 * np.abs(sample).max()] = 0.0
    spread = drawn.std(1, ddof=1)
    pivots = np.where(off == 0, 0.0, np.copysign(np.inf, off))  # of resamples without a deviation
    np.divide(off * sqrt(n), spread, out=pivots, where=spread > 0)
    low, high = np.quantile(pivots, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    if not np.isfinite([low, high]).all():
        return t_interval(values, level=level)
    error = float(sample.std(ddof=1)) / sqrt(n)
    return float(sample.mean() - high * error), float(sample.mean() - low * error)


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """The mean of a cell and its interval: none, Student's t or bootstrap, by the number of values.

    Args:
        values: one value per seed.
        level: coverage, in (0, 1).

    Returns: mean and interval; no interval for one value; mean NaN for none.

    Example:
        >>> mean_interval([0.5])
        Interval(mean=0.5, low=None, high=None, n=1)
    """
    n = len(values)
    if n < 2:
        return Interval(mean=float(values[0]) if n else nan, low=None, high=None, n=n)
    low, high = (bootstrap_interval if n >= BOOTSTRAP_FROM else t_interval)(values, level=level)
    return Interval(mean=float(np.mean(values)), low=low, high=high, n=n)


def gain_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """The mean of paired differences and its Student's t interval, whatever their number.

    Args:
        values: one difference per seed.
        level: coverage, in (0, 1).

    Returns: mean and interval; no interval for one difference; mean NaN for none.

    Example:
        >>> gain_interval([1.0]), gain_interval([2.0, 2.0]).low
        (Interval(mean=1.0, low=None, high=None, n=1), 2.0)
    """
    n = len(values)
    low, high = t_interval(values, level=level) if n > 1 else (None, None)
    return Interval(mean=float(np.mean(values)) if n else nan, low=low, high=high, n=n)
