"""The scaling curve of arXiv:2510.13786, R = R_0 + (A − R_0) / (1 + (C_mid/C)^B), by hand; and its fit."""

import numpy as np
import pytest

from research.reporting.scaling import ScalingCurve, fit_scaling

CURVE = ScalingCurve(start=0.1, asymptote=0.6, midpoint=2500.0, exponent=2.0)


@pytest.mark.parametrize(
    ("compute", "reward"),
    [
        (2500.0, (0.1 + 0.6) / 2),  # at C = C_mid half of the gain is made
        (5000.0, 0.5),  # 0.1 + 0.5 / (1 + 1/4)
        (1250.0, 0.2),  # 0.1 + 0.5 / (1 + 4)
        (1e12, 0.6),
    ],
)
def test_values(compute: float, reward: float) -> None:
    assert CURVE(compute) == pytest.approx(reward, rel=1e-9)  # float64


def test_the_fit_finds_the_curve_that_made_the_points() -> None:
    """The paper's row for its own recipe: C_mid 2542, B 1.92, A 0.610; points of the curve itself, without noise."""
    true = ScalingCurve(start=0.3, asymptote=0.61, midpoint=2542.0, exponent=1.92)
    compute = np.linspace(1500, 50_000, 30).tolist()
    found = fit_scaling(
        compute,
        [true(c) for c in compute],
        start=0.3,
        asymptotes=[0.58, 0.61, 0.64],
        midpoints=[1500.0, 2542.0, 4000.0],
    )
    assert (found.asymptote, found.midpoint) == (0.61, 2542.0)
    assert found.exponent == pytest.approx(1.92, rel=1e-4)  # curve_fit's own tolerance is 1e-8 of the sum of squares


@pytest.mark.parametrize("change", [{"midpoint": 0.0}, {"exponent": -1.0}])
def test_refusals(change: dict) -> None:
    with pytest.raises(ValueError, match="is above 0"):
        ScalingCurve(**{"start": 0.1, "asymptote": 0.6, "midpoint": 1.0, "exponent": 1.0, **change})


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="at least three"):
        fit_scaling([1.0, 2.0], [0.1, 0.2], start=0.0, asymptotes=[1.0], midpoints=[1.0])
