"""The retire slot: the choice of the prompts that are not drawn again."""

from collections.abc import Sequence
from dataclasses import dataclass

from research.component import Component, require


class Retire(Component):
    """Decides whether a prompt is skipped in later passes through the data, from the group just sampled for it."""


@dataclass(frozen=True, kw_only=True)
class RetireNone(Retire):
    """Every prompt comes again in every pass.

        retire = 0

    Args:
        right: whether each completion of the group is right, G of them.

    Returns: False.

    Source: Shao et al. 2024, GRPO, alg. 1 (arXiv:2402.03300).

    Example:
        >>> RetireNone()(right=[True, True])
        False
    """

    def __call__(self, *, right: Sequence[bool]) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class RetireSolved(Retire):
    """No positive resampling: a prompt that is solved almost always is not drawn again.

        retire = 1[ #right / G ≥ pass_rate ]

    The pass rate is that of one group, the one just sampled, kept or not.

    Args:
        right: whether each completion of the group is right, G of them.

    Returns: whether the prompt retires.

    Raises: ValueError if pass_rate is outside (0, 1].

    Source: Khatri et al. 2025, ScaleRL, no-positive-resampling (arXiv:2510.13786).

    Example:
        >>> RetireSolved(pass_rate=0.75)(right=[True, True, True, False])
        True
    """

    pass_rate: float = 0.9
    """Share of right completions from which a prompt retires; in (0, 1]. The paper: 0.9."""

    def __post_init__(self) -> None:
        require(0 < self.pass_rate <= 1, f"RetireSolved: pass_rate is in (0, 1], got {self.pass_rate}")

    def __call__(self, *, right: Sequence[bool]) -> bool:
        return sum(right) / len(right) >= self.pass_rate
