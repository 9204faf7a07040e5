"""Advantages beyond a group's z-score, and the prompt average: numbers to check by hand, and what is refused."""

import re
from itertools import product

import pytest
import torch
from torch import Tensor, tensor

from research.credit import (
    GAE,
    BatchScaled,
    BatchWhitened,
    EachZScore,
    EntropyShapedSequences,
    EntropyShapedTokens,
    ProcessZScore,
    PromptMean,
    WhitenedReturns,
    generalized_advantage,
)
from research.credit.moments import z_scores
from research.types import length_mask

READING = {
    "ddof": 0,
    "eps": 0.0,
    "entropy_clamp": None,
    "entropy_scope": "group",
    "norm_scope": "group",
    "norm_set": "pooled",
    "mean": "arithmetic",
    "shaping": "scaled",
    "dead_groups": "skip",
}
SHAPED = [EntropyShapedTokens, EntropyShapedSequences]
BOTH = pytest.mark.parametrize("made", SHAPED)
ROUNDING = 1e-6
"""A handful of float32 operations on numbers of size 1."""


def one_token_each(
    made: type, right: list[list[bool]], entropies: list[float], terms: list[list[float]] | None = None, **settings
) -> Tensor:
    """Advantages [N G] of completions of one token, of which both classes say the same."""
    accepted = tensor(right)
    outcomes = accepted.float()
    rewards = outcomes if terms is None else outcomes + tensor(terms)
    values = made(**READING | settings)(
        right=accepted,
        outcomes=outcomes,
        rewards=rewards,
        entropies=tensor(entropies)[:, None],
        mask=torch.ones(accepted.numel(), 1, dtype=torch.bool),
    )
    return values.reshape(accepted.shape)


# Shaped by entropy ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("shaping", "expected"), [("scaled", 1.0), ("added", 2.0)])
def test_where_shaping_terms_enter(made: type, shaping: str, expected: float):
    """α1 = 0.5, α2 = 0: right completions earn 0.5, one of them with a term of −1 scaled to −0.5 or added as it is.

    Rewards (0.5, 0 or −0.5, −0.5): the drop from the first to the second over that from the first to the third.
    """
    values = one_token_each(
        made, [[True, True, False]], [1.0] * 3, [[0.0, -1.0, 0.0]], shaping=shaping, alpha1=0.5, alpha2=0.0
    )[0]
    drop = (values[0] - values[1]) / (values[0] - values[2])
    assert drop.item() == pytest.approx(expected / 2, abs=ROUNDING)


@BOTH
def test_without_shaping_terms_where_they_enter_does_not_matter(made: type):
    right, entropies = [[True, True, False]], [0.5, 1.5, 1.0]
    scaled = one_token_each(made, right, entropies, shaping="scaled", alpha1=0.5)
    assert torch.equal(scaled, one_token_each(made, right, entropies, shaping="added", alpha1=0.5))


@BOTH
def test_the_unsure_earn_more_when_right_and_lose_less_when_wrong(made: type):
    values = one_token_each(made, [[True, True, False, False]], [0.5, 1.5, 0.5, 1.5])[0].tolist()
    assert values[1] > values[0] > 0 > values[3] > values[2]


@BOTH
def test_clamped_entropies_are_all_the_same(made: type):
    values = one_token_each(made, [[True, True, False, False]], [0.5, 1.5, 3.0, 2.0], entropy_clamp=(0.2, 0.28))[0]
    assert values.tolist() == pytest.approx([1.0, 1.0, -1.0, -1.0], abs=ROUNDING)


@BOTH
@pytest.mark.parametrize("norm_set", ["polarity", "zero_filled", "pooled"])
@pytest.mark.parametrize("right", [[[True, False]], [[True, True]], [[False, False]], [[True, False], [False, False]]])
def test_nothing_is_ever_undefined(made: type, norm_set: str, right: list[list[bool]]):
    """No right ones, no wrong ones, one of each, no entropy and a lot of it, at every reading."""
    choices = product(("group", "batch"), ("arithmetic", "geometric"), ("skip", "keep"), (0, 1), (0.0, 1e-12, 30.0))
    for scope, mean, dead_groups, ddof, entropy in choices:
        settings = {"norm_set": norm_set, "mean": mean, "dead_groups": dead_groups, "ddof": ddof}
        entropies = [entropy, *[0.0] * (2 * len(right) - 1)]
        values = one_token_each(made, right, entropies, **settings, entropy_scope=scope, norm_scope=scope)
        assert torch.isfinite(values).all(), (settings, scope, entropy)


