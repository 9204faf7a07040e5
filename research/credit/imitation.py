"""Advantages without a baseline: imitation of all completions, or of the right ones."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from research.credit.advantage import Advantage
from research.types import over_tokens


@dataclass(frozen=True, kw_only=True)
class CorrectOnly(Advantage):
    """Rejection sampling fine-tuning: a right completion is imitated, a wrong one is left alone.

        Â_{i,t} = 1[ o_i is right ]

    With completions of the current policy it is Online RFT; with those of the policy that training began from, RFT.

    Args:
        right: whether every verifier accepted the completion [N G].
        mask: True where a completion token counts [B T].

    Returns: advantages [B T] in {0, 1}, 0 on padding.

    Source: Shao et al. 2024, DeepSeekMath, eqs. 8, 10 and 11 (arXiv:2402.03300).

    Example:
        >>> from torch import tensor
        >>> CorrectOnly()(right=tensor([[True, False]]), mask=tensor([[True, True], [True, True]]))
        tensor([[1., 1.],
                [0., 0.]])
    """

    @property
    def centred(self) -> bool:
        return False

    def __call__(self, *, right: Bool[Tensor, "N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return over_tokens(right.float(), mask)


@dataclass(frozen=True, kw_only=True)
class Imitate(Advantage):
    """Supervised fine-tuning: every completion is imitated.

        Â_{i,t} = 1

    Args:
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], 1 on every token that counts, 0 on padding.

    Source: Shao et al. 2024, DeepSeekMath, appendix A.1 (arXiv:2402.03300).

    Example:
        >>> from torch import tensor
        >>> Imitate()(mask=tensor([[True, True], [True, False]]))
        tensor([[1., 1.],
                [1., 0.]])
    """

    @property
    def centred(self) -> bool:
        return False

    def __call__(self, *, mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return mask.float()
