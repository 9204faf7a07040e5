"""The relatives of the token ratio, the clip, k3 and the fixed bonus: numbers to check by hand, and what is refused."""

import re
from dataclasses import dataclass
from math import exp, log
from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import Bool, Float
from torch import Tensor, tensor

from research.credit import Advantage, Credit, GroupMean, TokenMean
from research.objective import (
    K1,
    K2,
    K3,
    AdaptiveEntropyBonus,
    Clip,
    ClippedWeight,
    DualClip,
    DynamicClip,
    GeometricClip,
    ImportanceWeightedK3,
    LogLikelihood,
    MeanTokenRatio,
    NoBonus,
    NoKL,
    NoRatio,
    Objective,
    OffPolicyMask,
    Ratio,
    SequenceRatio,
    SequenceTokenRatio,
    SigmoidGate,
    Surrogate,
    TokenRatio,
    TopCovarianceKL,
    Unclipped,
)
from research.training.legality import fault

# Ratios ---------------------------------------------------------------------------------------------------------------

MASK = tensor([[True, True, False], [True, True, True]])
# Log-ratios of ln 4 and 0; of 0, ln 8 and 0. Noise on padding.
OLD = tensor([[-9.0, -2.0, -1.0], [-1.0, -9.0, -3.0]])
NOW = OLD + tensor([[log(4.0), 0.0, 50.0], [0.0, log(8.0), 0.0]])


@pytest.mark.parametrize(
    ("ratio", "first", "second"),
    [
        pytest.param(SequenceRatio(), 2.0, 2.0, id="roots: √4 and ∛8"),
        pytest.param(SequenceTokenRatio(), 2.0, 2.0, id="the same in value"),
        pytest.param(MeanTokenRatio(), 2.5, 10 / 3, id="means: 5/2 and 10/3"),
    ],
)
def test_ratio_of_a_completion(ratio, first: float, second: float):
    values = ratio(logprobs=NOW, old_logprobs=OLD, mask=MASK)
    assert values[0, :2].tolist() == pytest.approx([first] * 2, rel=2e-6)  # float32 differences near −9
    assert values[1].tolist() == pytest.approx([second] * 3, rel=2e-6)


@pytest.mark.parametrize(
    ("ratio", "slopes"),
    [
        pytest.param(SequenceRatio(), [1.0, 1.0, 0.0], id="s/|o| on both tokens, whichever is asked"),
        pytest.param(SequenceTokenRatio(), [2.0, 0.0, 0.0], id="s on the token that is asked"),
        pytest.param(MeanTokenRatio(), [2.0, 0.5, 0.0], id="ρ/|o|: 4/2 and 1/2"),
    ],
)
def test_slope_of_the_first_tokens_ratio(ratio, slopes: list[float]):
    now = NOW.clone().requires_grad_()
    ratio(logprobs=now, old_logprobs=OLD, mask=MASK)[0, 0].backward()
    assert now.grad is not None
    assert now.grad[0].tolist() == pytest.approx(slopes, rel=2e-6)  # float32
    assert torch.count_nonzero(now.grad[1]) == 0


@pytest.mark.parametrize("ratio", [SequenceRatio(), SequenceTokenRatio(), MeanTokenRatio()], ids=repr)
def test_ratio_of_a_completion_is_clamped_and_ignores_what_is_on_padding(ratio):
    now, mask = tensor([[-1.0, float("nan")], [-200.0, -1.0]]), tensor([[True, False], [True, True]])
    old = tensor([[-400.0, float("nan")], [-1.0, -1.0]])
    values = ratio(logprobs=now, old_logprobs=old, mask=mask)
    assert values[0, 0].item() == pytest.approx(exp(20.0), rel=1e-6)  # float32
    low = {SequenceRatio: exp(-20.0), SequenceTokenRatio: exp(-20.0), MeanTokenRatio: 0.5}[type(ratio)]
    assert values[1].tolist() == pytest.approx([low] * 2, rel=1e-6)