@BOTH
def test_floor_keeps_a_sure_mistake_from_taking_the_whole_bonus(made: type):
    """Of two mistakes, one at H ≈ 0: without a floor its 1/H is all of the column, with one of 1 half of it."""
    right, entropies = [[True, False, False]], [1.0, 0.0, 1.0]
    low = one_token_each(made, right, entropies, alpha1=0.0, alpha2=1.0, entropy_floor=1e-6)[0]
    # Shaped rewards 1, −2 and 0: the third is 2/3 of the way up.
    assert ((low[2] - low[1]) / (low[0] - low[1])).item() == pytest.approx(2 / 3, abs=1e-5)
    high = one_token_each(made, right, entropies, alpha1=0.0, alpha2=1.0, entropy_floor=1.0)[0]
    assert high[1] == high[2]


@BOTH
@pytest.mark.parametrize("scope", ["group", "batch"])
def test_a_skipped_group_is_out_of_every_sum(made: type, scope: str):
    alone = one_token_each(made, [[True, False]], [0.5, 1.0], entropy_scope=scope, norm_scope=scope)
    beside = one_token_each(
        made, [[True, False], [True, True]], [0.5, 1.0, 3.0, 2.0], entropy_scope=scope, norm_scope=scope
    )
    assert torch.equal(beside[:1], alone)
    assert torch.count_nonzero(beside[1]) == 0


@BOTH
def test_entropies_are_compared_in_the_group_or_in_the_batch(made: type):
    """One right completion a group: alone in its group it is average, in the batch it is not."""
    right, entropies = [[True, False], [True, False]], [0.5, 1.0, 1.5, 1.0]
    group = one_token_each(made, right, entropies, norm_scope="batch")
    assert group[0, 0] == group[1, 0]
    batch = one_token_each(made, right, entropies, norm_scope="batch", entropy_scope="batch")
    assert batch[1, 0] > batch[0, 0]


@BOTH
def test_shaped_rewards_are_normalized_in_the_group_or_in_the_batch(made: type):
    """Groups of 1 and of 2 right among three, α2 = 0: the batch has as many right as wrong, a group has not."""
    right = [[True, False, False], [True, True, False]]
    group = one_token_each(made, right, [1.0] * 6, alpha2=0.0)
    assert group.flatten().tolist() == pytest.approx(
        [1.41421, -0.70711, -0.70711, 0.70711, 0.70711, -1.41421], abs=1e-5
    )
    batch = one_token_each(made, right, [1.0] * 6, alpha2=0.0, norm_scope="batch")
    assert batch.flatten().tolist() == pytest.approx([1.0, -1.0, -1.0, 1.0, 1.0, -1.0], abs=ROUNDING)


def test_a_column_holds_only_completions_that_reach_it():
    """Right completions of 1 and 2 tokens: the second column has one token, whose bonus is then α2 whatever its H."""
    values = EntropyShapedTokens(**READING)(
        right=tensor([[True, True, False]]),
        outcomes=tensor([[1.0, 1.0, 0.0]]),
        rewards=tensor([[1.0, 1.0, 0.0]]),
        entropies=tensor([[1.0, 99.0], [1.0, 5.0], [1.0, 99.0]]),
        mask=length_mask(tensor([1, 2, 1])),
    )
    assert values[1, 0] == values[0, 0]
    assert values[1, 1] == values[1, 0]


@BOTH
def test_a_completion_without_tokens_is_in_no_sum(made: type):
    mask = tensor([[True], [True], [False]])
    values = made(**READING)(
        right=tensor([[True, False, False]]),
        outcomes=torch.zeros(1, 3),
        rewards=torch.zeros(1, 3),
        entropies=torch.ones(3, 1),
        mask=mask,
    )
    assert values.tolist() == [[1.0], [-1.0], [0.0]]


@BOTH
def test_only_the_gate_makes_it_centred(made: type):
    assert made(**READING).centred
    assert not made(**READING | {"dead_groups": "keep"}).centred
    assert made.per_completion == (made is EntropyShapedSequences)


