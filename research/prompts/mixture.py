"""Prompts from several sources: one after another, or reasoning-gym tasks mixed by weight."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from research.component import require
from research.prompts.gym import ReasoningGym
from research.prompts.source import PromptSource
from research.seeding import derive_seed
from research.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Together(PromptSource):
    """The prompts of several sources, one source after another."""

    sources: list[PromptSource]
    """At least one; their prompts' ids differ."""

    def __post_init__(self) -> None:
        require(len(self.sources) >= 1, "Together: give at least one source")

    def load(self) -> list[Prompt]:
        return self.counted()[0]

    def counted(self) -> tuple[list[Prompt], dict[str, int]]:
        """The prompts, and the sums of the sources' counts."""
        prompts: list[Prompt] = []
        counts: Counter[str] = Counter()
        for source in self.sources:
            more, counted = source.counted()
            prompts += more
            counts.update(counted)
        return prompts, dict(counts)


@dataclass(frozen=True, kw_only=True)
class WeightedTask:
    """A reasoning-gym task and its share of a mixture."""

    task: str
    """The task's name in reasoning-gym, such as `leg_counting`."""
    weight: float = 1.0
    """Weight beside the other tasks'; above 0."""
    config: dict[str, Any] = field(default_factory=dict)
    """The task's settings by name; the others keep reasoning-gym's defaults."""

    def __post_init__(self) -> None:
        require(self.weight > 0, f"WeightedTask: weight is above 0, got {self.weight}")


@dataclass(frozen=True, kw_only=True)
class ReasoningGymMixture(PromptSource):
    """Prompts of several reasoning-gym tasks. The task of each prompt is drawn from the seed, by weight.

        p(task) = weight(task) / Σ weights

    Each prompt is made as by `ReasoningGym`, and scored by its own task.
    """

    tasks: list[WeightedTask]
    """At least one; a task may come twice, with other settings."""
    size: int
    """Number of prompts; at least 1."""
    seed: int
    """Seed of the draws and of the first task; each further task has the next number. At least 0."""

    def __post_init__(self) -> None:
        require(len(self.tasks) >= 1, "ReasoningGymMixture: give at least one task")
        require(self.size >= 1, f"ReasoningGymMixture: size is at least 1, got {self.size}")
        for k in range(len(self.tasks)):
            self._source(k, 1)

    def load(self) -> list[Prompt]:
        """The prompts in the order in which their tasks were drawn."""
        random = Random(derive_seed(self.seed, "mixture"))
        drawn = random.choices(range(len(self.tasks)), [task.weight for task in self.tasks], k=self.size)
        queues = {k: iter(self._prompts(k, drawn)) for k in sorted(set(drawn))}
        return [replace(next(queues[k]), id=f"mixture/{self.seed}/{n}") for n, k in enumerate(drawn)]

    def _prompts(self, k: int, drawn: Sequence[int]) -> list[Prompt]:
        return self._source(k, drawn.count(k)).load()

    def _source(self, k: int, size: int) -> ReasoningGym:
        task = self.tasks[k]
        return ReasoningGym(task=task.task, size=size, seed=self.seed + k, config=task.config)
