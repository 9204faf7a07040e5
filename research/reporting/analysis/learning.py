"""Learning curves as numbers: area, best, last, steps to a threshold, and whether a run collapsed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from research.reporting.analysis.results import Results, as_number
from research.statistics import Interval, gain_interval, holm, mean_interval, paired_gains, sign_flip_p

START = "start/"
"""Prefix of the warm start's own metrics in runs.csv."""
HALFWAY = 0.5
"""Without a threshold of its own, a study takes this share of the way from the warm start to its median cell's end."""
DROP = 0.25
"""A run that ends more than this share of its best value behind it has collapsed."""
ENTROPY_FLOOR = 0.1
"""Entropy below this share of the first step's has collapsed; it is averaged over the last tenth of the steps."""
CUT = 0.5
"""Lengths have run away where more than this share of the last tenth's completions is truncated."""


@dataclass(frozen=True, kw_only=True)
class RunCurve:
    """One run's evaluations over steps, the warm start as step 0."""

    run: str
    cell: str
    seed: int
    evaluations: int
    steps: int
    """Of the last evaluation."""
    area: float
    """Mean height of the curve over the steps, by trapezoids: in the metric's unit."""
    best: float
    best_step: int
    last: float
    reached: float | None
    """Step at which the threshold is crossed, between evaluations by a straight line; None if it is not."""
    collapse: tuple[str, ...]
    """Signs of a collapse; empty if the run did not collapse."""


@dataclass(frozen=True, kw_only=True)
class CellCurves:
    """One cell's curves, over seeds."""

    cell: str
    area: Interval
    best: Interval
    last: Interval
    reached: Interval
    """Steps to the threshold, of the runs that cross it: where not all do, of the quick ones."""
    runs: int
    collapsed: tuple[RunCurve, ...]


@dataclass(frozen=True, kw_only=True)
class PairCurves:
    """One comparison of curves, paired by seed; positive is better."""

    cell: str
    reference: str
    area: Interval
    p: float | None
    """Sign-flip p of the areas, Holm-corrected over the comparisons."""
    best: Interval
    sooner: Interval
    """Steps saved on the way to the threshold, of the seeds at which both cross it."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """All learning curves of a study."""

    threshold: float
    stated: bool
    """The study states the threshold; otherwise it is half the way from the warm start to the median cell."""
    runs: tuple[RunCurve, ...]
    cells: tuple[CellCurves, ...]
    pairs: tuple[PairCurves, ...]


def learning(results: Results) -> Learning | None:
    """Summarise the study's curves.

    Returns: None without a curve of at least two evaluations.
    """
    curves = {run: curve for run, curve in evaluations(results).items() if len(curve) > 1}
    if not curves:
        return None
    threshold = _threshold(results)
    owners = results.complete.set_index("run")
    runs = tuple(
        _run(results, run, str(owners.at[run, "cell"]), int(str(owners.at[run, "seed"])), curve, threshold)
        for run, curve in curves.items()
    )
    cells = tuple(_cell(cell.id, [run for run in runs if run.cell == cell.id]) for cell in results.study.cells)
    pairs = [_pair(results, runs, *pair) for pair in results.study.comparisons]
    corrected = iter(holm([p for _, p in pairs if p is not None]))
    return Learning(
        threshold=threshold,
        stated=results.study.threshold is not None,
        runs=runs,
        cells=cells,
        pairs=tuple(
            PairCurves(**parts, p=None if p is None else next(corrected))  # pyright: ignore[reportArgumentType]
            for parts, p in pairs
        ),
    )


def evaluations(results: Results) -> dict[str, pd.Series]:
    """Complete run to its metric by step, with the warm start's at step 0 where that is recorded."""
    metric = results.study.metric
    if metric not in results.curves:
        return {}
    found = {}
    for row in results.complete.to_dict("records"):
        curve = of_run(results, str(row["run"]))[metric].dropna().astype(float)
        start = as_number(row.get(START + metric))
        if len(curve) and 0 not in curve.index and start is not None:
            curve = pd.Series([start, *curve], index=[0, *curve.index])
        if len(curve):
            found[str(row["run"])] = curve
    return found


def warm_start(results: Results) -> dict[int, float]:
    """Seed to the warm start's metric, of the first cell that has one at that seed.

    Cells share the warm start; one whose prompts are put otherwise, as with a length target, measures it otherwise.
    """
    found: dict[int, float] = {}
    for cell in results.study.cells:
        found = results.by_seed(cell.id, START + results.study.metric) | found
    return dict(sorted(found.items()))


