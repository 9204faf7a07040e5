"""Seeds crossed with items: the sources of the variance, and the interval for new seeds and new items."""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from jaxtyping import Float
from scipy import stats

from research.statistics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class VarianceSplit:
    """Variances of a score, or of a difference of two, at one seed and item, in the score's unit squared."""

    items: float
    """Variance between items: some are harder, or gain more."""
    seeds: float
    """Variance between seeds, on all items alike: training runs end higher or lower."""
    interaction: float
    """Variance of an item at a seed beyond both: runs learn different items."""
    sampling: float
    """Variance from the completions drawn."""
    negative: tuple[str, ...]
    """The parts that were estimated below 0 and are set to 0."""
    n_seeds: int
    n_items: int

    @property
    def of_mean(self) -> dict[str, float]:
        """Each part's contribution to the variance of the mean over seeds and items."""
        runs = self.n_seeds * self.n_items
        return {
            "items": self.items / self.n_items,
            "seeds": self.seeds / self.n_seeds,
            "interaction": self.interaction / runs,
            "sampling": self.sampling / runs,
        }


def binomial_variance(rates: Float[np.ndarray, "S n"], k: int) -> Float[np.ndarray, "S n"]:
    """Unbiased variance of a mean of k completions that are right or wrong.

        p̂ (1 − p̂) / (k − 1)

    Args:
        rates: share of right completions p̂, 0 to 1.
        k: completions; NaN below 2, where the variance cannot be told from one item's difficulty.
    """
    return rates * (1 - rates) / (k - 1) if k > 1 else np.full_like(rates, nan)


def variance_split(values: Float[np.ndarray, "S n"], sampling: Float[np.ndarray, "S n"]) -> VarianceSplit | None:
    """Split the variance into items, seeds, their interaction and sampling, by the method of moments.

        σ²_items = (MS_items − MS_rest) / S,   σ²_seeds = (MS_seeds − MS_rest) / n,
        σ²_sampling = mean of its estimates,   σ²_interaction = MS_rest − σ²_sampling

    Args:
        values: one score, or difference, a seed and item.
        sampling: estimated variance of each score from its completions.

    Returns: the parts, at least 0 each; None with fewer than two seeds or items, or without estimates of sampling.

    Source: Searle, Casella and McCulloch 1992, Variance Components, §4.3.
    """
    S, n = values.shape
    if S < 2 or n < 2 or np.isnan(sampling).any():
        return None
    of_seeds, of_items, rest = mean_squares(values)
    drawn = float(sampling.mean())
    parts = {
        "items": (of_items - rest) / S,
        "seeds": (of_seeds - rest) / n,
        "interaction": rest - drawn,
        "sampling": drawn,
    }
    return VarianceSplit(
        **{name: max(0.0, part) for name, part in parts.items()},
        negative=tuple(name for name, part in parts.items() if part < 0),
        n_seeds=S,
        n_items=n,
    )


def crossed_interval(values: Float[np.ndarray, "S n"], *, level: float = 0.95) -> Interval:
    """Interval of the mean for new seeds and new items, both drawn as these were.

        SE² = (MS_seeds + MS_items − MS_rest) / (S n),   at least MS_seeds / (S n) and MS_items / (S n)

    with Student's t and Satterthwaite's degrees of freedom.

    Args:
        values: one score, or paired difference, a seed and item.
        level: coverage, in (0, 1).

    Returns: mean and interval; none with fewer than two seeds or items. `n` is the number of seeds.

    Source: Satterthwaite 1946, An approximate distribution of estimates of variance components.

    Example:
        >>> found = crossed_interval(np.array([[0.0, 1.0], [1.0, 2.0]]))
        >>> found.mean, found.n
        (1.0, 2)
    """
    S, n = values.shape
    mean = float(values.mean()) if values.size else nan
    if S < 2 or n < 2:
        return Interval(mean=mean, low=None, high=None, n=S)
    of_seeds, of_items, rest = mean_squares(values)
    square = max(of_seeds + of_items - rest, of_seeds, of_items)
    if square == 0:
        return Interval(mean=mean, low=mean, high=mean, n=S)
    spread = of_seeds**2 / (S - 1) + of_items**2 / (n - 1) + rest**2 / ((S - 1) * (n - 1))
    freedom = max(square**2 / spread, 1.0)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * sqrt(square / (S * n))
    return Interval(mean=mean, low=mean - half, high=mean + half, n=S)


def mean_squares(values: Float[np.ndarray, "S n"]) -> tuple[float, float, float]:
    """Mean squares of seeds (rows), items (columns) and the rest in a two-way table without replication."""
    S, n = values.shape
    by_seed, by_item, mean = values.mean(1), values.mean(0), values.mean()
    rest = values - by_seed[:, None] - by_item[None] + mean
    of_seeds = n * float(((by_seed - mean) ** 2).sum()) / (S - 1)
    of_items = S * float(((by_item - mean) ** 2).sum()) / (n - 1)
    return of_seeds, of_items, float((rest**2).sum()) / ((S - 1) * (n - 1))
