"""The statistics of a study: paired differences, intervals, exact permutation tests, Holm's correction, verdicts.

Few seeds are the rule, so intervals are Student's t; from `BOOTSTRAP_FROM` values on they are the BCa bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Literal

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

BOOTSTRAP_FROM = 8
"""With at least this many seeds an interval is the BCa bootstrap, below it Student's t."""
RESAMPLES = 9999
"""Bootstrap resamples."""
EXACT_UP_TO = 16
"""With at most this many seeds the sign-flip test enumerates all 2ⁿ flips; above it, 2¹⁶ random ones."""

Direction = Literal["maximize", "minimize"]
Verdict = Literal["same direction", "opposite", "undecided", "no counterpart"]


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
    """Bias-corrected and accelerated bootstrap interval of a mean, with a fixed random seed.

    Args:
        values: n ≥ 2 independent values.
        level: coverage, in (0, 1).

    Returns: low and high, in the values' unit; equal if all the values are equal.

    Raises: ValueError with fewer than two values.

    Source: Efron 1987; `scipy.stats.bootstrap(method="BCa")`.

    Example:
        >>> low, high = bootstrap_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
        >>> 2.5 < low < 4.5 < high < 6.5
        True
    """
    if len(values) < 2:
        raise ValueError(f"bootstrap_interval: an interval needs at least 2 values, got {len(values)}")
    if min(values) == max(values):
        return float(values[0]), float(values[0])
    result = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        confidence_level=level,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """The mean and the interval that a report prints: none, Student's t or bootstrap, by the number of values.

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


def paired_gains(cell: Mapping[int, float], reference: Mapping[int, float], *, direction: Direction) -> list[float]:
    """Per-seed improvements of a cell over its reference, on the seeds that both have.

        d_s = ± (m_cell,s − m_reference,s),   + if the metric is maximized, − if it is minimized

    Args:
        cell: seed to metric.
        reference: seed to metric.
        direction: which way is better.

    Returns: one improvement per shared seed, in ascending order of seed; positive is better.

    Example:
        >>> paired_gains({0: 3.0, 1: 5.0}, {1: 4.0, 2: 9.0}, direction="maximize")
        [1.0]
    """
    sign = 1.0 if direction == "maximize" else -1.0
    return [sign * (cell[seed] - reference[seed]) for seed in sorted(cell.keys() & reference.keys())]


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided permutation test that paired differences are symmetric around 0.

        p = #{flips σ ∈ {−1, 1}ⁿ : |mean(σ d)| ≥ |mean(d)|} / 2ⁿ

    Exact up to `EXACT_UP_TO` differences; above it 2¹⁶ random flips with a fixed random seed.

    Args:
        differences: one paired difference per seed, n ≥ 1.

    Returns: p in [2/2ⁿ, 1]; 1 for a single difference.

    Raises: ValueError without differences.

    Source: Fisher 1935, The Design of Experiments, §21; `scipy.stats.permutation_test`.

    Example:
        >>> sign_flip_p([1.0, 2.0, 3.0])
        0.25
    """
    n = len(differences)
    if n == 0:
        raise ValueError("sign_flip_p: the test needs at least one difference")
    if n == 1:
        return 1.0
    result = stats.permutation_test(
        (np.asarray(differences, dtype=float),),
        np.mean,
        permutation_type="samples",
        n_resamples=2**EXACT_UP_TO,
        alternative="two-sided",
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def smallest_p(n: int) -> float:
    """The smallest p that the exact sign-flip test can give with n seeds: 2/2ⁿ.

    Raises: ValueError if n < 1.

    Example:
        >>> smallest_p(3)
        0.25
    """
    if n < 1:
        raise ValueError(f"smallest_p: n is at least 1, got {n}")
    return 2.0 / 2**n


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of a family of tests.

        p̃_(i) = max_{j ≤ i} min(1, (m − j + 1) p_(j)),   p_(1) ≤ … ≤ p_(m)

    Args:
        p_values: m uncorrected p, each in [0, 1].

    Returns: corrected p in the given order.

    Source: Holm 1979; `statsmodels.stats.multitest.multipletests`.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    return np.asarray(multipletests(list(p_values), method="holm")[1], dtype=float).tolist() if p_values else []


def verdict(gain: Interval, paper_gain: float | None) -> Verdict:
    """Whether our gain points the way the paper's does.

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
