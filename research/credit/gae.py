"""The advantage from a critic's values."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from research.component import require
from research.credit.advantage import Advantage
from research.credit.moments import whitened
from research.types import over_tokens


def generalized_advantage(
    *,
    rewards: Float[Tensor, "N G"],
    token_rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    gamma: float,
    lam: float,
) -> Float[Tensor, "B T"]:
    """The generalized advantage, not whitened, float32, 0 on padding; added to `values` it is the critic's target.

    It is also 0 in a completion whose reward is NaN, which could not be judged: the critic learns nothing from it.

        δ_t = r_t + γ V_{t+1} − V_t,  A_t = δ_t + γλ A_{t+1},  V = A = 0 after the last token

    Args:
        rewards: of whole completions, added to the reward of the last token that counts; task units.
        token_rewards: of single tokens, task units.
        values: the critic's estimate before each token is chosen, task units.
        mask: True where a completion token counts.
        gamma: γ, the discount a token.
        lam: λ, the weight of longer estimates.

    Example:
        >>> generalized_advantage(rewards=torch.tensor([[1.0]]), token_rewards=torch.zeros(1, 2),
        ...     values=torch.tensor([[0.5, 0.25]]), mask=torch.tensor([[True, True]]), gamma=1.0, lam=0.5)
        tensor([[0.1250, 0.7500]])
    """
    last = mask & (mask.flip(-1).cumsum(-1).flip(-1) == 1)
    known = ~rewards.isnan()
    earned = token_rewards.float() * mask + over_tokens(rewards.where(known, 0.0), last)
    estimates = values.float()
    advantages = torch.zeros_like(earned)
    advantage = value = torch.zeros_like(earned[:, 0])
    for t in reversed(range(mask.shape[1])):
        delta = earned[:, t] + gamma * value - estimates[:, t]
        advantage = torch.where(mask[:, t], delta + gamma * lam * advantage, advantage)
        value = torch.where(mask[:, t], estimates[:, t], value)
        advantages[:, t] = advantage * mask[:, t]
    return advantages.masked_fill(~known.reshape(-1, 1), 0.0)


@dataclass(frozen=True, kw_only=True)
class GAE(Advantage):
    """Generalized advantage estimation: an exponentially weighted sum of the critic's temporal differences.

        Â_{i,t} = Σ_l (γλ)^l δ_{i,t+l},  δ_{i,t} = r_{i,t} + γ V_{i,t+1} − V_{i,t}

    The completion's reward is earned at its last token, after which V is 0 even if the completion was truncated.
    Whitened it becomes (Â − mean) / √(var + 1e-8), mean and sample variance over the update batch's tokens, as verl
    always has it.

    Args:
        rewards: shaped rewards of whole completions [N G], task units.
        token_rewards: rewards of single tokens [B T], task units.
        values: the critic's estimate before token t is chosen [B T], task units.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], task units or, whitened, standard deviations of the batch; 0 on padding.

    Raises: ValueError if gamma or lam is outside [0, 1].

    Source: Schulman et al. 2015, GAE, eq. 16 (arXiv:1506.02438).

    Example:
        >>> from torch import tensor
        >>> gae = GAE(gamma=1.0, lam=1.0, whiten=False)
        >>> gae(rewards=tensor([[1.0]]), token_rewards=tensor([[0.0, 0.0]]), values=tensor([[0.5, 0.25]]),
        ...     mask=tensor([[True, True]]))
        tensor([[0.5000, 0.7500]])
    """

    per_completion: ClassVar[bool] = False

    gamma: float = 1.0
    """γ, the discount a token, in [0, 1]. PPO: 0.99; verl: 1."""
    lam: float = 1.0
    """λ, in [0, 1]: 0 trusts the critic's next value, 1 only the rewards. PPO: 0.95; verl: 1."""
    whiten: bool
    """True to whiten the advantages over the batch's tokens."""

    def __post_init__(self) -> None:
        require(0 <= self.gamma <= 1, f"GAE: gamma is in [0, 1], got {self.gamma}")
        require(0 <= self.lam <= 1, f"GAE: lam is in [0, 1], got {self.lam}")

    @property
    def centred(self) -> bool:
        return False

    def __call__(
        self,
        *,
        rewards: Float[Tensor, "N G"],
        token_rewards: Float[Tensor, "B T"],
        values: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        advantages = generalized_advantage(
            rewards=rewards, token_rewards=token_rewards, values=values, mask=mask, gamma=self.gamma, lam=self.lam
        )
        known = ~rewards.isnan().reshape(-1, 1)
        return whitened(advantages, mask & known) if self.whiten else advantages