def of_run(results: Results, run: str) -> pd.DataFrame:
    """The run's rows of curves.csv, by step."""
    return results.curves.loc[results.curves["run"] == run].set_index("step").sort_index()


def crossing(steps: np.ndarray, values: np.ndarray, threshold: float) -> float | None:
    """The first step at which a curve of straight lines is at the threshold or above; None if it never is.

    Example:
        >>> crossing(np.array([0, 10, 20]), np.array([0.2, 0.4, 0.6]), 0.5)
        15.0
    """
    above = np.flatnonzero(values >= threshold)
    if not above.size:
        return None
    i = int(above[0])
    if i == 0:
        return float(steps[0])
    share = (threshold - values[i - 1]) / (values[i] - values[i - 1])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def collapse(
    values: np.ndarray, *, sign: float, entropy: np.ndarray | None = None, truncated: np.ndarray | None = None
) -> tuple[str, ...]:
    """Signs of a collapse in a run, in words.

    Args:
        values: the metric over evaluations, the warm start first.
        sign: 1 if more is better, −1 if less is.
        entropy: of the policy over steps, nats.
        truncated: share of cut completions over steps, 0 to 1.
    """
    found = []
    best = float((sign * values).max()) * sign
    if sign * (best - values[-1]) > DROP * abs(best):
        found.append("metric")
    if entropy is not None and len(entropy) > 1 and _end(entropy) < ENTROPY_FLOOR * entropy[0]:
        found.append("entropy")
    if truncated is not None and len(truncated) > 1 and _end(truncated) > max(CUT, truncated[0]):
        found.append("length")
    return tuple(found)


def _end(values: np.ndarray) -> float:
    return float(values[-max(1, len(values) // 10) :].mean())


def _threshold(results: Results) -> float:
    study = results.study
    if study.threshold is not None:
        return study.threshold
    starts = list(warm_start(results).values())
    ends = [np.mean(list(found.values())) for c in study.cells if (found := results.by_seed(c.id, study.metric))]
    end = float(np.median(ends))
    return float(np.mean(starts)) + HALFWAY * (end - float(np.mean(starts))) if starts else end


def _run(results: Results, run: str, cell: str, seed: int, curve: pd.Series, threshold: float) -> RunCurve:
    sign = 1.0 if results.study.direction == "maximize" else -1.0
    steps, values = curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float)
    best = int(np.argmax(sign * values))
    own = of_run(results, run)
    beside = {
        name: own[column].dropna().to_numpy(dtype=float)
        for name, column in {"entropy": "rollouts/entropy_mean", "truncated": "rollouts/truncated"}.items()
        if column in own
    }
    return RunCurve(
        run=run,
        cell=cell,
        seed=seed,
        evaluations=len(values),
        steps=int(steps[-1]),
        area=float(np.trapezoid(values, steps) / (steps[-1] - steps[0])),
        best=float(values[best]),
        best_step=int(steps[best]),
        last=float(values[-1]),
        reached=crossing(steps, sign * values, sign * threshold),
        collapse=collapse(values, sign=sign, **beside),
    )


def _cell(cell: str, runs: list[RunCurve]) -> CellCurves:
    return CellCurves(
        cell=cell,
        area=mean_interval([run.area for run in runs]),
        best=mean_interval([run.best for run in runs]),
        last=mean_interval([run.last for run in runs]),
        reached=mean_interval([run.reached for run in runs if run.reached is not None]),
        runs=len(runs),
        collapsed=tuple(run for run in runs if run.collapse),
    )


def _pair(
    results: Results, runs: tuple[RunCurve, ...], cell: str, reference: str
) -> tuple[dict[str, str | Interval], float | None]:
    def values(of: str, name: str) -> Mapping[int, float]:
        found = {run.seed: getattr(run, name) for run in runs if run.cell == of}
        return {seed: value for seed, value in found.items() if value is not None}

    direction = results.study.direction
    areas = paired_gains(values(cell, "area"), values(reference, "area"), direction=direction)
    bests = paired_gains(values(cell, "best"), values(reference, "best"), direction=direction)
    saved = paired_gains(values(cell, "reached"), values(reference, "reached"), direction="minimize")
    return {
        "cell": cell,
        "reference": reference,
        "area": gain_interval(areas),
        "best": gain_interval(bests),
        "sooner": gain_interval(saved),
    }, sign_flip_p(areas) if areas else None
