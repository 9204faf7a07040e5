"""The objective of the rows of one micro-batch, and its loss."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from research.component import apply, needs_of
from research.objective.entropy import Entropy
from research.objective.kl import KL
from research.objective.ratio import Ratio
from research.objective.surrogate import Surrogate


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the objective is made of, per token [B T]."""

    ratio: Float[Tensor, "B T"]
    gain: Float[Tensor, "B T"]
    kl: Float[Tensor, "B T"]
    bonus: Float[Tensor, "B T"]
    loss: Float[Tensor, ""]
    """−J of these rows."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """J(θ) = Σ_{i,t} c_{i,t} [ w_{i,t} · s(ρ_{i,t}, Â_{i,t}) − kl_{i,t} + bonus_{i,t} ];  loss = −J."""

    ratio: Ratio
    """ρ: how far the policy has moved."""
    surrogate: Surrogate
    """s(ρ, Â): one token's gain."""
    kl: KL
    """The penalty that keeps the policy near the reference."""
    entropy: Entropy
    """The bonus that keeps the policy from collapsing."""

    def needs(self) -> frozenset[str]:
        """The quantities that the four slots name, but for `ratio`, which is computed here."""
        return needs_of([self.ratio, self.surrogate, self.kl, self.entropy]) - {"ratio"}

    def __call__(self, quantities: Mapping[str, Tensor]) -> Terms:
        """The terms of the rows whose quantities are given; `logprobs` (and `entropies`) carry the gradient."""
        ratio = apply(self.ratio, quantities)
        gain = apply(self.surrogate, {**quantities, "ratio": ratio})
        kl = apply(self.kl, quantities)
        bonus = apply(self.entropy, quantities)
        per_token = quantities["coefficients"] * (quantities["weights"] * gain - kl + bonus)
        return Terms(ratio=ratio, gain=gain, kl=kl, bonus=bonus, loss=-per_token.sum())
