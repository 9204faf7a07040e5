"""Token weights that choose or weigh tokens: numbers to check by hand."""

import re
from math import exp, log

import pytest
import torch
from torch import tensor

from research.credit import (
    CovarianceBand,
    Credit,
    GroupMean,
    MaskedImportance,
    SkipConflicts,
    SkipHighEntropy,
    TokenMean,
    TopEntropy,
    TruncatedImportance,
)
from research.types import UpdateBatch, length_mask

TWO_AND_THREE = length_mask(tensor([2, 3]))
# Importances 2 and 0.5 of the first completion, 1, 1.5 and 3 of the second; noise on padding.
OLD = tensor([[log(2.0), log(0.5), 7.0], [0.0, log(1.5), log(3.0)]]) - 5.0
ROLLOUT = torch.full((2, 3), -5.0)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        pytest.param(TruncatedImportance(cap=2.0, level="token"), [[2.0, 0.5, 0.0], [1.0, 1.5, 2.0]], id="truncated"),
        pytest.param(TruncatedImportance(cap=1.0, level="token"), [[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]], id="cap 1"),
        # The products are 2·0.5 = 1 and 1·1.5·3 = 4.5.
        pytest.param(
            TruncatedImportance(cap=4.0, level="sequence"), [[1.0, 1.0, 0.0], [4.0, 4.0, 4.0]], id="truncated product"
        ),
        pytest.param(
            MaskedImportance(low=0.6, high=2.5, level="token"), [[2.0, 0.0, 0.0], [1.0, 1.5, 0.0]], id="masked"
        ),
        pytest.param(
            MaskedImportance(low=0.5, high=5.0, level="sequence"), [[1.0, 1.0, 0.0], [4.5, 4.5, 4.5]], id="product kept"
        ),
        pytest.param(
            MaskedImportance(low=0.5, high=2.0, level="sequence"), [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], id="product out"
        ),
    ],
)
def test_importance(weight, expected: list[list[float]]):
    values = weight(old_logprobs=OLD, rollout_logprobs=ROLLOUT, mask=TWO_AND_THREE)
    for row, wanted in zip(values.tolist(), expected, strict=True):
        assert row == pytest.approx(wanted, rel=2e-6)  # float32 logarithms near −5, up to three summed


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(("apart", "expected"), [(1e4, exp(20.0)), (-1e4, exp(-20.0)), (float("inf"), exp(20.0))])
def test_importance_stays_finite(level, apart: float, expected: float):
    weight = MaskedImportance(low=0.0, high=1e30, level=level)
    old, rollout, mask = torch.zeros(1, 2), tensor([[-apart, float("nan")]]), tensor([[True, False]])
    values = weight(old_logprobs=old, rollout_logprobs=rollout, mask=mask)
    assert values[0].tolist() == [pytest.approx(expected, rel=1e-6), 0.0]  # float32; nothing of the padding


def test_equal_policies_weigh_nothing():
    values = TruncatedImportance(cap=2.0, level="sequence")(old_logprobs=OLD, rollout_logprobs=OLD, mask=TWO_AND_THREE)
    assert values.tolist() == [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]


ENTROPIES = tensor([[0.3, 0.9, 99.0], [0.1, 0.5, 0.7]])


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        pytest.param(0.2, [[0, 1, 0], [0, 0, 0]], id="one of five"),
        pytest.param(0.21, [[0, 1, 0], [0, 0, 1]], id="a part of a token counts as one"),
        pytest.param(0.6, [[0, 1, 0], [0, 1, 1]], id="three of five, over the batch and not by completion"),
        pytest.param(1e-6, [[0, 1, 0], [0, 0, 0]], id="at least one"),
        pytest.param(1.0, [[1, 1, 0], [1, 1, 1]], id="all, but no padding"),
    ],
)
def test_top_entropy(fraction: float, expected: list[list[float]]):
    assert TopEntropy(fraction=fraction)(entropies=ENTROPIES, mask=TWO_AND_THREE).tolist() == expected


