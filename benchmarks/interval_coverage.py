"""How often the 95 % interval of an evaluation holds the true accuracy, by simulation.

    python -m benchmarks.interval_coverage

Items have accuracies p_i from a Beta distribution, completions are right with probability p_i, and the interval is the
one that `research evaluate` prints: over items, of their mean accuracies. The second part pairs two policies, whose
items' accuracies differ by a known amount, as `research compare` does.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from research.statistics import t_interval

POPULATIONS = {"hard, U-shaped": (0.4, 1.2), "even": (1.0, 1.0), "easy": (3.0, 0.8)}
"""Beta parameters of the items' accuracies."""
SIZES = ((30, 32), (64, 8), (256, 4), (500, 1))
"""Items and completions of each."""


def single(generator: np.random.Generator, population: tuple[float, float], n: int, k: int) -> tuple[np.ndarray, float]:
    """One evaluation's mean accuracies of n items, and the accuracy that it is about."""
    a, b = population
    p = generator.beta(a, b, size=n)
    return (generator.random((n, k)) < p[:, None]).mean(1), a / (a + b)


def paired(generator: np.random.Generator, population: tuple[float, float], n: int, k: int) -> tuple[np.ndarray, float]:
    """One comparison's differences of n items, and their expectation: after, an item lacks a quarter less."""
    a, b = population
    p = generator.beta(a, b, size=n)
    before = (generator.random((n, k)) < p[:, None]).mean(1)
    after = (generator.random((n, k)) < (p + 0.25 * (1 - p))[:, None]).mean(1)
    return after - before, 0.25 * b / (a + b)


def bca_interval(values: Sequence[float]) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of a mean."""
    if min(values) == max(values):
        return values[0], values[0]
    found = stats.bootstrap((np.asarray(values),), np.mean, method="BCa", rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def coverage(
    draw: Callable[..., tuple[np.ndarray, float]],
    interval: Callable[[list[float]], tuple[float, float]],
    draws: int,
    *setting: object,
) -> float:
    """The share of intervals that hold the truth."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(draws):
        values, truth = draw(generator, *setting)
        low, high = interval(values.tolist())
        held += low <= truth <= high
    return held / draws


def table(
    title: str, interval: Callable[[list[float]], tuple[float, float]], sizes: Sequence[tuple[int, int]], draws: int
) -> None:
    """Print the coverage of one kind of interval."""
    error = np.sqrt(0.95 * 0.05 / draws)
    print(f"\n{title}: {draws} draws a cell, seed 0; one standard error is {error:.1%}.\n")
    print(f"| items × completions | {' | '.join(f'{kind}, {name}' for kind in DRAWS for name in POPULATIONS)} |")
    print("|---|" + "---|" * len(POPULATIONS) * len(DRAWS))
    for n, k in sizes:
        cells = [
            f"{coverage(draw, interval, draws, population, n, k):.1%}"
            for draw in DRAWS.values()
            for population in POPULATIONS.values()
        ]
        print(f"| {n} × {k} | {' | '.join(cells)} |", flush=True)


DRAWS = {"accuracy": single, "difference": paired}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000, help="of Student's t, which is what is reported")
    parser.add_argument("--bootstrap-draws", type=int, default=1000, help="of the BCa bootstrap, for comparison")
    known = parser.parse_args()
    table("Student's t over items, as reported", t_interval, SIZES, known.draws)
    table("BCa bootstrap over items", bca_interval, SIZES[:1], known.bootstrap_draws)


if __name__ == "__main__":
    main()
