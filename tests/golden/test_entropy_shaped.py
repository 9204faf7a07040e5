"""GTPO and GRPO-S (arXiv:2508.04349 eqs. 3–6, 8 and 9) on one worked group, computed by hand from the equations.

G = 4 completions, the first two right; H = [[.5, 1, 2], [1.5, 1], [.5, 2], [1, .25, .5]] nats; α = β = (1, 0.1); ε = 0.
Places are (completion, token), from 0. Never regenerate these numbers with the package.
"""

import pytest
import torch
from torch import Tensor, tensor

from research.credit import EntropyShapedSequences, EntropyShapedTokens
from research.types import length_mask

RIGHT = tensor([[True, True, False, False]])
OUTCOMES = RIGHT.float()
MASK = length_mask(tensor([3, 2, 2, 3]))
ENTROPIES = tensor([[0.5, 1.0, 2.0], [1.5, 1.0, 7.0], [0.5, 2.0, 7.0], [1.0, 0.25, 0.5]])  # 7 is on padding
PRINTED = 5.1e-5
"""Half a unit of the fourth decimal, which is all that is printed below, and float32's rounding."""
POPULATION, SAMPLE = {"ddof": 0}, {"ddof": 1}

TOKENS = {
    "A population": (
        {"norm_set": "polarity", **POPULATION},
        [[-1.5811, 0.0, 0.0], [1.5811, 0.0], [-0.6228, 1.4533], [0.6228, -1.4533, 0.0]],
    ),
    "A sample": (
        {"norm_set": "polarity", **SAMPLE},
        [[-1.4142, 0.0, 0.0], [1.4142, 0.0], [-0.5571, 1.2999], [0.5571, -1.2999, 0.0]],
    ),
    "B population": (
        {"norm_set": "zero_filled", **POPULATION},
        [[0.9083, 0.9992, 0.9992], [1.09, 0.9992], [-1.0581, -0.8566], [-0.9372, -1.1387, -0.9976]],
    ),
    "B sample": (
        {"norm_set": "zero_filled", **SAMPLE},
        [[0.8617, 0.9479, 0.9479], [1.0341, 0.9479], [-1.0038, -0.8126], [-0.8891, -1.0803, -0.9464]],
    ),
    "C population": (
        {"norm_set": "pooled", **POPULATION},
        [[0.9538, 0.9992, 0.9992], [1.0446, 0.9992], [-1.0295, -0.9286], [-0.9689, -1.0699, -0.9992]],
    ),
    "C sample": (
        {"norm_set": "pooled", **SAMPLE},
        [[0.9048, 0.9479, 0.9479], [0.991, 0.9479], [-0.9767, -0.8809], [-0.9192, -1.015, -0.9479]],
    ),
}
SEQUENCES = {
    "A population": ({"norm_set": "polarity", **POPULATION}, [-1.0, 1.0, 1.0, -1.0]),
    "B population": ({"norm_set": "zero_filled", **POPULATION}, [0.9937, 1.0063, -0.9329, -1.065]),
    "B sample": ({"norm_set": "zero_filled", **SAMPLE}, [0.8606, 0.8714, -0.8079, -0.9223]),
    "C population": ({"norm_set": "pooled", **POPULATION}, [0.9966, 1.0029, -0.9667, -1.0328]),
    "C sample": ({"norm_set": "pooled", **SAMPLE}, [0.8631, 0.8685, -0.8372, -0.8944]),
}
SHAPED_TOKENS = [[1.05, 1.1, 1.1], [1.15, 1.1, 0.0], [-1.1333, -1.0222, 0.0], [-1.0667, -1.1778, -1.1]]
"""r̃+ and r̃−."""
SHAPED_SEQUENCES = [1.0966, 1.1034, -1.0636, -1.1364]
"""r̂+ and r̂−."""
MEAN_ENTROPIES = [1.1667, 1.25, 1.25, 0.5833]
"""Ĥ."""

