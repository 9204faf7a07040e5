"""Numbers and identities that the papers state of ratios, surrogates, penalties and token weights."""

from math import exp, log

import pytest
import torch
from torch import tensor

from research.credit import Credit, GroupMean, SequenceMean, TokenMean, TopEntropy
from research.objective import (
    K1,
    K2,
    K3,
    Clip,
    ClippedWeight,
    DynamicClip,
    GeometricClip,
    ImportanceWeightedK3,
    MeanTokenRatio,
    SequenceRatio,
    SequenceTokenRatio,
    TokenRatio,
)
from research.types import UpdateBatch, length_mask

# The ratios 1.10, 0.95, 1.30, 0.90 of one completion: arXiv:2507.18071, worked by hand. The product is 1.22265, its
# fourth root 1.0515 (GSPO); the mean is 4.25/4 = 1.0625 (GRPO-S, arXiv:2508.04349 eq. 11).
RATIOS = [1.10, 0.95, 1.30, 0.90]


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(SequenceRatio(), 1.0515), (SequenceTokenRatio(), 1.0515), (MeanTokenRatio(), 1.0625)],
    ids=lambda value: type(value).__name__,
)
def test_ratio_of_a_completion(ratio, expected: float):
    now, old = tensor([[log(r) - 1.0 for r in RATIOS]]), torch.full((1, 4), -1.0)
    values = ratio(logprobs=now, old_logprobs=old, mask=torch.ones(1, 4, dtype=torch.bool))
    assert values.tolist() == [pytest.approx([expected] * 4, abs=5e-5)]  # half a unit of the fourth decimal


def gains_gradient(ratio, surrogate, now: torch.Tensor, old: torch.Tensor, mask, advantages) -> torch.Tensor:
    """∂/∂ log π of the mean over completions of the mean over their tokens."""
    leaf = now.clone().requires_grad_()
    rho = ratio(logprobs=leaf, old_logprobs=old, mask=mask)
    gains = surrogate(ratio=rho, advantages=advantages)
    (SequenceMean()(mask=mask) * gains).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def test_both_forms_of_gspo_have_one_gradient_while_a_completion_has_one_advantage():
    """arXiv:2507.18071: TRL differentiates the sequence ratio, verl the token form."""
    generator = torch.Generator().manual_seed(0)
    mask = length_mask(tensor([3, 1, 4, 2]))
    old = -3 * torch.rand(mask.shape, generator=generator)
    now = old + tensor([[1e-3], [1e-3], [-1e-3], [1e-3]]) + 1e-4 * torch.randn(mask.shape, generator=generator)
    advantages = tensor([[1.0], [-1.0], [0.5], [-0.5]]) * mask
    clip = Clip(eps_low=3e-4, eps_high=4e-4)
    both = [gains_gradient(form, clip, now, old, mask, advantages) for form in (SequenceRatio(), SequenceTokenRatio())]
    assert [bool(row.any()) for row in both[0]] == [False, True, True, True]  # the first has risen: it is clipped
    torch.testing.assert_close(*both, rtol=1e-5, atol=1e-8)  # some ten float32 operations in another order
    # The form decides once a completion's tokens differ in their advantage: half of the first one's has none.
    advantages[0, 1:] = 0.0
    sequence = gains_gradient(SequenceRatio(), clip, old, old, mask, advantages)
    token = gains_gradient(SequenceTokenRatio(), clip, old, old, mask, advantages)
    assert sequence[0].tolist() == pytest.approx([1 / 36, 1 / 36, 1 / 36, 0.0])  # a third of 1/(4·3) on each
    assert token[0].tolist() == pytest.approx([1 / 12, 0.0, 0.0, 0.0])


def test_geometric_clip_is_the_sequence_ratio_where_nothing_is_clipped_and_one_sided_where_something_is():
    """arXiv:2507.20673: the range is (e^−0.4, e^0.4), bounded above where Â > 0 and below where Â < 0."""
    mask = torch.ones(1, 4, dtype=torch.bool)
    clip = GeometricClip(log_bound=0.4)
    inside = clip(ratio=tensor([RATIOS]), advantages=torch.ones(1, 4), mask=mask)
    assert inside.tolist() == [pytest.approx([1.0515] * 4, abs=5e-5)]  # half a unit of the fourth decimal
    far = tensor([[exp(2.0), exp(-2.0), 1.0, 1.0]])
    # Â > 0: (0.4 − 2 + 0 + 0)/4 = −0.4. Â < 0: (2 − 0.4 + 0 + 0)/4 = 0.4.
    up = clip(ratio=far, advantages=torch.ones(1, 4), mask=mask)
    assert up.tolist() == [pytest.approx([exp(-0.4)] * 4, rel=1e-6)]  # float32
    down = clip(ratio=far, advantages=-torch.ones(1, 4), mask=mask)
    assert down.tolist() == [pytest.approx([-exp(0.4)] * 4, rel=1e-6)]


