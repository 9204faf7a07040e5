"""Rewards: verdicts when a group is sampled, shaped rewards when an update batch is made."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from research.component import apply, needs_of, require
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
        rewards = [
            [verifier.reward(accepted) for verifier, accepted in zip(self.verifiers, row, strict=True)]
            for row in verdicts
        ]
        return replace(
            group,
            outcomes=tuple(sum(row) for row in rewards),
            right=tuple(all(row) for row in verdicts),
            columns=tuple(zip(*rewards, strict=True)),
        )

    def needs(self) -> frozenset[str]:
        """The quantities that the shaping terms name."""
        return needs_of(self.shaping)

    def __call__(self, quantities: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`rewards` [N G]: outcomes plus every shaping term; `columns` [K N G], what each of them gave."""
        terms = [apply(term, quantities) for term in self.shaping]
        columns = torch.cat([quantities["columns"], torch.stack(terms)]) if terms else quantities["columns"]
        return {"rewards": sum(terms, start=quantities["outcomes"]), "columns": columns}
