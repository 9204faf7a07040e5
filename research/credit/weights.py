"""The token-weight slot: a factor on each token's gain. A recipe lists any number; they are multiplied."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import Component


class TokenWeight(Component):
    """w [B T] ≥ 0: what a token's gain is multiplied by. A weight of exactly 0 removes the token."""


@dataclass(frozen=True, kw_only=True)
class SkipTruncated(TokenWeight):
    """Overlong filtering: a completion that was cut at the limit does not train.

        w_{i,t} = 0 if o_i was truncated, else 1

    `credit.denominator` decides whether its tokens still count in the denominators.

    Args:
        mask: True where a completion token counts [B T].
        truncated: whether each completion was cut [B].

    Returns: weights [B T] in {0, 1}.

    Source: Yu et al. 2025, DAPO, §3.4 (arXiv:2503.14476).

    Example:
        >>> from torch import tensor
        >>> SkipTruncated()(mask=tensor([[True, True], [True, True]]), truncated=tensor([False, True]))
        tensor([[1., 1.],
                [0., 0.]])
    """

    def __call__(self, *, mask: Bool[Tensor, "B T"], truncated: Bool[Tensor, " B"]) -> Float[Tensor, "B T"]:
        return (mask & ~truncated[:, None]).float()
