"""The objective of the rows of one micro-batch, and its loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import apply, needs_of, require
from research.objective.entropy import Entropy, NoBonus
from research.objective.gates import Gate
from research.objective.kl import KL, NoKL
from research.objective.ratio import NoRatio, Ratio, TokenRatio
from research.objective.surrogate import Surrogate


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of the objective, per token [B T], and the loss."""

    ratio: Float[Tensor, "B T"]
    gain: Float[Tensor, "B T"]
    kl: Float[Tensor, "B T"]
    bonus: Float[Tensor, "B T"]
    loss: Float[Tensor, ""]
    """−J of these rows."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """J(θ) = Σ_{i,t} c_{i,t} [ w_{i,t} · g_{i,t} · s(ρ_{i,t}, Â_{i,t}) − kl_{i,t} + bonus_{i,t} ];  loss = −J."""

    ratio: Ratio
    """ρ: how far the policy has moved."""
    surrogate: Surrogate
    """s(ρ, Â): one token's gain."""
    gates: list[Gate]
    """g: which tokens gain at the policy now, multiplied; an empty list is 1."""
    kl: KL
    """The penalty that keeps the policy near the reference."""
    entropy: Entropy
    """The bonus that keeps the policy from collapsing."""

    def __post_init__(self) -> None:
        ratio, surrogate = type(self.ratio).__name__, type(self.surrogate).__name__
        if "ratio" in self.surrogate.needs():
            require(
                not isinstance(self.ratio, NoRatio), f"objective: {surrogate} reads a ratio, and NoRatio gives none"
            )
        else:
            require(
                isinstance(self.ratio, NoRatio),
                f"objective: {surrogate} reads no ratio, so {ratio} would be ignored: take NoRatio",
            )
        require(
            not self.surrogate.token_ratio_only or isinstance(self.ratio, TokenRatio),
            f"objective: {surrogate} is written for the ratios of single tokens, not for {ratio}: take TokenRatio",
        )

    @property
    def gain_only(self) -> bool:
        """True if a completion without advantage has no part in J: its gain is 0, and no penalty or bonus is added."""
        return isinstance(self.kl, NoKL) and isinstance(self.entropy, NoBonus)

    def needs(self) -> frozenset[str]:
        """The quantities that the five slots name, except `ratio`, which is computed here."""
        return needs_of([self.ratio, self.surrogate, *self.gates, self.kl, self.entropy]) - {"ratio"}

    def __call__(self, quantities: Mapping[str, Tensor]) -> Terms:
        """The terms of the rows whose quantities are given; `logprobs` (and `entropies`) carry the gradient."""
        ratio = apply(self.ratio, quantities)
        gain = apply(self.surrogate, {**quantities, "ratio": ratio})
        kl = apply(self.kl, quantities)
        bonus = apply(self.entropy, quantities)
        gate = prod((apply(g, quantities) for g in self.gates), start=torch.ones_like(gain))
        per_token = quantities["coefficients"] * (quantities["weights"] * gate * gain - kl + bonus)
        return Terms(ratio=ratio, gain=gain, kl=kl, bonus=bonus, loss=-per_token.sum())
