"""Token weights that choose among the update batch's tokens: by entropy, or by their effect on the entropy."""

from dataclasses import dataclass
from math import ceil, inf

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import require
from research.credit.weights import TokenWeight


@dataclass(frozen=True, kw_only=True)
class TopEntropy(TokenWeight):
    """Forking tokens: only the tokens at which the policy was least certain train.

        w_{i,t} = 1[ H_{i,t} ≥ τ ],  τ = the entropy of rank ⌈ fraction · Σ_k |o_k| ⌉ in the update batch

    Tokens that tie with τ are all kept, so a batch may keep more than the fraction. The paper divides by the kept
    tokens (from a summary), TRL by all: `credit.denominator`, `kept` or `all`.

    Args:
        entropies: the policy's that sampled [B T], nats.
        mask: True where a completion token counts [B T].

    Returns: weights [B T] in {0, 1}.

    Raises: ValueError unless 0 < fraction ≤ 1.

    Source: Wang et al. 2025, Beyond the 80/20 Rule (arXiv:2506.01939).

    Example:
        >>> from torch import tensor
        >>> entropies, mask = tensor([[0.1, 2.0], [1.0, 9.0]]), tensor([[True, True], [True, False]])
        >>> TopEntropy(fraction=0.5)(entropies=entropies, mask=mask)
        tensor([[0., 1.],
                [1., 0.]])
    """

    fraction: float = 0.2
    """The share of tokens that trains; in (0, 1]. The paper: 0.2."""

    def __post_init__(self) -> None:
        require(0 < self.fraction <= 1, f"TopEntropy: fraction is in (0, 1], got {self.fraction}")

    def __call__(self, *, entropies: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        tokens = int(mask.sum())
        if tokens == 0:
            return mask.float()
        rank = ceil(self.fraction * tokens - 1e-9)  # 0.07 · 100 is 7.000000000000001
        threshold = entropies[mask].sort(descending=True).values[rank - 1]
        return (mask & (entropies >= threshold)).float()


@dataclass(frozen=True, kw_only=True)
class CovarianceBand(TokenWeight):
    """Clip-Cov: a few tokens, at random among those that would drive the entropy down, do not train.

        w_{i,t} = 0 for max(1, ⌊ share · Σ_k |o_k| ⌋) random tokens with low ≤ Cov_{i,t} ≤ high, else 1

    The eligible tokens with the smallest `uniform` are chosen; all of them if there are too few. Two deviations: the
    covariance is taken once, at the rollout's policy, and not anew at each minibatch; and a token that the surrogate
    would clip anyway is eligible too, where verl takes it out. The paper detaches the chosen tokens, which has the same
    gradient as a weight of 0, but another value.

    Args:
        covariances: each token's part of the covariance of log-probability and advantage [B T], nats times its unit.
        uniform: independent draws from [0, 1) [B T].
        mask: True where a completion token counts [B T].

    Returns: weights [B T] in {0, 1}.

    Raises: ValueError unless 0 < share ≤ 1 and low ≤ high.

    Source: Cui et al. 2025, the entropy mechanism, Clip-Cov (arXiv:2505.22617).

    Example:
        >>> from torch import tensor
        >>> band, mask = CovarianceBand(share=0.5, low=1.0, high=5.0), tensor([[True, True, True]])
        >>> band(covariances=tensor([[9.0, 2.0, 3.0]]), uniform=tensor([[0.1, 0.3, 0.2]]), mask=mask)
        tensor([[1., 1., 0.]])
    """

    share: float = 2e-4
    """r, the share of all tokens that is taken out; in (0, 1]. The paper: 2e-4."""
    low: float
    """ω_low, the least covariance that is eligible. The paper: 1."""
    high: float
    """ω_high, the greatest covariance that is eligible. The paper: 5."""

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, f"CovarianceBand: share is in (0, 1], got {self.share}")
        require(self.low <= self.high, f"CovarianceBand: low is at most high, got {self.low} and {self.high}")

    def __call__(
        self, *, covariances: Float[Tensor, "B T"], uniform: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        eligible = mask & (covariances >= self.low) & (covariances <= self.high)
        chosen = uniform.masked_fill(~eligible, inf)
        count = max(1, int(self.share * int(mask.sum()) + 1e-9))
        threshold = chosen.flatten().sort().values[count - 1]
        return (mask & ~(eligible & (chosen <= threshold))).float()
