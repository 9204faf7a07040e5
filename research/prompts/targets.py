"""Length targets: prompts that ask for a length."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from random import Random

from research.component import require
from research.seeding import derive_seed
from research.types import Prompt


class Targets(ABC):
    """Rewrites a source's prompt before it is drawn; the same prompt always gets the same text."""

    @abstractmethod
    def __call__(self, prompt: Prompt) -> Prompt:
        """The prompt with its request for a length; its meta has a `target`, in tokens, only if the text asks."""


@dataclass(frozen=True, kw_only=True)
class NoTarget(Targets):
    """Prompts that ask for no length. A field `target` of the source's own means something else, and is left out."""

    def __call__(self, prompt: Prompt) -> Prompt:
        if "target" not in prompt.meta:
            return prompt
        return replace(prompt, meta={name: value for name, value in prompt.meta.items() if name != "target"})


@dataclass(frozen=True, kw_only=True)
class LengthTarget(Targets):
    """Prompts that each ask for a length, drawn uniformly by their id: L1 of Aggarwal et al. 2025 (arXiv:2503.04697).

    Example:
        >>> asks = LengthTarget(template="{text} Think for {target} tokens.", low=100, high=100, seed=0)
        >>> asks(Prompt(id="0", text="1+2=?", answer="3")).text
        '1+2=? Think for 100 tokens.'
    """

    template: str
    """The prompt's new text, with `{text}` for the old one and `{target}` for the number; other braces mean nothing."""
    low: int
    """Fewest tokens asked for; at least 1. The paper: 100."""
    high: int
    """Most tokens asked for; at least `low`. The paper: 4,000."""
    seed: int
    """Seed of the targets; a prompt's target follows from it and the prompt's id."""

    def __post_init__(self) -> None:
        for word in ("{text}", "{target}"):
            require(word in self.template, f"LengthTarget: template must contain {word}, got {self.template!r}")
        require(1 <= self.low <= self.high, f"LengthTarget: 1 ≤ low ≤ high, got low={self.low} and high={self.high}")

    def __call__(self, prompt: Prompt) -> Prompt:
        target = Random(derive_seed(self.seed, "target", prompt.id)).randint(self.low, self.high)
        text = prompt.text.join(part.replace("{target}", str(target)) for part in self.template.split("{text}"))
        return replace(prompt, text=text, meta={**prompt.meta, "target": target})
