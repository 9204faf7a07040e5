"""The critic of PPO: values before each token, their targets, and the clipped value loss."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from research.component import require
from research.credit import TokenMean, generalized_advantage
from research.policy import Policy, ScalarModel
from research.types import UpdateBatch


@dataclass(frozen=True, kw_only=True)
class CriticSpec:
    """Settings of the critic and of its value loss."""

    learning_rate: float
    """Learning rate of the critic's own optimizer; above 0. VAPO: twice the policy's."""
    shares_body: bool
    """True for a head on the policy's body, which then also learns from the value loss; False for a body of its own."""
    gamma: float = 1.0
    """γ of the targets, equal to the advantage's γ; in [0, 1]."""
    lam: float = 1.0
    """λ of the targets, in [0, 1]; may differ from the advantage's. With 1 the targets are the returns."""
    value_clip: float | None = None
    """ε_v, the change of a value within a step beyond which it stops learning; null for no clipping."""
    weight: float = 1.0
    """Factor of the value loss, above 0; it is relative to the policy's loss if the body is shared."""
    pretrain_steps: int = 0
    """Number of steps at the start of a run in which only the critic learns; at least 0. VAPO: 50."""

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"Critic: learning_rate is above 0, got {self.learning_rate}")
        require(0 <= self.gamma <= 1, f"Critic: gamma is in [0, 1], got {self.gamma}")
        require(0 <= self.lam <= 1, f"Critic: lam is in [0, 1], got {self.lam}")
        require(self.value_clip is None or self.value_clip > 0, f"Critic: value_clip is above 0, got {self.value_clip}")
        require(self.weight > 0, f"Critic: weight is above 0, got {self.weight}")
        require(self.pretrain_steps >= 0, f"Critic: pretrain_steps is at least 0, got {self.pretrain_steps}")


def value_loss(
    values: Float[Tensor, "B T"],
    old_values: Float[Tensor, "B T"],
    returns: Float[Tensor, "B T"],
    clip: float | None,
) -> Float[Tensor, "B T"]:
    """½ max( (V − R)², (clip(V, V_old ± ε_v) − R)² ), per token; without a clip, ½ (V − R)².

    Source: Schulman et al. 2017, PPO, eq. 9 (arXiv:1707.06347), with the clip of its reference implementation.

    Example:
        >>> from torch import tensor
        >>> value_loss(tensor([[1.0]]), tensor([[0.0]]), tensor([[1.0]]), 0.2)
        tensor([[0.3200]])
    """
    squared = (values - returns) ** 2
    if clip is not None:
        bounded = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
        squared = torch.maximum(squared, (bounded - returns) ** 2)
    return 0.5 * squared


class Critic(nn.Module):
    """A value model for a policy's completions, with its loss."""

    def __init__(self, spec: CriticSpec, policy: Policy) -> None:
        super().__init__()
        self.spec = spec
        self.model = ScalarModel.beside(policy, shared=spec.shares_body)

    def annotate(self, batch: UpdateBatch, tokens: int) -> UpdateBatch:
        """The batch with `values`, their targets `returns`, and `value_coefficients`."""
        values, mask = self.model.values(batch, tokens), batch["mask"]
        advantages = generalized_advantage(
            rewards=batch["rewards"],
            token_rewards=batch["token_rewards"],
            values=values,
            mask=mask,
            gamma=self.spec.gamma,
            lam=self.spec.lam,
        )
        return batch.with_quantities(
            values=values, returns=(advantages + values) * mask, value_coefficients=TokenMean()(mask=mask)
        )

    def backward_rows(self, rows: UpdateBatch) -> float:
        """Add the gradient of these rows' part of the value loss, and return that part."""
        values = self.model.before_tokens(rows)
        per_token = value_loss(values, rows["values"], rows["returns"], self.spec.value_clip)
        loss = self.spec.weight * (rows["value_coefficients"] * per_token).sum()
        loss.backward()
        return float(loss.detach())
