"""Power and least detectable gain of a paired comparison, for a number of seeds."""

from math import nan

from statsmodels.stats.power import TTestPower

POWER = 0.8
"""The power at which a gain counts as detectable."""


def paired_power(effect: float, n: int, *, level: float = 0.05) -> float:
    """The chance that a two-sided paired t test of n seeds finds a gain.

    Args:
        effect: the gain over the standard deviation of the per-seed gains.
        n: paired seeds, at least 2.
        level: false positives allowed, in (0, 1); for one of m comparisons under Holm's correction at least level / m.

    Example:
        >>> round(paired_power(1.0, 8), 2)
        0.68
    """
    return float(TTestPower().power(effect, n, level, alternative="two-sided"))


def detectable_gain(deviation: float, n: int, *, power: float = POWER, level: float = 0.05) -> float:
    """The smallest gain that a two-sided paired t test of n seeds finds with the given power.

    Args:
        deviation: standard deviation of the per-seed gains.
        n: paired seeds; NaN below 2.
        power: chance of finding it, in (0, 1).
        level: false positives allowed, in (0, 1).

    Returns: a gain in the deviation's unit.

    Example:
        >>> round(detectable_gain(2.0, 8), 2)
        2.31
    """
    if n < 2:
        return nan
    return deviation * float(TTestPower().solve_power(nobs=n, alpha=level, power=power, alternative="two-sided"))
