"""The countdown game: reach the wanted value by arithmetic that uses each given number once."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from research.calculator import CalculationError, evaluate, numbers_in
from research.errors import UserError
from research.rewards.answers import answer_after, number
from research.rewards.verifiers import Marked, Verifier, Worth
from research.types import Completion, Prompt


@dataclass(frozen=True, kw_only=True)
class CountdownAnswer(Marked, Worth, Verifier):
    """The expression after the last marker uses each given number exactly once and has the wanted value.

        r = right if value(e) = answer* and numbers(e) = given, else wrong

    Values are exact fractions, and the evaluation is bounded. The text behind an equals sign is not read. A truncated
    completion is wrong.

    Args:
        prompt: a prompt whose meta holds the given `numbers`, and whose reference answer is the wanted value.
        completion: one completion of it.

    Returns: whether it is accepted.

    Raises: ValueError if the marker is empty or right ≤ wrong; UserError if the prompt gives no numbers or its
        reference answer is none.

    Source: Jiayi Pan and others 2025, TinyZero, countdown (github.com/Jiayi-Pan/TinyZero).

    Example:
        >>> prompt = Prompt(id="0", text="", answer="24", meta={"numbers": [2, 3, 4]})
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), finish_reason="stop",
        ...     text="<answer>(4 * 3) * 2 = 24</answer>")
        >>> CountdownAnswer(marker="<answer>")(prompt=prompt, completion=done)
        True
    """

    def answer(self, completion: Completion) -> str | None:
        return None if completion.truncated else answer_after(self.marker, completion.text)

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool:
        given, wanted = _task(prompt)
        answer = self.answer(completion)
        if answer is None:
            return False
        expression = answer.partition("=")[0]
        try:
            return Counter(numbers_in(expression)) == given and evaluate(expression) == wanted
        except CalculationError:
            return False


def _task(prompt: Prompt) -> tuple[Counter[Fraction], Fraction]:
    """The given numbers, each with how often it is given, and the wanted value."""
    given = prompt.meta.get("numbers")
    wanted = number(prompt.answer)
    if not given or wanted is None:
        raise UserError(
            f"CountdownAnswer: {prompt.id} has no `numbers` in its meta, or no number as its answer: give it both, or "
            "take another verifier"
        )
    return Counter(Fraction(str(value)) for value in given), wanted
