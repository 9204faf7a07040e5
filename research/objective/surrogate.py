"""The surrogate slot: one token's contribution to the objective."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import Component, require


class Surrogate(Component):
    """s(ρ, Â) [B T]: one token's gain, to be maximized."""

    token_ratio_only: ClassVar[bool] = False
    """True if the equation is written for the ratios of single tokens."""
    per_completion: ClassVar[bool] = False
    """True if the equation is written for one advantage a completion."""


@dataclass(frozen=True, kw_only=True)
class Clip(Surrogate):
    """The clipped surrogate, with separate bounds.

        s(ρ, Â) = min( ρ Â, clip(ρ, 1 − ε_low, 1 + ε_high) Â )

    Clip-higher is ε_high > ε_low.

    Args:
        ratio: ρ [B T].
        advantages: Â [B T].

    Returns: gains [B T], in units of the advantage.

    Raises: ValueError unless 0 ≤ ε_low < 1 and ε_high ≥ 0.

    Source: Schulman et al. 2017, PPO, eq. 7 (arXiv:1707.06347); Yu et al. 2025, DAPO, eq. 8 (arXiv:2503.14476).

    Example:
        >>> from torch import tensor
        >>> Clip(eps_low=0.2, eps_high=0.28)(ratio=tensor([[1.5, 0.5]]), advantages=tensor([[1.0, -1.0]]))
        tensor([[ 1.2800, -0.8000]])
    """

    eps_low: float = 0.2
    """ε_low: how far a probability may fall, relative; in [0, 1)."""
    eps_high: float = 0.2
    """ε_high: how far a probability may rise, relative; at least 0. DAPO: 0.28."""

    def __post_init__(self) -> None:
        require(0 <= self.eps_low < 1, f"Clip: eps_low is in [0, 1), got {self.eps_low}")
        require(self.eps_high >= 0, f"Clip: eps_high is at least 0, got {self.eps_high}")

    def __call__(self, *, ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        clipped = ratio.clamp(1 - self.eps_low, 1 + self.eps_high)
        return torch.minimum(ratio * advantages, clipped * advantages)


@dataclass(frozen=True, kw_only=True)
class Unclipped(Surrogate):
    """The surrogate without a bound; on policy, its gradient is REINFORCE's.

        s(ρ, Â) = ρ Â

    Args:
        ratio: ρ [B T].
        advantages: Â [B T].

    Returns: gains [B T], in units of the advantage.

    Source: Ahmadian et al. 2024, RLOO, §3 (arXiv:2402.14740).

    Example:
        >>> from torch import tensor
        >>> Unclipped()(ratio=tensor([[1.5, 0.5]]), advantages=tensor([[1.0, -1.0]]))
        tensor([[ 1.5000, -0.5000]])
    """

    def __call__(self, *, ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return ratio * advantages


@dataclass(frozen=True, kw_only=True)
class LogLikelihood(Surrogate):
    """The weighted log-likelihood: supervised fine-tuning where Â is 1 on what is imitated and 0 elsewhere.

        s(Â) = Â · log π_θ(o_{i,t})

    Args:
        logprobs: the policy now [B T], nats.
        advantages: Â [B T].

    Returns: gains [B T], in nats times the advantage's unit.

    Source: Shao et al. 2024, DeepSeekMath, eqs. 6, 8 and 11 (arXiv:2402.03300).

    Example:
        >>> from torch import tensor
        >>> LogLikelihood()(logprobs=tensor([[-2.0]]), advantages=tensor([[1.0]]))
        tensor([[-2.]])
    """

    def __call__(self, *, logprobs: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return logprobs * advantages