@pytest.mark.parametrize(
    ("q", "low", "high"),
    [
        # arXiv:2509.02333 with ε_low = 0.16, ε_high = 0.20, r_max = 10, by hand.
        pytest.param(1.0, 0.8, 0.5 + 0.5 * 1.8**0.5, id="q = 1: √0.36 = 0.6, √1.8"),
        pytest.param(0.64, 0.5, 1.25, id="q = 0.64: 1 − 4·0.16/0.64 = 0, √2.25 = 1.5"),
        pytest.param(0.1, 0.5, 2.0, id="q = 0.1: below the root's zero, √9 = 3"),
        pytest.param(1e-3, 0.5, 10.0, id="q = 0.001: √801 = 28.3 is capped at 10"),
        pytest.param(exp(-100), 0.5, 10.0, id="q = e^-100"),
    ],
)
def test_dynamic_bounds(q: float, low: float, high: float):
    surrogate = DynamicClip()
    ratio, old = tensor([[1e-6, 1e6]]), tensor([[log(q)] * 2])
    gains = surrogate(ratio=ratio, advantages=tensor([[-1.0, 1.0]]), old_logprobs=old)
    assert gains.tolist() == [pytest.approx([-low, high], rel=2e-6)]  # ten float32 roundings, a root among them


@pytest.mark.parametrize("rho", [0.2, 1.0, 4.0, 5.0, 100.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_clipped_weight_keeps_the_gradient_of_a_clipped_token(rho: float, advantage: float):
    """arXiv:2506.13585: sg(clip(ρ)) Â ∇ log π, where the clipped surrogate has none."""
    logprobs = tensor([[-2.0]], requires_grad=True)
    surrogate = ClippedWeight(floor=0.0, cap=5.0)
    surrogate(ratio=tensor([[rho]]), advantages=tensor([[advantage]]), logprobs=logprobs).backward()
    assert logprobs.grad is not None
    assert logprobs.grad.item() == pytest.approx(min(rho, 5.0) * advantage, rel=1e-6)  # float32


# The penalties of three actions, π = (0.5, 0.3, 0.2), π_ref = (0.2, 0.2, 0.6), π_old = (0.1, 0.6, 0.3).
POLICY, REFERENCE, OLD = (tensor(p, dtype=torch.float64) for p in ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.6, 0.3]))


