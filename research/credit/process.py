"""The advantage of rewards for steps."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from research.credit.advantage import Advantage
from research.credit.moments import Deviation, to_go, z_scores


@dataclass(frozen=True, kw_only=True)
class ProcessZScore(Deviation, Advantage):
    """Process supervision: the normalized rewards of the steps that end at a token or later, added up.

        Â_{i,t} = Σ_{j: end(j) ≥ t} (r_{i,j} − mean(R)) / (std(R) + ε),  R = all step rewards of the group

    It reads step rewards alone, never the completion's reward. A token after the last step gets 0, and so does a group
    whose step rewards are all equal. With one step a completion, at its last token, it is `GroupZScore` of the step
    rewards. The paper has no ε.

    Args:
        step_rewards: a step's reward on its last token, 0 elsewhere [B T], task units.
        step_ends: True on the last token of a step [B T].
        lengths: tokens of each completion [N G]; only its shape is read, for the rows of each group.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], sums of standard deviations, 0 on padding.

    Raises: ValueError if ddof is not 0 or 1, or if eps < 0.

    Source: Shao et al. 2024, DeepSeekMath, §4.1.3 (arXiv:2402.03300).

    Example:
        >>> from torch import tensor
        >>> steps = ProcessZScore(ddof=0, eps=0.0)
        >>> steps(step_rewards=tensor([[0.0, 1.0, 0.0]]), step_ends=tensor([[False, True, True]]),
        ...     lengths=tensor([[3]]), mask=tensor([[True, True, True]]))
        tensor([[ 0.,  0., -1.]])
    """

    per_completion: ClassVar[bool] = False

    @property
    def centred(self) -> bool:
        return False

    def __call__(
        self,
        *,
        step_rewards: Float[Tensor, "B T"],
        step_ends: Bool[Tensor, "B T"],
        lengths: Int[Tensor, "N G"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        groups, ends = len(lengths), step_ends & mask
        normalized = z_scores(
            step_rewards.reshape(groups, -1), ends.reshape(groups, -1), (1,), ddof=self.ddof, eps=self.eps
        )
        return (to_go(normalized.reshape(mask.shape)) * mask).float()
