"""The verifier slot: is this completion right?"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from research.component import Component, Settings, require
from research.rewards.answers import answer_after, last_number, number, plain
from research.rewards.verdicts import Fault, Verdict
from research.types import Completion, Prompt


class Verifier(Component):
    """Accepts (prompt, completion) or not, for a reward of `right` or `wrong`; None if it has nothing to say."""

    right: float
    """Reward of an accepted completion."""
    wrong: float
    """Reward of any other; below `right`, or 0 like it."""
    in_workers: ClassVar[bool] = False
    """True if it waits for processes of its own, so that a group's completions are best verified at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.right > self.wrong or self.right == self.wrong == 0,
            f"{type(self).__name__}: right is above wrong, or both are 0, got {self.right} and {self.wrong}",
        )

    def resolve(self) -> None:
        """Look up what lies outside the recipe, so that a mistake shows before a run begins: nothing, by default."""

    def answer(self, completion: Completion) -> str | None:
        """The completion's answer as it reads it, so that answers can be counted; None if it finds none."""
        return None

    def reward(self, verdict: Verdict) -> float | None:
        """The reward of the verdict; None where there is none."""
        accepted = verdict.verdict if isinstance(verdict, Fault) else verdict
        return None if accepted is None else self.right if accepted else self.wrong


@dataclass(frozen=True, kw_only=True)
class Worth(Settings):
    """The rewards of a verifier's two verdicts."""

    right: float = 1.0
    """Reward of an accepted completion."""
    wrong: float = -1.0
    """Reward of any other."""


@dataclass(frozen=True, kw_only=True)
class Marked(Settings):
    """The marker that an answer stands behind."""

    marker: str
    """Text before the answer: `#` in the built-in task; `\\boxed` takes a box's content, `<answer>` a tag's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.marker != "", f"{type(self).__name__}: marker is at least one character")


@dataclass(frozen=True, kw_only=True)
class ExactAnswer(Marked, Worth, Verifier):
    """The text after the last marker is the reference answer, to the letter.

        r = right if answer(o) = answer*, else wrong

    Surrounding white space is ignored. A truncated completion has no answer, so it is wrong.

    Args:
        prompt: the prompt, with its reference answer.
        completion: one completion of it.

    Returns: whether it is accepted.

    Raises: ValueError if the marker is empty or right ≤ wrong.

    Source: Yu et al. 2025, DAPO, eq. 7, for right = 1, wrong = −1 (arXiv:2503.14476).

    Example:
        >>> prompt = Prompt(id="0", text="1+2=", answer="3")
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text="1+2=3;#3", finish_reason="stop")
        >>> ExactAnswer(marker="#")(prompt=prompt, completion=done)
        True
    """

    def answer(self, completion: Completion) -> str | None:
        return None if completion.truncated else answer_after(self.marker, completion.text)

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool:
        return self.answer(completion) == prompt.answer.strip()


@dataclass(frozen=True, kw_only=True)
class NumericAnswer(Worth, Verifier):
    """The number after the last marker, or the last number of all, is the reference answer's.

        r = right if |x − x*| ≤ tolerance · |x*|, else wrong

    Thousands separators, currency, percent signs, units and ways of writing a minus do not matter; fractions are exact.
    So 50 % is 50, not 0.5. A truncated completion has no answer, so it is wrong.

    Args:
        prompt: the prompt, with its reference answer.
        completion: one completion of it.

    Returns: whether it is accepted; None if the reference answer is not a number.

    Raises: ValueError if tolerance < 0 or right ≤ wrong.

    Source: Cobbe et al. 2021, GSM8K, where the marker is `####` (arXiv:2110.14168).

    Example:
        >>> prompt = Prompt(id="0", text="A price?", answer="1200")
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text="#### $1,200", finish_reason="stop")
        >>> NumericAnswer(marker="####")(prompt=prompt, completion=done)
        True
    """

    marker: str
    """Text before the answer; `\\boxed` takes a box's content, `<answer>` a tag's, "" the last number of the text."""
    tolerance: float = 0.0
    """Relative, at least 0; 0 is exact."""
    closing: str = ""
    """Text that ends the answer; "" for the closing tag of a marker that is a tag, or else the completion's end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.tolerance >= 0, f"NumericAnswer: tolerance is at least 0, got {self.tolerance}")

    def answer(self, completion: Completion) -> str | None:
        found = self._number(completion)
        return None if found is None else str(found)

    def _number(self, completion: Completion) -> Fraction | None:
        text = last_number(completion.text) if self.marker == "" else answer_after(self.marker, completion.text)
        if self.closing and text is not None:
            text, closed, _ = text.partition(self.closing)
            text = text if closed else None
        return None if completion.truncated or text is None else number(text)

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool | None:
        expected = number(prompt.answer)
        if expected is None:
            return None
        found = self._number(completion)
        return found is not None and abs(found - expected) <= abs(expected) * Fraction(self.tolerance)


@dataclass(frozen=True, kw_only=True)
class ChoiceAnswer(Marked, Worth, Verifier):
    """The letter after the last marker is the reference answer's, in a question of several choices.

        r = right if letter(o) = letter*, else wrong

    The letter may stand in brackets, bold or a LaTeX text, in either case, with the choice's text behind it. Two
    letters joined by "or", "and", a comma or a slash are no answer. A truncated completion is wrong.

    Args:
        prompt: the prompt, whose reference answer is a letter.
        completion: one completion of it.

    Returns: whether it is accepted; None if the reference answer is not one of the letters.

    Raises: ValueError if the marker is empty, if there are not at least two letters, each once, or if right ≤ wrong.

    Source: Hendrycks et al. 2021, MMLU, for letters A to D (arXiv:2009.03300).

    Example:
        >>> prompt = Prompt(id="0", text="Which?", answer="B")
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text="Answer: (B) blue", finish_reason="stop")
        >>> ChoiceAnswer(marker="Answer:", letters="ABCD")(prompt=prompt, completion=done)
        True
    """

    letters: str = "ABCD"
    """The letters of the choices, in capitals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unique = len(set(self.letters)) == len(self.letters) >= 2
        require(
            unique and self.letters.isalpha() and self.letters.isupper(),
            f"ChoiceAnswer: letters are at least two different capitals, got {self.letters!r}",
        )

    def answer(self, completion: Completion) -> str | None:
        text = answer_after(self.marker, completion.text)
        return None if completion.truncated or text is None else self._letter(text)

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool | None:
        expected = self._letter(prompt.answer)
        return None if expected is None else self.answer(completion) == expected

    def _letter(self, text: str) -> str | None:
        """The one letter that the text begins with; None if it begins with none, or with two that are joined."""
        letter = rf"[\W_]{{0,8}}(?:\\?(?:text|textbf|mathrm|mathbf)\s*\{{)?[\W_]{{0,8}}([{self.letters}])(?![^\W_])"
        found = re.match(letter, plain(text[:200]), re.IGNORECASE)
        if found is None:
            return None
        joined = rf"[\W_]{{0,8}}?\s*(?:or|and|,|/|&|;)[\W_]{{0,8}}[{self.letters}](?![^\W_])"
        return None if re.match(joined, plain(text[:200])[found.end() :], re.IGNORECASE) else found[1].upper()
