"""How a step's groups are sampled: the engine, whose completions, which groups train, how many and how long."""

from dataclasses import dataclass

from research.rollouts.collect import Collector
from research.rollouts.retire import Retire
from research.rollouts.sampler import Decoding, Sampler
from research.rollouts.source import Demonstrations, Source


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """How a step's groups are sampled."""

    sampler: Sampler
    """The engine."""
    source: Source
    """Whose completions train: the policy's, those of the policy it started from, or reference solutions."""
    collect: Collector
    """Which groups train: dynamic sampling."""
    retire: Retire
    """Which prompts are not drawn again."""
    completions_per_prompt: int
    """G; at least 1."""
    max_completion_tokens: int
    """A completion is cut here."""
    temperature: float = 1.0
    """Of sampling, and of every log-probability in training; above 0."""

    def __post_init__(self) -> None:
        if self.completions_per_prompt < 1:
            raise ValueError(f"rollouts.completions_per_prompt is at least 1, got {self.completions_per_prompt}")
        if isinstance(self.source, Demonstrations) and self.completions_per_prompt != 1:
            raise ValueError("rollouts.completions_per_prompt is 1 for Demonstrations: a prompt has one solution")
        self.decoding()

    def decoding(self) -> Decoding:
        """Untruncated sampling, so that the sampler's distribution is the policy's."""
        return Decoding(max_tokens=self.max_completion_tokens, temperature=self.temperature)
