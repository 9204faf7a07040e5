"""Statistics against closed forms and numbers worked out by hand or by an independent slow implementation."""

from itertools import product
from math import isclose, sqrt

import pytest

from research.statistics import (
    Interval,
    bootstrap_interval,
    holm,
    mean_interval,
    paired_gains,
    sign_flip_p,
    smallest_p,
    t_interval,
    verdict,
)

T_975_DF2 = 0.95 / sqrt(2 * 0.975 * 0.025)
"""The 97.5 % quantile of t with 2 degrees of freedom: (2q − 1) / √(2q(1 − q)) at q = 0.975, a closed form."""


def test_the_t_interval_of_one_two_three():
    assert isclose(T_975_DF2, 4.3027, abs_tol=5e-5)  # the printed table of t
    low, high = t_interval([1.0, 2.0, 3.0])
    assert isclose(low, 2 - T_975_DF2 / sqrt(3), rel_tol=1e-9)
    assert isclose(high, 2 + T_975_DF2 / sqrt(3), rel_tol=1e-9)


def test_the_t_interval_of_equal_values_has_no_width():
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 values"):
        t_interval([1.0])
    with pytest.raises(ValueError, match="at least 2 values"):
        bootstrap_interval([1.0])
    assert mean_interval([1.0]) == Interval(mean=1.0, low=None, high=None, n=1)
    assert not mean_interval([1.0]).excludes_zero


@pytest.mark.parametrize("n", [2, 3, 7])
def test_few_seeds_take_students_t(n: int):
    values = [float(i * i) for i in range(n)]
    interval = mean_interval(values)
    assert (interval.low, interval.high) == t_interval(values)


def test_eight_seeds_take_the_bootstrap_and_it_repeats_exactly():
    values = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 2.0]
    interval = mean_interval(values)
    assert (interval.low, interval.high) == bootstrap_interval(values) == bootstrap_interval(values)
    assert interval.low is not None
    assert interval.high is not None
    assert min(values) < interval.low < interval.mean < interval.high < max(values)
    # The skewed sample pulls the accelerated interval up: farther above the mean than below it.
    assert interval.high - interval.mean > interval.mean - interval.low


def test_the_bootstrap_of_equal_values_has_no_width():
    assert bootstrap_interval([0.25] * 8) == (0.25, 0.25)


def slow_sign_flip_p(differences: list[float]) -> float:
    observed = abs(sum(differences))
    flips = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(flip >= observed - 1e-12 for flip in flips) / len(flips)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 0.25),  # all positive: only +++ and −−− are as extreme, 2/8
        ([-1.0, -2.0, -3.0], 0.25),
        ([1.0, 2.0, -3.0], 1.0),  # the sum is 0, every flip is as extreme
        ([3.0, 2.0, -1.0], 0.5),  # |sum| = 4; 6, 4, −4, −6 of ±3 ±2 ±1 are as extreme, 4/8
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 2 / 64),
        ([5.0], 1.0),
    ],
)
def test_sign_flip_p_by_hand(differences: list[float], p: float):
    assert sign_flip_p(differences) == p == slow_sign_flip_p(differences)


def test_sign_flip_p_against_slow_enumeration():
    differences = [0.031, -0.012, 0.058, 0.004, 0.027, -0.009, 0.013]
    assert sign_flip_p(differences) == slow_sign_flip_p(differences)


def test_sign_flip_needs_a_difference():
    with pytest.raises(ValueError, match="at least one difference"):
        sign_flip_p([])


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_smallest_p_is_reached_when_all_seeds_agree(n: int):
    assert sign_flip_p([float(i + 1) for i in range(n)]) == smallest_p(n) == 2 / 2**n


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04; running maximum 0.02, 0.03, 0.06, 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], abs=1e-12)


def test_holm_never_passes_one_and_takes_an_empty_family():
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_gains_pair_by_seed_and_point_to_the_better_side():
    cell, reference = {2: 0.5, 0: 0.3, 9: 1.0}, {0: 0.25, 2: 0.75, 4: 1.0}
    assert paired_gains(cell, reference, direction="maximize") == pytest.approx([0.05, -0.25])
    assert paired_gains(cell, reference, direction="minimize") == pytest.approx([-0.05, 0.25])
    assert paired_gains(cell, {4: 1.0}, direction="maximize") == []


@pytest.mark.parametrize(
    ("low", "high", "paper", "expected"),
    [
        (0.1, 0.3, 6.0, "same direction"),
        (-0.3, -0.1, -6.0, "same direction"),
        (0.1, 0.3, -6.0, "opposite"),
        (-0.3, -0.1, 6.0, "opposite"),
        (-0.1, 0.3, 6.0, "undecided"),
        (0.0, 0.3, 6.0, "undecided"),
        (None, None, 6.0, "undecided"),
        (0.1, 0.3, None, "no counterpart"),
        (0.1, 0.3, 0.0, "no counterpart"),
    ],
)
def test_verdict(low: float | None, high: float | None, paper: float | None, expected: str):
    mean = 0.2 if low is None or high is None else (low + high) / 2
    assert verdict(Interval(mean=mean, low=low, high=high, n=3), paper) == expected
