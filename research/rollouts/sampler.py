"""The sampler slot: an engine that completes prompts with the policy's current weights."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from research.component import require
from research.types import Group, Prompt


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How completions are drawn."""

    max_tokens: int
    """A completion that reaches this many tokens without its end token is cut: truncated. At least 1."""
    temperature: float = 1.0
    """Divides the logits; above 0. `rollout_logprobs` are taken after it."""
    top_p: float = 1.0
    """Keeps the smallest set of tokens with this much probability; in (0, 1]. Below 1 for evaluation only."""

    def __post_init__(self) -> None:
        require(self.max_tokens >= 1, f"Decoding: max_tokens is at least 1, got {self.max_tokens}")
        require(self.temperature > 0, f"Decoding: temperature is above 0, got {self.temperature}")
        require(0 < self.top_p <= 1, f"Decoding: top_p is in (0, 1], got {self.top_p}")


class Sampler(ABC):
    """An engine that samples groups."""

    @abstractmethod
    def attach(self, model: Any, tokenizer: Any) -> None:
        """Sample from this model from now on (its weights at each call, not a copy of them)."""

    @abstractmethod
    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """n completions of each prompt, in the prompts' order; the same call gives the same groups."""
