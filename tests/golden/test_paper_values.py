"""Numbers that follow from the papers' equations, worked out apart from the package. Never regenerate them with it."""

from math import comb

import pytest
import reference
import torch

from research.catalogue import discover
from research.component import apply
from research.credit import Credit, GroupMean, GroupZScore, LeaveOneOut, SequenceMean, TokenMean
from research.objective import K3, Clip, NoBonus, Objective, TokenRatio
from research.rewards import OverlongPenalty
from research.types import UpdateBatch, length_mask

# Advantages of G = 8 completions, k of them right, rewards 1 and 0: (right, wrong), three decimals.
# GRPO: arXiv:2402.03300 §4.1.2, with the population and the sample deviation; Dr. GRPO: arXiv:2503.20783 §3.2;
# RLOO: arXiv:2402.14740, which is G/(G−1) times Dr. GRPO's (arXiv:2503.20783, appendix A).
ADVANTAGES = {
    "population": (GroupZScore(ddof=0), {1: (2.646, -0.378), 4: (1.0, -1.0), 7: (0.378, -2.646)}),
    "sample": (GroupZScore(ddof=1), {1: (2.475, -0.354), 4: (0.935, -0.935), 7: (0.354, -2.475)}),
    "Dr. GRPO": (GroupMean(), {1: (0.875, -0.125), 4: (0.5, -0.5), 7: (0.125, -0.875)}),
    "RLOO": (LeaveOneOut(), {1: (1.0, -0.143), 4: (0.571, -0.571), 7: (0.143, -1.0)}),
}


@pytest.mark.parametrize(
    ("advantage", "k", "expected"),
    [
        pytest.param(advantage, k, expected, id=f"{name}-{k} of 8")
        for name, (advantage, table) in ADVANTAGES.items()
        for k, expected in table.items()
    ],
)
def test_advantages_of_eight_completions(advantage, k: int, expected: tuple[float, float]):
    rewards = torch.tensor([[1.0] * k + [0.0] * (8 - k)])
    values = advantage(rewards=rewards, mask=torch.ones(8, 1, dtype=torch.bool))[:, 0].tolist()
    # Half a unit of the third decimal, which is all that the table prints.
    assert values[:k] == pytest.approx([expected[0]] * k, abs=5e-4)
    assert values[k:] == pytest.approx([expected[1]] * (8 - k), abs=5e-4)


@pytest.mark.parametrize("reward", [0.7, 0.1, -1.0, 1.0, 0.0, 1e8])
@pytest.mark.parametrize(
    "advantage",
    [made for e in discover() if e.slot == "credit.Advantage" and (made := e.example()).centred],
    ids=lambda advantage: type(advantage).__name__,
)
def test_dead_group_is_exactly_zero(advantage, reward: float):
    """Of every advantage that says it is centred.

    Equal float32 rewards such as 0.7 leave a residue r − mean(r) that 1/ε would blow up to |A| ≈ 0.1.
    """
    G = 7
    rewards = torch.full((3, G), reward)
    rewards[1, 0] += 1.0 + abs(reward)
    lengths = torch.arange(1, 3 * G + 1)
    mask = length_mask(lengths)
    quantities = {
        "rewards": rewards,
        "outcomes": rewards,
        "right": rewards > reward,
        "mask": mask,
        "lengths": lengths.reshape(3, G),
        "entropies": torch.linspace(0.1, 2.0, mask.numel()).reshape(mask.shape),
    }
    advantages = apply(advantage, quantities).unflatten(0, (3, G))
    assert torch.count_nonzero(advantages[[0, 2]]) == 0
    assert torch.count_nonzero(advantages[1]) > 0


def test_gradient_of_on_policy_grpo_is_its_gradient_coefficient():
    """∂J/∂ log π = GC / (B·|o_i|), GC = Â + β(π_ref/π_θ − 1), at ρ = 1: arXiv:2402.03300 eqs. 3 and 21."""
    beta, eps = 0.04, 1e-6
    rewards = [[1.0, 0.0, 0.0, 1.0], [0.5, -1.0, 2.0, 0.0]]
    lengths = torch.tensor([3, 1, 4, 2, 2, 5, 1, 3])
    mask = length_mask(lengths)
    generator = torch.Generator().manual_seed(3)
    old = -3 * torch.rand(mask.shape, generator=generator, dtype=torch.float64)
    ref = old + torch.randn(mask.shape, generator=generator, dtype=torch.float64)
    logprobs = old.clone().requires_grad_()
    batch = UpdateBatch(
        input_ids=torch.zeros(8, 6, dtype=torch.long),
        prompt_lengths=torch.ones(8, dtype=torch.long),
        lengths=lengths,
        quantities={
            "rewards": torch.tensor(rewards),
            "mask": mask,
            "logprobs": logprobs,
            "old_logprobs": old,
            "ref_logprobs": ref,
        },
    )
    credit = Credit(advantage=GroupZScore(eps=eps), weights=[], aggregate=SequenceMean(), denominator="all")
    objective = Objective(
        ratio=TokenRatio(), surrogate=Clip(), gates=[], kl=K3(beta=beta, gradient="value"), entropy=NoBonus()
    )
    objective(credit(batch).quantities).loss.backward()
    expected = reference.grpo_gradient(
        rewards=rewards,
        mask=mask.tolist(),
        logprobs=old.tolist(),
        ref_logprobs=ref.tolist(),
        beta=beta,
        eps=eps,
    )
    # Advantages and coefficients are float32 (6e-8 an operation); the log-probabilities here are float64.
    torch.testing.assert_close(-logprobs.grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("length", "penalty"),
    [(1, 0.0), (16384, 0.0), (16385, -0.000244140625), (17408, -0.25), (18432, -0.5), (20480, -1.0), (20481, -1.0)],
)
def test_soft_overlong_punishment(length: int, penalty: float):
    """arXiv:2503.14476 eq. 13 at L_max = 20480, L_cache = 4096; every value is a dyadic fraction, so exact."""
    shaping = OverlongPenalty(max_length=20480, buffer=4096)
    assert shaping(lengths=torch.tensor([[length, 1]])).tolist() == [[penalty, 0.0]]


def test_token_mean_is_sequence_mean_when_all_lengths_are_equal():
    mask = torch.ones(6, 5, dtype=torch.bool)
    # 1/30 is reached by one division or by two: one rounding apart.
    torch.testing.assert_close(TokenMean()(mask=mask), SequenceMean()(mask=mask), rtol=2e-7, atol=0.0)


@pytest.mark.parametrize("G", [2, 3, 8, 64])
def test_leave_one_out_is_group_mean_times_g_over_g_minus_one(G: int):
    """arXiv:2503.20783, appendix A."""
    rewards = torch.tensor([[float(comb(G, g) % 5) for g in range(G)]])
    mask = torch.ones(G, 1, dtype=torch.bool)
    expected = GroupMean()(rewards=rewards, mask=mask).double() * G / (G - 1)
    # One float32 product.
    torch.testing.assert_close(LeaveOneOut()(rewards=rewards, mask=mask).double(), expected, rtol=2e-7, atol=1e-9)
