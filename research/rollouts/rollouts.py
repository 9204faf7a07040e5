"""The `rollouts` section of a recipe: how the groups of a step are sampled."""

from dataclasses import dataclass, field

from research.rollouts.collect import Collector
from research.rollouts.retire import Retire
from research.rollouts.sampler import Decoding, Sampler
from research.rollouts.source import Demonstrations, Source


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Settings of sampling, and the components that take part in it."""

    sampler: Sampler
    """The engine."""
    source: Source
    """Origin of the completions that train: the policy, the policy it started from, or reference solutions."""
    collect: Collector
    """Selects the groups that train; dynamic sampling is here."""
    retire: Retire
    """Selects the prompts that are not drawn again."""
    completions_per_prompt: int
    """Group size G; at least 1."""
    max_completion_tokens: int
    """Longest completion, in tokens; a longer one is truncated."""
    temperature: float = 1.0
    """Temperature of sampling and of every log-probability in training; above 0."""
    top_p: float = 1.0
    """Nucleus sampling: the smallest set of tokens with this much probability; 1 for all tokens. Must be 1 where
    importance weights are used."""
    top_k: int = 0
    """Number of most probable tokens that are sampled from; 0 for all. Must be 0 where importance weights are used."""
    stop: list[str] = field(default_factory=list)
    """Stop strings: a completion ends with the first of them that it contains."""

    def __post_init__(self) -> None:
        if self.completions_per_prompt < 1:
            raise ValueError(f"rollouts.completions_per_prompt is at least 1, got {self.completions_per_prompt}")
        if isinstance(self.source, Demonstrations) and self.completions_per_prompt != 1:
            raise ValueError("rollouts.completions_per_prompt is 1 for Demonstrations: a prompt has one solution")
        self.decoding()

    def decoding(self) -> Decoding:
        """The decoding settings of the completions that train."""
        return Decoding(
            max_tokens=self.max_completion_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=tuple(self.stop),
        )
