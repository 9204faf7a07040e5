"""Ratio, surrogate, KL, entropy bonus and the loss: numbers to check by hand."""

import re
from math import log

import pytest
import torch
from torch import tensor

from research.objective import K3, Clip, EntropyBonus, NoBonus, NoKL, Objective, TokenRatio


@pytest.mark.parametrize(
    ("logprob", "old_logprob", "expected"),
    [
        pytest.param(log(0.6), log(0.5), 1.2, id="0.6/0.5"),
        pytest.param(log(0.25), log(0.5), 0.5, id="0.25/0.5"),
        pytest.param(-1.0, -1.0, 1.0, id="on policy"),
        pytest.param(0.0, -30.0, 4.851652e8, id="clamped at e^20"),
        pytest.param(-30.0, 0.0, 2.061154e-9, id="clamped at e^-20"),
    ],
)
def test_token_ratio(logprob: float, old_logprob: float, expected: float):
    ratio = TokenRatio()(logprobs=tensor([[logprob]]), old_logprobs=tensor([[old_logprob]]))
    assert ratio.item() == pytest.approx(expected, rel=1e-6)  # float32


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "slope"),
    [
        pytest.param(1.5, 1.0, 1.28, 0.0, id="A > 0, above the upper bound: clipped at 1.28, no gradient"),
        pytest.param(0.5, 1.0, 0.5, 1.0, id="A > 0, below the lower bound: not clipped"),
        pytest.param(1.5, -1.0, -1.5, -1.0, id="A < 0, above the upper bound: not clipped"),
        pytest.param(0.5, -1.0, -0.8, 0.0, id="A < 0, below the lower bound: clipped at 0.8, no gradient"),
        pytest.param(1.2, 2.0, 2.4, 2.0, id="A > 0, within"),
        pytest.param(0.9, -2.0, -1.8, -2.0, id="A < 0, within"),
        pytest.param(1.0, 3.0, 3.0, 3.0, id="on policy: the whole gradient"),
        pytest.param(1.5, 0.0, 0.0, 0.0, id="A = 0"),
    ],
)
def test_clip(ratio: float, advantage: float, gain: float, slope: float):
    rho = tensor([[ratio]], requires_grad=True)
    value = Clip(eps_low=0.2, eps_high=0.28)(ratio=rho, advantages=tensor([[advantage]]))
    value.backward()
    assert value.item() == pytest.approx(gain, rel=1e-6)  # float32
    assert rho.grad.item() == pytest.approx(slope, rel=1e-6)


def test_clip_higher_moves_the_upper_bound_only():
    ratio, up, down = tensor([[1.5, 0.5]]), tensor([[1.0, 1.0]]), tensor([[-1.0, -1.0]])
    symmetric, higher = Clip(eps_low=0.2, eps_high=0.2), Clip(eps_low=0.2, eps_high=0.28)
    assert symmetric(ratio=ratio, advantages=up)[0, 0].item() == pytest.approx(1.2, rel=1e-6)
    assert higher(ratio=ratio, advantages=up)[0, 0].item() == pytest.approx(1.28, rel=1e-6)
    assert torch.equal(symmetric(ratio=ratio, advantages=down), higher(ratio=ratio, advantages=down))


@pytest.mark.parametrize(
    ("d", "expected"), [(-1.0, 0.367879), (-0.1, 0.004837), (0.0, 0.0), (0.1, 0.005171), (1.0, 0.718282)]
)
def test_k3_of_d_equal_to_log_ref_minus_log_policy(d: float, expected: float):
    """arXiv:2402.03300 eq. 4: e^d − d − 1."""
    now, ref = tensor([[-2.0]]), tensor([[-2.0 + d]])
    penalty = K3(beta=1.0, gradient="value")(logprobs=now, old_logprobs=now, ref_logprobs=ref)
    assert penalty.item() == pytest.approx(expected, abs=6e-7)  # six decimals, and float32's rounding of −2 + d
    assert K3(beta=0.5, gradient="value")(logprobs=now, old_logprobs=now, ref_logprobs=ref) == penalty / 2


