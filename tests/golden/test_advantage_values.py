"""Numbers that follow from the equations of the other advantages, worked out apart from the package."""

from math import sqrt

import pytest
import torch
from torch import tensor

from research.credit import (
    GAE,
    BatchScaled,
    BatchWhitened,
    CorrectOnly,
    EachZScore,
    GroupMean,
    GroupZScore,
    Imitate,
    LeaveOneOut,
    ProcessZScore,
    PromptMean,
    SequenceMean,
    TokenMean,
    WhitenedReturns,
    generalized_advantage,
)
from research.types import length_mask

ROUNDING = 1e-6
"""A handful of float32 operations on numbers of size 1 to 3, 6e-8 each."""


def test_process_supervision_is_a_suffix_sum():
    """arXiv:2402.03300 §4.1.3: normalized step rewards +1 at token 3 and −0.5 at token 6 give 0.5 ×3, then −0.5 ×3."""
    # Two more steps in the other completion bring the group's mean to 0 and its population deviation to 1, so that
    # normalizing changes nothing: x + y = −0.5 and x² + y² = 4 − 1.25.
    x, y = (-0.5 + sqrt(5.25)) / 2, (-0.5 - sqrt(5.25)) / 2
    values = ProcessZScore(ddof=0, eps=0.0)(
        step_rewards=tensor([[0.0, 0.0, 1.0, 0.0, 0.0, -0.5], [x, y, 0.0, 0.0, 0.0, 0.0]]),
        step_ends=tensor([[False, False, True, False, False, True], [True, True, False, False, False, False]]),
        lengths=tensor([[6, 2]]),
        mask=length_mask(tensor([6, 2])),
    )
    assert values[0].tolist() == pytest.approx([0.5] * 3 + [-0.5] * 3, abs=ROUNDING)
    assert values[1].tolist() == pytest.approx([-0.5, y, 0.0, 0.0, 0.0, 0.0], abs=ROUNDING)


@pytest.mark.parametrize("ddof", [0, 1])
def test_one_step_at_the_last_token_is_outcome_supervision(ddof: int):
    """arXiv:2402.03300 §4.1.2 and §4.1.3 agree there; a group of equal rewards included."""
    rewards = tensor([[1.0, 0.0, 0.25], [0.7, 0.7, 0.7]])
    lengths = tensor([[3, 1, 2], [4, 2, 1]])
    mask = length_mask(lengths.flatten())
    ends = torch.arange(4)[None, :] == lengths.reshape(-1, 1) - 1
    process = ProcessZScore(ddof=ddof)(
        step_rewards=rewards.reshape(-1, 1) * ends, step_ends=ends, lengths=lengths, mask=mask
    )
    torch.testing.assert_close(
        process, GroupZScore(ddof=ddof)(rewards=rewards, mask=mask), rtol=ROUNDING, atol=ROUNDING
    )


@pytest.mark.parametrize("reward", [1.0, -1.0, 0.3])
def test_gae_without_a_critic_is_the_terminal_reward(reward: float):
    """arXiv:1506.02438: λ = γ = 1 and V = 0 give A_t = R at every token."""
    mask = length_mask(tensor([1, 4, 2]))
    nothing = torch.zeros(3, 4)
    values = GAE(gamma=1.0, lam=1.0, whiten=False)(
        rewards=torch.full((1, 3), reward), token_rewards=nothing, values=nothing, mask=mask
    )
    assert torch.equal(values, reward * mask)


def test_gae_by_hand():
    """arXiv:1506.02438 eq. 16, γ = 0.5, λ = 0.5, V = (1, 2, 4), R = 8.

    δ = (0.5·2 − 1, 0.5·4 − 2, 8 − 4) = (0, 0, 4); A = (4/16, 4/4, 4). Dyadic fractions: exact.
    """
    values = generalized_advantage(
        rewards=tensor([[8.0]]),
        token_rewards=torch.zeros(1, 3),
        values=tensor([[1.0, 2.0, 4.0]]),
        mask=torch.ones(1, 3, dtype=torch.bool),
        gamma=0.5,
        lam=0.5,
    )
    assert values.tolist() == [[0.25, 1.0, 4.0]]


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_a_right_critic_leaves_no_advantage(lam: float):
    """Values that are the rewards still to come, γ = 1: every δ is 0, whatever λ."""
    values = GAE(lam=lam, whiten=False)(
        rewards=tensor([[1.0]]),
        token_rewards=tensor([[0.5, 0.25, 0.0]]),
        values=tensor([[1.75, 1.25, 1.0]]),
        mask=torch.ones(1, 3, dtype=torch.bool),
    )
    assert torch.count_nonzero(values) == 0


def test_whitening_is_the_sample_variance_with_its_epsilon_under_the_root():
    """verl's masked whitening: rewards 1e-4 and 0 on one token each have the variance 5e-9, below its ε of 1e-8."""
    mask = torch.ones(2, 1, dtype=torch.bool)
    expected = 5e-5 / sqrt(5e-9 + 1e-8)
    nothing = torch.zeros(2, 1)
    rewards = tensor([[1e-4, 0.0]])
    for values in (
        GAE(whiten=True)(rewards=rewards, token_rewards=nothing, values=nothing, mask=mask),
        BatchWhitened(baseline="none", weighting="tokens")(rewards=rewards, mask=mask),
        BatchWhitened(baseline="group", weighting="completions")(rewards=rewards, mask=mask),
        WhitenedReturns()(rewards=rewards, token_rewards=nothing, mask=mask),
    ):
        assert values[:, 0].tolist() == pytest.approx([expected, -expected], rel=1e-5)


