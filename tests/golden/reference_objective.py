"""Ratios, surrogates, gates, penalties and bonuses again, slowly: loops over float64 numbers (see `reference.py`)."""

from math import exp, log, sqrt

from reference import Table, each, mean

Mask = list[list[bool]]

BETAS = [{"beta": 0.04}, {"beta": 1.0}]


def counted(row: list[float], counts: list[bool]) -> list[float]:
    """The row without its padding."""
    kept = []
    for value, here in zip(row, counts, strict=True):
        if here:
            kept.append(value)
    return kept


def log_ratios(logprobs: Table, old_logprobs: Table) -> Table:
    return each(lambda now, old: log(exp(now) / exp(old)), logprobs, old_logprobs)


# Ratios --------------------------------------------------------------------------------------------------------------


def sequence_ratio(*, logprobs: Table, old_logprobs: Table, mask: Mask) -> Table:
    """arXiv:2507.18071: the |o|-th root of the product of the tokens' ratios."""
    table = []
    for now, old, counts in zip(logprobs, old_logprobs, mask, strict=True):
        product = 1.0
        for a, b in zip(counted(now, counts), counted(old, counts), strict=True):
            product *= exp(a) / exp(b)
        table.append([product ** (1.0 / len(counted(now, counts))) for _ in now])
    return table


def mean_token_ratio(*, logprobs: Table, old_logprobs: Table, mask: Mask) -> Table:
    """arXiv:2508.04349 eq. 11: the mean of the tokens' ratios."""
    table = []
    for now, old, counts in zip(logprobs, old_logprobs, mask, strict=True):
        ratios = [exp(a) / exp(b) for a, b in zip(counted(now, counts), counted(old, counts), strict=True)]
        table.append([mean(ratios) for _ in now])
    return table


# Surrogates ----------------------------------------------------------------------------------------------------------


def clipped_gain(rho: float, advantage: float, low: float, high: float) -> float:
    """The clipped surrogate of one token, by cases."""
    if advantage > 0 and rho > high:
        return high * advantage
    if advantage < 0 and rho < low:
        return low * advantage
    return rho * advantage


def dual_clip(*, ratio: Table, advantages: Table, eps_low: float, eps_high: float, c: float) -> Table:
    """arXiv:1912.09729: where Â < 0, a ratio above c counts as c."""

    def gain(rho: float, advantage: float) -> float:
        if advantage < 0 and rho > c:
            return c * advantage
        return clipped_gain(rho, advantage, 1 - eps_low, 1 + eps_high)

    return each(gain, ratio, advantages)


def dynamic_clip(
    *, ratio: Table, advantages: Table, old_logprobs: Table, width_low: float, width_high: float, r_max: float
) -> Table:
    """arXiv:2509.02333: the bounds solve |ρ − 1|·ρ·q ≤ ε, as roots of a quadratic in ρ."""

    def gain(rho: float, advantage: float, old: float) -> float:
        q = exp(old)
        below, above = 1 - 4 * width_low / q, 1 + 4 * width_high / q
        low = (1 + sqrt(below)) / 2 if below > 0 else 0.5
        high = (1 + sqrt(above)) / 2
        return clipped_gain(rho, advantage, low, high if high < r_max else r_max)

    return each(gain, ratio, advantages, old_logprobs)


def sigmoid_gate(*, ratio: Table, advantages: Table, tau_positive: float, tau_negative: float) -> Table:
    """arXiv:2511.20347: 4/τ · 1/(1 + exp(−τ(ρ − 1))) · Â."""

    def gain(rho: float, advantage: float) -> float:
        tau = tau_positive if advantage > 0 else tau_negative
        return 4.0 / tau / (1.0 + exp(-tau * (rho - 1.0))) * advantage

    return each(gain, ratio, advantages)


def clipped_weight(*, ratio: Table, advantages: Table, logprobs: Table, floor: float, cap: float) -> Table:
    """arXiv:2506.13585: clip(ρ) · Â · log π_θ."""

    def gain(rho: float, advantage: float, now: float) -> float:
        return sorted([floor, rho, cap])[1] * advantage * now

    return each(gain, ratio, advantages, logprobs)


def geometric_clip(*, ratio: Table, advantages: Table, mask: Mask, log_bound: float) -> Table:
    """arXiv:2507.20673 as the paper writes it, with both of its bounds and the smaller of clamped and not.

    Each token has an advantage of its own here, and the completion's mean is taken anew for it, by the sign of each.
    """
    table = []
    for ratios, credits, counts in zip(ratio, advantages, mask, strict=True):
        logs = []
        for rho, credit in zip(counted(ratios, counts), counted(credits, counts), strict=True):
            sign = 1.0 if credit > 0 else -1.0 if credit < 0 else 0.0
            x = sign * log(rho)
            logs.append(sign * min(x, max(-log_bound, min(log_bound, x))))
        table.append([credit * exp(mean(logs)) for credit in credits])
    return table


