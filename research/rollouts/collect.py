"""Collects the groups of a step: one sampling round, or with dynamic sampling several, up to a limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from research.component import require
from research.rollouts.keep import Keep
from research.types import Group, Prompt


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The groups that one step collected."""

    groups: tuple[Group, ...]
    """The groups that train in this step: at most as many as there were prompts."""
    surplus: tuple[Group, ...]
    """Groups that may train and exceed the number of prompts; the next step begins with them."""
    sampled: tuple[Group, ...]
    """All groups sampled in this step, kept or not."""
    dropped: int
    """Number of groups sampled in this step that will never train."""
    rounds: int
    """Number of sampling rounds."""


@dataclass(frozen=True, kw_only=True)
class Collector:
    """Samples groups until enough of them may train."""

    keep: Keep
    """Decides whether a group trains."""
    max_rounds: int
    """Most sampling rounds in one step; at least 1. After the last one the step trains on the groups found so far."""

    def __post_init__(self) -> None:
        require(self.max_rounds >= 1, f"Collector: max_rounds is at least 1, got {self.max_rounds}")

    def __call__(
        self,
        prompts: Sequence[Prompt],
        *,
        draw: Callable[[int], list[Prompt]],
        sample: Callable[[Sequence[Prompt], int], list[Group]],
        surplus: Sequence[Group],
    ) -> Collected:
        """Collect as many groups as there are `prompts`.

        Args:
            prompts: this step's prompts, N of them, sampled in the first round.
            draw: draws more prompts, for the later rounds.
            sample: samples and verifies one group for each prompt; its second argument is the round, from 0.
            surplus: groups left over from earlier steps; the oldest train first.
        """
        wanted, found, sampled, rounds = len(prompts), list(surplus), [], 0
        while rounds < self.max_rounds and (rounds == 0 or len(found) < wanted):
            groups = sample(prompts if rounds == 0 else draw(wanted), rounds)
            sampled += groups
            found += [group for group in groups if self.keep(outcomes=group.known_outcomes)]
            rounds += 1
        return Collected(
            groups=tuple(found[:wanted]),
            surplus=tuple(found[wanted:]),
            sampled=tuple(sampled),
            dropped=len(sampled) + len(surplus) - len(found),
            rounds=rounds,
        )
