"""The KL slot: a penalty that keeps the policy near the reference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import Component, require


class KL(Component):
    """β·kl [B T]: a token's penalty; subtracted from its gain, weighted by c alone."""


@dataclass(frozen=True, kw_only=True)
class NoKL(KL):
    """No penalty, and no reference model.

        kl_{i,t} = 0

    Args:
        logprobs: the policy now [B T], nats.

    Returns: zeros [B T].

    Source: Yu et al. 2025, DAPO, §2.3 (arXiv:2503.14476).

    Example:
        >>> from torch import tensor
        >>> NoKL()(logprobs=tensor([[-1.0]]))
        tensor([[0.]])
    """

    def __call__(self, *, logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return torch.zeros_like(logprobs)


@dataclass(frozen=True, kw_only=True)
class K3(KL):
    """The non-negative, low-variance estimator, with the gradient through it as the papers write it.

        kl_{i,t} = β · ( π_ref/π_θ − log(π_ref/π_θ) − 1 )

    Args:
        logprobs: the policy now [B T], nats.
        ref_logprobs: the frozen reference's [B T], nats.

    Returns: penalties [B T] ≥ 0, in β·nats. log(π_ref/π_θ) is clamped at ±20, where the gradient stops.

    Raises: ValueError if beta ≤ 0 (use NoKL for no penalty).

    Source: Shao et al. 2024, GRPO, eq. 4 (arXiv:2402.03300).

    Example:
        >>> from torch import tensor
        >>> K3(beta=1.0)(logprobs=tensor([[0.0]]), ref_logprobs=tensor([[1.0]]))
        tensor([[0.7183]])
    """

    beta: float
    """β, reward per nat; above 0. DeepSeekMath: 0.04."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"K3: beta is above 0, got {self.beta}; for no penalty use NoKL")

    def __call__(self, *, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        d = (ref_logprobs - logprobs).clamp(-20.0, 20.0)
        return self.beta * (torch.expm1(d) - d)
