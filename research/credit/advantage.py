"""The advantage slot: a completion's reward against those of its group."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import Component, require
from research.credit.moments import Deviation, deviation
from research.types import over_tokens


class Advantage(Component):
    """Â [B T]: credit after the baseline; positive raises a token's probability."""

    per_completion: ClassVar[bool] = True
    """True if every token of a completion gets the same value."""

    @property
    def centred(self) -> bool:
        """True if a group whose rewards are all equal gets exactly 0."""
        return True


def centred_in_group(rewards: Float[Tensor, "N G"]) -> Float[Tensor, "N G"]:
    """r − mean(r) over the group, exactly 0 where all rewards of the group are equal (float rounding included).

    A NaN stands for no reward: it is in no mean, and gets 0.

    Example:
        >>> from torch import nan, tensor
        >>> centred_in_group(tensor([[3.0, 1.0, nan]]))
        tensor([[ 1., -1.,  0.]])
    """
    known = ~rewards.isnan()
    low, high = rewards.where(known, inf).amin(-1, keepdim=True), rewards.where(known, -inf).amax(-1, keepdim=True)
    mean = rewards.where(known, 0.0).sum(-1, keepdim=True) / known.sum(-1, keepdim=True)
    return (rewards - mean).masked_fill((low >= high) | ~known, 0.0)


@dataclass(frozen=True, kw_only=True)
class GroupMean(Advantage):
    """Reward minus the group's mean.

        Â_{i,t} = r_i − mean(r)

    A group whose rewards are all equal gets exactly 0.

    Args:
        rewards: shaped rewards [N G], task units.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], task units, 0 on padding.

    Source: Liu et al. 2025, Dr. GRPO, §3.2 (arXiv:2503.20783).

    Example:
        >>> from torch import tensor
        >>> GroupMean()(rewards=tensor([[1.0, 0.0]]), mask=tensor([[True, True], [True, False]]))
        tensor([[ 0.5000,  0.5000],
                [-0.5000, -0.0000]])
    """

    def __call__(self, *, rewards: Float[Tensor, "N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return over_tokens(centred_in_group(rewards), mask)


@dataclass(frozen=True, kw_only=True)
class GroupZScore(Deviation, Advantage):
    """Reward minus the group's mean, over the group's standard deviation.

        Â_{i,t} = (r_i − mean(r)) / (std(r) + ε)

    The papers do not say which "std" they mean; every implementation that was read takes the sample one (ddof 1). ε is
    added to the standard deviation, not under the root. A group whose rewards are all equal gets exactly 0.

    Args:
        rewards: shaped rewards [N G], task units; G > ddof.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], in standard deviations, 0 on padding.

    Raises: ValueError if ddof is not 0 or 1, if eps < 0, or if a group is too small for ddof.

    Source: Shao et al. 2024, GRPO, §4.1.2 (arXiv:2402.03300); Yu et al. 2025, DAPO, eq. 9 (arXiv:2503.14476).

    Example:
        >>> from torch import tensor
        >>> GroupZScore(ddof=0, eps=0.0)(rewards=tensor([[1.0, 0.0]]), mask=tensor([[True], [True]]))
        tensor([[ 1.],
                [-1.]])
    """

    def __call__(self, *, rewards: Float[Tensor, "N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        require(
            rewards.shape[-1] > self.ddof,
            f"GroupZScore: ddof={self.ddof} needs groups of at least {self.ddof + 1} completions",
        )
        centred = centred_in_group(rewards)
        std = deviation(rewards, (-1,), self.ddof) + self.eps
        return over_tokens(centred / std.masked_fill(std == 0, 1.0), mask)


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(Advantage):
    """Reward minus the mean of the group's other rewards.

        Â_{i,t} = r_i − 1/(G−1) Σ_{j≠i} r_j = G/(G−1) · (r_i − mean(r))

    Args:
        rewards: shaped rewards [N G], task units; G ≥ 2.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], task units, 0 on padding.

    Raises: ValueError if a group has fewer than two completions.

    Source: Ahmadian et al. 2024, RLOO (arXiv:2402.14740).

    Example:
        >>> from torch import tensor
        >>> LeaveOneOut()(rewards=tensor([[1.0, 0.0]]), mask=tensor([[True], [True]]))
        tensor([[ 1.],
                [-1.]])
    """

    def __call__(self, *, rewards: Float[Tensor, "N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        G = rewards.shape[-1]
        require(G >= 2, f"LeaveOneOut: a baseline of the others needs groups of at least 2 completions, got {G}")
        known = (~rewards.isnan()).sum(-1, keepdim=True).double()
        return over_tokens(centred_in_group(rewards) * (known / (known - 1).clamp(min=1)).float(), mask)
