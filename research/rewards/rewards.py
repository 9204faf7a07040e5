"""Rewards: verdicts when a group is sampled, shaped rewards when an update batch is made."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from research.component import apply, require
from research.rewards.shaping import Shaping
from research.rewards.verifiers import Verifier
from research.types import Group


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """reward = Σ_k verifier_k + Σ_k shaping_k; the first sum is the outcome."""

    verifiers: list[Verifier]
    """At least one; a completion is right when all of them accept it."""
    shaping: list[Shaping]
    """Terms added to the outcome; their order cannot matter. May be empty."""

    def __post_init__(self) -> None:
        require(len(self.verifiers) > 0, "rewards.verifiers: at least one verifier is needed")

    def verify(self, group: Group) -> Group:
        """The group with its outcomes and verdicts."""
        verdicts = [
            [verifier(prompt=group.prompt, completion=completion) for verifier in self.verifiers]
            for completion in group.completions
        ]
        outcomes = tuple(
            sum(verifier.reward(accepted) for verifier, accepted in zip(self.verifiers, row, strict=True))
            for row in verdicts
        )
        return replace(group, outcomes=outcomes, right=tuple(all(row) for row in verdicts))

    def shape(self, quantities: Mapping[str, Tensor]) -> Float[Tensor, "N G"]:
        """Outcomes plus every shaping term; `quantities` holds per-group tensors [N G]."""
        return sum((apply(term, quantities) for term in self.shaping), start=quantities["outcomes"])