READING = {
    "eps": 0.0,
    "entropy_clamp": None,
    "entropy_scope": "group",
    "norm_scope": "group",
    "norm_set": "zero_filled",
    "mean": "arithmetic",
    "shaping": "scaled",
    "dead_groups": "skip",
}
BOTH = pytest.mark.parametrize("made", [EntropyShapedTokens, EntropyShapedSequences])


def of(made: type, entropies: Tensor = ENTROPIES, right: Tensor = RIGHT, mask: Tensor = MASK, **settings) -> Tensor:
    """Advantages of one group, at the reading above but for `settings`."""
    return made(**READING | settings)(
        right=right, outcomes=right.float(), rewards=right.float(), entropies=entropies, mask=mask
    )


@pytest.mark.parametrize(("settings", "expected"), TOKENS.values(), ids=TOKENS)
def test_advantages_of_tokens(settings: dict, expected: list[list[float]]):
    values = of(EntropyShapedTokens, **settings)
    for row, numbers in zip(values.tolist(), expected, strict=True):
        assert row == pytest.approx([*numbers, 0.0][:3], abs=PRINTED)


@pytest.mark.parametrize(("settings", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_advantages_of_sequences(settings: dict, expected: list[float]):
    values = of(EntropyShapedSequences, **settings)
    assert values[:, 0].tolist() == pytest.approx(expected, abs=PRINTED)
    assert torch.equal(values, values[:, :1] * MASK)


# The shaped rewards, read back ----------------------------------------------------------------------------------------


def shaped(made: type, entropies: Tensor = ENTROPIES, mask: Tensor = MASK, **settings) -> Tensor:
    """The shaped rewards: pooled advantages are an affine map of them, which two known ones undo.

    Tokens get two completions more, each of one token in a column of its own: a wrong one worth −(α1 + α2) and a right
    one worth α1 + α2. Of two sequences of one polarity the mean is ±(α1 + α2) whatever their entropies.
    """
    alpha1, alpha2 = settings.get("alpha1", 1.0), settings.get("alpha2", 0.1)
    if made is EntropyShapedTokens:
        T = mask.shape[1]
        alone = torch.zeros(2, T + 2, dtype=torch.bool)
        alone[0, T] = alone[1, T + 1] = True
        mask = torch.cat([torch.nn.functional.pad(mask, (0, 2)), alone])
        entropies = torch.cat([torch.nn.functional.pad(entropies, (0, 2)), torch.ones(2, T + 2)])
        right = tensor([[True, True, False, False, False, True]])
        values = of(made, entropies, right, mask, **settings, norm_set="pooled")
        low, high = values[4, T], values[5, T + 1]
        values = values[:4, :T]
        mask = mask[:4, :T]
    else:
        values = of(made, entropies, RIGHT, mask, **settings, norm_set="pooled")[:, :1]
        high, low = values[:2].mean(), values[2:].mean()
        mask = mask[:, :1]
    worth = alpha1 + alpha2
    return ((values - low) / (high - low) * 2 * worth - worth) * mask


def test_shaped_rewards_of_tokens():
    torch.testing.assert_close(shaped(EntropyShapedTokens), tensor(SHAPED_TOKENS), atol=PRINTED, rtol=0.0)


def test_shaped_rewards_of_sequences():
    values = shaped(EntropyShapedSequences)[:, 0].tolist()
    assert values == pytest.approx(SHAPED_SEQUENCES, abs=PRINTED)


def test_mean_entropies_are_over_the_tokens_that_count():
    """A completion of one token with the printed Ĥ gets what the completion itself gets."""
    whole = of(EntropyShapedSequences)[:, 0]
    alone = of(EntropyShapedSequences, tensor(MEAN_ENTROPIES)[:, None], mask=torch.ones(4, 1, dtype=torch.bool))[:, 0]
    torch.testing.assert_close(whole, alone, atol=2 * PRINTED, rtol=0.0)


@pytest.mark.parametrize("alphas", [(1.0, 0.1), (0.9, 0.1), (1.0, 0.2), (0.3, 2.0)])
def test_column_sums(alphas: tuple[float, float]):
    """Prop. 2.2: Σ r̃+ = (α1 + α2) d_t, and as much below 0 for failures; d = (2, 2, 1), h = (2, 2, 1)."""
    values = shaped(EntropyShapedTokens, alpha1=alphas[0], alpha2=alphas[1])
    expected = sum(alphas) * tensor([2.0, 2.0, 1.0])
    # Sums of two float32 numbers that were scaled back from advantages.
    torch.testing.assert_close(values[:2].sum(0), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(values[2:].sum(0), -expected, rtol=1e-5, atol=1e-6)


def test_column_sums_of_the_worked_group():
    sums = shaped(EntropyShapedTokens)[:2].sum(0).tolist()
    assert sums == pytest.approx([2.2, 2.2, 1.1], abs=2 * PRINTED)


# What follows ---------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("norm_set", ["zero_filled", "pooled"])
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_uniform_entropies_are_group_relative_advantages(made: type, norm_set: str, mean: str):
    """Prop. 2.3: the shaping is then constant, and all right completions get the same."""
    entropies = torch.full_like(ENTROPIES, 0.7)
    values = of(made, entropies, norm_set=norm_set, mean=mean, **POPULATION)
    # 5 tokens (2 sequences) of each polarity: the deviation is half the distance of the two values, so ±1.
    expected = tensor([[1.0], [1.0], [-1.0], [-1.0]]) * MASK
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=0.0)  # one float32 rounding


@BOTH
def test_uniform_entropies_leave_nothing_within_one_polarity(made: type):
    assert torch.count_nonzero(of(made, torch.full_like(ENTROPIES, 0.7), norm_set="polarity")) == 0


@BOTH
@pytest.mark.parametrize("alphas", [(0.9, 0.1), (1.0, 0.2), (5.0, 3.0)])
def test_within_one_polarity_the_coefficients_cancel(made: type, alphas: tuple[float, float]):
    changed = of(made, norm_set="polarity", alpha1=alphas[0], alpha2=alphas[1])
    # Exact but for rounding; advantages of 0 are differences of float64 numbers near 1.
    torch.testing.assert_close(changed, of(made, norm_set="polarity"), rtol=1e-5, atol=1e-6)


@BOTH
@pytest.mark.parametrize("norm_set", ["zero_filled", "pooled"])
def test_otherwise_they_do_not(made: type, norm_set: str):
    assert not torch.allclose(of(made, norm_set=norm_set, alpha2=0.2), of(made, norm_set=norm_set), atol=1e-3)


def test_geometric_bonus_of_the_first_column():
    """Appendix C: H / √(0.5 · 1.5) = 0.57735 and 1.73205 for the right ones, and the inverse the same way for wrong."""
    values = shaped(EntropyShapedTokens, mean="geometric")[:, 0].tolist()
    # Wrong: 1/H = 2 and 1, √2 = 1.41421: 1.41421 and 0.70711.
    assert values == pytest.approx([1.057735, 1.173205, -1.141421, -1.070711], abs=1e-5)


@BOTH
def test_all_right_kept_is_noise_around_zero(made: type):
    """Ungated, a group without a wrong completion trains on differences of entropy alone."""
    right = torch.ones(1, 4, dtype=torch.bool)
    values = of(made, right=right, dead_groups="keep", norm_set="polarity")
    kept = values[MASK] if made is EntropyShapedTokens else values[:, 0]
    assert kept.sum().item() == pytest.approx(0.0, abs=1e-5)  # the sum of ten float32 numbers of size 1
    assert torch.count_nonzero(kept) > 0
    assert torch.count_nonzero(of(made, right=right)) == 0
