"""The ratio slot: how far the policy has moved from the one that is being improved."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import Component

LOG_RATIO_BOUND = 20.0
"""|log ρ| is clamped here, as in verl, so that ρ stays finite: e²⁰ ≈ 4.9e8. No gradient flows beyond."""


def log_ratio(logprobs: Float[Tensor, "B T"], others: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """log(π/π_other) of each token in nats, clamped at ±20, where its gradient stops."""
    return (logprobs - others).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)


class Ratio(Component):
    """ρ [B T] > 0: the probability ratio that the surrogate reads."""

    per_completion: ClassVar[bool] = False
    """True if every token of a completion gets the same ratio, whose gradient reaches all of them."""


@dataclass(frozen=True, kw_only=True)
class TokenRatio(Ratio):
    """One ratio per token.

        ρ_{i,t} = π_θ(o_{i,t} | q, o_{i,<t}) / π_old(o_{i,t} | q, o_{i,<t})

    The log-ratio is clamped at ±20.

    Args:
        logprobs: the policy now [B T], nats.
        old_logprobs: the trainer's at the rollout's weights [B T], nats.

    Returns: ratios [B T] in [e⁻²⁰, e²⁰].

    Source: Schulman et al. 2017, PPO, eq. 6 (arXiv:1707.06347).

    Example:
        >>> from torch import tensor
        >>> TokenRatio()(logprobs=tensor([[-1.0]]), old_logprobs=tensor([[-1.0]]))
        tensor([[1.]])
    """

    def __call__(self, *, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return log_ratio(logprobs, old_logprobs).exp()


@dataclass(frozen=True, kw_only=True)
class NoRatio(Ratio):
    """No ratio, for a surrogate that reads none.

        ρ_{i,t} = 1

    Args:
        logprobs: the policy now [B T], nats.

    Returns: ones [B T].

    Source: Shao et al. 2024, DeepSeekMath, appendix A.1 (arXiv:2402.03300).

    Example:
        >>> from torch import tensor
        >>> NoRatio()(logprobs=tensor([[-1.0]]))
        tensor([[1.]])
    """

    def __call__(self, *, logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return torch.ones_like(logprobs)
