"""Four graded rewards for a solution between tags, as one notebook recipe adds them up.

The prompt ends with the tag that opens the working out, so no completion holds that tag. Every search is linear.
"""

import re
from dataclasses import dataclass

from research.component import Settings, require
from research.rewards.reward_functions import RewardFunction, Weighted
from research.types import Completion, Prompt

_END_OF_LINE = re.compile(r"\s*$", re.MULTILINE)
_NUMBER = re.compile(r"-?[\d.,]+")


def solution_in(text: str, *, worked: str, opening: str, closing: str) -> str | None:
    """The text between the solution's tags, behind the end of the working out, if nothing follows on its last line.

    Example:
        >>> solution_in("2</w> <s>3</s>", worked="</w>", opening="<s>", closing="</s>")
        '3'
    """
    after = text.find(worked)
    begun = text.find(opening, after + len(worked)) if after >= 0 else -1
    if begun < 0:
        return None
    first = begun + len(opening)
    end = text.find(closing, first + 1)
    while end >= 0:
        if _END_OF_LINE.match(text, end + len(closing)):
            return text[first:end]
        end = text.find(closing, end + 1)
    return None


@dataclass(frozen=True, kw_only=True)
class Tags(Settings):
    """The three tags that a solution is found by."""

    worked: str = "<end_working_out>"
    """The tag that ends the working out."""
    opening: str = "<SOLUTION>"
    """The tag before the solution."""
    closing: str = "</SOLUTION>"
    """The tag behind it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        tags = (self.worked, self.opening, self.closing)
        require(all(tags) and len(set(tags)) == 3, f"{type(self).__name__}: three different tags, got {tags}")


@dataclass(frozen=True, kw_only=True)
class SolutionFormat(Tags, Weighted, RewardFunction):
    """The working out ends, and a solution between its tags ends the line.

        r = weight · 3 · 1[ o = … </working> … <solution> x </solution> ]

    Args:
        prompt: not read.
        completion: one completion of it.

    Returns: 3 or 0.

    Raises: ValueError if weight is 0 or the tags are not three different ones.

    Source: Unsloth, notebook Qwen3_(4B)-GRPO, match_format_exactly.

    Example:
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), finish_reason="stop",
        ...     text="2+2<end_working_out><SOLUTION>4</SOLUTION>")
        >>> SolutionFormat()(prompt=Prompt(id="0", text="", answer="4"), completion=done)
        3.0
    """

    def __call__(self, *, prompt: Prompt, completion: Completion) -> float:
        found = solution_in(completion.text, worked=self.worked, opening=self.opening, closing=self.closing)
        return 0.0 if found is None else 3.0


@dataclass(frozen=True, kw_only=True)
class TagsOnce(Tags, Weighted, RewardFunction):
    """Each of the three tags gains if it occurs once and pays if it does not.

        r = weight · Σ_tag (0.5 if #tag = 1 else −1)

    Args:
        prompt: not read.
        completion: one completion of it.

    Returns: from −3 to 1.5.

    Raises: ValueError if weight is 0 or the tags are not three different ones.

    Source: Unsloth, notebook Qwen3_(4B)-GRPO, match_format_approximately.

    Example:
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), finish_reason="stop",
        ...     text="2+2<end_working_out><SOLUTION>4")
        >>> TagsOnce()(prompt=Prompt(id="0", text="", answer="4"), completion=done)
        0.0
    """

    def __call__(self, *, prompt: Prompt, completion: Completion) -> float:
        tags = (self.worked, self.opening, self.closing)
        return sum(0.5 if completion.text.count(tag) == 1 else -1.0 for tag in tags)


@dataclass(frozen=True, kw_only=True)
class SolutionAnswer(Tags, Weighted, RewardFunction):
    """The solution against the reference answer: the same text is best, a number near it still gains.

        r = weight · ( 5 if x = x*; 3.5 if equal but for surrounding space; 2 if x/x* ∈ [0.9, 1.1];
                       1.5 if x/x* ∈ [0.8, 1.2]; −2.5 for another number; −4.5 for no number; −2 for no solution )

    Args:
        prompt: the prompt, with its reference answer.
        completion: one completion of it.

    Returns: from −4.5 to 5.

    Raises: ValueError if weight is 0 or the tags are not three different ones.

    Source: Unsloth, notebook Qwen3_(4B)-GRPO, check_answer.

    Example:
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), finish_reason="stop",
        ...     text="2+2<end_working_out><SOLUTION> 4 </SOLUTION>")
        >>> SolutionAnswer()(prompt=Prompt(id="0", text="", answer="4"), completion=done)
        3.5
    """

    def __call__(self, *, prompt: Prompt, completion: Completion) -> float:
        found = solution_in(completion.text, worked=self.worked, opening=self.opening, closing=self.closing)
        if found is None:
            return -2.0
        if found == prompt.answer:
            return 5.0
        return 3.5 if found.strip() == prompt.answer.strip() else _nearness(found, prompt.answer)


def _nearness(found: str, expected: str) -> float:
    try:
        ratio = float(found) / float(expected)
    except (ValueError, ZeroDivisionError):
        return -4.5
    if 0.9 <= ratio <= 1.1:
        return 2.0
    return 1.5 if 0.8 <= ratio <= 1.2 else -2.5


@dataclass(frozen=True, kw_only=True)
class NumberInSolution(Weighted, RewardFunction):
    """The first number behind the solution's tag against the reference answer.

        r = weight · ( 3.5 if x = x*; −1.5 if not; −2.5 without a number; 0 if either cannot be read as one )

    Commas are left out of the number found, but not of the reference answer.

    Args:
        prompt: the prompt, with its reference answer.
        completion: one completion of it.

    Returns: from −2.5 to 3.5.

    Raises: ValueError if weight is 0 or the tag is empty.

    Source: Unsloth, notebook Qwen3_(4B)-GRPO, check_numbers.

    Example:
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), finish_reason="stop",
        ...     text="2+2<end_working_out><SOLUTION>it is 4.0 apples</SOLUTION>")
        >>> NumberInSolution()(prompt=Prompt(id="0", text="", answer="4"), completion=done)
        3.5
    """

    opening: str = "<SOLUTION>"
    """The tag before the solution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.opening != "", "NumberInSolution: opening is a tag")

    def __call__(self, *, prompt: Prompt, completion: Completion) -> float:
        begun = completion.text.find(self.opening)
        found = _NUMBER.search(completion.text, begun + len(self.opening)) if begun >= 0 else None
        if found is None:
            return -2.5
        try:
            return 3.5 if float(found[0].strip().replace(",", "")) == float(prompt.answer.strip()) else -1.5
        except ValueError:
            return 0.0