# Surrogates -----------------------------------------------------------------------------------------------------------


def gain_and_slope(surrogate, ratio: float, advantage: float, **more: Tensor) -> tuple[float, float]:
    rho = tensor([[ratio]], requires_grad=True)
    value = surrogate(ratio=rho, advantages=tensor([[advantage]]), **more)
    value.sum().backward()
    assert rho.grad is not None
    return value.item(), rho.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "slope"),
    [
        pytest.param(2.5, -1.0, -2.5, -1.0, id="A < 0, below c: as the clip"),
        pytest.param(5.0, -1.0, -3.0, 0.0, id="A < 0, above c: bounded, no gradient"),
        pytest.param(0.5, -1.0, -0.8, 0.0, id="A < 0, below the clip: as the clip"),
        pytest.param(5.0, 1.0, 1.2, 0.0, id="A > 0: as the clip"),
        pytest.param(0.5, 2.0, 1.0, 2.0, id="A > 0, below the clip: as the clip"),
        pytest.param(5.0, 0.0, 0.0, 0.0, id="A = 0"),
    ],
)
def test_dual_clip(ratio: float, advantage: float, gain: float, slope: float):
    values = gain_and_slope(DualClip(eps_low=0.2, eps_high=0.2, c=3.0), ratio, advantage)
    assert values == pytest.approx((gain, slope), rel=1e-6)  # float32


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "slope"),
    [
        pytest.param(1.3, 1.0, 1.25, 0.0, id="A > 0, above 1.25: clipped"),
        pytest.param(1.2, 1.0, 1.2, 1.0, id="A > 0, below 1.25"),
        pytest.param(0.4, -1.0, -0.5, 0.0, id="A < 0, below 0.5: clipped"),
        pytest.param(0.6, -1.0, -0.6, -1.0, id="A < 0, above 0.5"),
        pytest.param(9.0, 0.0, 0.0, 0.0, id="A = 0"),
    ],
)
def test_dynamic_clip_of_a_token_of_probability_sixty_four_hundredths(ratio, advantage, gain, slope):
    """1 − 4·0.16/0.64 = 0 and 1 + 4·0.2/0.64 = 2.25: the bounds are 0.5 and 0.5 + 1.5/2."""
    values = gain_and_slope(DynamicClip(), ratio, advantage, old_logprobs=tensor([[log(0.64)]]))
    assert values == pytest.approx((gain, slope), rel=1e-6)  # float32


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "slope"),
    [
        pytest.param(1.0, 1.0, 2.0, 1.0, id="on policy: 4/τ·½ and 4·½·½"),
        pytest.param(1.0, -1.0, -1.0, -1.0, id="on policy, the other temperature"),
        # σ(1) = 0.731059: 4·σ = 2.924234 and 4·σ(1 − σ) = 0.786448.
        pytest.param(2.0, 1.0, 2.924234, 0.786448, id="A > 0, τ (ρ − 1) = 1"),
        # σ(2) = 0.880797: 2·σ = 1.761594 and 4·σ(1 − σ) = 0.419974.
        pytest.param(2.0, -1.0, -1.761594, -0.419974, id="A < 0, τ (ρ − 1) = 2"),
        pytest.param(1e8, 1.0, 4.0, 0.0, id="far away: no gradient"),
        pytest.param(2.0, 0.0, 0.0, 0.0, id="A = 0"),
    ],
)
def test_sigmoid_gate(ratio: float, advantage: float, gain: float, slope: float):
    values = gain_and_slope(SigmoidGate(tau_positive=1.0, tau_negative=2.0), ratio, advantage)
    assert values == pytest.approx((gain, slope), abs=1e-6)  # six decimals


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "slope"),
    [
        pytest.param(9.0, 1.0, -10.0, 5.0, id="above the cap: 5·log π, and a gradient of 5"),
        pytest.param(0.1, -1.0, 1.0, -0.5, id="below the floor: 0.5·log π, and a gradient of −0.5"),
        pytest.param(2.0, 3.0, -12.0, 6.0, id="within"),
        pytest.param(9.0, 0.0, 0.0, 0.0, id="A = 0"),
    ],
)
def test_clipped_weight(ratio: float, advantage: float, gain: float, slope: float):
    """The ratio is read without its gradient; the slope is that in log π = −2."""
    logprobs, rho = tensor([[-2.0]], requires_grad=True), tensor([[ratio]], requires_grad=True)
    value = ClippedWeight(floor=0.5, cap=5.0)(ratio=rho, advantages=tensor([[advantage]]), logprobs=logprobs)
    value.backward()
    assert rho.grad is None
    assert logprobs.grad is not None
    assert (value.item(), logprobs.grad.item()) == (gain, slope)