def test_a_spread_of_rounding_is_none():
    """0.1 + 0.2 is not 0.3 in float64; dividing by their deviation would make ±1 of that."""
    values = tensor([[0.3, 0.1 + 0.2, 0.3]], dtype=torch.float64)
    assert values.min() < values.max()
    for eps in (0.0, 1e-6):
        assert z_scores(values, torch.ones(1, 3, dtype=torch.bool), (1,), ddof=0, eps=eps).tolist() == [[0.0] * 3]


# By the batch ---------------------------------------------------------------------------------------------------------


def test_whitening_without_a_baseline():
    """Rewards 3, 1, 1, 3: mean 2, sample variance 4/3."""
    values = BatchWhitened(baseline="none", weighting="completions")(
        rewards=tensor([[3.0, 1.0], [1.0, 3.0]]), mask=torch.ones(4, 1, dtype=torch.bool)
    )
    assert values[:, 0].tolist() == pytest.approx([0.86603, -0.86603, -0.86603, 0.86603], abs=1e-5)


@pytest.mark.parametrize("baseline", ["none", "group"])
@pytest.mark.parametrize("weighting", ["completions", "tokens"])
def test_a_batch_of_equal_rewards_is_exactly_zero(baseline: str, weighting: str):
    rewards, mask = torch.full((2, 7), 0.7), length_mask(torch.arange(1, 15))
    assert torch.count_nonzero(BatchWhitened(baseline=baseline, weighting=weighting)(rewards=rewards, mask=mask)) == 0


def test_which_whitening_is_centred():
    centred = {
        (baseline, weighting): BatchWhitened(baseline=baseline, weighting=weighting).centred
        for baseline in ("none", "group")
        for weighting in ("completions", "tokens")
    }
    assert [key for key, value in centred.items() if value] == [("group", "completions")]


def test_one_completion_is_whitened_to_nothing():
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert BatchWhitened(baseline="none", weighting="completions")(rewards=tensor([[3.0]]), mask=mask).item() == 0
    returns = WhitenedReturns()(rewards=tensor([[3.0]]), token_rewards=tensor([[0.0]]), mask=mask)
    assert returns.item() == 0


def test_weights_of_columns_outdo_each_other():
    """The columns disagree: +1 and −1 against −1 and +1, weighted 3 and 1 and scaled to a deviation of 1."""
    columns = tensor([[[10.0, 0.0]], [[0.0, 0.1]]])
    mask = torch.ones(2, 1, dtype=torch.bool)

    def of(weights: tuple[float, ...] | None) -> list[float]:
        return EachZScore(ddof=0, eps=0.0, column_weights=weights)(columns=columns, mask=mask)[:, 0].tolist()

    assert of((3.0, 1.0)) == pytest.approx([1.0, -1.0], abs=ROUNDING)
    assert of((1.0, 3.0)) == pytest.approx([-1.0, 1.0], abs=ROUNDING)
    assert of(None) == [0.0, 0.0]


# Steps, critic, prompts -----------------------------------------------------------------------------------------------


def test_steps_of_other_groups_and_of_padding_do_not_count():
    """Two groups of one completion: steps (2, 0) give (0, −1) and the other's (9, 5) the same."""
    ends = tensor([[True, True, True], [True, True, False]])
    values = ProcessZScore(ddof=0, eps=0.0)(
        step_rewards=tensor([[2.0, 0.0, 77.0], [9.0, 5.0, 0.0]]),
        step_ends=ends,
        lengths=tensor([[2], [2]]),
        mask=tensor([[True, True, False]] * 2),
    )
    assert values.tolist() == [[0.0, -1.0, 0.0], [0.0, -1.0, 0.0]]


def test_without_steps_there_is_no_advantage():
    nothing = torch.zeros(2, 3)
    values = ProcessZScore()(
        step_rewards=nothing, step_ends=nothing.bool(), lengths=tensor([[3, 3]]), mask=torch.ones(2, 3).bool()
    )
    assert torch.count_nonzero(values) == 0


def test_the_critic_sees_neither_padding_nor_what_comes_after_the_end():
    """V = 100 on padding, and a reward there; δ of the last token is R − V alone."""
    values = generalized_advantage(
        rewards=tensor([[1.0]]),
        token_rewards=tensor([[0.0, 0.0, 50.0]]),
        values=tensor([[0.5, 0.25, 100.0]]),
        mask=tensor([[True, True, False]]),
        gamma=1.0,
        lam=0.0,
    )
    assert values.tolist() == [[-0.25, 0.75, 0.0]]


