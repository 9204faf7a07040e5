"""How often the 95 % interval of an evaluation holds the true accuracy, by simulation.

    python -m benchmarks.interval_coverage --draws 2000

Items have accuracies p_i from a Beta distribution, completions are right with probability p_i, and the interval is the
one that `research evaluate` prints: over items, of their mean accuracies. The second part pairs two policies, whose
items' accuracies differ by a known amount, as `research compare` does.
"""

import argparse
from collections.abc import Callable

import numpy as np

from research.reporting.statistics import Interval, mean_interval

POPULATIONS = {"hard, U-shaped": (0.4, 1.2), "even": (1.0, 1.0), "easy": (3.0, 0.8)}
"""Beta parameters of the items' accuracies."""
SIZES = ((30, 32), (64, 8), (256, 4), (500, 1))
"""Items and completions of each."""


def single(generator: np.random.Generator, population: tuple[float, float], n: int, k: int) -> tuple[Interval, float]:
    """One evaluation's interval, and the accuracy it is about."""
    a, b = population
    p = generator.beta(a, b, size=n)
    return mean_interval((generator.random((n, k)) < p[:, None]).mean(1).tolist()), a / (a + b)


def paired(generator: np.random.Generator, population: tuple[float, float], n: int, k: int) -> tuple[Interval, float]:
    """One comparison's interval, and the difference it is about: a quarter of what each item lacks."""
    a, b = population
    p = generator.beta(a, b, size=n)
    before = (generator.random((n, k)) < p[:, None]).mean(1)
    after = (generator.random((n, k)) < (p + 0.25 * (1 - p))[:, None]).mean(1)
    return mean_interval((after - before).tolist()), 0.25 * b / (a + b)


def coverage(draw: Callable[..., tuple[Interval, float]], draws: int, *setting: object) -> float:
    """The share of intervals that hold the truth."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(draws):
        interval, truth = draw(generator, *setting)
        held += interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high
    return held / draws


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    print(f"{draws} draws a cell, seed 0; one standard error at 95 % is {np.sqrt(0.95 * 0.05 / draws):.1%}\n")
    for title, draw in (("accuracy", single), ("paired difference", paired)):
        print(f"| {title}: items × completions | {' | '.join(POPULATIONS)} |")
        print("|---|" + "---|" * len(POPULATIONS))
        for n, k in SIZES:
            cells = [f"{coverage(draw, draws, population, n, k):.1%}" for population in POPULATIONS.values()]
            print(f"| {n} × {k} | {' | '.join(cells)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
