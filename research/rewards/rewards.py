"""Rewards: verdicts when a group is sampled, shaped rewards when an update batch is made."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from research.component import apply, needs_of, require
from research.rewards.shaping import Shaping
from research.rewards.steps import Decode, NoSteps, StepVerifier, step_rewards
from research.rewards.tokens import TokenReward
from research.rewards.verifiers import Verifier
from research.types import Group


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """reward = Σ_k verifier_k + Σ_k shaping_k; the first sum is the outcome. Tokens and steps have their own."""

    verifiers: list[Verifier]
    """At least one; a completion is right when all of them accept it."""
    shaping: list[Shaping]
    """Terms added to the outcome; their order cannot matter. May be empty."""
    tokens: list[TokenReward]
    """Rewards of single tokens, added to one another, for advantages that read them. May be empty."""
    steps: StepVerifier
    """Which steps of a completion are right, for advantages that read them."""

    def __post_init__(self) -> None:
        require(len(self.verifiers) > 0, "rewards.verifiers: at least one verifier is needed")
        worth = [(verifier.right, verifier.wrong) for verifier in self.verifiers]
        for term in self.shaping:
            require(
                not term.zero_one or worth == [(1.0, 0.0)],
                f"rewards.shaping: {type(term).__name__} is written for an outcome of 1 or 0: take one verifier with "
                f"right 1 and wrong 0, not {' and '.join(f'{right:g}/{wrong:g}' for right, wrong in worth)}",
            )

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

    def verify_steps(self, group: Group, decode: Decode) -> Group:
        """A verified group with the rewards of its steps, if steps are verified."""
        if isinstance(self.steps, NoSteps):
            return group
        return replace(group, step_rewards=step_rewards(self.steps, group, decode))

    def needs(self) -> frozenset[str]:
        """The quantities that the shaping terms and the rewards of tokens name."""
        return needs_of([*self.shaping, *self.tokens])

    def __call__(self, quantities: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the verdicts and the tokens are worth.

        Returns: `rewards` [N G], outcomes plus every shaping term; `columns` [K N G], what each of them gave;
            `token_rewards` [B T], the sum of the rewards of tokens, 0 without any.
        """
        terms = [apply(term, quantities) for term in self.shaping]
        columns = torch.cat([quantities["columns"], torch.stack(terms)]) if terms else quantities["columns"]
        of_tokens = [apply(reward, quantities) for reward in self.tokens]
        return {
            "rewards": sum(terms, start=quantities["outcomes"]),
            "columns": columns,
            "token_rewards": sum(of_tokens, start=torch.zeros_like(quantities["mask"], dtype=torch.float32)),
        }
