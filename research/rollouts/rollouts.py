"""How a step's groups are sampled: the engine, whose completions, which groups train, how many and how long."""

from dataclasses import dataclass, field

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
    top_p: float = 1.0
    """Samples from the smallest set of tokens with this much probability; below 1 not with an importance correction."""
    top_k: int = 0
    """Samples from this many tokens, 0 from all; above 0 not with an importance correction."""
    stop: list[str] = field(default_factory=list)
    """A completion ends with the first of these strings that it contains."""

    def __post_init__(self) -> None:
        if self.completions_per_prompt < 1:
            raise ValueError(f"rollouts.completions_per_prompt is at least 1, got {self.completions_per_prompt}")
        if isinstance(self.source, Demonstrations) and self.completions_per_prompt != 1:
            raise ValueError("rollouts.completions_per_prompt is 1 for Demonstrations: a prompt has one solution")
        self.decoding()

    def decoding(self) -> Decoding:
        """How the completions that train are drawn."""
        return Decoding(
            max_tokens=self.max_completion_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=tuple(self.stop),
        )
