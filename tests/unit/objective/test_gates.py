"""The off-policy gate at its bound, completions without a token, tokens without a chance, and when gains are all."""

import pytest
from torch import tensor

from research.component import apply
from research.objective import (
    K2,
    Clip,
    DynamicClip,
    EntropyBonus,
    GeometricClip,
    MeanTokenRatio,
    NoBonus,
    NoKL,
    Objective,
    OffPolicyMask,
    SequenceRatio,
    SequenceTokenRatio,
    TokenRatio,
)


@pytest.mark.parametrize(
    ("fall", "gate"),
    [
        pytest.param(0.5, 1.0, id="at the bound"),
        pytest.param(0.75, 0.0, id="beyond"),
        pytest.param(0.25, 1.0, id="below"),
    ],
)
def test_fall_of_a_punished_completion_of_one_token(fall: float, gate: float):
    found = OffPolicyMask(delta=0.5)(
        logprobs=tensor([[-1.0 - fall, 0.0]]),
        old_logprobs=tensor([[-1.0, 0.0]]),
        advantages=tensor([[-1.0, -1.0]]),
        mask=tensor([[True, False]]),
    )
    assert found[0, 0] == gate


@pytest.mark.parametrize(
    ("kl", "entropy", "expected"),
    [
        (NoKL(), NoBonus(), True),
        (K2(beta=1.0), NoBonus(), False),
        (NoKL(), EntropyBonus(alpha=1.0), False),
        (K2(beta=1.0), EntropyBonus(alpha=1.0), False),
    ],
)
def test_gain_only(kl, entropy, expected: bool):
    objective = Objective(ratio=TokenRatio(), surrogate=Clip(), gates=[], kl=kl, entropy=entropy)
    assert objective.gain_only is expected


@pytest.mark.parametrize("component", [SequenceRatio(), SequenceTokenRatio(), MeanTokenRatio(), GeometricClip()])
def test_a_completion_without_a_token_is_finite(component):
    """Its coefficients are 0, and 0 times a number is 0."""
    quantities = {
        "logprobs": tensor([[-1.0], [-1.0]]),
        "old_logprobs": tensor([[-2.0], [-2.0]]),
        "ratio": tensor([[2.0], [2.0]]),
        "advantages": tensor([[1.0], [1.0]]),
        "mask": tensor([[True], [False]]),
    }
    assert apply(component, quantities).isfinite().all()


def test_bounds_of_no_width_for_a_token_without_a_chance():
    """Its probability of e⁻²⁰⁰ is 0 in float32, and 0/0 would be no bound: without a width, ρ is clipped at 1."""
    found = DynamicClip(width_low=0.0, width_high=0.0)(
        ratio=tensor([[4.0]]), advantages=tensor([[1.0]]), old_logprobs=tensor([[-200.0]])
    )
    assert found.tolist() == [[1.0]]
