"""What a reward function says of the completions of a group, and what follows for those it cannot judge.

A function that has nothing to say gives None. On all completions of a group that means that the prompt is none of its
business, and it is left out of the group's sums; on some of them only, those have no reward: they cannot be compared
with the others, so they are left out of the baseline and get no advantage. A `Fault` says that the function was kept
from judging: it ran out of time, crashed, or would not begin. It is counted, and is never a verdict unless the recipe
says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

FAULTS = ("timeout", "crash", "memory", "nesting", "tower", "digits", "error")
"""Why a completion could not be judged: the worker ran out of time, died, ran out of memory, or of depth; the answer is
a tower of powers or one that is too high, or a number of too many digits; the library failed."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A function was kept from judging a completion."""

    reason: str
    """One of `FAULTS`."""
    verdict: bool | None = None
    """What the recipe takes it for: False, wrong; None, no verdict."""


Verdict = bool | float | Fault | None
"""Of a verifier True or False, of another reward function a number; None or a fault where it has neither."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the functions of a recipe made of one group."""

    outcomes: tuple[float, ...]
    right: tuple[bool, ...]
    columns: tuple[tuple[float, ...], ...]
    faults: tuple[str | None, ...]


def judged(verdicts: Sequence[Sequence[Verdict]], rewards: Sequence[Sequence[float | None]], verifiers: int) -> Judged:
    """Sum up the verdicts of every function on every completion of a group.

    A completion has a reward if at least one verifier judges the group and no function that does is silent about it.
    Otherwise its outcome and its columns are NaN and it is not right.

    Args:
        verdicts: of each function, of each completion; the verifiers' come first.
        rewards: what each verdict is worth; None where there is none.
        verifiers: how many of the functions are verifiers.

    Example:
        >>> judged([[True, False, None], [None, None, None]], [[1.0, -1.0, None], [None, None, None]], 1).outcomes
        (1.0, -1.0, nan)
    """
    speaks = [any(verdict is not None for verdict in row) for row in verdicts]
    spoken = [row for row, speaking in zip(rewards, speaks, strict=True) if speaking]
    judges = [row for row, speaking in zip(verdicts[:verifiers], speaks, strict=False) if speaking]
    size = range(len(verdicts[0]))
    scored = [bool(judges) and all(row[i] is not None for row in spoken) for i in size]
    columns = [[(row[i] or 0.0) if scored[i] else nan for i in size] for row in rewards]
    reasons = [[verdict.reason for row in verdicts if isinstance(verdict := row[i], Fault)] for i in size]
    return Judged(
        outcomes=tuple(sum(column[i] for column in columns) for i in size),
        right=tuple(scored[i] and all(row[i] is True for row in judges) for i in size),
        columns=tuple(tuple(column) for column in columns),
        faults=tuple(found[0] if found else None for found in reasons),
    )