@pytest.mark.parametrize(
    ("advantage", "gain", "slopes"),
    [
        # ln ρ = (1, −1, 0): clipped to (0.5, −1, 0) the mean is −1/6; the first token is clipped.
        pytest.param(1.0, exp(-1 / 6), [0, 1, 1], id="A > 0: the risen token is clipped"),
        # Clipped to (1, −0.5, 0) the mean is 1/6; the second is.
        pytest.param(-2.0, -2 * exp(1 / 6), [1, 0, 1], id="A < 0: the fallen token is clipped"),
        pytest.param(0.0, 0.0, [0, 0, 0], id="A = 0"),
    ],
)
def test_geometric_clip(advantage: float, gain: float, slopes: list[float]):
    """Of three tokens and one of padding; the slope in log ρ is the gain over |o|, where a token is not clipped."""
    log_ratio = tensor([[1.0, -1.0, 0.0, 7.0]], requires_grad=True)
    mask = tensor([[True, True, True, False]])
    values = GeometricClip(log_bound=0.5)(ratio=log_ratio.exp(), advantages=advantage * mask, mask=mask)
    assert values[0].tolist() == pytest.approx([gain] * 3 + [0.0], rel=1e-6)  # float32
    values[0, 0].backward()
    assert log_ratio.grad is not None
    assert log_ratio.grad[0].tolist() == pytest.approx([gain / 3 * slope for slope in [*slopes, 0]], rel=1e-6)


# Gates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fall", "advantage", "gate"),
    [
        pytest.param(0.6, -1.0, 0.0, id="A < 0 and far: shut"),
        pytest.param(0.4, -1.0, 1.0, id="A < 0 and near: open"),
        pytest.param(-9.0, -1.0, 1.0, id="A < 0 and risen: open"),
        pytest.param(9.0, 1.0, 1.0, id="A > 0: open"),
        pytest.param(9.0, 0.0, 1.0, id="A = 0: open"),
    ],
)
def test_off_policy_mask(fall: float, advantage: float, gate: float):
    """By the mean over both tokens, one of which has not moved; padding is in no mean."""
    now = tensor([[-1.0 - 2 * fall, -1.0, -99.0]], requires_grad=True)
    mask = tensor([[True, True, False]])
    values = OffPolicyMask(delta=0.5)(
        logprobs=now, old_logprobs=torch.full((1, 3), -1.0), advantages=advantage * mask, mask=mask
    )
    assert values[0, :2].tolist() == [gate] * 2
    assert not values.requires_grad


def test_a_shut_gate_takes_the_gain_and_leaves_the_penalty():
    objective = Objective(
        ratio=TokenRatio(), surrogate=Unclipped(), gates=[OffPolicyMask(delta=0.5)], kl=K2(beta=1.0), entropy=NoBonus()
    )
    terms = objective(
        {
            "logprobs": tensor([[-3.0]]),
            "old_logprobs": tensor([[-1.0]]),
            "ref_logprobs": tensor([[-1.0]]),
            "advantages": tensor([[-1.0]]),
            "mask": tensor([[True]]),
            "weights": tensor([[1.0]]),
            "coefficients": tensor([[1.0]]),
        }
    )
    assert terms.loss.item() == 2.0  # the penalty, (−2)²/2


