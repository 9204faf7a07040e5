"""How reward grows with compute: the sigmoid that extrapolates a run, and its fit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from research.component import require


@dataclass(frozen=True, kw_only=True)
class ScalingCurve:
    """Reward as a sigmoid of the logarithm of compute.

        R(C) = R_0 + (A − R_0) / (1 + (C_mid / C)^B)

    Source: Khatri et al. 2025, ScaleRL (arXiv:2510.13786).

    Example:
        >>> round(ScalingCurve(start=0.1, asymptote=0.6, midpoint=2500.0, exponent=2.0)(5000.0), 6)
        0.5
    """

    start: float
    """R_0: the reward before training."""
    asymptote: float
    """A: the reward that unlimited compute approaches."""
    midpoint: float
    """C_mid: the compute at which half of the gain is made; above 0, in the unit of C."""
    exponent: float
    """B: how steep the rise is; above 0."""

    def __post_init__(self) -> None:
        require(self.midpoint > 0, f"ScalingCurve: midpoint is above 0, got {self.midpoint}")
        require(self.exponent > 0, f"ScalingCurve: exponent is above 0, got {self.exponent}")

    def __call__(self, compute: float) -> float:
        """R(C), for a compute above 0."""
        return self.start + (self.asymptote - self.start) / (1 + (self.midpoint / compute) ** self.exponent)


def fit_scaling(
    compute: Sequence[float],
    reward: Sequence[float],
    *,
    start: float,
    asymptotes: Sequence[float],
    midpoints: Sequence[float],
) -> ScalingCurve:
    """The curve of least squares: A and C_mid from a grid, B by `scipy.optimize.curve_fit` at each point of it.

    Args:
        compute: C of each measurement, above 0; the paper leaves out the first 1,500 GPU-hours.
        reward: R of each measurement.
        start: R_0.
        asymptotes: the grid of A; the paper: 0.450 to 0.800 in steps of 0.005.
        midpoints: the grid of C_mid; the paper: 100 points from 100 to 40,000 GPU-hours.

    Raises: ValueError if there are fewer than three measurements, or none of the grid's points can be fitted.
    """
    require(len(compute) == len(reward) >= 3, "fit_scaling: at least three measurements of compute and reward")
    C, R = np.asarray(compute, dtype=float), np.asarray(reward, dtype=float)
    best: tuple[float, ScalingCurve] | None = None
    for asymptote in asymptotes:
        for midpoint in midpoints:

            def curve(c: np.ndarray, b: float, a: float = asymptote, m: float = midpoint) -> np.ndarray:
                return start + (a - start) / (1 + (m / c) ** b)

            try:
                (exponent,), _ = curve_fit(curve, C, R, p0=[1.0], bounds=(1e-3, 50.0))
            except (RuntimeError, OptimizeWarning):
                continue
            error = float(((curve(C, exponent) - R) ** 2).sum())
            if best is None or error < best[0]:
                found = ScalingCurve(
                    start=start, asymptote=float(asymptote), midpoint=float(midpoint), exponent=float(exponent)
                )
                best = error, found
    if best is None:
        raise ValueError("fit_scaling: no point of the grid can be fitted")
    return best[1]
