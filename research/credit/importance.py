"""Token weights for a sampler that is not the trainer: the importance of its tokens, bounded or masked.

    importance_{i,t} = π_old(o_{i,t}) / π_rollout(o_{i,t}),  of a completion: their product

Both policies have the same weights; they differ by the engine, its precision, and the sampler's truncation.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import require
from research.credit.weights import TokenWeight

LOG_IMPORTANCE_BOUND = 20.0
"""|log importance| is clamped here, as in verl, so that it stays finite: e²⁰ ≈ 4.9e8."""


def _importance(
    old_logprobs: Float[Tensor, "B T"],
    rollout_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    level: Literal["token", "sequence"],
) -> Float[Tensor, "B T"]:
    """exp(log π_old − log π_rollout), of each token or, by the sum of logarithms, of each completion."""
    log = (old_logprobs.float() - rollout_logprobs.float()).masked_fill(~mask, 0.0)
    if level == "sequence":
        log = log.sum(-1, keepdim=True).expand(mask.shape)
    return log.clamp(-LOG_IMPORTANCE_BOUND, LOG_IMPORTANCE_BOUND).exp()


@dataclass(frozen=True, kw_only=True)
class TruncatedImportance(TokenWeight):
    """Truncated importance sampling: a token counts by its importance, up to a cap.

        w_{i,t} = min( π_old(o_{i,t}) / π_rollout(o_{i,t}), C )

    At the level of a completion the importance is the product over its tokens, as in verl, so it grows or shrinks with
    the length. The log-importance is clamped at ±20.

    Args:
        old_logprobs: the trainer's at the rollout's weights [B T], nats.
        rollout_logprobs: the sampler's [B T], nats.
        mask: True where a completion token counts [B T].

    Returns: weights [B T] in (0, C], 0 on padding.

    Raises: ValueError if cap < 1.

    Source: Yao and others 2025, truncated importance sampling (fengyao.notion.site/off-policy-rl); verl, rollout
    correction.

    Example:
        >>> from torch import tensor
        >>> old, rollout, mask = tensor([[-1.0, -1.0]]), tensor([[-1.0, -3.0]]), tensor([[True, True]])
        >>> TruncatedImportance(cap=2.0, level="token")(old_logprobs=old, rollout_logprobs=rollout, mask=mask)
        tensor([[1., 2.]])
    """

    cap: float
    """C, a ratio; at least 1. verl: 2 by default; it advises 1.5 to 5 for tokens, 2 to 10 for completions."""
    level: Literal["token", "sequence"]
    """`token`: each token has its own importance; `sequence`: all tokens have their completion's."""

    def __post_init__(self) -> None:
        require(self.cap >= 1, f"TruncatedImportance: cap is a ratio, at least 1, got {self.cap}")

    def __call__(
        self,
        *,
        old_logprobs: Float[Tensor, "B T"],
        rollout_logprobs: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        return _importance(old_logprobs, rollout_logprobs, mask, self.level).clamp(max=self.cap) * mask


@dataclass(frozen=True, kw_only=True)
class MaskedImportance(TokenWeight):
    """Masked importance sampling: a token counts by its importance, or not at all beyond the bounds.

        w_{i,t} = importance_{i,t} · 1[ low ≤ importance_{i,t} ≤ high ],  importance = π_old / π_rollout

    At the level of a completion the importance is the product over its tokens, as in verl. The log-importance is
    clamped at ±20.

    Args:
        old_logprobs: the trainer's at the rollout's weights [B T], nats.
        rollout_logprobs: the sampler's [B T], nats.
        mask: True where a completion token counts [B T].

    Returns: weights [B T], 0 or in [low, high], 0 on padding.

    Raises: ValueError unless 0 ≤ low ≤ 1 ≤ high.

    Source: IcePop, Ant Group's blog, 2025 (ringtech.notion.site); TRL's masked importance sampling.

    Example:
        >>> from torch import tensor
        >>> old, rollout, mask = tensor([[-1.0, -1.0]]), tensor([[-1.0, -3.0]]), tensor([[True, True]])
        >>> weight = MaskedImportance(low=0.5, high=2.0, level="token")
        >>> weight(old_logprobs=old, rollout_logprobs=rollout, mask=mask)
        tensor([[1., 0.]])
    """

    low: float
    """The least importance that counts, a ratio; in [0, 1]. TRL's and OpenRLHF's example: 0.5."""
    high: float
    """The greatest importance that counts, a ratio; at least 1. TRL's example: 2; OpenRLHF's: 5."""
    level: Literal["token", "sequence"]
    """`token`: each token has its own importance; `sequence`: all tokens have their completion's."""

    def __post_init__(self) -> None:
        require(
            0 <= self.low <= 1 <= self.high,
            f"MaskedImportance: low is in [0, 1] and high at least 1, got {self.low} and {self.high}",
        )

    def __call__(
        self,
        *,
        old_logprobs: Float[Tensor, "B T"],
        rollout_logprobs: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        importance = _importance(old_logprobs, rollout_logprobs, mask, self.level)
        return importance * (mask & (importance >= self.low) & (importance <= self.high))