def test_reinforce_plus_plus_with_a_kl_of_tokens():
    """arXiv:2501.03262, reward-to-go, γ = 1: penalties −0.5, −0.5 on a completion worth 2, a single token worth 0.5.

    Returns 1, 1.5 and 0.5: mean 1, sample variance 0.25.
    """
    values = WhitenedReturns()(
        rewards=tensor([[2.0, 0.5]]),
        token_rewards=tensor([[-0.5, -0.5], [0.0, 3.0]]),  # the last is on padding
        mask=length_mask(tensor([2, 1])),
    )
    assert values.tolist()[0] == pytest.approx([0.0, 1.0], abs=ROUNDING)
    assert values.tolist()[1] == pytest.approx([-1.0, 0.0], abs=ROUNDING)


def test_reinforce_plus_plus_baseline_weighs_completions_or_tokens():
    """arXiv:2501.03262 and verl's reading of it, rewards 1 and 0 in one group, on 1 and 3 tokens.

    Over completions: ±0.5, sample variance 0.5, so ±0.7071. Over tokens: 0.5 once and −0.5 three times, mean −0.25,
    sample variance 0.75/3, so 0.75/0.5 = 1.5 and −0.25/0.5 = −0.5.
    """
    mask, rewards = length_mask(tensor([1, 3])), tensor([[1.0, 0.0]])
    completions = BatchWhitened(baseline="group", weighting="completions")(rewards=rewards, mask=mask)
    assert completions[:, 0].tolist() == pytest.approx([0.70711, -0.70711], abs=1e-5)
    tokens = BatchWhitened(baseline="group", weighting="tokens")(rewards=rewards, mask=mask)
    assert tokens[:, 0].tolist() == pytest.approx([1.5, -0.5], abs=ROUNDING)


def test_lite_ppo_scales_by_the_batch():
    """arXiv:2508.08221: rewards (1, 0) and (4, 3): ±0.5 over the deviation of 1, 0, 4, 3, which is √(10/3) = 1.8257."""
    values = BatchScaled(ddof=1, eps=0.0)(rewards=tensor([[1.0, 0.0], [4.0, 3.0]]), mask=tensor([[True]] * 4))
    assert values[:, 0].tolist() == pytest.approx([0.27386, -0.27386] * 2, abs=1e-5)


def test_each_reward_by_itself_keeps_apart_what_a_sum_would_make_equal():
    """arXiv:2601.05242: one reward of two earned against both of two earned.

    Normalized in the group, the sums (1, 0) and (2, 0) are the same ±0.7071; normalized one by one they are ±0.7071 and
    ±1.4142, over the sample deviation of these four, √(5/3): ±0.5477 and ±1.0954.
    """
    columns = tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]])
    mask = torch.ones(4, 1, dtype=torch.bool)
    summed = GroupZScore(ddof=1, eps=0.0)(rewards=columns.sum(0), mask=mask)
    assert summed[:, 0].tolist() == pytest.approx([0.70711, -0.70711] * 2, abs=1e-5)
    apart = EachZScore(ddof=1, eps=0.0, column_weights=None)(columns=columns, mask=mask)
    assert apart[:, 0].tolist() == pytest.approx([0.54772, -0.54772, 1.09545, -1.09545], abs=1e-5)


def test_gradient_coefficients_of_imitation():
    """arXiv:2402.03300, table 10: 1 for supervised fine-tuning, 1[right] for RFT, offline and online."""
    mask = length_mask(tensor([2, 1, 3]))
    assert torch.equal(Imitate()(mask=mask), mask.float())
    assert CorrectOnly()(right=tensor([[True, False, True]]), mask=mask).tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("advantage", [GroupMean(), LeaveOneOut(), BatchScaled(eps=0.0)], ids=repr)
def test_scales_of_one_group_are_proportional(advantage):
    """arXiv:2503.20783, appendix A, and arXiv:2508.08221 in a batch of one group: the centred reward times a number."""
    rewards, mask = tensor([[3.0, 1.0, 0.0, 0.0]]), torch.ones(4, 1, dtype=torch.bool)
    values = advantage(rewards=rewards, mask=mask)[:, 0]
    assert (values / values[0]).tolist() == pytest.approx([1.0, 0.0, -0.5, -0.5], abs=ROUNDING)


def test_prompt_mean_is_between_the_others():
    """arXiv:2510.13786: over prompts, then over all tokens of one; of one prompt it is the token mean, of one
    completion a prompt the sequence mean."""
    lengths = tensor([1, 3, 2, 2])
    mask = length_mask(lengths)
    for grouping, expected in (
        (lengths.reshape(1, 4), TokenMean()(mask=mask)),
        (lengths.reshape(4, 1), SequenceMean()(mask=mask)),
        (lengths.reshape(2, 2), mask / 8),  # four tokens a prompt, two prompts
    ):
        # One float32 division or two.
        torch.testing.assert_close(PromptMean()(mask=mask, lengths=grouping), expected, rtol=2e-7, atol=0.0)