def test_top_entropy_keeps_all_that_tie_and_counts_a_hundredth_exactly():
    ties = TopEntropy(fraction=0.2)(entropies=tensor([[0.5, 0.5, 0.1, 0.1, 0.1]]), mask=torch.ones(1, 5).bool())
    assert ties.tolist() == [[1.0, 1.0, 0.0, 0.0, 0.0]]
    hundred = TopEntropy(fraction=0.07)(entropies=torch.arange(100.0)[None], mask=torch.ones(1, 100).bool())
    assert hundred.sum() == 7  # 0.07 · 100 is a little above 7 in floating point


def test_nothing_that_counts_gives_zero_weights():
    nothing, zeros = torch.zeros(2, 3, dtype=torch.bool), [[0.0] * 3] * 2
    assert TopEntropy(fraction=0.2)(entropies=ENTROPIES, mask=nothing).tolist() == zeros
    assert SkipHighEntropy()(entropies=ENTROPIES, mask=nothing).tolist() == zeros
    band = CovarianceBand(low=0.0, high=1.0)
    assert band(covariances=ENTROPIES, uniform=ENTROPIES, mask=nothing).tolist() == zeros


COVARIANCES = tensor([[0.5, 1.0, 2.0, 3.0, 5.0, 5.1]])
UNIFORM = tensor([[0.0, 0.4, 0.3, 0.2, 0.1, 0.0]])


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        pytest.param(2e-4, [[1, 1, 1, 1, 0, 1]], id="at least one: the smallest draw of the four eligible"),
        pytest.param(0.34, [[1, 1, 1, 0, 0, 1]], id="two of six"),
        pytest.param(0.5, [[1, 1, 0, 0, 0, 1]], id="three of six"),
        pytest.param(1.0, [[1, 0, 0, 0, 0, 1]], id="all eligible, and no more"),
    ],
)
def test_covariance_band(share: float, expected: list[list[float]]):
    band = CovarianceBand(share=share, low=1.0, high=5.0)
    assert band(covariances=COVARIANCES, uniform=UNIFORM, mask=torch.ones(1, 6).bool()).tolist() == expected


def test_covariance_band_chooses_none_where_none_is_eligible_and_none_of_the_padding():
    band, mask = CovarianceBand(share=1.0, low=5.2, high=9.0), torch.ones(1, 6).bool()
    assert band(covariances=COVARIANCES, uniform=UNIFORM, mask=mask).tolist() == [[1.0] * 6]
    mask[0, 4:] = False
    band = CovarianceBand(share=0.25, low=1.0, high=5.0)
    assert band(covariances=COVARIANCES, uniform=UNIFORM, mask=mask).tolist() == [[1, 1, 1, 0, 0, 0]]


def test_covariances_come_from_the_old_logprobs():
    credit = Credit(
        advantage=GroupMean(), weights=[CovarianceBand(low=1.0, high=5.0)], aggregate=TokenMean(), denominator="all"
    )
    assert credit.needs() == {"rewards", "mask", "uniform", "old_logprobs"}
    # log π − mean = ±2, Â − mean = ±1: the covariances are 2, −2, −2, 2, so only the first and last are eligible.
    batch = UpdateBatch(
        input_ids=torch.zeros(2, 3, dtype=torch.long),
        prompt_lengths=tensor([1, 1]),
        lengths=tensor([2, 2]),
        quantities={
            "mask": torch.ones(2, 2).bool(),
            "rewards": tensor([[2.0, 0.0]]),
            "old_logprobs": tensor([[-1.0, -5.0], [-1.0, -5.0]]),
            "uniform": tensor([[0.9, 0.1], [0.1, 0.8]]),
        },
    )
    assert credit(batch)["weights"].tolist() == [[1.0, 1.0], [1.0, 0.0]]


def conflicts(signs: list[float], ids: list[list[int]], lengths: list[list[int]]) -> list[list[float]]:
    counts = tensor(lengths).flatten()
    mask = length_mask(counts)
    return SkipConflicts(amplify=3.0)(
        advantages=tensor(signs, dtype=torch.float32)[:, None] * mask,
        token_ids=tensor(ids),
        lengths=tensor(lengths),
        mask=mask,
    ).tolist()


