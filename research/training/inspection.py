"""A dry run of a step up to credit: nothing is learned, kept or logged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from research.credit import Credit
from research.rollouts import Rollouts
from research.types import Group, Prompt, UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """Groups of a dry run, with their update batch before and after credit."""

    groups: tuple[Group, ...]
    """All groups sampled, verified and annotated."""
    trains: tuple[bool, ...]
    """True for each group that a step would train on."""
    rewarded: UpdateBatch
    """All groups with their rewards."""
    credited: UpdateBatch | None
    """The groups that train, with advantages, weights and coefficients; None if no group trains."""


@runtime_checkable
class Steps(Protocol):
    """The parts of a module's step up to where learning begins."""

    rollouts: Rollouts
    credit: Credit

    def sample(self, prompts: Sequence[Prompt], round_: int) -> list[Group]:
        """One sampling round, verified."""
        ...

    def annotate(self, groups: list[Group], *, always: bool = False) -> list[Group]:
        """The groups with the policy's log-probabilities and entropies."""
        ...

    def assemble(self, groups: Sequence[Group]) -> UpdateBatch:
        """The groups as tensors."""
        ...

    def reward(self, batch: UpdateBatch) -> UpdateBatch:
        """The batch with its rewards."""
        ...


def inspected(module: Steps, prompts: Sequence[Prompt], number: int) -> Inspected:
    """Sample one group for each prompt, in one round, and compute rewards and credit as a step does.

    Args:
        module: the module of the run, with its policy loaded.
        prompts: at least one.
        number: takes the place of the sampling round in the seed, so that other numbers give other completions.
    """

    def sample(prompts: Sequence[Prompt], _: int) -> list[Group]:
        return module.annotate(module.sample(prompts, number), always=True)

    once = replace(module.rollouts.collect, max_rounds=1)
    collected = once(prompts, draw=lambda n: [], sample=sample, surplus=())
    kept, groups = collected.groups, collected.sampled
    rewarded = module.reward(module.assemble(groups))
    credited = None
    if kept:
        credited = module.credit(rewarded if len(kept) == len(groups) else module.reward(module.assemble(kept)))
    trains = tuple(any(group is other for other in kept) for group in groups)
    return Inspected(groups=groups, trains=trains, rewarded=rewarded, credited=credited)