@pytest.mark.parametrize(("d", "slope"), [(-1.0, 0.632121), (0.0, 0.0), (1.0, -1.718282), (30.0, 0.0), (-30.0, 0.0)])
def test_slope_of_k3_is_one_minus_the_quotient_and_zero_beyond_the_clamp(d: float, slope: float):
    logprobs = tensor([[-2.0]], requires_grad=True)
    penalty = K3(beta=1.0, gradient="value")
    penalty(logprobs=logprobs, old_logprobs=logprobs.detach(), ref_logprobs=tensor([[-2.0 + d]])).backward()
    assert logprobs.grad.item() == pytest.approx(slope, abs=2e-6)  # six decimals, in float32


def test_no_kl_and_no_bonus_are_zero_and_ask_for_no_model():
    logprobs = tensor([[-1.0, -2.0]])
    assert NoKL()(logprobs=logprobs).tolist() == [[0.0, 0.0]]
    assert NoBonus()(logprobs=logprobs).tolist() == [[0.0, 0.0]]
    assert NoKL.needs() | NoBonus.needs() == {"logprobs"}


def test_entropy_bonus_is_alpha_times_entropy():
    assert EntropyBonus(alpha=0.25)(entropies=tensor([[2.0, 0.0]])).tolist() == [[0.5, 0.0]]


def test_loss_is_minus_the_weighted_sum():
    """c [ w·gain − kl + bonus ]: 0.5·[2·1 − 0.7182818 + 0.5] + 0.25·[0·(−1) − 0 + 1] = 1.1408591."""
    objective = Objective(
        ratio=TokenRatio(),
        surrogate=Clip(),
        gates=[],
        kl=K3(beta=1.0, gradient="value"),
        entropy=EntropyBonus(alpha=0.5),
    )
    terms = objective(
        {
            "logprobs": tensor([[-1.0, -1.0]]),
            "old_logprobs": tensor([[-1.0, -1.0]]),
            "ref_logprobs": tensor([[0.0, -1.0]]),
            "entropies": tensor([[1.0, 2.0]]),
            "advantages": tensor([[1.0, -1.0]]),
            "weights": tensor([[2.0, 0.0]]),
            "coefficients": tensor([[0.5, 0.25]]),
        }
    )
    assert terms.gain.tolist() == [[1.0, -1.0]]
    assert terms.kl[0].tolist() == pytest.approx([0.7182818, 0.0], rel=1e-6)
    assert terms.bonus.tolist() == [[0.5, 1.0]]
    assert terms.loss.item() == pytest.approx(-1.1408591, rel=1e-6)  # float32


def test_objective_asks_for_what_its_parts_name_but_computes_the_ratio_itself():
    plain = Objective(ratio=TokenRatio(), surrogate=Clip(), gates=[], kl=NoKL(), entropy=NoBonus())
    assert plain.needs() == {"logprobs", "old_logprobs", "advantages"}
    whole = Objective(
        ratio=TokenRatio(),
        surrogate=Clip(),
        gates=[],
        kl=K3(beta=1.0, gradient="value"),
        entropy=EntropyBonus(alpha=1.0),
    )
    assert whole.needs() == plain.needs() | {"ref_logprobs", "entropies"}


@pytest.mark.parametrize(
    ("construct", "sentence"),
    [
        pytest.param(lambda: Clip(eps_low=-0.1), "Clip: eps_low is in [0, 1), got -0.1", id="eps_low below 0"),
        pytest.param(lambda: Clip(eps_low=1.0), "Clip: eps_low is in [0, 1), got 1.0", id="eps_low at 1"),
        pytest.param(lambda: Clip(eps_high=-0.1), "Clip: eps_high is at least 0, got -0.1", id="eps_high below 0"),
        pytest.param(
            lambda: K3(beta=0.0, gradient="value"), "K3: beta is above 0, got 0.0; for no penalty use NoKL", id="beta 0"
        ),
        pytest.param(
            lambda: EntropyBonus(alpha=-1.0),
            "EntropyBonus: alpha is above 0, got -1.0; for none use NoBonus",
            id="alpha",
        ),
    ],
)
def test_out_of_range_is_refused_in_one_sentence(construct, sentence: str):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        construct()
