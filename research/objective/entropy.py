"""The entropy slot: a bonus that keeps the policy from collapsing."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import Component, require


class Entropy(Component):
    """bonus [B T]: added to a token's gain, weighted by c alone."""

    @property
    def start(self) -> float:
        """The `entropy_coefficient` of the first step."""
        return 0.0

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


@dataclass(frozen=True, kw_only=True)
class AdaptiveEntropyBonus(Entropy):
    """A bonus whose coefficient rises while the entropy is too low, and which is off while it is not.

        bonus_{i,t} = max(α, 0) · H_{i,t}
        |α| ← min(|α| + Δ, largest) if the step's mean entropy ≤ target, else max(|α| − Δ, 0), and α = −|α|

    The report applies its coefficient only while the entropy is at or below the target, and adapts it all the time: a
    negative α stands for a coefficient that is not applied. The entropy of the step before decides, as in TRL; the
    report measures the step's own. The report was read from a summary and from TRL.

    Args:
        entropies: the policy's, now, with gradient [B T], nats.
        entropy_coefficient: α [], as `adapt` left it after the step before.

    Returns: bonuses [B T], in α·nats.

    Raises: ValueError unless target and step are above 0 and 0 ≤ initial ≤ largest, largest above 0.

    Source: He et al. 2025, Skywork-OR1, adaptive entropy control (arXiv:2505.22312).

    Example:
        >>> from torch import tensor
        >>> bonus = AdaptiveEntropyBonus(target=0.2, step=0.25, initial=0.0, largest=1.0)
        >>> coefficient = bonus.adapt(bonus.start, entropy=0.1)
        >>> bonus(entropies=tensor([[2.0]]), entropy_coefficient=tensor(coefficient))
        tensor([[0.5000]])
    """

    target: float
    """The mean entropy a token to hold, nats; above 0. TRL: 0.2."""
    step: float = 0.005
    """Δ, the change of the coefficient at a step; above 0."""
    initial: float = 0.0
    """The coefficient of the first step, before an entropy has been measured; in [0, largest]."""
    largest: float = 1.0
    """The coefficient's bound; above 0."""

    def __post_init__(self) -> None:
        require(self.target > 0, f"AdaptiveEntropyBonus: target is above 0 nats, got {self.target}")
        require(self.step > 0, f"AdaptiveEntropyBonus: step is above 0, got {self.step}; for none use EntropyBonus")
        require(self.largest > 0, f"AdaptiveEntropyBonus: largest is above 0, got {self.largest}")
        require(
            0 <= self.initial <= self.largest,
            f"AdaptiveEntropyBonus: initial is in [0, largest], got {self.initial} with largest {self.largest}",
        )

    @property
    def start(self) -> float:
        """The `entropy_coefficient` of the first step."""
        return self.initial

    def adapt(self, coefficient: float, entropy: float) -> float:
        """The next step's coefficient: raised while the entropy is at most the target, else lowered and not applied."""
        if entropy <= self.target:
            return min(abs(coefficient) + self.step, self.largest)
        return -max(abs(coefficient) - self.step, 0.0)

    def __call__(
        self, *, entropies: Float[Tensor, "B T"], entropy_coefficient: Float[Tensor, ""]
    ) -> Float[Tensor, "B T"]:
        return entropy_coefficient.clamp(min=0) * entropies
