"""Intervals over seeds of the interquartile mean and of the probability of improvement."""

from collections.abc import Callable
from math import nan

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from research.statistics.intervals import Interval, gain_interval, mean_interval

TRIM = 0.25
"""Share of the values that the interquartile mean leaves out at each end."""


def iqm(values: Float[np.ndarray, "..."]) -> float:
    """Interquartile mean: the mean of the middle half of all values.

    Args:
        values: scores of any shape, pooled; for a cell [seeds, items].

    Source: Agarwal et al. 2021, Deep RL at the Edge of the Statistical Precipice (arXiv:2108.13264).

    Example:
        >>> iqm(np.array([0.0, 1.0, 2.0, 9.0]))
        1.5
    """
    return float(stats.trim_mean(values.ravel(), TRIM))


def iqm_interval(values: Float[np.ndarray, "S n"]) -> Interval:
    """The interquartile mean over seeds and items, with its interval over seeds.

    Args:
        values: one score a seed and item.
    """
    return jackknife_interval(lambda kept: iqm(values[kept]), len(values), of_pseudo=mean_interval)


def iqm_gain(cell: Float[np.ndarray, "S n"], reference: Float[np.ndarray, "S n"]) -> Interval:
    """The difference of two interquartile means, paired by seed.

    Args:
        cell: scores, positive is better; rows are the seeds that both have, columns the items.
        reference: scores of the other cell, in the same order.
    """
    return jackknife_interval(lambda kept: iqm(cell[kept]) - iqm(reference[kept]), len(cell))


def improvement(cell: Float[np.ndarray, "S n"], reference: Float[np.ndarray, "S n"]) -> Interval:
    """Probability of improvement: the chance that on an item a run of the cell is better than one of the reference.

        P = 1/n Σ_i 1/S² Σ_{s,s'} ( 1[x_{s,i} > y_{s',i}] + ½ 1[x_{s,i} = y_{s',i}] )

    Args:
        cell: scores x, positive is better; one row a seed, one column an item.
        reference: scores y, in the same order.

    Returns: probability and its interval over seeds, cut at 0 and 1; 0.5 means no difference.

    Source: Agarwal et al. 2021, §4.3 (arXiv:2108.13264).

    Example:
        >>> improvement(np.array([[1.0, 2.0]]), np.array([[0.0, 2.0]])).mean
        0.75
    """
    x, y = cell[:, None], reference[None]
    wins = ((x > y) + 0.5 * (x == y)).mean(2)
    found = jackknife_interval(lambda kept: float(wins[np.ix_(kept, kept)].mean()), len(cell))
    if found.low is None or found.high is None:
        return found
    return Interval(mean=found.mean, low=max(0.0, found.low), high=min(1.0, found.high), n=found.n)


def jackknife_interval(
    statistic: Callable[[Int[np.ndarray, " kept"]], float],
    seeds: int,
    *,
    of_pseudo: Callable[[list[float]], Interval] = gain_interval,
) -> Interval:
    """The interval over seeds of any smooth statistic.

        p_s = S θ − (S − 1) θ_{−s};   θ ± as the interval of the mean of the S pseudo-values p_s around it

    Args:
        statistic: from the positions of the seeds that are kept to θ.
        seeds: S.
        of_pseudo: the interval of the pseudo-values' mean.

    Returns: θ of all seeds and its interval; none for one seed.

    Source: Tukey 1958, Bias and confidence in not-quite large samples.

    Example:
        >>> values = np.array([1.0, 2.0, 3.0])
        >>> found = jackknife_interval(lambda kept: float(values[kept].mean()), 3)
        >>> found == gain_interval([1.0, 2.0, 3.0])
        True
    """
    if seeds == 0:
        return Interval(mean=nan, low=None, high=None, n=0)
    every = np.arange(seeds)
    whole = statistic(every)
    if seeds == 1:
        return Interval(mean=whole, low=None, high=None, n=1)
    pseudo = [seeds * whole - (seeds - 1) * statistic(np.delete(every, s)) for s in range(seeds)]
    around = of_pseudo(pseudo)
    if around.low is None or around.high is None:
        return around
    shift = whole - around.mean
    return Interval(mean=whole, low=around.low + shift, high=around.high + shift, n=seeds)
