"""The surrogate slot: what one token contributes to the objective."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import Component, require


class Surrogate(Component):
    """s(ρ, Â) [B T]: one token's gain, to be maximized."""


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
