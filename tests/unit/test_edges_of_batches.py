"""Batches at the edge of what credit and objective are defined for: one token, none, equal rewards, no ε."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, tensor

from research.catalogue import discover
from research.component import apply
from research.credit import (
    ConstantLength,
    CovarianceBand,
    Credit,
    EachZScore,
    GroupMean,
    MaskedImportance,
    PromptMean,
    SequenceMean,
    SkipConflicts,
    SkipHighEntropy,
    SkipTruncated,
    TokenMean,
    TokenWeight,
    TopEntropy,
    TruncatedImportance,
)
from research.types import UpdateBatch

ADVANTAGES = [entry for entry in discover() if entry.slot == "credit.Advantage"]


@pytest.mark.parametrize("aggregate", [TokenMean(), SequenceMean(), PromptMean(), ConstantLength(length=1)])
def test_one_token_has_the_whole_coefficient(aggregate):
    mask = tensor([[False, False], [True, False]])
    coefficients = apply(aggregate, {"mask": mask, "lengths": tensor([[0, 1]])})
    assert coefficients.tolist() == [[0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    "entry", [e for e in ADVANTAGES if "eps" in {field.name for field in e.fields}], ids=lambda entry: entry.name
)
@pytest.mark.parametrize("ddof", [0, 1])
def test_equal_rewards_without_epsilon_are_zero(entry, ddof: int):
    """Not 0/0. All right, so that shaped rewards are equal too."""
    settings: dict[str, Any] = {"eps": 0.0, "ddof": ddof}
    advantage = replace(entry.example(), **settings)
    mask, ones = torch.ones(4, 2, dtype=torch.bool), torch.ones(2, 2)
    quantities = {
        "mask": mask,
        "lengths": tensor([[2, 2], [2, 2]]),
        "right": ones.bool(),
        "outcomes": ones,
        "rewards": ones,
        "columns": torch.stack([ones, 0.7 * ones]),
        "entropies": torch.ones(4, 2),
        "step_ends": mask,
        "step_rewards": torch.ones(4, 2),
    }
    assert apply(advantage, quantities).tolist() == [[0.0, 0.0]] * 4


def test_no_column_weights_are_weights_of_one():
    """z = ±½/(½ + ½) = ±½ in the group; over the batch ±½/(½ + ½) again."""
    columns, mask = tensor([[[1.0, 0.0]]]), tensor([[True], [True]])
    for weights in (None, (1.0,)):
        each = EachZScore(ddof=0, eps=0.5, column_weights=weights)
        assert each(columns=columns, mask=mask).tolist() == [[0.5], [-0.5]]


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0, 1.0, 1.0)])
def test_as_many_column_weights_as_columns(weights: tuple[float, ...]):
    each = EachZScore(column_weights=weights)
    with pytest.raises(ValueError, match=rf"^EachZScore: {len(weights)} column_weights for 2 reward columns$"):
        each(columns=torch.zeros(2, 1, 2), mask=tensor([[True], [True]]))


def made(weights: list, denominator: Any = "all") -> Credit:
    return Credit(advantage=GroupMean(), weights=weights, aggregate=TokenMean(), denominator=denominator)


def test_one_importance_is_taken_and_two_are_refused():
    truncated = TruncatedImportance(cap=2.0, level="token")
    masked = MaskedImportance(low=0.5, high=2.0, level="token")
    assert made([truncated, SkipTruncated()]).needs() >= {"rollout_logprobs", "old_logprobs"}
    with pytest.raises(ValueError, match="TruncatedImportance and MaskedImportance would both multiply"):
        made([truncated, masked])


def test_credit_asks_for_what_its_parts_name_and_not_for_what_it_computes():
    assert made([]).needs() == {"rewards", "mask"}
    assert made([TopEntropy()]).needs() == {"rewards", "mask", "entropies"}
    band = CovarianceBand(low=1.0, high=5.0)
    assert made([band]).needs() == {"rewards", "mask", "uniform", "old_logprobs"}
    assert made([SkipConflicts(amplify=2.0)]).needs() == {"rewards", "mask", "token_ids", "lengths"}
    assert made([ByRank()]).needs() == {"rewards", "mask", "old_logprobs"}


class ByRank(TokenWeight):
    """A weight of the rank, as somebody may write it."""

    def __call__(self, *, covariance_rank: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return covariance_rank


@pytest.mark.parametrize("weights", [[], [SkipTruncated()]])
def test_weights_are_numbers(weights: list):
    """Also without a single one."""
    batch = UpdateBatch(
        input_ids=tensor([[0, 1], [0, 1]]),
        prompt_lengths=tensor([1, 1]),
        lengths=tensor([1, 1]),
        quantities={
            "rewards": tensor([[1.0, 0.0]]),
            "mask": tensor([[True], [True]]),
            "truncated": tensor([False, False]),
        },
    )
    found = made(weights)(batch)
    assert found["weights"].dtype == torch.float32
    assert found["weights"].tolist() == [[1.0], [1.0]]


def test_advantages_too_small_to_multiply_are_in_conflict():
    """1e-30 · −1e-30 is 0 in float32; their signs are not."""
    weights = SkipConflicts(amplify=2.0)(
        advantages=tensor([[1e-30], [-1e-30]]),
        token_ids=tensor([[7], [7]]),
        lengths=tensor([[1, 1]]),
        mask=tensor([[True], [True]]),
    )
    assert weights.tolist() == [[2.0], [0.0]]


def test_mean_entropy_at_its_limit_trains_and_is_taken_in_float32():
    """1 and its neighbour in bfloat16 have a mean of 1.0039; their sum in bfloat16 is 2."""
    mask = tensor([[True, True]])
    assert SkipHighEntropy(limit=0.5)(entropies=tensor([[0.25, 0.75]]), mask=mask).tolist() == [[1.0, 1.0]]
    neighbours = tensor([[1.0, 1.0078125]], dtype=torch.bfloat16)
    assert SkipHighEntropy(limit=1.002)(entropies=neighbours, mask=mask).tolist() == [[0.0, 0.0]]


def test_mean_entropies_are_clamped_as_nats_a_token():
    """Ĥ = 0.24 and 0.28 lie within the bounds, so the second right completion earns more; two values are ±1 apart."""
    example = next(entry for entry in ADVANTAGES if entry.name == "EntropyShapedSequences").example()
    settings: dict[str, Any] = {"entropy_clamp": (0.2, 0.28), "dead_groups": "keep", "ddof": 0, "eps": 0.0}
    advantage = replace(example, **settings)
    ones = tensor([[1.0, 1.0]])
    quantities = {
        "right": ones.bool(),
        "outcomes": ones,
        "rewards": ones,
        "entropies": tensor([[0.2, 0.28], [0.28, 0.28]]),
        "mask": torch.ones(2, 2, dtype=torch.bool),
    }
    found = apply(advantage, quantities)
    # Two values are one population deviation from their mean, in float32.
    assert found.flatten().tolist() == pytest.approx([-1.0, -1.0, 1.0, 1.0], rel=1e-5)
