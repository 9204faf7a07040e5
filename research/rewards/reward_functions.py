"""The reward-function slot: a number added to the outcome, whatever is right."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from research.component import Component, Settings, require
from research.rewards.verdicts import Fault, Verdict
from research.types import Completion, Prompt


class RewardFunction(Component):
    """A number for (prompt, completion), times `weight`; None if it has nothing to say."""

    weight: float
    """Factor on the number; not 0."""
    in_workers: ClassVar[bool] = False
    """True if it waits for processes of its own, so that a group's completions are best judged at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weight != 0, f"{type(self).__name__}: weight is not 0: leave the function out instead")

    def resolve(self) -> None:
        """Look up what lies outside the recipe, so that a mistake shows before a run begins: nothing, by default."""

    def reward(self, value: Verdict) -> float | None:
        """The reward of the value; None where there is none."""
        return None if value is None or isinstance(value, Fault) else self.weight * value


@dataclass(frozen=True, kw_only=True)
class Weighted(Settings):
    """The weight of a reward function."""

    weight: float = 1.0
    """Factor on the function's number, reward units; not 0."""


@dataclass(frozen=True, kw_only=True)
class TagFormat(Weighted, RewardFunction):
    """The completion is a thought between one pair of tags, then an answer between another, and nothing else.

        r = weight · 1[ o = <first> … </first> <second> … </second> ]

    `strict`: each tag once and on a line of its own, from the first character to the last, but for one line break.
    `soft`: the two pairs follow one another somewhere, white space between them.

    Args:
        prompt: not read.
        completion: one completion of it.

    Returns: 1 or 0.

    Raises: ValueError if weight is 0, or unless the tags are two different words.

    Source: DeepSeek-AI et al. 2025, DeepSeek-R1, format rewards (arXiv:2501.12948), which leaves open how strictly.

    Example:
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), finish_reason="stop",
        ...     text="<think>1+2</think> <answer>3</answer>")
        >>> TagFormat(layout="soft")(prompt=Prompt(id="0", text="", answer="3"), completion=done)
        1.0
    """

    layout: Literal["soft", "strict"]
    """Strictness of the check: `soft` or `strict`, as above."""
    first: str = "think"
    """The first pair's word."""
    second: str = "answer"
    """The second pair's word."""

    def __post_init__(self) -> None:
        super().__post_init__()
        words = (self.first, self.second)
        require(
            all(word.isidentifier() for word in words) and self.first != self.second,
            f"TagFormat: first and second are two different words, got {self.first!r} and {self.second!r}",
        )

    def __call__(self, *, prompt: Prompt, completion: Completion) -> float:
        return float(self._strict(completion.text) if self.layout == "strict" else self._soft(completion.text))

    def _strict(self, text: str) -> bool:
        a, b = f"<{self.first}>\n", f"\n</{self.first}>\n<{self.second}>\n"
        c = f"\n</{self.second}>"
        body = text.removesuffix("\n")
        middle = body.find(b)
        once = all(text.count(tag) == 1 for w in (self.first, self.second) for tag in (f"<{w}>", f"</{w}>"))
        apart = middle >= len(a) and len(body) - len(c) >= middle + len(b)
        return once and body.startswith(a) and body.endswith(c) and apart

    def _soft(self, text: str) -> bool:
        opened, closed = text.find(f"<{self.first}>"), text.rfind(f"</{self.second}>")
        begun = opened + len(self.first) + 2
        between = re.finditer(rf"</{self.first}>\s*<{self.second}>", text)
        return opened >= 0 and any(begun <= match.start() and match.end() <= closed for match in between)
