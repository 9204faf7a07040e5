"""Surrogates that bound something other than the product ρ Â: the likelihood's weight, a completion's mean ratio."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import require
from research.objective.surrogate import Surrogate


@dataclass(frozen=True, kw_only=True)
class ClippedWeight(Surrogate):
    """The log-likelihood under a clipped, constant importance weight: every token keeps a gradient.

        s(ρ, Â) = sg[ clip(ρ, floor, cap) ] · Â · log π_θ(o_{i,t})

    The bounds are ratios themselves, not distances from 1: TRL writes the cap so, verl writes 1 + ε. A cap below 1
    would scale every gradient even on policy. MiniMax's own ε_high is undisclosed.

    Args:
        ratio: ρ [B T], of single tokens; read without its gradient.
        advantages: Â [B T].
        logprobs: the policy now [B T], nats.

    Returns: gains [B T], in nats times the advantage's unit; their gradient is what counts, not their value.

    Raises: ValueError unless 0 ≤ floor ≤ 1 ≤ cap.

    Source: MiniMax et al. 2025, MiniMax-M1, CISPO (arXiv:2506.13585).

    Example:
        >>> from torch import tensor
        >>> ratio, up = tensor([[9.0, 0.5]]), tensor([[1.0, 1.0]])
        >>> ClippedWeight(floor=0.0, cap=5.0)(ratio=ratio, advantages=up, logprobs=tensor([[-1.0, -2.0]]))
        tensor([[-5., -1.]])
    """

    token_ratio_only: ClassVar[bool] = True

    floor: float = 0.0
    """The smallest weight, a ratio; in [0, 1]. 0, as the paper trains, bounds nothing."""
    cap: float = 5.0
    """The largest weight, a ratio; at least 1. ScaleRL (arXiv:2510.13786): 4 to 8 do alike."""

    def __post_init__(self) -> None:
        require(0 <= self.floor <= 1, f"ClippedWeight: floor is in [0, 1], got {self.floor}")
        require(self.cap >= 1, f"ClippedWeight: cap is a ratio, at least 1, got {self.cap}")

    def __call__(
        self, *, ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], logprobs: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        return ratio.detach().clamp(self.floor, self.cap) * advantages * logprobs


@dataclass(frozen=True, kw_only=True)
class GeometricClip(Surrogate):
    """The geometric mean of a completion's token ratios, each clipped before the mean.

        s_{i,t} = Â_i · exp( 1/|o_i| Σ_t sgn(Â_i) · min( sgn(Â_i) log ρ_{i,t}, b ) )

    The paper clamps sgn(Â) log ρ to [−b, b] and takes the smaller of clamped and not; only the bound above is left of
    that, so there is one b. verl clamps log ρ instead, which is the same while its two bounds are equal. Every token
    has its completion's gain, so that under `SequenceMean` J is the paper's mean over completions.

    Args:
        ratio: ρ [B T], of single tokens.
        advantages: Â [B T], the same on all tokens of a completion.
        mask: True where a completion token counts [B T].

    Returns: gains [B T], in units of the advantage, the same on all tokens of a completion.

    Raises: ValueError if log_bound ≤ 0.

    Source: Zhao et al. 2025, GMPO (arXiv:2507.20673).

    Example:
        >>> from torch import tensor
        >>> ratio, mask = tensor([[4.0, 0.25]]), tensor([[True, True]])
        >>> GeometricClip(log_bound=20.0)(ratio=ratio, advantages=tensor([[1.0, 1.0]]), mask=mask)
        tensor([[1., 1.]])
    """

    token_ratio_only: ClassVar[bool] = True
    per_completion: ClassVar[bool] = True

    log_bound: float = 0.4
    """b, nats: a ratio counts up to e^b where Â > 0 and down to e^−b where Â < 0; above 0."""

    def __post_init__(self) -> None:
        require(self.log_bound > 0, f"GeometricClip: log_bound is above 0, got {self.log_bound}")

    def __call__(
        self, *, ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        sign = advantages.sign()
        clipped = (sign * (sign * ratio.log()).clamp(max=self.log_bound)).masked_fill(~mask, 0.0)
        mean = clipped.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        return advantages * mean.exp()
