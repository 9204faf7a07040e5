"""Draw and sample until enough groups train: one round without dynamic sampling, a bounded number with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from research.component import require
from research.rollouts.keep import Keep
from research.types import Group, Prompt


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What one step's sampling brought."""

    groups: tuple[Group, ...]
    """The groups that train now: at most as many as were asked for."""
    surplus: tuple[Group, ...]
    """Groups that would train but are not needed yet: the next step begins with them."""
    sampled: tuple[Group, ...]
    """All groups sampled in this step, kept or not."""
    dropped: int
    """How many of the groups sampled in this step will never train."""
    rounds: int
    """Sampling rounds."""


@dataclass(frozen=True, kw_only=True)
class Collector:
    """Which groups train, and how long to look for them."""

    keep: Keep
    """Which groups train."""
    max_rounds: int
    """Sampling rounds in one step at the most; at least 1. If they end first, the step trains on what was found."""

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
            draw: draws more prompts for the rounds after it.
            sample: samples and verifies one group for each prompt, given also the round, from 0.
            surplus: groups left from earlier steps; the oldest train first.
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