# Penalties ------------------------------------------------------------------------------------------------------------


def penalty_and_slope(kl, now: float, old: float, ref: float) -> tuple[float, float]:
    leaf = tensor([[now]], requires_grad=True)
    quantities = {"logprobs": leaf, "old_logprobs": tensor([[old]]), "ref_logprobs": tensor([[ref]])}
    value = kl(**{name: quantities[name] for name in kl.needs()})
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad.item()


@pytest.mark.parametrize(
    ("kl", "value", "slope"),
    [
        # At log(π_θ/π_ref) = 1 and ρ = 2; β = 0.5. k3 = 1/e − 1 + 1 = 0.367879, its slope 1 − 1/e = 0.632121.
        pytest.param(K1(beta=0.5, gradient="value"), 0.5, 0.5, id="k1, its own slope: β"),
        pytest.param(K1(beta=0.5, gradient="kl"), 0.5, 1.0, id="k1, the divergence's: β·ρ·1"),
        pytest.param(K2(beta=0.5), 0.25, 0.5, id="k2: β·1²/2 and β·1"),
        pytest.param(K3(beta=0.5, gradient="value"), 0.183940, 0.316060, id="k3, its own slope"),
        pytest.param(K3(beta=0.5, gradient="kl"), 0.183940, 1.0, id="k3, the divergence's: β·ρ·1"),
        pytest.param(ImportanceWeightedK3(beta=0.5), 0.367879, 1.0, id="ρ·k3: β·ρ·k3 and β·ρ·1"),
    ],
)
def test_penalty_off_policy(kl, value: float, slope: float):
    values = penalty_and_slope(kl, now=-1.0, old=-1.0 - log(2.0), ref=-2.0)
    assert values == pytest.approx((value, slope), abs=1e-6)  # six decimals


@pytest.mark.parametrize("apart", [100.0, -100.0])
@pytest.mark.parametrize(
    "kl",
    [K1(beta=1.0, gradient="kl"), K2(beta=1.0), K3(beta=1.0, gradient="kl"), ImportanceWeightedK3(beta=1.0)],
    ids=repr,
)
def test_penalty_stays_finite(kl, apart: float):
    for old, ref in ((-1.0, -1.0 - apart), (-1.0 - apart, -1.0), (-1.0 - apart, -1.0 - apart)):
        assert all(map(torch.isfinite, tensor(penalty_and_slope(kl, now=-1.0, old=old, ref=ref))))


def test_top_covariance_kl_is_of_the_first_ranks_only():
    """Ranks 0, 0.2, 0.4, … of five tokens: the top two fifths, and 1 on padding."""
    now = tensor([[-1.0, -3.0, -1.0, -2.0, -2.0, -9.0]], requires_grad=True)
    rank = tensor([[0.2, 0.0, 0.4, 0.6, 0.8, 1.0]])
    penalty = TopCovarianceKL(beta=0.5, fraction=0.4)
    values = penalty(logprobs=now, old_logprobs=torch.full((1, 6), -2.0), covariance_rank=rank)
    assert values.tolist() == [[0.5, 0.5, 0.0, 0.0, 0.0, 0.0]]
    values.sum().backward()
    assert now.grad is not None
    assert now.grad.tolist() == [[0.5, -0.5, 0.0, 0.0, 0.0, 0.0]]
    assert TopCovarianceKL.needs() == {"logprobs", "old_logprobs", "covariance_rank"}  # and no reference


# Bonuses --------------------------------------------------------------------------------------------------------------


