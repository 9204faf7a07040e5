"""Decontamination: drops training prompts that share a run of words with an evaluation question."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from research.component import require
from research.prompts.filters import Filter
from research.prompts.source import PromptSource
from research.prompts.tokenizer import Tokenizer
from research.types import Prompt

_SINGLE = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Characters that are words of their own."""

_WORD = re.compile(rf"[{_SINGLE}]|[^\W_{_SINGLE}]+")


@dataclass(frozen=True, kw_only=True)
class NoOverlap(Filter):
    """Drops prompts that share n words in a row with an evaluation question.

    Words are compared without case and punctuation; each Chinese, Japanese or Korean character is a word. An evaluation
    question of `shortest` to n − 1 words is looked for as a whole.

    Source: Brown et al. 2020, app. C, where n is 8 to 13 by the length of the questions (arXiv:2005.14165);
    Shao et al. 2024, §2.1, n = 10 and shortest = 3 (arXiv:2402.03300).

    Example:
        >>> asked = [Prompt(id="e", text="How many eggs are in a dozen?", answer="12")]
        >>> texts = ("Say, how many EGGS are in a dozen", "How many are left")
        >>> train = [Prompt(id=text, text=text, answer="") for text in texts]
        >>> kept = NoOverlap(n=5, shortest=3)(prompts=train, held_out=asked, tokenizer=None)
        >>> [prompt.id for prompt in kept]
        ['How many are left']
    """

    n: int = 13
    """Words in a row that are an overlap; at least 1."""
    shortest: int = 8
    """Fewest words of an evaluation question that is looked for; 1 to n."""
    against: list[PromptSource] = field(default_factory=list)
    """Further evaluation questions, beside those of the run."""

    def __post_init__(self) -> None:
        require(1 <= self.shortest <= self.n, f"NoOverlap: 1 ≤ shortest ≤ n, got {self.shortest} and {self.n}")

    def __call__(
        self, *, prompts: Sequence[Prompt], held_out: Sequence[Prompt], tokenizer: Tokenizer | None
    ) -> list[Prompt]:
        asked = [*held_out, *(prompt for source in self.against for prompt in source.load())]
        seen: dict[int, set[tuple[str, ...]]] = {}
        for prompt in asked:
            words = _words(prompt.question)
            if len(words) >= self.shortest:
                size = min(self.n, len(words))
                seen.setdefault(size, set()).update(_runs(words, size))
        return [prompt for prompt in prompts if not self._overlaps(_words(prompt.question), seen)]

    def _overlaps(self, words: Sequence[str], seen: dict[int, set[tuple[str, ...]]]) -> bool:
        return any(run in runs for size, runs in seen.items() for run in _runs(words, size))


def _words(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


def _runs(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Every `size` words in a row."""
    return (tuple(words[k : k + size]) for k in range(len(words) - size + 1))
