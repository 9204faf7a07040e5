"""Filters: training prompts that are left out before the first is drawn."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from research.component import require
from research.prompts.tokenizer import Tokenizer
from research.types import Prompt

Unit = Literal["tokens", "characters"]


class Filter(ABC):
    """Keeps some of the prompts that the filters before it have kept."""

    @property
    def reads_tokenizer(self) -> bool:
        """True if lengths are counted in the policy's tokens."""
        return getattr(self, "unit", None) == "tokens"

    @abstractmethod
    def __call__(
        self, *, prompts: Sequence[Prompt], held_out: Sequence[Prompt], tokenizer: Tokenizer | None
    ) -> list[Prompt]:
        """The prompts that are kept, in order.

        Args:
            prompts: training prompts as the policy reads them.
            held_out: the evaluation prompts.
            tokenizer: the policy's; None only if `reads_tokenizer` is False.
        """


def _lengths(prompts: Sequence[Prompt], unit: Unit, tokenizer: Tokenizer | None) -> list[int]:
    """The length of each prompt."""
    texts = [prompt.text for prompt in prompts]
    if unit == "characters" or not texts:
        return [len(text) for text in texts]
    assert tokenizer is not None, "lengths in tokens need the tokenizer"
    return [len(ids) for ids in tokenizer(texts)["input_ids"]]


@dataclass(frozen=True, kw_only=True)
class DropLongest(Filter):
    """Drops the longest prompts.

        keep |x| ≤ quantile(1 − share)

    Source: Unsloth's Qwen3 recipe, which drops what is above the 90th percentile.

    Example:
        >>> texts = [Prompt(id=str(n), text="x" * n, answer="") for n in range(1, 11)]
        >>> len(DropLongest(share=0.1, unit="characters")(prompts=texts, held_out=[], tokenizer=None))
        9
    """

    unit: Unit
    """Unit of the lengths: the policy's tokens, or characters."""
    share: float = 0.1
    """Share of the prompts to drop; in (0, 1). Prompts that are just as long as the limit stay."""

    def __post_init__(self) -> None:
        require(0 < self.share < 1, f"DropLongest: share is in (0, 1), got {self.share}")

    def __call__(
        self, *, prompts: Sequence[Prompt], held_out: Sequence[Prompt], tokenizer: Tokenizer | None
    ) -> list[Prompt]:
        if not prompts:
            return []
        lengths = _lengths(prompts, self.unit, tokenizer)
        limit = np.quantile(lengths, 1 - self.share)
        return [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= limit]


@dataclass(frozen=True, kw_only=True)
class MaxLength(Filter):
    """Keeps prompts that are not longer than a limit."""

    unit: Unit
    """Unit of the lengths: the policy's tokens, or characters."""
    longest: int
    """Greatest length; at least 1."""
    solution: bool = False
    """True to count the reference solution with the prompt."""

    def __post_init__(self) -> None:
        require(self.longest >= 1, f"MaxLength: longest is at least 1, got {self.longest}")

    def __call__(
        self, *, prompts: Sequence[Prompt], held_out: Sequence[Prompt], tokenizer: Tokenizer | None
    ) -> list[Prompt]:
        lengths = _lengths(prompts, self.unit, tokenizer)
        if self.solution:
            solutions = [replace(prompt, text=str(prompt.meta.get("solution", ""))) for prompt in prompts]
            lengths = [sum(pair) for pair in zip(lengths, _lengths(solutions, self.unit, tokenizer), strict=True)]
        return [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= self.longest]


@dataclass(frozen=True, kw_only=True)
class AnswerMatches(Filter):
    r"""Keeps prompts whose whole reference answer matches a regular expression.

    Example:
        >>> rows = [Prompt(id=x, text="q", answer=x) for x in ("-1,024.5", "x+1", "7 or 8")]
        >>> numbers = AnswerMatches(pattern=r"-?\d[\d,]*(\.\d+)?")
        >>> [prompt.answer for prompt in numbers(prompts=rows, held_out=[], tokenizer=None)]
        ['-1,024.5']
    """

    pattern: str
    """The regular expression."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"AnswerMatches: {self.pattern!r} is no regular expression: {error}") from error

    def __call__(
        self, *, prompts: Sequence[Prompt], held_out: Sequence[Prompt], tokenizer: Tokenizer | None
    ) -> list[Prompt]:
        return [prompt for prompt in prompts if re.fullmatch(self.pattern, prompt.answer)]


@dataclass(frozen=True, kw_only=True)
class FieldRange(Filter):
    """Keeps prompts whose field of the meta is a number in a range: a level, a grade, a pass rate.

    A text with one number in it counts as that number: `Level 3` is 3.

    Example:
        >>> levels = FieldRange(field="level", low=3.0, high=5.0, missing="drop")
        >>> rows = [Prompt(id=x, text="q", answer="a", meta={"level": x}) for x in ("Level 2", "Level 5", "Level ?")]
        >>> [prompt.id for prompt in levels(prompts=rows, held_out=[], tokenizer=None)]
        ['Level 5']
    """

    field: str
    """Name in the meta."""
    low: float
    """Lowest number that is kept."""
    high: float
    """Highest number that is kept; at least `low`."""
    missing: Literal["drop", "keep"]
    """`drop` or `keep` prompts without such a number."""

    def __post_init__(self) -> None:
        require(self.low <= self.high, f"FieldRange: low is at most high, got {self.low} and {self.high}")

    def __call__(
        self, *, prompts: Sequence[Prompt], held_out: Sequence[Prompt], tokenizer: Tokenizer | None
    ) -> list[Prompt]:
        return [prompt for prompt in prompts if self._keeps(_number(prompt.meta.get(self.field)))]

    def _keeps(self, number: float | None) -> bool:
        return self.missing == "keep" if number is None else self.low <= number <= self.high


def _number(value: object) -> float | None:
    """The value as a number, or the only number in a text; None if there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str):
        found = re.findall(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", value)
        return float(found[0]) if len(found) == 1 else None
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, kw_only=True)
class DistinctQuestions(Filter):
    """Keeps the first prompt of each question."""

    def __call__(
        self, *, prompts: Sequence[Prompt], held_out: Sequence[Prompt], tokenizer: Tokenizer | None
    ) -> list[Prompt]:
        first: dict[str, Prompt] = {}
        for prompt in prompts:
            first.setdefault(prompt.question, prompt)
        return list(first.values())
