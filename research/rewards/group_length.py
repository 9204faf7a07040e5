"""Length rewards of a completion beside the others of its group."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from research.component import require
from research.rewards.shaping import OverlongPenalty, Shaping


@dataclass(frozen=True, kw_only=True)
class KimiLength(Shaping):
    """The group's shortest completions gain and its longest pay; a wrong one never gains by being short.

        r_len = weight · λ            if right
              = weight · min(0, λ)    if wrong,   λ = ½ − (|y| − min |y|) / (max |y| − min |y|) over the group
        λ = 0 if all lengths of the group are equal

    The paper says that the weight is warmed up, and gives neither value nor schedule: UNCONFIRMED. Here it is constant.

    Args:
        right: whether the completion is right [N G].
        lengths: |y|, completion tokens, the end token included [N G].

    Returns: terms [N G] in weight · [−½, ½], reward units.

    Raises: ValueError if weight ≤ 0.

    Source: Kimi team et al. 2025, Kimi k1.5, length penalty (arXiv:2501.12599).

    Example:
        >>> from torch import tensor
        >>> right = tensor([[True, True, True, False, False]])
        >>> KimiLength(weight=1.0)(right=right, lengths=tensor([[2, 4, 6, 2, 6]]))
        tensor([[ 0.5000,  0.0000, -0.5000,  0.0000, -0.5000]])
    """

    weight: float = 1.0
    """Factor on the paper's term, reward units; above 0."""

    def __post_init__(self) -> None:
        require(self.weight > 0, f"KimiLength: weight is above 0, got {self.weight}")

    def __call__(self, *, right: Bool[Tensor, "N G"], lengths: Int[Tensor, "N G"]) -> Float[Tensor, "N G"]:
        shortest, longest = lengths.amin(-1, keepdim=True), lengths.amax(-1, keepdim=True)
        share = (lengths - shortest).float() / (longest - shortest).clamp(min=1)
        gain = (0.5 - share).masked_fill(longest == shortest, 0.0)
        return self.weight * torch.where(right, gain, gain.clamp(max=0.0))


@dataclass(frozen=True, kw_only=True)
class GroupRelativeOverlong(Shaping):
    """Group-relative overlong punishment: the group's difficulty decides which completions pay for length.

        n right completions, m wrong ones, L(S) = max{ (min_S |y| + max_S |y|) / 2, mean_S |y| }
        easy,   n/(n+m) ≥ γ1:      the right pay, L = L(right)
        hard,   n/(n+m) ≤ 1 − γ1:  nobody pays, or the soft overlong punishment
        medium, between:           the right pay if n > m, L = L(all)
        who pays: r_len = 0                    if |y| < L
                        = −½ · (|y| − L) / L   if L ≤ |y| < 2L
                        = −½                   if |y| ≥ 2L

    UNCONFIRMED, since the paper's text does not say it or could not be read: the value of γ1, who pays in a medium
    group with n ≤ m, and whether the penalty comes before or after an entropy bonus. Here it is part of the reward.

    A completion that could not be judged is neither right nor wrong.

    Args:
        right: whether the completion is right [N G].
        outcomes: the verifiers' reward, NaN where a completion could not be judged [N G].
        lengths: |y|, completion tokens, the end token included [N G].

    Returns: penalties [N G] ≤ 0, reward units; above −½ without the soft overlong punishment, since 2L ≥ min + max.

    Raises: ValueError unless 0.5 < gamma1 < 1, where no group is easy and hard at once.

    Source: Tan et al. 2025, GTPO, appendix D (arXiv:2508.04349).

    Example:
        >>> from torch import tensor
        >>> term = GroupRelativeOverlong(gamma1=0.75, hard=None, medium_minority="none")
        >>> right, outcomes = tensor([[True, True, True, False]]), tensor([[1.0, 1.0, 1.0, -1.0]])
        >>> term(right=right, outcomes=outcomes, lengths=tensor([[2, 4, 6, 9]]))
        tensor([[-0.0000, -0.0000, -0.2500, -0.0000]])
    """

    gamma1: float
    """γ1, share of right completions from which a group is easy; in (0.5, 1). Not given; a replication took 0.75."""
    hard: OverlongPenalty | None
    """Penalty of every completion of a hard group: the soft overlong punishment with its own limits, or null."""
    medium_minority: Literal["none", "wrong"]
    """Completions that pay in a medium group with n ≤ m: `none`, or the `wrong`, as one replication; UNCONFIRMED."""

    def __post_init__(self) -> None:
        require(0.5 < self.gamma1 < 1, f"GroupRelativeOverlong: gamma1 is in (0.5, 1), got {self.gamma1}")

    def __call__(
        self, *, right: Bool[Tensor, "N G"], outcomes: Float[Tensor, "N G"], lengths: Int[Tensor, "N G"]
    ) -> Float[Tensor, "N G"]:
        judged = ~outcomes.isnan()
        share = right.sum(-1, keepdim=True) / judged.sum(-1, keepdim=True).clamp(min=1)
        easy, hard = share >= self.gamma1, share <= 1 - self.gamma1
        minority = judged & ~right if self.medium_minority == "wrong" else torch.zeros_like(right)
        medium = _beyond(lengths, judged) * torch.where(share > 0.5, right, minority)
        otherwise = torch.zeros_like(medium) if self.hard is None else self.hard(lengths=lengths)
        return torch.where(easy, _beyond(lengths, right) * right, torch.where(hard, otherwise, medium))


def _beyond(lengths: Int[Tensor, "N G"], counted: Bool[Tensor, "N G"]) -> Float[Tensor, "N G"]:
    """−½ times the excess over L, relative to L, where L is that of the `counted` completions; in [−½, 0]."""
    length = lengths.float()
    shortest = torch.where(counted, length, length.amax(-1, keepdim=True)).amin(-1, keepdim=True)
    longest = torch.where(counted, length, 0.0).amax(-1, keepdim=True)
    mean = (length * counted).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp(min=1)
    limit = torch.maximum((shortest + longest) / 2, mean)
    return -0.5 * ((length - limit) / limit).clamp(0.0, 1.0)
