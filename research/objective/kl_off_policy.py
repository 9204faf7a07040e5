"""Penalties that read the log-probabilities of the policy that sampled, as a correction or as a reference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import require
from research.objective.kl import KL, Beta
from research.objective.ratio import log_ratio


@dataclass(frozen=True, kw_only=True)
class ImportanceWeightedK3(Beta, KL):
    """k3 under the importance ratio: the reverse KL in value and in gradient, off policy too.

        kl_{i,t} = β · ρ_{i,t} · ( π_ref/π_θ − log(π_ref/π_θ) − 1 ),  ρ_{i,t} = π_θ/π_old

    The gradient goes through both factors: it is β ρ log(π_θ/π_ref) ∇ log π_θ. The paper was read from a summary and
    from TRL.

    Args:
        logprobs: the policy now [B T], nats.
        old_logprobs: the trainer's at the rollout's weights [B T], nats.
        ref_logprobs: the frozen reference's [B T], nats.

    Returns: penalties [B T] ≥ 0, in β·nats. Both log-ratios are clamped at ±20, where their gradient stops.

    Raises: ValueError if beta ≤ 0 (use NoKL for no penalty).

    Source: DeepSeek-AI et al. 2025, DeepSeek-V3.2, the unbiased KL estimate (arXiv:2512.02556).

    Example:
        >>> from torch import tensor
        >>> now, reference = tensor([[0.0]]), tensor([[1.0]])
        >>> ImportanceWeightedK3(beta=1.0)(logprobs=now, old_logprobs=now, ref_logprobs=reference)
        tensor([[0.7183]])
    """

    def __call__(
        self,
        *,
        logprobs: Float[Tensor, "B T"],
        old_logprobs: Float[Tensor, "B T"],
        ref_logprobs: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        ratio = log_ratio(logprobs, old_logprobs).exp()
        d = log_ratio(ref_logprobs, logprobs)
        return self.beta * ratio * (torch.expm1(d) - d)


@dataclass(frozen=True, kw_only=True)
class TopCovarianceKL(Beta, KL):
    """A penalty for moving the few tokens that would drive the entropy down most. It needs no reference.

        kl_{i,t} = β · |log π_θ(o_{i,t}) − log π_old(o_{i,t})| if the token's covariance is among the top k, else 0

    Its slope is ±β, and 0 where the policy has not moved: it acts from the second minibatch on. The covariance is taken
    once, at the rollout's policy, where the paper takes it anew at each minibatch. The paper's loss has no clip.

    Args:
        logprobs: the policy now [B T], nats.
        old_logprobs: the trainer's at the rollout's weights [B T], nats.
        covariance_rank: the share of the update batch's tokens whose covariance is higher [B T], in [0, 1).

    Returns: penalties [B T] ≥ 0, in β·nats; the token with the highest covariance always has one. The log-ratio is
    clamped at ±20, where the gradient stops.

    Raises: ValueError if beta ≤ 0 (use NoKL for no penalty), or unless 0 < fraction ≤ 1.

    Source: Cui et al. 2025, the entropy mechanism, KL-Cov (arXiv:2505.22617).

    Example:
        >>> from torch import tensor
        >>> now, old, rank = tensor([[-1.0, -1.0]]), tensor([[-3.0, -3.0]]), tensor([[0.0, 0.5]])
        >>> TopCovarianceKL(beta=1.0, fraction=0.01)(logprobs=now, old_logprobs=old, covariance_rank=rank)
        tensor([[2., 0.]])
    """

    fraction: float = 2e-3
    """k, the share of tokens that is penalized; in (0, 1]. The paper: 2e-3 at 7B, 2e-4 at 32B parameters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.fraction <= 1, f"TopCovarianceKL: fraction is in (0, 1], got {self.fraction}")

    def __call__(
        self,
        *,
        logprobs: Float[Tensor, "B T"],
        old_logprobs: Float[Tensor, "B T"],
        covariance_rank: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        moved = log_ratio(logprobs, old_logprobs).abs()
        return self.beta * moved * (covariance_rank < self.fraction)
