"""The shaping slot: a term added to the outcome."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from research.component import Component, require


class Shaping(Component):
    """A term [N G], in reward units, added to the outcome."""

    zero_one: ClassVar[bool] = False
    """True if the equation holds only for an outcome of 1 (right) or 0 (wrong)."""


@dataclass(frozen=True, kw_only=True)
class OverlongPenalty(Shaping):
    """Soft overlong punishment: a completion that nears the limit pays for it, linearly, at most 1.

        R_len = 0                                  if |y| ≤ L_max − L_buffer
              = ((L_max − L_buffer) − |y|) / L_buffer   if L_max − L_buffer < |y| ≤ L_max
              = −1                                 if |y| > L_max

    Args:
        lengths: |y|, completion tokens, the end token included [N G].

    Returns: penalties [N G] in [−1, 0].

    Raises: ValueError unless 1 ≤ buffer ≤ max_length.

    Source: Yu et al. 2025, DAPO, eq. 13 (arXiv:2503.14476). (verl's form falls below −1 beyond L_max.)

    Example:
        >>> from torch import tensor
        >>> OverlongPenalty(max_length=20, buffer=4)(lengths=tensor([[16, 18, 20]]))
        tensor([[ 0.0000, -0.5000, -1.0000]])
    """

    max_length: int
    """L_max, tokens: the length of the full penalty; DAPO's 20,480 is also its generation limit."""
    buffer: int
    """L_buffer, tokens: the stretch over which the penalty grows from 0; DAPO: 4,096."""

    def __post_init__(self) -> None:
        require(
            1 <= self.buffer <= self.max_length,
            f"OverlongPenalty: 1 ≤ buffer ≤ max_length, got buffer={self.buffer}, max_length={self.max_length}",
        )

    def __call__(self, *, lengths: Int[Tensor, "N G"]) -> Float[Tensor, "N G"]:
        allowed = self.max_length - self.buffer
        return ((allowed - lengths).float() / self.buffer).clamp(-1.0, 0.0)
