"""Ratios of whole completions: how far the policy has moved on all that it wrote, not on one token."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from research.objective.ratio import LOG_RATIO_BOUND, Ratio, log_ratio


def _mean_over(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1"]:
    """1/|o_i| Σ_t values: the mean over a completion's tokens."""
    return values.masked_fill(~mask, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)


def _geometric(
    logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """exp of the mean log-ratio, on every token."""
    mean = _mean_over(logprobs - old_logprobs, mask)
    return mean.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp().repeat(1, mask.shape[1])


@dataclass(frozen=True, kw_only=True)
class SequenceRatio(Ratio):
    """One ratio a completion: the geometric mean of its tokens' ratios.

        ρ_{i,t} = s_i = ( π_θ(o_i | q) / π_old(o_i | q) )^{1/|o_i|}
                = exp( 1/|o_i| Σ_t log(π_θ(o_{i,t}) / π_old(o_{i,t})) )

    The gradient reaches all tokens of the completion alike, so a token weight scales its whole completion. With
    `SequenceMean` it is GSPO; with `TokenMean` a completion counts by its length, which is legal but no longer GSPO.
    The mean log-ratio is clamped at ±20. GSPO clips this ratio at 3e-4 and 4e-4.

    Args:
        logprobs: the policy now [B T], nats.
        old_logprobs: the trainer's at the rollout's weights [B T], nats.
        mask: True where a completion token counts [B T].

    Returns: ratios [B T] in [e⁻²⁰, e²⁰], equal on all tokens of a completion.

    Source: Zheng et al. 2025, GSPO, the sequence ratio s_i (arXiv:2507.18071).

    Example:
        >>> from torch import tensor
        >>> now, mask = tensor([[-1.0, -1.0]]), tensor([[True, True]])
        >>> SequenceRatio()(logprobs=now, old_logprobs=tensor([[-2.0, 0.0]]), mask=mask)
        tensor([[1., 1.]])
    """

    per_completion: ClassVar[bool] = True

    def __call__(
        self, *, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        return _geometric(logprobs, old_logprobs, mask)


@dataclass(frozen=True, kw_only=True)
class SequenceTokenRatio(Ratio):
    """The completion's ratio in value, with each token's own gradient.

        ρ_{i,t} = sg[s_i] · π_θ(o_{i,t}) / sg[π_θ(o_{i,t})],  s_i as in SequenceRatio

    So clipping is decided for the completion, and each token keeps its own advantage and weight. With one advantage
    and one weight a completion, its gradient is SequenceRatio's.

    Args:
        logprobs: the policy now [B T], nats.
        old_logprobs: the trainer's at the rollout's weights [B T], nats.
        mask: True where a completion token counts [B T].

    Returns: ratios [B T] in [e⁻²⁰, e²⁰], equal on all tokens of a completion.

    Source: Zheng et al. 2025, GSPO-token (arXiv:2507.18071).

    Example:
        >>> from torch import tensor
        >>> now, mask = tensor([[-1.0, -1.0]]), tensor([[True, True]])
        >>> SequenceTokenRatio()(logprobs=now, old_logprobs=tensor([[-2.0, 0.0]]), mask=mask)
        tensor([[1., 1.]])
    """

    def __call__(
        self, *, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        own = (logprobs - logprobs.detach()).exp()
        return _geometric(logprobs, old_logprobs, mask).detach() * own


@dataclass(frozen=True, kw_only=True)
class MeanTokenRatio(Ratio):
    """One ratio a completion: the arithmetic mean of its tokens' ratios.

        ρ_{i,t} = ŵ_i = 1/|o_i| Σ_t π_θ(o_{i,t} | q, o_{i,<t}) / π_old(o_{i,t} | q, o_{i,<t})

    A token whose ratio is large has a large share of the gradient, where SequenceRatio shares it out evenly. Each
    token's log-ratio is clamped at ±20.

    Args:
        logprobs: the policy now [B T], nats.
        old_logprobs: the trainer's at the rollout's weights [B T], nats.
        mask: True where a completion token counts [B T].

    Returns: ratios [B T] in [e⁻²⁰, e²⁰], equal on all tokens of a completion.

    Source: Tan et al. 2025, GRPO-S, eq. 11 (arXiv:2508.04349).

    Example:
        >>> from torch import tensor
        >>> now, mask = tensor([[-1.0, -1.0]]), tensor([[True, True]])
        >>> MeanTokenRatio()(logprobs=now, old_logprobs=tensor([[-2.0, 0.0]]), mask=mask)
        tensor([[1.5431, 1.5431]])
    """

    per_completion: ClassVar[bool] = True

    def __call__(
        self, *, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        ratio = log_ratio(logprobs, old_logprobs).exp()
        return _mean_over(ratio, mask).repeat(1, mask.shape[1])
