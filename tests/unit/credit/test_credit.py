"""Advantages, token weights and coefficients: numbers to check by hand."""

import re

import pytest
import torch
from torch import tensor

from research.credit import (
    ConstantLength,
    Credit,
    GroupMean,
    GroupZScore,
    LeaveOneOut,
    SequenceMean,
    SkipTruncated,
    TokenMean,
)
from research.types import UpdateBatch, length_mask

ONE_TOKEN_EACH = torch.ones(4, 1, dtype=torch.bool)
TWO_AND_FOUR = length_mask(tensor([2, 4]))


@pytest.mark.parametrize(
    ("advantage", "rewards", "expected"),
    [
        pytest.param(GroupMean(), [3.0, 1.0, 0.0, 0.0], [2.0, 0.0, -1.0, -1.0], id="mean 1"),
        # Squares 4 + 0 + 1 + 1 = 6: the deviation is √(6/4) over the population, √(6/3) = √2 over the sample.
        pytest.param(
            GroupZScore(ddof=0, eps=0.0), [3.0, 1.0, 0.0, 0.0], [1.63299, 0.0, -0.81650, -0.81650], id="population"
        ),
        pytest.param(
            GroupZScore(ddof=1, eps=0.0), [3.0, 1.0, 0.0, 0.0], [1.41421, 0.0, -0.70711, -0.70711], id="sample"
        ),
        # Deviation 1 (population), so ε = 1 halves everything: it is added to the deviation, not under the root.
        pytest.param(GroupZScore(ddof=0, eps=1.0), [2.0, 2.0, 0.0, 0.0], [0.5, 0.5, -0.5, -0.5], id="epsilon"),
        # The others' means are 1/3, 1, 4/3 and 4/3.
        pytest.param(LeaveOneOut(), [3.0, 1.0, 0.0, 0.0], [2.66667, 0.0, -1.33333, -1.33333], id="others"),
    ],
)
def test_advantage(advantage, rewards: list[float], expected: list[float]):
    values = advantage(rewards=tensor([rewards]), mask=ONE_TOKEN_EACH)
    assert values[:, 0].tolist() == pytest.approx(expected, abs=1e-5)  # five decimals are written above


def test_advantage_covers_every_token_of_a_completion_and_no_padding():
    mask = length_mask(tensor([1, 3]))
    assert GroupMean()(rewards=tensor([[1.0, 0.0]]), mask=mask).tolist() == [[0.5, 0.0, 0.0], [-0.5, -0.5, -0.5]]


def test_groups_do_not_see_each_other():
    rewards = tensor([[1.0, 0.0], [11.0, 10.0]])
    assert GroupMean()(rewards=rewards, mask=ONE_TOKEN_EACH)[:, 0].tolist() == [0.5, -0.5, 0.5, -0.5]


@pytest.mark.parametrize(
    ("aggregate", "short", "long"),
    [
        pytest.param(TokenMean(), 1 / 6, 1 / 6, id="token mean: 1/6"),
        pytest.param(SequenceMean(), 1 / 4, 1 / 8, id="sequence mean: 1/(2·2) and 1/(2·4)"),
        pytest.param(ConstantLength(length=10), 1 / 20, 1 / 20, id="constant length: 1/(2·10)"),
    ],
)
def test_coefficients_of_completions_of_two_and_four_tokens(aggregate, short: float, long: float):
    values = aggregate(mask=TWO_AND_FOUR)
    assert values[0].tolist() == pytest.approx([short, short, 0.0, 0.0], rel=1e-6)  # float32
    assert values[1].tolist() == pytest.approx([long] * 4, rel=1e-6)


@pytest.mark.parametrize("aggregate", [TokenMean(), SequenceMean(), ConstantLength(length=10)], ids=repr)
def test_nothing_that_counts_gives_zero_coefficients(aggregate):
    assert aggregate(mask=torch.zeros(2, 3, dtype=torch.bool)).tolist() == [[0.0] * 3] * 2


def test_skip_truncated_zeroes_the_completion_that_was_cut():
    weights = SkipTruncated()(mask=TWO_AND_FOUR, truncated=tensor([False, True]))
    assert weights.tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def batch(**quantities: torch.Tensor) -> UpdateBatch:
    """A group of two completions, of two and four tokens."""
    return UpdateBatch(
        input_ids=torch.zeros(2, 5, dtype=torch.long),
        prompt_lengths=tensor([1, 1]),
        lengths=tensor([2, 4]),
        quantities={"mask": TWO_AND_FOUR, "rewards": tensor([[1.0, 0.0]]), **quantities},
    )


@pytest.mark.parametrize(
    ("aggregate", "denominator", "short", "long"),
    [
        pytest.param(TokenMean(), "all", 1 / 6, 1 / 6, id="token mean over all: 1/6"),
        pytest.param(TokenMean(), "kept", 1 / 2, 0.0, id="token mean over kept: 1/2"),
        pytest.param(SequenceMean(), "all", 1 / 4, 1 / 8, id="sequence mean over all: 1/(2·2) and 1/(2·4)"),
        pytest.param(SequenceMean(), "kept", 1 / 2, 0.0, id="sequence mean over kept: 1/(1·2)"),
        pytest.param(ConstantLength(length=10), "all", 1 / 20, 1 / 20, id="constant length over all: 1/(2·10)"),
        pytest.param(ConstantLength(length=10), "kept", 1 / 10, 0.0, id="constant length over kept: 1/(1·10)"),
    ],
)
def test_denominator_with_the_long_completion_truncated(aggregate, denominator: str, short: float, long: float):
    credit = Credit(advantage=GroupMean(), weights=[SkipTruncated()], aggregate=aggregate, denominator=denominator)
    credited = credit(batch(truncated=tensor([False, True])))
    assert credited["weights"].tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0] * 4]
    assert credited["coefficients"][0].tolist() == pytest.approx([short, short, 0.0, 0.0], rel=1e-6)
    assert credited["coefficients"][1].tolist() == pytest.approx([long] * 4, rel=1e-6)


def test_no_weights_is_one_on_every_token_that_counts():
    credit = Credit(advantage=GroupMean(), weights=[], aggregate=TokenMean(), denominator="all")
    assert credit(batch())["weights"].tolist() == [[1.0, 1.0, 0.0, 0.0], [1.0] * 4]


def test_credit_asks_for_what_its_parts_name():
    credit = Credit(advantage=GroupMean(), weights=[SkipTruncated()], aggregate=TokenMean(), denominator="all")
    assert credit.needs() == {"rewards", "mask", "truncated"}


@pytest.mark.parametrize(
    ("construct", "sentence"),
    [
        pytest.param(lambda: GroupZScore(ddof=2), "GroupZScore: ddof is 0 or 1, got 2", id="ddof"),
        pytest.param(lambda: GroupZScore(eps=-1e-6), "GroupZScore: eps is at least 0, got -1e-06", id="eps"),
        pytest.param(
            lambda: ConstantLength(length=0), "ConstantLength: length is at least 1 token, got 0", id="length"
        ),
        pytest.param(
            lambda: GroupZScore(ddof=1)(rewards=tensor([[1.0]]), mask=tensor([[True]])),
            "GroupZScore: ddof=1 needs groups of at least 2 completions",
            id="group of one, sample deviation",
        ),
        pytest.param(
            lambda: LeaveOneOut()(rewards=tensor([[1.0]]), mask=tensor([[True]])),
            "LeaveOneOut: a baseline of the others needs groups of at least 2 completions, got 1",
            id="group of one, leave one out",
        ),
    ],
)
def test_out_of_range_is_refused_in_one_sentence(construct, sentence: str):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        construct()
