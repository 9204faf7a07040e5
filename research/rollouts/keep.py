"""The keep slot: the choice of the groups that train."""

from collections.abc import Sequence
from dataclasses import dataclass

from research.component import Component


class Keep(Component):
    """Decides whether a group trains, from its outcomes: the unshaped rewards of the completions that have one."""


@dataclass(frozen=True, kw_only=True)
class KeepAll(Keep):
    """Every group trains.

        keep = 1

    Args:
        outcomes: the group's outcomes, at most G of them.

    Returns: True.

    Source: Shao et al. 2024, GRPO, alg. 1 (arXiv:2402.03300).

    Example:
        >>> KeepAll()(outcomes=[1.0, 1.0])
        True
    """

    def __call__(self, *, outcomes: Sequence[float]) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class MixedOutcomes(Keep):
    """Dynamic sampling: a group trains only if its outcomes differ.

        keep = 1[ min(r) < max(r) ];  for a right/wrong outcome, 0 < #right < G

    The comparison is exact and sees outcomes only, so that no shaping term and no rounding error keeps a group without
    a learning signal.

    Args:
        outcomes: the group's outcomes, at most G of them.

    Returns: whether they differ.

    Source: Yu et al. 2025, DAPO, eq. 11 (arXiv:2503.14476).

    Example:
        >>> MixedOutcomes()(outcomes=[1.0, -1.0]), MixedOutcomes()(outcomes=[0.7, 0.7])
        (True, False)
    """

    def __call__(self, *, outcomes: Sequence[float]) -> bool:
        return len(set(outcomes)) > 1