def expected_penalty(kl, sampled_from: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ_a p(a)·kl(a) and its gradient with respect to the logits, p being constant."""
    logits = POLICY.log().requires_grad_()
    quantities = {
        "logprobs": torch.log_softmax(logits, -1)[None],
        "old_logprobs": OLD.log()[None] if sampled_from is OLD else POLICY.log()[None],
        "ref_logprobs": REFERENCE.log()[None],
    }
    value = (sampled_from * kl(**{name: quantities[name] for name in kl.needs()})).sum()
    return value.detach(), torch.autograd.grad(value, logits)[0]


def divergence(of: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(π ‖ π_ref), or KL(`of` ‖ π), and its gradient, by automatic differentiation of the sum itself."""
    logits = POLICY.log().requires_grad_()
    log_policy = torch.log_softmax(logits, -1)
    forward = log_policy.exp() * (log_policy - REFERENCE.log()) if of is None else of * (of.log() - log_policy)
    return forward.sum().detach(), torch.autograd.grad(forward.sum(), logits)[0]


def test_values_of_the_estimators_on_policy():
    """k1 and k3 are unbiased; k2 is not."""
    true = divergence()[0]
    for kl in (K1(beta=1.0, gradient="kl"), K3(beta=1.0, gradient="value"), ImportanceWeightedK3(beta=1.0)):
        torch.testing.assert_close(expected_penalty(kl, POLICY)[0], true, rtol=1e-12, atol=0.0)  # float64
    assert abs(expected_penalty(K2(beta=1.0), POLICY)[0] - true) > 0.004


@pytest.mark.parametrize(
    "kl",
    [K1(beta=1.0, gradient="kl"), K2(beta=1.0), K3(beta=1.0, gradient="kl"), ImportanceWeightedK3(beta=1.0)],
    ids=repr,
)
def test_gradient_of_the_reverse_kl_on_policy(kl):
    torch.testing.assert_close(expected_penalty(kl, POLICY)[1], divergence()[1], rtol=1e-9, atol=1e-12)  # float64


@pytest.mark.parametrize(
    "kl", [K1(beta=1.0, gradient="kl"), K3(beta=1.0, gradient="kl"), ImportanceWeightedK3(beta=1.0)], ids=repr
)
def test_gradient_of_the_reverse_kl_off_policy(kl):
    """arXiv:2512.02556: the ratio makes it hold under the policy that sampled, too."""
    torch.testing.assert_close(expected_penalty(kl, OLD)[1], divergence()[1], rtol=1e-9, atol=1e-12)  # float64


def test_k1_as_a_value_holds_the_policy_to_nothing_and_k3_follows_the_forward_kl():
    gradient = expected_penalty(K1(beta=1.0, gradient="value"), POLICY)[1]
    torch.testing.assert_close(gradient, torch.zeros(3).double(), rtol=0.0, atol=1e-12)  # float64
    gradient = expected_penalty(K3(beta=1.0, gradient="value"), POLICY)[1]
    torch.testing.assert_close(gradient, divergence(of=REFERENCE)[1], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(gradient, divergence()[1], atol=0.01)


@pytest.mark.parametrize("d", [-1.0, -0.1, 0.0, 0.1, 1.0])
def test_k3_keeps_its_value_under_either_gradient(d: float):
    now = tensor([[-2.0]], requires_grad=True)
    values = [
        K3(beta=1.0, gradient=gradient)(logprobs=now, old_logprobs=now.detach(), ref_logprobs=tensor([[-2.0 + d]]))
        for gradient in ("value", "kl")
    ]
    assert values[0].item() == values[1].item()
    values[1].backward()
    assert now.grad is not None
    assert now.grad.item() == pytest.approx(-d, abs=3e-7)  # log(π_θ/π_ref), float32's rounding of −2 + d


def test_forking_tokens_count_five_times_as_much_where_the_kept_ones_are_the_denominator():
    """arXiv:2506.01939 divides by the kept fifth of the tokens, TRL by all of them."""
    lengths = tensor([5, 5])
    batch = UpdateBatch(
        input_ids=torch.zeros(2, 6, dtype=torch.long),
        prompt_lengths=tensor([1, 1]),
        lengths=lengths,
        quantities={
            "mask": length_mask(lengths),
            "rewards": tensor([[1.0, 0.0]]),
            "entropies": torch.arange(10.0).reshape(2, 5),
        },
    )
    kept, every = (
        Credit(advantage=GroupMean(), weights=[TopEntropy(fraction=0.2)], aggregate=TokenMean(), denominator=d)(batch)
        for d in ("kept", "all")
    )
    assert kept["weights"].tolist() == every["weights"].tolist() == [[0.0] * 5, [0.0, 0.0, 0.0, 1.0, 1.0]]
    assert (kept["coefficients"] * kept["weights"])[1, 3:].tolist() == [0.5, 0.5]
    assert (every["coefficients"] * every["weights"])[1, 3:].tolist() == pytest.approx([0.1, 0.1])


def test_mean_ratio_shares_the_gradient_by_ratio_and_the_geometric_one_evenly():
    """∂/∂ log π_t of the mean is ρ_t/|o|; of the geometric mean s/|o|: arXiv:2508.04349, arXiv:2507.18071."""
    old, mask = torch.full((1, 4), -1.0), torch.ones(1, 4, dtype=torch.bool)
    gradients = {}
    for ratio in (MeanTokenRatio(), SequenceRatio(), TokenRatio()):
        now = tensor([[log(r) - 1.0 for r in RATIOS]], requires_grad=True)
        quantities = {"logprobs": now, "old_logprobs": old, "mask": mask}
        values = ratio(**{name: quantities[name] for name in ratio.needs()})
        gradients[type(ratio)] = torch.autograd.grad(values.mean(), now)[0][0].tolist()
    assert gradients[MeanTokenRatio] == pytest.approx([r / 4 for r in RATIOS], rel=1e-6)  # float32
    assert gradients[TokenRatio] == pytest.approx([r / 4 for r in RATIOS], rel=1e-6)
    assert gradients[SequenceRatio] == pytest.approx([1.0515 / 4] * 4, abs=2e-5)  # four decimals of 1.0515
