"""Which components do not go together, although each slot accepts its own."""

from research.credit import Credit
from research.objective import Objective


def fault(credit: Credit, objective: Objective) -> str | None:
    """Why this objective cannot read this credit; None if it can."""
    advantage, ratio, surrogate = credit.advantage, objective.ratio, objective.surrogate
    for part in (ratio, surrogate):
        if part.per_completion and not advantage.per_completion:
            return (
                f"{type(part).__name__} is written for one advantage a completion, and {type(advantage).__name__} "
                "gives one a token: take a ratio and a surrogate of single tokens"
            )
    return None
