"""How often a report's intervals hold the truth, its tests are wrong, and its effects are found, by simulation.

    python -m benchmarks.simulated_studies

A study is drawn from a model whose effects are known, and analysed by the functions that write a report. An item i has
a difficulty, a run has a level of its own, an item gains more or less from the change, and completions are right with
probability

    p_{c,s,i} = σ( a_i + b_s + d_{c,s} + e_{c,s,i} + c · (δ + t_i) ),   c = 0 for the reference, 1 for the cell

so that b_s is what pairing by seed takes out, d_{c,s} what is left between runs, and e what a run learned on an item.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import sqrt

import numpy as np
from scipy import stats
from scipy.special import expit

from research.ablation.designs import Cell
from research.reporting.analysis.factorial import factor_effects
from research.statistics import (
    bootstrap_interval,
    crossed_interval,
    gain_interval,
    holm,
    improvement,
    iqm,
    iqm_gain,
    mean_interval,
    paired_power,
    sign_flip_p,
)

SEEDS = (3, 5, 8, 16)
"""Numbers of seeds."""
SETS = 10
"""Sets of items that the studies of one setting are spread over."""
NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "bounded": lambda rng, shape: rng.uniform(-sqrt(3), sqrt(3), size=shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(3, size=shape) / sqrt(3),
    "skewed": lambda rng, shape: 1 - rng.exponential(size=shape),
}
"""Distributions of a run's own level, each with mean 0 and variance 1; the skewed one has a few bad runs."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The model's sizes; standard deviations are in logits."""

    items: int = 64
    completions: int = 8
    effect: float = 0.4
    of_items: float = 1.5
    of_seeds: float = 0.15
    of_runs: float = 0.15
    of_runs_on_items: float = 0.5
    of_gains: float = 0.4
    noise: str = "normal"

    def questions(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Difficulties a_i and gains δ + t_i of a set of items."""
        return (
            rng.normal(size=self.items) * self.of_items,
            self.effect + rng.normal(size=self.items) * self.of_gains,
        )

    def pair(
        self, rng: np.random.Generator, questions: tuple[np.ndarray, np.ndarray], seeds: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shares of right completions [seeds, items] of the cell and of its reference."""
        difficulty, gain = questions
        shared = rng.normal(size=(seeds, 1)) * self.of_seeds
        scores = []
        for c in (1, 0):
            run = NOISE[self.noise](rng, (seeds, 1)) * self.of_runs
            learned = rng.normal(size=(seeds, self.items)) * self.of_runs_on_items
            p = expit(difficulty + shared + run + learned + c * gain)
            scores.append(rng.binomial(self.completions, p) / self.completions)
        return scores[0], scores[1]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the intervals are about, for one set of items, from very many seeds."""

    mean: float
    gain: float
    iqm: float
    improvement: float


@cache
def truth(world: World, block: int, seeds: int = 4000) -> Truth:
    """The truth for new seeds on a set of items."""
    x, y = world.pair(np.random.default_rng(1), world.questions(np.random.default_rng(block)), seeds)
    k = world.completions
    levels = np.arange(k + 1) / k
    of_x, of_y = ((np.isclose(v[..., None], levels)).mean(0) for v in (x, y))  # [items, levels]
    below = np.cumsum(of_y, 1) - of_y
    wins = of_x * (below + 0.5 * of_y)
    return Truth(
        mean=float(x.mean()),
        gain=float((x - y).mean()),
        iqm=iqm(x) - iqm(y),
        improvement=float(wins.sum(1).mean()),
    )


def coverage(world: World, seeds: int, draws: int, *, others: bool = False) -> dict[str, float]:
    """The share of studies whose interval holds the truth.

    Args:
        world: the model.
        seeds: of each study.
        draws: studies, in ten sets of items.
        others: of the intervals that no report prints, rather than of those that one does.
    """
    rng = np.random.default_rng(seeds)
    held: Counter[str] = Counter()
    for block in range(SETS):
        about, questions = truth(world, block), world.questions(np.random.default_rng(block))
        for _ in range(draws // SETS):
            x, y = world.pair(rng, questions, seeds)
            if others:
                held.update(_others(x, y, about, rng))
                continue
            fresh = crossed_interval(np.subtract(*world.pair(rng, world.questions(rng), seeds)))
            found = {
                "mean of a cell": (mean_interval(x.mean(1).tolist()), about.mean),
                "gain": (gain_interval((x - y).mean(1).tolist()), about.gain),
                "gain in IQM": (iqm_gain(x, y), about.iqm),
                "probability of improvement": (improvement(x, y), about.improvement),
                "gain, new items too": (fresh, population_gain(world)),
            }
            held.update({name: holds(one.low, one.high, value) for name, (one, value) in found.items()})
    return {name: count / (draws // SETS * SETS) for name, count in held.items()}


def _others(x: np.ndarray, y: np.ndarray, about: Truth, rng: np.random.Generator) -> dict[str, bool]:
    """Whether the intervals that no report prints hold the truth."""
    gains, seeds = (x - y).mean(1), len(x)
    again = rng.integers(seeds, size=(500, seeds))
    pooled = [stats.trim_mean(v[again].reshape(500, -1), 0.25, 1) for v in (x, y)]
    accelerated = stats.bootstrap((gains,), np.mean, method="BCa", n_resamples=500, rng=rng).confidence_interval
    found = {
        "gain, percentile": (np.quantile(gains[again].mean(1), (0.025, 0.975)), about.gain),
        "gain, BCa": (accelerated, about.gain),
        "gain, studentised": (bootstrap_interval(gains.tolist()), about.gain),
        "gain in IQM, percentile": (np.quantile(pooled[0] - pooled[1], (0.025, 0.975)), about.iqm),
    }
    return {name: holds(float(ends[0]), float(ends[1]), value) for name, (ends, value) in found.items()}


@cache
def population_gain(world: World) -> float:
    """The truth for new seeds on new items."""
    rng = np.random.default_rng(2)
    many = replace(world, items=20_000)
    return float(np.mean([np.subtract(*many.pair(rng, many.questions(rng), 20)).mean() for _ in range(5)]))


def holds(low: float | None, high: float | None, value: float) -> bool:
    """Whether an interval holds a value."""
    return bool(low is not None and high is not None and low <= value <= high)


def false_positives(world: World, seeds: int, comparisons: int, draws: int) -> float:
    """The share of studies without any effect in which a corrected test finds one.

    Args:
        world: the model, whose effects are taken out.
        seeds: of every cell.
        comparisons: of one study, corrected together.
        draws: studies.
    """
    rng = np.random.default_rng(seeds)
    none = replace(world, effect=0.0, of_gains=0.0)
    found = 0
    for _ in range(draws):
        pairs = [none.pair(rng, none.questions(rng), seeds) for _ in range(comparisons)]
        found += min(holm([sign_flip_p((x - y).mean(1).tolist()) for x, y in pairs])) <= 0.05
    return found / draws


def power(seeds: int, correlation: float, draws: int) -> dict[str, float]:
    """How often a gain of one pooled standard deviation of the runs is found, and what `paired_power` states.

    Args:
        seeds: paired seeds.
        correlation: of the two cells' runs at one seed, which is what pairing takes out.
        draws: studies.
    """
    rng = np.random.default_rng(seeds)
    shared = sqrt(correlation) * rng.normal(size=(draws, seeds))
    x, y = (shared + sqrt(1 - correlation) * rng.normal(size=(draws, seeds)) for _ in range(2))
    gains = x + 1.0 - y
    t = gains.mean(1) / (gains.std(1, ddof=1) / sqrt(seeds))
    by_t = np.abs(t) >= stats.t.ppf(0.975, seeds - 1)
    by_flips = [sign_flip_p(row.tolist()) <= 0.05 for row in gains]
    return {
        "stated": paired_power(1 / sqrt(2 * (1 - correlation)), seeds),
        "t": float(np.mean(by_t)),
        "sign flips": float(np.mean(by_flips)),
    }


EFFECTS = {"a": 0.05, "b": 0.0, "c": -0.03, "a × b": 0.04, "a × c": 0.0, "b × c": 0.0}
"""Main effects and interactions of a simulated 2 × 2 × 2 design, in the metric's unit, as a report defines them."""


def factorial(seeds: int, draws: int, *, own: float = 0.02) -> dict[str, tuple[float, float, float]]:
    """Effect → mean estimate, and coverage of the interval by seed and of the pooled one.

    Args:
        seeds: seeds of every cell.
        draws: studies.
        own: deviation of a run beyond its seed's; the seed's own is 0.03.
    """
    rng = np.random.default_rng(seeds)
    cells = [
        Cell(id="".join(levels), label="", levels=dict(zip("abc", levels, strict=True)))
        for levels in product("01", repeat=3)
    ]
    signs = {cell.id: {f: 2 * int(level) - 1 for f, level in cell.levels.items()} for cell in cells}
    means = {
        name: 0.5 + sum(size / 2 * np.prod([at[f] for f in effect.split(" × ")]) for effect, size in EFFECTS.items())
        for name, at in signs.items()
    }
    estimates: dict[str, list[float]] = {name: [] for name in EFFECTS}
    held = {name: [0, 0] for name in EFFECTS}
    for _ in range(draws):
        block = 0.03 * rng.normal(size=seeds)
        values = {
            name: dict(enumerate((mean + block + own * rng.normal(size=seeds)).tolist()))
            for name, mean in means.items()
        }
        for effect in factor_effects(cells, values, direction="maximize"):
            name = effect.name.replace(" = 1", "")
            estimates[name].append(effect.gain.mean)
            held[name][0] += holds(effect.gain.low, effect.gain.high, EFFECTS[name])
            held[name][1] += holds(effect.pooled.low, effect.pooled.high, EFFECTS[name])
    return {
        name: (float(np.mean(found)), held[name][0] / draws, held[name][1] / draws) for name, found in estimates.items()
    }


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000, help="studies of each setting")
    parser.add_argument("--others", type=int, default=300, help="studies for the intervals that no report prints")
    known = parser.parse_args()
    worlds = {noise: World(noise=noise) for noise in NOISE}
    error = sqrt(0.95 * 0.05 / known.draws)
    print(f"## Intervals that a report prints\n\n{known.draws} studies a cell; one standard error is {error:.1%}.\n")
    held = {f"{n}, {noise}": coverage(world, n, known.draws) for n in SEEDS for noise, world in worlds.items()}
    _table("seeds, runs", held)
    print(f"\n## Intervals that none prints\n\n{known.others} studies a cell, skewed runs.\n")
    _table("seeds", {str(n): coverage(worlds["skewed"], n, known.others, others=True) for n in SEEDS})
    print(
        "\n## False positives\n\nStudies of six comparisons, none with an effect, with a corrected p of at most 0.05.\n"
    )
    draws = 2 * known.draws
    wrong = {str(n): {k: false_positives(world, n, 6, draws) for k, world in worlds.items()} for n in (8, 12)}
    _table("seeds", wrong)
    print("\n## Power\n\nA gain of one pooled standard deviation of the runs; two-sided, uncorrected, level 0.05.\n")
    settings = product((5, 8, 16), (0.0, 0.5, 0.8))
    _table("seeds, correlation in pairs", {f"{n}, {r}": power(n, r, 5 * known.draws) for n, r in settings})
    print("\n## Main effects and interactions of a 2 × 2 × 2 design")
    for seeds in SEEDS:
        print(f"\n{seeds} seeds, {known.draws} studies:\n")
        print("| effect | true | mean estimate | held by seed | held by the pooled error |\n|---|---|---|---|---|")
        for name, (mean, own, pooled) in factorial(seeds, known.draws).items():
            print(f"| {name} | {EFFECTS[name]:+.3f} | {mean:+.4f} | {own:.1%} | {pooled:.1%} |", flush=True)


def _table(first: str, rows: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"| {first} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for row, values in rows.items():
        print(f"| {row} | {' | '.join(f'{values[name]:.1%}' for name in names)} |", flush=True)


if __name__ == "__main__":
    main()