def test_adaptive_bonus_rises_below_the_target_and_waits_above_it():
    bonus = AdaptiveEntropyBonus(target=0.25, step=0.25, initial=0.5, largest=1.0)
    coefficient, seen = bonus.start, []
    for entropy in (0.1, 0.25, 0.2, 0.3, 0.9, 0.2, 0.9, 0.9, 0.9, 0.9, 0.1):
        coefficient = bonus.adapt(coefficient, entropy)
        given = bonus(entropies=tensor([[2.0]]), entropy_coefficient=tensor(coefficient))
        seen.append((abs(coefficient), given.item()))
    assert seen == [
        (0.75, 1.5),  # below the target: raised, and applied
        (1.0, 2.0),  # at the target
        (1.0, 2.0),  # at the bound
        (0.75, 0.0),  # above the target: lowered, and off
        (0.5, 0.0),
        (0.75, 1.5),  # below again: it goes on from where it was
        (0.5, 0.0),
        (0.25, 0.0),
        (0.0, 0.0),
        (0.0, 0.0),  # never below 0
        (0.25, 0.5),
    ]


def test_a_fixed_bonus_starts_at_zero_and_adapts_nothing():
    assert NoBonus().start == 0.0
    assert NoBonus().adapt(0.0, 5.0) == 0.0