# Gates ---------------------------------------------------------------------------------------------------------------


def off_policy_mask(*, logprobs: Table, old_logprobs: Table, advantages: Table, mask: Mask, delta: float) -> Table:
    """arXiv:2512.02556 eq. 9: dropped if Â < 0 and the mean of log π_old/π_θ is above δ."""
    table = []
    for now, old, credits, counts in zip(logprobs, old_logprobs, advantages, mask, strict=True):
        fall = mean([b - a for a, b in zip(counted(now, counts), counted(old, counts), strict=True)])
        table.append([0.0 if credit < 0 and fall > delta else 1.0 for credit in credits])
    return table


# Penalties -----------------------------------------------------------------------------------------------------------


def k1(*, logprobs: Table, ref_logprobs: Table, beta: float, gradient: str) -> Table:
    """β log(π_θ/π_ref), whichever gradient it is given."""
    return each(lambda now, ref: beta * log(exp(now) / exp(ref)), logprobs, ref_logprobs)


def k2(*, logprobs: Table, ref_logprobs: Table, beta: float) -> Table:
    """β/2 log²(π_θ/π_ref)."""
    return each(lambda now, ref: beta * log(exp(now) / exp(ref)) ** 2 / 2, logprobs, ref_logprobs)


def importance_weighted_k3(*, logprobs: Table, old_logprobs: Table, ref_logprobs: Table, beta: float) -> Table:
    """arXiv:2512.02556: β ρ (π_ref/π_θ − log π_ref/π_θ − 1)."""

    def penalty(now: float, old: float, ref: float) -> float:
        quotient = exp(ref) / exp(now)
        return beta * exp(now) / exp(old) * (quotient - log(quotient) - 1)

    return each(penalty, logprobs, old_logprobs, ref_logprobs)


def top_covariance_kl(
    *, logprobs: Table, old_logprobs: Table, covariance_rank: Table, beta: float, fraction: float
) -> Table:
    """arXiv:2505.22617: β |Δ log π| on the top tokens by covariance."""
    moved = each(abs, log_ratios(logprobs, old_logprobs))
    return each(lambda d, rank: beta * d if rank < fraction else 0.0, moved, covariance_rank)


# Bonuses -------------------------------------------------------------------------------------------------------------


def adaptive_bonus(
    *, entropies: Table, entropy_coefficient: float, target: float, step: float, initial: float, largest: float
) -> Table:
    """arXiv:2505.22312: α H, once the coefficient has been adapted."""
    return each(lambda entropy: entropy_coefficient * entropy, entropies)


SLOW: dict = {
    "SequenceRatio": sequence_ratio,
    "SequenceTokenRatio": sequence_ratio,
    "MeanTokenRatio": mean_token_ratio,
    "DualClip": dual_clip,
    "DynamicClip": dynamic_clip,
    "SigmoidGate": sigmoid_gate,
    "ClippedWeight": clipped_weight,
    "GeometricClip": geometric_clip,
    "OffPolicyMask": off_policy_mask,
    "K1": k1,
    "K2": k2,
    "ImportanceWeightedK3": importance_weighted_k3,
    "TopCovarianceKL": top_covariance_kl,
    "AdaptiveEntropyBonus": adaptive_bonus,
}
"""One function a component, by the component's name."""
SETTINGS: dict[str, list[dict]] = {
    "DualClip": [{"eps_low": 0.2, "eps_high": 0.2, "c": 3.0}, {"eps_low": 0.1, "eps_high": 0.28, "c": 1.5}],
    "DynamicClip": [
        {"width_low": 0.16, "width_high": 0.2, "r_max": 10.0},
        {"width_low": 0.01, "width_high": 0.02, "r_max": 1.2},
    ],
    "SigmoidGate": [{"tau_positive": 1.0, "tau_negative": 1.05}, {"tau_positive": 4.0, "tau_negative": 0.5}],
    "ClippedWeight": [{"floor": 0.0, "cap": 5.0}, {"floor": 0.8, "cap": 1.2}],
    "GeometricClip": [{"log_bound": 0.4}, {"log_bound": 0.1}],
    "OffPolicyMask": [{"delta": 0.05}, {"delta": 0.5}],
    "K1": [{"beta": 0.04, "gradient": "value"}, {"beta": 1.0, "gradient": "kl"}],
    "K2": BETAS,
    "ImportanceWeightedK3": BETAS,
    "TopCovarianceKL": [{"beta": 1.0, "fraction": 2e-3}, {"beta": 0.1, "fraction": 0.4}],
    "AdaptiveEntropyBonus": [{"target": 0.2, "step": 0.005, "initial": 0.0, "largest": 1.0}],
}
"""The settings to compare at, by the component's name."""
