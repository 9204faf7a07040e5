"""The verifier slot: is this completion right?"""

from dataclasses import dataclass

from research.component import Component, require
from research.types import Completion, Prompt


class Verifier(Component):
    """accepts (prompt, completion) or not; worth `right` or `wrong`."""

    right: float
    """Reward of an accepted completion."""
    wrong: float
    """Reward of any other; below `right`."""

    def __post_init__(self) -> None:
        require(
            self.right > self.wrong, f"{type(self).__name__}: right is above wrong, got {self.right} and {self.wrong}"
        )

    def reward(self, accepted: bool) -> float:
        """What the verdict is worth."""
        return self.right if accepted else self.wrong


def answer_after(marker: str, text: str) -> str | None:
    """What follows the last `marker` in the text, stripped; None if there is no marker.

    Example:
        >>> answer_after("#", "1+2=3;#3")
        '3'
    """
    _, found, answer = text.rpartition(marker)
    return answer.strip() if found else None


@dataclass(frozen=True, kw_only=True)
class ExactAnswer(Verifier):
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

    marker: str
    """What stands before the answer: `#` in the built-in task."""
    right: float = 1.0
    """Reward of an accepted completion."""
    wrong: float = -1.0
    """Reward of any other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.marker != "", "ExactAnswer: marker is at least one character")

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool:
        return not completion.truncated and answer_after(self.marker, completion.text) == prompt.answer.strip()


@dataclass(frozen=True, kw_only=True)
class ReasoningGymAnswer(Verifier):
    """The task's own scorer, of the reasoning-gym library, gives the text after the last marker full marks.

        r = right if score(answer(o), entry) ≥ threshold, else wrong

    Only for prompts of the `ReasoningGym` source. A truncated completion is wrong.

    Args:
        prompt: a prompt whose meta names its `task` and holds its `entry`.
        completion: one completion of it.

    Returns: whether it is accepted.

    Raises: ValueError if the marker is empty, right ≤ wrong or the threshold is outside (0, 1];
        KeyError if the prompt is from another source.

    Source: Stojanovski et al. 2025, Reasoning Gym (arXiv:2505.24760).

    Example:
        >>> ReasoningGymAnswer(marker="Answer:").threshold
        1.0
    """

    marker: str
    """What stands before the answer."""
    threshold: float = 1.0
    """Lowest score that is right; in (0, 1]."""
    right: float = 1.0
    """Reward of an accepted completion."""
    wrong: float = -1.0
    """Reward of any other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.marker != "", "ReasoningGymAnswer: marker is at least one character")
        require(0 < self.threshold <= 1, f"ReasoningGymAnswer: threshold is in (0, 1], got {self.threshold}")

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool:
        from reasoning_gym import get_score_answer_fn

        answer = answer_after(self.marker, completion.text)
        if completion.truncated or answer is None:
            return False
        score = get_score_answer_fn(prompt.meta["task"])
        return score(answer, prompt.meta["entry"]) >= self.threshold  # pyright: ignore[reportCallIssue]