def test_advantage_plus_value_is_what_is_still_to_come():
    """λ = γ = 1: the critic's target is the reward-to-go, whatever the critic said."""
    values = tensor([[0.3, -2.0, 5.0]])
    advantages = generalized_advantage(
        rewards=tensor([[1.0]]),
        token_rewards=tensor([[0.5, 0.25, 0.0]]),
        values=values,
        mask=torch.ones(1, 3, dtype=torch.bool),
        gamma=1.0,
        lam=1.0,
    )
    assert (advantages + values).tolist()[0] == pytest.approx([1.75, 1.25, 1.0], abs=ROUNDING)


def test_prompts_without_a_token_that_counts_are_not_counted():
    """Two tokens of the first prompt and none of the second: 1/2 each."""
    mask = tensor([[True, False], [True, False], [False, False], [False, False]])
    values = PromptMean()(mask=mask, lengths=tensor([[1, 2], [1, 1]]))
    assert values.tolist() == [[0.5, 0.0], [0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert torch.count_nonzero(PromptMean()(mask=torch.zeros_like(mask), lengths=tensor([[1, 2], [1, 1]]))) == 0


# Refusals -------------------------------------------------------------------------------------------------------------

ONE = {"mask": tensor([[True]])}
REFUSED = {
    **{
        f"{made.__name__} {settings}": (lambda made=made, settings=settings: made(**READING | settings), message)
        for made in SHAPED
        for settings, message in (
            ({"ddof": 2}, "ddof is 0 or 1, got 2"),
            ({"eps": -1.0}, "eps is at least 0, got -1.0"),
            ({"alpha1": -1.0}, "alpha1 is at least 0, got -1.0"),
            ({"alpha2": -1.0}, "alpha2 is at least 0, got -1.0"),
            ({"entropy_floor": 0.0}, "entropy_floor is above 0, got 0.0"),
            (
                {"entropy_clamp": (0.28, 0.2)},
                "entropy_clamp is null or two bounds above 0, the lower one first, got (0.28, 0.2)",
            ),
            (
                {"entropy_clamp": (0.0, 0.2)},
                "entropy_clamp is null or two bounds above 0, the lower one first, got (0.0, 0.2)",
            ),
        )
    },
    "BatchScaled ddof": (lambda: BatchScaled(ddof=2), "ddof is 0 or 1, got 2"),
    "BatchScaled eps": (lambda: BatchScaled(eps=-1.0), "eps is at least 0, got -1.0"),
    "BatchScaled of one": (
        lambda: BatchScaled()(rewards=tensor([[1.0]]), **ONE),
        "ddof=1 needs at least 2 completions, got 1",
    ),
    "EachZScore ddof": (lambda: EachZScore(ddof=2, column_weights=None), "ddof is 0 or 1, got 2"),
    "EachZScore eps": (lambda: EachZScore(eps=-1.0, column_weights=None), "eps is at least 0, got -1.0"),
    "EachZScore weights": (
        lambda: EachZScore(column_weights=(1.0, 2.0))(columns=tensor([[[1.0]]]), **ONE),
        "2 column_weights for 1 reward columns",
    ),
    "EachZScore of one": (
        lambda: EachZScore(column_weights=None)(columns=tensor([[[1.0]]]), **ONE),
        "ddof=1 needs groups of at least 2 completions",
    ),
    "ProcessZScore ddof": (lambda: ProcessZScore(ddof=2), "ddof is 0 or 1, got 2"),
    "ProcessZScore eps": (lambda: ProcessZScore(eps=-1.0), "eps is at least 0, got -1.0"),
    "GAE gamma": (lambda: GAE(gamma=1.5, whiten=True), "gamma is in [0, 1], got 1.5"),
    "GAE lam": (lambda: GAE(lam=-0.1, whiten=True), "lam is in [0, 1], got -0.1"),
}


@pytest.mark.parametrize(("name", "construct", "sentence"), [(name, *case) for name, case in REFUSED.items()])
def test_out_of_range_is_refused_in_one_sentence(name: str, construct, sentence: str):
    with pytest.raises(ValueError, match=f"^{name.split()[0]}: {re.escape(sentence)}$"):
        construct()