@pytest.mark.parametrize(
    ("signs", "ids", "lengths", "expected"),
    [
        pytest.param([1, -1], [[7, 8], [7, 9]], [[2, 2]], [[3, 1], [0, 1]], id="the first token"),
        pytest.param([1, -1], [[7, 8], [8, 7]], [[2, 2]], [[1, 1], [1, 1]], id="the same tokens elsewhere"),
        pytest.param([1, 1], [[7, 8], [7, 8]], [[2, 2]], [[1, 1], [1, 1]], id="both rewarded"),
        pytest.param([0, -1], [[7, 8], [7, 8]], [[2, 2]], [[1, 1], [1, 1]], id="no sign, no conflict"),
        pytest.param([1, -1], [[0, 0], [0, 0]], [[2, 1]], [[3, 1], [0, 0]], id="padding has the token 0 too"),
        pytest.param([1, -1, 1, -1], [[7], [8], [8], [7]], [[1, 1], [1, 1]], [[1], [1], [1], [1]], id="another group"),
        pytest.param([1, -1, -1], [[7], [7], [7]], [[1, 1, 1]], [[3], [0], [0]], id="one against two"),
        pytest.param([1, -2, 0.5], [[7], [8], [8]], [[1, 1, 1]], [[1], [0], [3]], id="the second against the third"),
    ],
)
def test_skip_conflicts(signs, ids, lengths, expected):
    assert conflicts(signs, ids, lengths) == expected


@pytest.mark.parametrize(("limit", "expected"), [(log(2), [[1, 1, 0], [1, 1, 1]]), (0.5, [[0, 0, 0], [1, 1, 1]])])
def test_skip_high_entropy(limit: float, expected: list[list[float]]):
    """The means are 0.6 and 0.43; the padding's 99 is in neither."""
    assert SkipHighEntropy(limit=limit)(entropies=ENTROPIES, mask=TWO_AND_THREE).tolist() == expected


def test_the_limit_is_the_natural_logarithm_of_two():
    assert SkipHighEntropy().limit == log(2)


@pytest.mark.parametrize(
    ("construct", "sentence"),
    [
        pytest.param(
            lambda: TruncatedImportance(cap=0.9, level="token"),
            "TruncatedImportance: cap is a ratio, at least 1, got 0.9",
            id="cap below 1",
        ),
        pytest.param(
            lambda: MaskedImportance(low=1.1, high=2.0, level="token"),
            "MaskedImportance: low is in [0, 1] and high at least 1, got 1.1 and 2.0",
            id="low above 1",
        ),
        pytest.param(
            lambda: MaskedImportance(low=0.5, high=0.9, level="token"),
            "MaskedImportance: low is in [0, 1] and high at least 1, got 0.5 and 0.9",
            id="high below 1",
        ),
        pytest.param(lambda: TopEntropy(fraction=0.0), "TopEntropy: fraction is in (0, 1], got 0.0", id="fraction 0"),
        pytest.param(lambda: TopEntropy(fraction=1.1), "TopEntropy: fraction is in (0, 1], got 1.1", id="fraction"),
        pytest.param(
            lambda: CovarianceBand(share=0.0, low=1.0, high=5.0),
            "CovarianceBand: share is in (0, 1], got 0.0",
            id="share",
        ),
        pytest.param(
            lambda: CovarianceBand(low=5.0, high=1.0),
            "CovarianceBand: low is at most high, got 5.0 and 1.0",
            id="band",
        ),
        pytest.param(
            lambda: SkipConflicts(amplify=0.5), "SkipConflicts: amplify is at least 1, got 0.5", id="amplify below 1"
        ),
        pytest.param(
            lambda: SkipHighEntropy(limit=0.0), "SkipHighEntropy: limit is above 0 nats, got 0.0", id="limit 0"
        ),
        pytest.param(
            lambda: Credit(
                advantage=GroupMean(),
                weights=[
                    TruncatedImportance(cap=2.0, level="token"),
                    MaskedImportance(low=0.5, high=2.0, level="token"),
                ],
                aggregate=TokenMean(),
                denominator="all",
            ),
            "credit.weights: TruncatedImportance and MaskedImportance would both multiply by the importance: take one",
            id="importance twice",
        ),
    ],
)
def test_out_of_range_is_refused_in_one_sentence(construct, sentence: str):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        construct()
