"""Log-ratios of ±100 nats count as ±20, and what is clamped has no gradient: verl's bound, in every equation with one.

Each expected value is worked out by hand from the equation, with d = ±20 for the log-ratio.
"""

from math import exp, expm1

import pytest
import torch
from torch import Tensor, tensor

from research.component import apply
from research.credit import MaskedImportance, TruncatedImportance
from research.objective import (
    K1,
    K2,
    K3,
    ImportanceWeightedK3,
    MeanTokenRatio,
    SequenceRatio,
    SequenceTokenRatio,
    TokenRatio,
    TopCovarianceKL,
)

UP, DOWN = exp(20.0), exp(-20.0)
FLOAT64 = {"rel": 1e-12}
"""A subtraction and an exponential in float64."""


def graded(component, logprob: float, **others: float) -> tuple[float, float]:
    """Value and slope of one token of a completion of one token."""
    logprobs = tensor([[logprob]], dtype=torch.float64, requires_grad=True)
    given: dict[str, Tensor] = {name: tensor([[value]], dtype=torch.float64) for name, value in others.items()}
    value = apply(component, {"logprobs": logprobs, "mask": tensor([[True]]), **given})
    value.sum().backward()
    return value.item(), logprobs.grad.item()  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(("moved", "ratio"), [(100.0, UP), (-100.0, DOWN)])
@pytest.mark.parametrize("make", [TokenRatio, SequenceRatio, MeanTokenRatio])
def test_ratio(make: type, moved: float, ratio: float):
    value, slope = graded(make(), moved - 100.0, old_logprobs=-100.0)
    assert value == pytest.approx(ratio, **FLOAT64)
    assert slope == 0.0


@pytest.mark.parametrize(("moved", "ratio"), [(100.0, UP), (-100.0, DOWN)])
def test_ratio_of_a_completion_with_the_gradient_of_its_tokens(moved: float, ratio: float):
    """GSPO-token: the gradient is that of the token's log-probability, times the clamped ratio."""
    value, slope = graded(SequenceTokenRatio(), moved - 100.0, old_logprobs=-100.0)
    assert value == pytest.approx(ratio, **FLOAT64)
    assert slope == pytest.approx(ratio, **FLOAT64)


@pytest.mark.parametrize("far", [100.0, -100.0])
def test_penalties_of_their_own_gradient(far: float):
    """x = log π_θ/π_ref = ±20: k1 = x, k2 = x²/2 = 200, k3 = e⁻ˣ + x − 1."""
    x = 20.0 if far > 0 else -20.0
    of = {"old_logprobs": far - 100.0, "ref_logprobs": -100.0}
    assert graded(K1(beta=0.5, gradient="value"), far - 100.0, **of) == pytest.approx((x / 2, 0.0), **FLOAT64)
    assert graded(K2(beta=0.5), far - 100.0, **of) == pytest.approx((100.0, 0.0), **FLOAT64)
    k3 = (expm1(-x) + x) / 2
    assert graded(K3(beta=0.5, gradient="value"), far - 100.0, **of) == pytest.approx((k3, 0.0), **FLOAT64)
    assert graded(ImportanceWeightedK3(beta=0.5), far - 100.0, **of) == pytest.approx((k3, k3), **FLOAT64)


@pytest.mark.parametrize(("moved", "ratio"), [(100.0, UP), (-100.0, DOWN)])
@pytest.mark.parametrize("far", [100.0, -100.0])
def test_gradient_of_the_reverse_kl(far: float, moved: float, ratio: float):
    """ρ · log(π_θ/π_ref), each clamped by itself."""
    x = 20.0 if far > 0 else -20.0
    of = {"old_logprobs": -moved, "ref_logprobs": -far}
    for estimator in (K1(beta=0.5, gradient="kl"), K3(beta=0.5, gradient="kl")):
        assert graded(estimator, 0.0, **of)[1] == pytest.approx(ratio * x / 2, **FLOAT64)


@pytest.mark.parametrize(("moved", "ratio"), [(100.0, UP), (-100.0, DOWN)])
def test_importance_weight_of_a_penalty(moved: float, ratio: float):
    value, _ = graded(ImportanceWeightedK3(beta=0.5), 0.0, old_logprobs=-moved, ref_logprobs=1.0)
    assert value == pytest.approx(0.5 * ratio * (exp(1.0) - 2.0), **FLOAT64)


@pytest.mark.parametrize("moved", [100.0, -100.0])
def test_penalty_of_a_move(moved: float):
    value = graded(TopCovarianceKL(beta=0.5, fraction=0.5), 0.0, old_logprobs=-moved, covariance_rank=0.0)
    assert value == pytest.approx((10.0, 0.0), **FLOAT64)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(("apart", "importance"), [(100.0, UP), (-100.0, DOWN)])
def test_importance(apart: float, importance: float, level):
    quantities = {
        "old_logprobs": tensor([[apart, 0.0]]),
        "rollout_logprobs": tensor([[0.0, 0.0]]),
        "mask": tensor([[True, True]]),
    }
    second = importance if level == "sequence" else 1.0
    for weight in (TruncatedImportance(cap=1e9, level=level), MaskedImportance(low=0.0, high=1e9, level=level)):
        # One exponential in float32.
        assert apply(weight, quantities)[0].tolist() == pytest.approx([importance, second], rel=1e-6)
