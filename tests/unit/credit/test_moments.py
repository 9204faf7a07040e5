"""When values count as equal, and that what does not count has no part in it."""

import pytest
import torch
from torch import Tensor, tensor

from research.credit import MaskedImportance
from research.credit.moments import whitened, z_scores


def both(values: list[float], counts: list[bool] | None = None) -> tuple[Tensor, Tensor]:
    x = tensor([values], dtype=torch.float64)
    counted = tensor([counts or [True] * len(values)])
    return z_scores(x, counted, (1,), ddof=1, eps=0.0), whitened(x, counted)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([0.1, 0.1, 0.1], id="0.1, whose float64 mean is not 0.1"),
        pytest.param([-0.1, -0.1, -0.1], id="negative"),
        pytest.param([0.0, 0.0, 0.0], id="zero"),
        pytest.param([1e6, 1e6 * (1 + 1e-13), 1e6], id="large, but for rounding"),
        pytest.param([-1e6, -1e6 * (1 + 1e-13), -1e6], id="large and negative, but for rounding"),
        pytest.param([0.1], id="one"),
    ],
)
@pytest.mark.parametrize("beyond", [5.0, -5.0])
def test_equal_values_are_exactly_zero_whatever_does_not_count(values: list[float], beyond: float):
    counts = [True] * len(values) + [False]
    for found in both([*values, beyond], counts):
        assert found.tolist() == [[0.0] * len(counts)]


@pytest.mark.parametrize(
    "values", [[1e-3, 1e-3 * (1 + 1e-11)], [-1e-3, -1e-3 * (1 - 1e-11)], [0.0, 1e-30], [-1.0, 1.0]]
)
def test_unequal_values_are_not(values: list[float]):
    """Two values are ±√½ sample deviations from their mean, however near they are."""
    z, _ = both(values)
    # The difference of numbers 1e-11 apart is good to 1e-5.
    assert z[0].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-4)


def test_nothing_counts():
    for found in both([1.0, 2.0], [False, False]):
        assert found.tolist() == [[0.0, 0.0]]


def test_importance_at_its_bounds_counts():
    """An importance of exactly 1, between bounds of 1 and 1."""
    ones = tensor([[-1.0]])
    weight = MaskedImportance(low=1.0, high=1.0, level="token")
    assert weight(old_logprobs=ones, rollout_logprobs=ones, mask=tensor([[True]])).tolist() == [[1.0]]
