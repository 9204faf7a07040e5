"""Length rewards of one completion: distance from a length that the prompt asks for, and the cosine schedule."""

from dataclasses import dataclass
from math import pi
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from research.component import require
from research.rewards.shaping import Shaping


@dataclass(frozen=True, kw_only=True)
class LengthExact(Shaping):
    """LCPO-Exact: a completion pays for every token that it is longer or shorter than the prompt asks for.

        r_len = −α · |n_gold − |y||;  with the outcome, r = I(right) − α · |n_gold − |y||

    α assumes an outcome of 1 or 0, so other outcomes are refused. The authors' repository writes the same reward
    as I + (1 − α |n_gold − |y||) − 1.

    Args:
        lengths: |y|, completion tokens, the end token included [N G].
        targets: n_gold, tokens that the prompt asks for [N G].

    Returns: penalties [N G] ≤ 0, reward units.

    Raises: ValueError if alpha ≤ 0.

    Source: Aggarwal et al. 2025, L1, LCPO-Exact (arXiv:2503.04697).

    Example:
        >>> from torch import tensor
        >>> LengthExact(alpha=0.25)(lengths=tensor([[8, 6, 12]]), targets=tensor([[8.0, 8.0, 8.0]]))
        tensor([[-0.0000, -0.5000, -1.0000]])
    """

    zero_one: ClassVar[bool] = True

    alpha: float = 3e-4
    """α, reward per token of distance; above 0. The paper: 0.0003, for targets of 100 to 4,000 tokens."""

    def __post_init__(self) -> None:
        require(self.alpha > 0, f"LengthExact: alpha is above 0, got {self.alpha}")

    def __call__(self, *, lengths: Int[Tensor, "N G"], targets: Float[Tensor, "N G"]) -> Float[Tensor, "N G"]:
        return -self.alpha * (targets.float() - lengths).abs()


@dataclass(frozen=True, kw_only=True)
class LengthMax(Shaping):
    """LCPO-Max: a right completion is worth less the longer it is, and nothing far beyond the length asked for.

        r_len = I · (kept − 1);  with the outcome, r = I · kept,  kept = clip(α · (n_gold − |y|) + δ, 0, 1)

    The outcome I is 1 or 0, so other outcomes are refused. This is the paper's form. The authors' repository has
    another, a distance clipped to ±1 and then moved and scaled to 0 to 1, with a multiplier; it is not offered.

    Args:
        outcomes: I, 1 where the completion is right, else 0 [N G].
        lengths: |y|, completion tokens, the end token included [N G].
        targets: n_gold, tokens that the prompt allows [N G].

    Returns: penalties [N G] in [−1, 0], reward units.

    Raises: ValueError if alpha ≤ 0 or if delta is outside (0, 1].

    Source: Aggarwal et al. 2025, L1, LCPO-Max (arXiv:2503.04697).

    Example:
        >>> from torch import tensor
        >>> lengths, targets = tensor([[8, 6, 12, 6]]), tensor([[8.0, 8.0, 8.0, 8.0]])
        >>> LengthMax(alpha=0.25, delta=0.5)(outcomes=tensor([[1.0, 1.0, 1.0, 0.0]]), lengths=lengths, targets=targets)
        tensor([[-0.5000,  0.0000, -1.0000,  0.0000]])
    """

    zero_one: ClassVar[bool] = True

    alpha: float = 3e-4
    """α, reward per token below the target; above 0. The paper: 0.0003."""
    delta: float = 0.5
    """δ, the worth of a right completion of exactly the target's length; in (0, 1]. The paper: 0.5."""

    def __post_init__(self) -> None:
        require(self.alpha > 0, f"LengthMax: alpha is above 0, got {self.alpha}")
        require(0 < self.delta <= 1, f"LengthMax: delta is in (0, 1], got {self.delta}")

    def __call__(
        self, *, outcomes: Float[Tensor, "N G"], lengths: Int[Tensor, "N G"], targets: Float[Tensor, "N G"]
    ) -> Float[Tensor, "N G"]:
        kept = (self.alpha * (targets.float() - lengths) + self.delta).clamp(0.0, 1.0)
        return (outcomes * (kept - 1.0)).float()


@dataclass(frozen=True, kw_only=True)
class CosineLength(Shaping):
    """The cosine reward: short and right is worth most, short and wrong is worth least.

        r_len = value − outcome, so that the reward is the value:
        value = v_max + ½ (v_0 − v_max) (1 + cos(π |y| / L_max))   if |y| < L_max, v of right or of wrong completions
              = exceed                                             if |y| ≥ L_max

    As a term, the reward does not depend on the verifiers' rewards. Each end of the schedule is named by its length:
    "minimum" and "maximum" of a wrong completion would be ambiguous, and other code differs in them. A completion of
    L_max tokens gets `exceed`, right or wrong; TRL gives it the end of its schedule.

    Args:
        right: whether the completion is right [N G].
        outcomes: the verifiers' reward, replaced by the value [N G].
        lengths: |y|, completion tokens, the end token included [N G].

    Returns: value less outcome [N G], reward units.

    Raises: ValueError if max_length < 1.

    Source: Yeo et al. 2025, Demystifying Long Chain-of-Thought, the cosine reward (arXiv:2502.03373).

    Example:
        >>> from torch import tensor
        >>> term, right = CosineLength(max_length=8), tensor([[True, False, True]])
        >>> term(right=right, outcomes=tensor([[1.0, 0.0, 1.0]]), lengths=tensor([[4, 4, 8]]))
        tensor([[  0.5000,  -5.0000, -11.0000]])
    """

    max_length: int
    """L_max, tokens: where the schedule ends and `exceed` begins; at least 1. The paper: 14,336."""
    right_at_zero: float = 2.0
    """Value of a right completion as its length goes to 0. The paper: 2."""
    right_at_max: float = 1.0
    """Value of a right completion as its length nears L_max. The paper: 1."""
    wrong_at_zero: float = -10.0
    """Value of a wrong completion as its length goes to 0. The paper: −10."""
    wrong_at_max: float = 0.0
    """Value of a wrong completion as its length nears L_max. The paper: 0."""
    exceed: float = -10.0
    """Value of any completion of L_max tokens or more. The paper: −10."""

    def __post_init__(self) -> None:
        require(self.max_length >= 1, f"CosineLength: max_length is at least 1 token, got {self.max_length}")

    def __call__(
        self, *, right: Bool[Tensor, "N G"], outcomes: Float[Tensor, "N G"], lengths: Int[Tensor, "N G"]
    ) -> Float[Tensor, "N G"]:
        still = (1.0 + torch.cos(pi * lengths.float() / self.max_length)) / 2.0
        of_right = self.right_at_max + (self.right_at_zero - self.right_at_max) * still
        of_wrong = self.wrong_at_max + (self.wrong_at_zero - self.wrong_at_max) * still
        value = torch.where(right, of_right, of_wrong).masked_fill(lengths >= self.max_length, self.exceed)
        return value - outcomes.float()
