"""Other bounds on the ratio than the clip's: a floor for punished tokens, bounds by probability, a soft gate."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import require
from research.objective.surrogate import Surrogate


@dataclass(frozen=True, kw_only=True)
class DualClip(Surrogate):
    """The clipped surrogate, bounded also where a punished token has become much more probable.

        s(ρ, Â) = min( ρ Â, clip(ρ, 1 − ε_low, 1 + ε_high) Â )    if Â ≥ 0
                = max( min( ρ Â, clip(ρ, 1 − ε_low, 1 + ε_high) Â ), c Â )    if Â < 0

    The clip alone leaves ρ Â without a lower bound where Â < 0, and its gradient grows with ρ.

    Args:
        ratio: ρ [B T].
        advantages: Â [B T].

    Returns: gains [B T], in units of the advantage; at least c Â where Â < 0.

    Raises: ValueError unless 0 ≤ ε_low < 1, ε_high ≥ 0 and c > 1.

    Source: Ye et al. 2020, dual-clip PPO (arXiv:1912.09729).

    Example:
        >>> from torch import tensor
        >>> DualClip(eps_low=0.2, eps_high=0.2, c=3.0)(ratio=tensor([[5.0, 5.0]]), advantages=tensor([[1.0, -1.0]]))
        tensor([[ 1.2000, -3.0000]])
    """

    eps_low: float = 0.2
    """ε_low: how far a probability may fall, relative; in [0, 1)."""
    eps_high: float = 0.2
    """ε_high: how far a probability may rise, relative; at least 0."""
    c: float = 3.0
    """The largest ratio that punishes; above 1. verl: 3, and 10 in its DAPO recipe."""

    def __post_init__(self) -> None:
        require(0 <= self.eps_low < 1, f"DualClip: eps_low is in [0, 1), got {self.eps_low}")
        require(self.eps_high >= 0, f"DualClip: eps_high is at least 0, got {self.eps_high}")
        require(self.c > 1, f"DualClip: c is above 1, got {self.c}; at 1 it would stop gradients on policy")

    def __call__(self, *, ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        clipped = torch.minimum(ratio * advantages, ratio.clamp(1 - self.eps_low, 1 + self.eps_high) * advantages)
        return torch.where(advantages < 0, torch.maximum(clipped, self.c * advantages), clipped)


@dataclass(frozen=True, kw_only=True)
class DynamicClip(Surrogate):
    """The clipped surrogate, with bounds that are wider the less probable the token was.

        s(ρ, Â) = min( ρ Â, clip(ρ, low, high) Â ),  q = π_old(o_{i,t})
        low = 1/2 + 1/2 √max(1 − 4 ε_low / q, 0),  high = min( 1/2 + 1/2 √(1 + 4 ε_high / q), r_max )

    Args:
        ratio: ρ [B T], of single tokens.
        advantages: Â [B T].
        old_logprobs: log q [B T], nats.

    Returns: gains [B T], in units of the advantage.

    Raises: ValueError unless both widths are at least 0 and r_max ≥ 1.

    Source: Yang et al. 2025, DCPO, the dynamic clipping bounds (arXiv:2509.02333).

    Example:
        >>> from torch import tensor
        >>> surrogate = DynamicClip(width_low=0.16, width_high=0.75, r_max=10.0)
        >>> surrogate(ratio=tensor([[4.0]]), advantages=tensor([[1.0]]), old_logprobs=tensor([[0.0]]))
        tensor([[1.5000]])
    """

    token_ratio_only: ClassVar[bool] = True

    width_low: float = 0.16
    """ε_low of the bound below; at least 0."""
    width_high: float = 0.2
    """ε_high of the bound above; at least 0."""
    r_max: float = 10.0
    """The largest bound above, which the least probable tokens get; at least 1."""

    def __post_init__(self) -> None:
        require(self.width_low >= 0, f"DynamicClip: width_low is at least 0, got {self.width_low}")
        require(self.width_high >= 0, f"DynamicClip: width_high is at least 0, got {self.width_high}")
        require(self.r_max >= 1, f"DynamicClip: r_max is at least 1, got {self.r_max}")

    def __call__(
        self, *, ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        rarity = (-old_logprobs.detach().clamp(min=-20.0)).exp()  # 1/q; both bounds are flat long before e²⁰
        low = 0.5 + 0.5 * (1 - 4 * self.width_low * rarity).clamp(min=0).sqrt()
        high = (0.5 + 0.5 * (1 + 4 * self.width_high * rarity).sqrt()).clamp(max=self.r_max)
        return torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)


@dataclass(frozen=True, kw_only=True)
class SigmoidGate(Surrogate):
    """A soft trust region: the gradient fades with the distance from ρ = 1 instead of stopping at a bound.

        s(ρ, Â) = 4/τ · σ( τ (ρ − 1) ) · Â,  τ = τ_positive if Â > 0, else τ_negative

    Its slope in ρ is 4 σ (1 − σ) Â, which is Â on policy. A larger τ fades sooner.

    Args:
        ratio: ρ [B T].
        advantages: Â [B T].

    Returns: gains [B T], in units of the advantage; 2 Â / τ on policy, so not comparable with a clip's.

    Raises: ValueError if a temperature is not above 0.

    Source: Gao et al. 2025, SAPO (arXiv:2511.20347).

    Example:
        >>> from torch import tensor
        >>> gate = SigmoidGate(tau_positive=1.0, tau_negative=2.0)
        >>> gate(ratio=tensor([[1.0, 1.0]]), advantages=tensor([[1.0, -1.0]]))
        tensor([[ 2., -1.]])
    """

    tau_positive: float = 1.0
    """τ where Â > 0; above 0."""
    tau_negative: float = 1.05
    """τ where Â < 0; above 0. The paper takes it a little larger, since punished tokens are the less stable ones."""

    def __post_init__(self) -> None:
        require(self.tau_positive > 0, f"SigmoidGate: tau_positive is above 0, got {self.tau_positive}")
        require(self.tau_negative > 0, f"SigmoidGate: tau_negative is above 0, got {self.tau_negative}")

    def __call__(self, *, ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        positive = 4 / self.tau_positive * torch.sigmoid(self.tau_positive * (ratio - 1))
        negative = 4 / self.tau_negative * torch.sigmoid(self.tau_negative * (ratio - 1))
        return torch.where(advantages > 0, positive, negative) * advantages
