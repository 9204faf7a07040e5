"""Verifiers that work in processes of their own, since a judge may hang or run code that the policy wrote."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from research.component import Settings, require
from research.errors import UserError
from research.rewards.answers import answer_after, folded_widths, with_commas
from research.rewards.hostile import refusal
from research.rewards.pool import shared_pool
from research.rewards.verdicts import Fault
from research.rewards.verifiers import Marked, Verifier, Worth
from research.rewards.worker import Value
from research.types import Completion, Prompt

TAIL = 20_000
"""Characters that are searched for an answer, counted from the end of a completion."""

_MARKED = re.compile(r"(?<!\\)\$|\\boxed|\\[(\[]")


@dataclass(frozen=True, kw_only=True)
class InWorkers(Settings):
    """The limits of the worker processes that judge completions."""

    in_workers: ClassVar[bool] = True

    timeout: float = 5.0
    """Seconds for one completion, from when a worker begins with it; above 0."""
    memory: int | None = 2048
    """Address space of a worker, MiB, at least 256; null for no limit, which a function that imports torch needs."""
    workers: int = 2
    """Processes at the most; at least 1. So many completions are judged at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name, memory = type(self).__name__, self.memory
        require(self.timeout > 0, f"{name}: timeout is above 0 seconds, got {self.timeout}")
        require(self.workers >= 1, f"{name}: workers is at least 1, got {self.workers}")
        require(memory is None or memory >= 256, f"{name}: memory is at least 256 MiB, or null, got {memory}")


@dataclass(frozen=True, kw_only=True)
class VerifiedInWorkers(InWorkers, Worth):
    """The limits of a verifier's worker processes, and the verdict where they are exceeded."""

    unverified: Literal["abstain", "wrong"] = "abstain"
    """A completion that could not be judged is left out of the baseline (`abstain`), or is `wrong`."""


def unjudged(verifier: VerifiedInWorkers) -> bool | None:
    """The verdict on a completion that the verifier could not judge; None leaves it out of the baseline."""
    return False if verifier.unverified == "wrong" else None


def ask(
    component: InWorkers, task: str, arguments: tuple[str, ...], request: Mapping[str, object], verdict: bool | None
) -> Value | Fault:
    """The value of a worker's task, or the fault that stopped it, taken for `verdict`."""
    pool = shared_pool(task, arguments, size=component.workers, memory=component.memory)
    reply = pool(request, component.timeout)
    return reply.value if reply.kind == "value" else Fault(reason=reply.kind, verdict=verdict)


@dataclass(frozen=True, kw_only=True)
class MathVerifyAnswer(VerifiedInWorkers, Verifier):
    r"""The answer is mathematically equal to the reference answer, by the math-verify library.

        r = right if answer(o) ≡ answer*, else wrong

    The last 20,000 characters are searched. Towers of powers, exponents of six digits, factorials of five-digit
    numbers, numbers of over 1,000 digits and brackets nested over 100 deep are never given to the library. A truncated
    completion has no answer, so it is wrong.

    Args:
        prompt: the prompt, with its reference answer in LaTeX or plain notation.
        completion: one completion of it.

    Returns: whether it is accepted, or the fault that kept it from being judged.

    Raises: ValueError if right ≤ wrong or a limit is out of range; UserError if the library cannot read the reference
        answer.

    Source: Kydlíček 2025, Math-Verify 0.9.0 (github.com/huggingface/Math-Verify).

    Example:
        >>> prompt = Prompt(id="0", text="", answer=r"\frac{1}{2}")
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=r"\boxed{0.5}", finish_reason="stop")
        >>> MathVerifyAnswer(marker="")(prompt=prompt, completion=done)
        True
    """

    marker: str
    """Text before the answer; `\\boxed` takes a box's content, `<answer>` a tag's, "" lets the library search."""

    def answer(self, completion: Completion) -> str | None:
        text = completion.text[-TAIL:]
        return None if completion.truncated or self.marker == "" else answer_after(self.marker, text)

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool | Fault:
        tail = completion.text[-TAIL:]
        answer = tail if self.marker == "" else answer_after(self.marker, tail)
        if completion.truncated or answer is None:
            return False
        if (reason := refusal(answer)) is not None:
            return Fault(reason=reason, verdict=unjudged(self))
        request = {"gold": as_math(prompt.answer), "answer": answer if self.marker == "" else as_math(answer)}
        same = ask(self, "math-verify", (), request, unjudged(self))
        return same if isinstance(same, Fault) else bool(same)


def as_math(answer: str) -> str:
    r"""The answer with ASCII minuses and thousands, between dollars unless it marks its mathematics itself.

    Example:
        >>> as_math("x^2"), as_math("$x^2$ m"), as_math(r"−1\,234")
        ('$x^2$', '$x^2$ m', '$-1,234$')
    """
    answer = with_commas(folded_widths(answer))
    return answer if _MARKED.search(answer) else f"${answer.strip()}$"


@dataclass(frozen=True, kw_only=True)
class ReasoningGymAnswer(Marked, VerifiedInWorkers, Verifier):
    """The task's own scorer, from the reasoning-gym library, accepts the text after the last marker.

        r = right if score(answer(o), entry) ≥ threshold, else wrong

    Only for prompts of the `ReasoningGym` source. Some scorers evaluate the answer as Python: worker processes bound
    its time and memory, but are no sandbox. A truncated completion is wrong.

    Args:
        prompt: a prompt whose meta names its `task` and holds its `entry`.
        completion: one completion of it.

    Returns: whether it is accepted, or the fault that kept it from being judged.

    Raises: ValueError if the marker is empty, right ≤ wrong, the threshold is outside (0, 1] or a limit is out of
        range; UserError if the prompt is from another source.

    Source: Stojanovski et al. 2025, Reasoning Gym (arXiv:2505.24760).

    Example:
        >>> ReasoningGymAnswer(marker="Answer:").threshold
        1.0
    """

    threshold: float = 1.0
    """The lowest score that is accepted; in (0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.threshold <= 1, f"ReasoningGymAnswer: threshold is in (0, 1], got {self.threshold}")

    def answer(self, completion: Completion) -> str | None:
        return None if completion.truncated else answer_after(self.marker, completion.text[-TAIL:])

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool | Fault:
        if not {"task", "entry"} <= set(prompt.meta):
            raise UserError(f"ReasoningGymAnswer: {prompt.id} is no prompt of ReasoningGym: take another verifier")
        answer = self.answer(completion)
        if answer is None:
            return False
        request = {"task": prompt.meta["task"], "entry": prompt.meta["entry"], "answer": answer}
        score = ask(self, "reasoning-gym", (), request, unjudged(self))
        return score if isinstance(score, Fault) else score is not None and score >= self.threshold
