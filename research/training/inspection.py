"""What a step would make of some prompts, with nothing learned, kept or logged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from research.types import Group, Prompt, UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """Groups, and their update batch up to where learning would begin."""

    groups: tuple[Group, ...]
    """All groups sampled, verified and annotated."""
    trains: tuple[bool, ...]
    """Whether a step would train on each group."""
    rewarded: UpdateBatch
    """All groups with their rewards."""
    credited: UpdateBatch | None
    """The groups that train, with advantages, weights and coefficients; None if there are none."""


def inspected(module: Any, prompts: Sequence[Prompt], number: int) -> Inspected:
    """Sample one group for each prompt, in one round, and give credit as a step would.

    Args:
        module: the run's module, its policy loaded.
        prompts: at least one.
        number: what tells this sampling from another of the same prompts, in the place of the sampling round.
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
