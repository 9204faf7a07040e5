"""The off-policy gate at its bound, and when a completion without advantage has no part in the objective."""

import pytest
from torch import tensor

from research.objective import K2, Clip, EntropyBonus, NoBonus, NoKL, Objective, OffPolicyMask, TokenRatio


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
