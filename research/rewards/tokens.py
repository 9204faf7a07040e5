"""The token-reward slot, and the KL divergence in the reward, of single tokens or of the whole completion.

The log-ratio x = log π_old − log π_ref of a sampled token estimates the divergence in three ways: k1 = x, k2 = ½ x² and
k3 = exp(−x) − 1 + x. In the reward it has no gradient; the objective's KL slot is the one with a gradient.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from research.component import Component, Settings, require
from research.rewards.shaping import Shaping


class TokenReward(Component):
    """A reward [B T] of every token, in reward units; a recipe lists any number, and they are added."""


@dataclass(frozen=True, kw_only=True)
class KLInReward(Settings):
    """The coefficient and the estimator of a KL divergence in the reward."""

    beta: float
    """β, reward per nat; above 0. REINFORCE++: 0.01, for mathematics 0.001; RLOO: 0.03 and 0.10."""
    estimator: Literal["k1", "k2", "k3"]
    """`k1`, which the papers have in the reward; `k2`; or `k3`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        require(self.beta > 0, f"{name}: beta is above 0, got {self.beta}; for no penalty leave it out of the list")


@dataclass(frozen=True, kw_only=True)
class TokenKL(KLInReward, TokenReward):
    """Every token pays for the distance from the reference policy: the KL divergence in the reward.

        r_{i,t} = −β · k(x_{i,t}),  x = log π_old − log π_ref

    For advantages that read rewards of tokens. The paper's KL is k1.

    Args:
        old_logprobs: of the policy that sampled [B T], nats.
        ref_logprobs: of the frozen reference [B T], nats.
        mask: True where a completion token counts [B T].

    Returns: rewards [B T], 0 on padding. x is clamped at ±20.

    Raises: ValueError if beta ≤ 0 (an empty list is no penalty).

    Source: Shao et al. 2024, DeepSeekMath, eq. 2 (arXiv:2402.03300); Hu et al. 2025, REINFORCE++ (arXiv:2501.03262).

    Example:
        >>> from torch import tensor
        >>> old, ref, mask = tensor([[-1.0, -3.0]]), tensor([[-2.0, -2.0]]), tensor([[True, True]])
        >>> TokenKL(beta=0.5, estimator="k1")(old_logprobs=old, ref_logprobs=ref, mask=mask)
        tensor([[-0.5000,  0.5000]])
    """

    def __call__(
        self, *, old_logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        return -self.beta * _divergence(self.estimator, old_logprobs, ref_logprobs, mask)


@dataclass(frozen=True, kw_only=True)
class ReferenceKL(KLInReward, Shaping):
    """A completion pays for its distance from the reference policy: the KL divergence in the reward, as one number.

        r_KL = −β · Σ_t k(x_t),  x = log π_old − log π_ref

    For advantages that read one reward a completion, which is one action to them. The paper's KL is k1, whose sum is
    the log-ratio of the whole completion.

    Args:
        old_logprobs: of the policy that sampled [B T], nats.
        ref_logprobs: of the frozen reference [B T], nats.
        mask: True where a completion token counts [B T].
        lengths: completion tokens, the end token included [N G].

    Returns: terms [N G], reward units. x is clamped at ±20 on every token.

    Raises: ValueError if beta ≤ 0 (an empty list is no penalty).

    Source: Ahmadian et al. 2024, RLOO (arXiv:2402.14740).

    Example:
        >>> from torch import tensor
        >>> old, ref, mask = tensor([[-1.0, -3.0]]), tensor([[-2.0, -2.5]]), tensor([[True, True]])
        >>> ReferenceKL(beta=1.0, estimator="k1")(old_logprobs=old, ref_logprobs=ref, mask=mask, lengths=tensor([[2]]))
        tensor([[-0.5000]])
    """

    def __call__(
        self,
        *,
        old_logprobs: Float[Tensor, "B T"],
        ref_logprobs: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        lengths: Int[Tensor, "N G"],
    ) -> Float[Tensor, "N G"]:
        return -self.beta * _divergence(self.estimator, old_logprobs, ref_logprobs, mask).sum(-1).reshape(lengths.shape)


def _divergence(
    estimator: Literal["k1", "k2", "k3"],
    old: Float[Tensor, "B T"],
    ref: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """k1, k2 or k3 of every token, 0 on padding."""
    x = (old.float() - ref.float()).masked_fill(~mask, 0.0).clamp(-20.0, 20.0)
    return {"k1": x, "k2": x.square() / 2, "k3": torch.expm1(-x) + x}[estimator]
