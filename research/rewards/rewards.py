"""Rewards: verdicts when a group is sampled, shaped rewards when an update batch is made."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from research.component import apply, needs_of, require
from research.errors import UserError
from research.rewards.reward_functions import RewardFunction
from research.rewards.shaping import Shaping
from research.rewards.steps import Decode, NoSteps, StepVerifier, step_rewards
from research.rewards.tokens import TokenReward
from research.rewards.verdicts import Verdict, judged
from research.rewards.verifiers import Verifier
from research.types import Completion, Group


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """reward = Σ_k verifier_k + Σ_k weight_k · function_k + Σ_k shaping_k; without shaping it is the outcome.

    Tokens and steps have rewards of their own.
    """

    verifiers: list[Verifier]
    """At least one; a completion is right when all of them accept it."""
    shaping: list[Shaping]
    """Terms added to the outcome; their order cannot matter. May be empty."""
    tokens: list[TokenReward]
    """Rewards of single tokens, added to one another, for advantages that read them. May be empty."""
    steps: StepVerifier
    """The verifier of a completion's steps, for advantages that read step rewards."""
    functions: list[RewardFunction] = field(default_factory=list)
    """Graded rewards added to the verifiers', whatever is right. May be empty."""

    def __post_init__(self) -> None:
        require(len(self.verifiers) > 0, "rewards.verifiers: at least one verifier is needed")
        worth = [(verifier.right, verifier.wrong) for verifier in self.verifiers]
        for term in self.shaping:
            require(
                not term.zero_one or (worth == [(1.0, 0.0)] and not self.functions),
                f"rewards.shaping: {type(term).__name__} is written for an outcome of 1 or 0: take one verifier with "
                f"right 1 and wrong 0, not {self._worth()}",
            )
        for function in self._all():
            function.resolve()

    def names(self) -> list[str]:
        """The name of every verifier and reward function, numbered where it stands twice, in the columns' order."""
        kinds = [type(function).__name__ for function in self._all()]
        return [f"{k}_{kinds[: i + 1].count(k)}" if kinds.count(k) > 1 else k for i, k in enumerate(kinds)]

    def verify(self, group: Group) -> Group:
        """The group with its outcomes, verdicts and faults."""
        functions = self._all()
        verdicts = [self._verdicts(function, group) for function in functions]
        rewards = [
            [function.reward(verdict) for verdict in row] for function, row in zip(functions, verdicts, strict=True)
        ]
        found = judged(verdicts, rewards, len(self.verifiers))
        return replace(
            group,
            outcomes=found.outcomes,
            right=found.right,
            columns=found.columns,
            faults=found.faults if any(found.faults) else (),
        )

    def answer(self, completion: Completion) -> str | None:
        """The completion's answer, by the first verifier that finds one; None if none does."""
        found = (verifier.answer(completion) for verifier in self.verifiers)
        return next((answer for answer in found if answer is not None), None)

    def _verdicts(self, function: Verifier | RewardFunction, group: Group) -> list[Verdict]:
        """The function's verdict on each completion; all at once if it waits for processes of its own."""

        def verdict(completion: Completion) -> Verdict:
            return function(prompt=group.prompt, completion=completion)

        if not function.in_workers:
            return [verdict(completion) for completion in group.completions]
        with ThreadPoolExecutor(max_workers=len(group.completions)) as threads:
            return list(threads.map(verdict, group.completions))

    def _all(self) -> list[Verifier | RewardFunction]:
        return [*self.verifiers, *self.functions]

    def _worth(self) -> str:
        worth = [f"{verifier.right:g}/{verifier.wrong:g}" for verifier in self.verifiers]
        return " and ".join([*worth, *(type(function).__name__ for function in self.functions)])

    def verify_steps(self, group: Group, decode: Decode) -> Group:
        """A verified group with the rewards of its steps, if steps are verified."""
        if isinstance(self.steps, NoSteps):
            return group
        return replace(group, step_rewards=step_rewards(self.steps, group, decode))

    def needs(self) -> frozenset[str]:
        """The quantities that the shaping terms and the rewards of tokens name."""
        return needs_of([*self.shaping, *self.tokens])

    def __call__(self, quantities: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rewards of completions and of single tokens.

        Returns: `rewards` [N G], outcomes plus every shaping term; `columns` [K N G], what each of them gave;
            `token_rewards` [B T], the sum of the rewards of tokens, 0 without any.

        Raises: UserError if a shaping term of a judged completion is not a number: only a verifier may abstain.
        """
        terms = [apply(term, quantities) for term in self.shaping]
        judged = ~quantities["outcomes"].isnan()
        for term, value in zip(self.shaping, terms, strict=True):
            if value[judged].isnan().any():
                raise UserError(f"{type(term).__name__} gave a reward that is not a number: mend it, or leave it out")
        columns = torch.cat([quantities["columns"], torch.stack(terms)]) if terms else quantities["columns"]
        of_tokens = [apply(reward, quantities) for reward in self.tokens]
        return {
            "rewards": sum(terms, start=quantities["outcomes"]),
            "columns": columns,
            "token_rewards": sum(of_tokens, start=torch.zeros_like(quantities["mask"], dtype=torch.float32)),
        }
