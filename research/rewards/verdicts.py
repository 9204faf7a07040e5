"""Verdicts on the completions of a group, and the rewards that follow from them.

A function, which is a verifier or a reward function, gives None where it has nothing to say. If it says nothing about a
whole group, the prompt is not its to judge, and it is left out of the group's sums. If it says nothing about some
completions, those have no reward: they are left out of the baseline and get no advantage. A `Fault` is None with a
reason: the function ran out of time, crashed, or refused the answer. Faults are counted; a recipe may take them for
wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

FAULTS = ("timeout", "crash", "memory", "nesting", "tower", "digits", "error")
"""Reasons of faults: the worker ran out of time, died, or ran out of memory; the answer nests too deeply, holds a tower
of powers or a number of too many digits; the library failed."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The failure of a function to judge a completion."""

    reason: str
    """One of `FAULTS`."""
    verdict: bool | None = None
    """The verdict that the recipe takes it for: False for wrong, None for no verdict."""


Verdict = bool | float | Fault | None
"""True or False from a verifier, a number from a reward function; None or a fault from either."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Outcomes, verdicts, single rewards and faults of the completions of one group."""

    outcomes: tuple[float, ...]
    right: tuple[bool, ...]
    columns: tuple[tuple[float, ...], ...]
    faults: tuple[str | None, ...]


def judged(verdicts: Sequence[Sequence[Verdict]], rewards: Sequence[Sequence[float | None]], verifiers: int) -> Judged:
    """Sum up the verdicts of every function on every completion of a group.

    A completion has a reward if at least one verifier judges the group and no function that does is silent about it.
    Otherwise its outcome and its columns are NaN and it is not right.

    Args:
        verdicts: one row for each function, one verdict for each completion; the verifiers' come first.
        rewards: the rewards of the verdicts; None where there is none.
        verifiers: the number of functions that are verifiers.

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