# What is refused ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OfTokens(Advantage):
    """One advantage a token, for this test."""

    per_completion: ClassVar[bool] = False

    def __call__(self, *, token_rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return token_rewards * mask


def objective(ratio: Ratio, surrogate: Surrogate) -> Objective:
    return Objective(ratio=ratio, surrogate=surrogate, gates=[], kl=NoKL(), entropy=NoBonus())


def why_not(advantage: Advantage, ratio: Ratio, surrogate: Surrogate) -> str | None:
    credit = Credit(advantage=advantage, weights=[], aggregate=TokenMean(), denominator="all")
    return fault(credit, objective(ratio, surrogate))


@pytest.mark.parametrize(
    ("ratio", "surrogate", "named"),
    [
        (SequenceRatio(), Clip(), "SequenceRatio"),
        (MeanTokenRatio(), DualClip(), "MeanTokenRatio"),
        (TokenRatio(), GeometricClip(), "GeometricClip"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_of_the_completion_needs_one_advantage_a_completion(ratio, surrogate, named: str):
    assert why_not(GroupMean(), ratio, surrogate) is None
    assert why_not(OfTokens(), ratio, surrogate) == (
        f"{named} is written for one advantage a completion, and OfTokens gives one a token: take a ratio and a "
        "surrogate of single tokens"
    )


@pytest.mark.parametrize("ratio", [TokenRatio(), SequenceTokenRatio()], ids=repr)
def test_what_is_of_tokens_takes_either_advantage(ratio: Ratio):
    assert why_not(OfTokens(), ratio, Clip()) is None
    assert why_not(GroupMean(), ratio, Clip()) is None


@pytest.mark.parametrize("ratio", [SequenceRatio(), SequenceTokenRatio(), MeanTokenRatio()], ids=repr)
@pytest.mark.parametrize("surrogate", [ClippedWeight(), GeometricClip(), DynamicClip()], ids=repr)
def test_what_is_written_for_token_ratios_takes_no_other(ratio: Ratio, surrogate: Surrogate):
    sentence = (
        f"objective: {type(surrogate).__name__} is written for the ratios of single tokens, not for "
        f"{type(ratio).__name__}: take TokenRatio"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        objective(ratio, surrogate)


@pytest.mark.parametrize("ratio", [SequenceRatio(), SequenceTokenRatio(), MeanTokenRatio(), TokenRatio()], ids=repr)
@pytest.mark.parametrize("surrogate", [Clip(), Unclipped(), DualClip(), SigmoidGate()], ids=repr)
def test_what_reads_any_ratio_takes_any(ratio: Ratio, surrogate: Surrogate):
    assert objective(ratio, surrogate).needs() >= ratio.needs()


@pytest.mark.parametrize(
    ("construct", "sentence"),
    [
        pytest.param(
            lambda: objective(NoRatio(), ClippedWeight()),
            "objective: ClippedWeight reads a ratio, and NoRatio gives none",
            id="no ratio to read",
        ),
        pytest.param(
            lambda: objective(SequenceRatio(), LogLikelihood()),
            "objective: LogLikelihood reads no ratio, so SequenceRatio would be ignored: take NoRatio",
            id="a ratio that is ignored",
        ),
        pytest.param(lambda: DualClip(eps_low=1.0), "DualClip: eps_low is in [0, 1), got 1.0", id="dual eps_low"),
        pytest.param(lambda: DualClip(eps_high=-0.1), "DualClip: eps_high is at least 0, got -0.1", id="dual eps_high"),
        pytest.param(
            lambda: DualClip(c=1.0),
            "DualClip: c is above 1, got 1.0; at 1 it would stop gradients on policy",
            id="dual c",
        ),
        pytest.param(
            lambda: DynamicClip(width_low=-0.1), "DynamicClip: width_low is at least 0, got -0.1", id="width_low"
        ),
        pytest.param(
            lambda: DynamicClip(width_high=-0.1), "DynamicClip: width_high is at least 0, got -0.1", id="width_high"
        ),
        pytest.param(lambda: DynamicClip(r_max=0.9), "DynamicClip: r_max is at least 1, got 0.9", id="r_max"),
        pytest.param(
            lambda: SigmoidGate(tau_positive=0.0), "SigmoidGate: tau_positive is above 0, got 0.0", id="tau_positive"
        ),
        pytest.param(
            lambda: SigmoidGate(tau_negative=-1.0), "SigmoidGate: tau_negative is above 0, got -1.0", id="tau_negative"
        ),
        pytest.param(
            lambda: ClippedWeight(cap=0.28), "ClippedWeight: cap is a ratio, at least 1, got 0.28", id="cap as an ε"
        ),
        pytest.param(lambda: ClippedWeight(floor=1.1), "ClippedWeight: floor is in [0, 1], got 1.1", id="floor"),
        pytest.param(
            lambda: GeometricClip(log_bound=0.0), "GeometricClip: log_bound is above 0, got 0.0", id="log_bound"
        ),
        pytest.param(
            lambda: OffPolicyMask(delta=0.0), "OffPolicyMask: delta is above 0 nats, got 0.0", id="gate's delta"
        ),
        pytest.param(
            lambda: K1(beta=0.0, gradient="kl"), "K1: beta is above 0, got 0.0; for no penalty use NoKL", id="k1"
        ),
        pytest.param(lambda: K2(beta=-1.0), "K2: beta is above 0, got -1.0; for no penalty use NoKL", id="k2"),
        pytest.param(
            lambda: ImportanceWeightedK3(beta=0.0),
            "ImportanceWeightedK3: beta is above 0, got 0.0; for no penalty use NoKL",
            id="weighted k3",
        ),
        pytest.param(
            lambda: TopCovarianceKL(beta=0.0),
            "TopCovarianceKL: beta is above 0, got 0.0; for no penalty use NoKL",
            id="covariance beta",
        ),
        pytest.param(
            lambda: TopCovarianceKL(beta=1.0, fraction=0.0),
            "TopCovarianceKL: fraction is in (0, 1], got 0.0",
            id="covariance fraction",
        ),
        pytest.param(
            lambda: AdaptiveEntropyBonus(target=0.0),
            "AdaptiveEntropyBonus: target is above 0 nats, got 0.0",
            id="target",
        ),
        pytest.param(
            lambda: AdaptiveEntropyBonus(target=0.2, step=0.0),
            "AdaptiveEntropyBonus: step is above 0, got 0.0; for none use EntropyBonus",
            id="step",
        ),
        pytest.param(
            lambda: AdaptiveEntropyBonus(target=0.2, largest=0.0),
            "AdaptiveEntropyBonus: largest is above 0, got 0.0",
            id="largest",
        ),
        pytest.param(
            lambda: AdaptiveEntropyBonus(target=0.2, initial=2.0),
            "AdaptiveEntropyBonus: initial is in [0, largest], got 2.0 with largest 1.0",
            id="initial",
        ),
    ],
)
def test_out_of_range_is_refused_in_one_sentence(construct: Any, sentence: str):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        construct()
