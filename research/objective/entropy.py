"""The entropy slot: a bonus that keeps the policy from collapsing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import Component, require


class Entropy(Component):
    """bonus [B T]: added to a token's gain, weighted by c alone."""

    start: ClassVar[float] = 0.0
    """The `entropy_coefficient` of the first step."""

    def adapt(self, coefficient: float, entropy: float) -> float:
        """The next step's `entropy_coefficient`, from this step's and its mean entropy (nats a token)."""
        return coefficient


@dataclass(frozen=True, kw_only=True)
class NoBonus(Entropy):
    """No bonus.

        bonus_{i,t} = 0

    Args:
        logprobs: the policy now [B T], nats.

    Returns: zeros [B T].

    Source: Yu et al. 2025, DAPO, §2 (no entropy term) (arXiv:2503.14476).

    Example:
        >>> from torch import tensor
        >>> NoBonus()(logprobs=tensor([[-1.0]]))
        tensor([[0.]])
    """

    def __call__(self, *, logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return torch.zeros_like(logprobs)


@dataclass(frozen=True, kw_only=True)
class EntropyBonus(Entropy):
    """A fixed reward per nat of entropy.

        bonus_{i,t} = α · H_{i,t},  H = −Σ_v p log p over the whole vocabulary, with its gradient

    Args:
        entropies: the policy's, now, with gradient [B T], nats.

    Returns: bonuses [B T], in α·nats.

    Raises: ValueError if alpha ≤ 0 (use NoBonus for none).

    Source: Schulman et al. 2017, PPO, eq. 9 (arXiv:1707.06347).

    Example:
        >>> from torch import tensor
        >>> EntropyBonus(alpha=0.5)(entropies=tensor([[2.0]]))
        tensor([[1.]])
    """

    alpha: float
    """α, reward per nat; above 0."""

    def __post_init__(self) -> None:
        require(self.alpha > 0, f"EntropyBonus: alpha is above 0, got {self.alpha}; for none use NoBonus")

    def __call__(self, *, entropies: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return self.alpha * entropies
