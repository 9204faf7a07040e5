"""The step-verifier slot: which steps of a completion are right, and on which tokens they end.

Process supervision gives a reward to every step, on the step's last token. All that follows the last verified step is
one more step: the answer of a finished completion, or the rest of a truncated one. It ends on the completion's last
token, the end token included, and is right when the completion is. So every completion has at least one step, and one
without verified steps has its outcome alone.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from research.component import Component, require
from research.errors import UserError
from research.types import Completion, Group, Prompt

Decode = Callable[[Sequence[int]], str]
"""Tokens → their text without special tokens, as the sampler decoded the completion."""


class StepVerifier(Component):
    """The steps of a completion before its last: where each ends in the text, and whether it is right."""

    right: float
    """Reward of a right step."""
    wrong: float
    """Reward of any other; below `right`."""

    def reward(self, accepted: bool) -> float:
        """The reward of the verdict on one step."""
        return self.right if accepted else self.wrong


@dataclass(frozen=True, kw_only=True)
class NoSteps(StepVerifier):
    """Steps are not verified: outcome supervision.

        steps = ∅

    Args:
        prompt: not read.
        completion: not read.

    Returns: no step.

    Source: Shao et al. 2024, DeepSeekMath, §4.1.2 (arXiv:2402.03300).

    Example:
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text="1+2=3;#3", finish_reason="stop")
        >>> NoSteps()(prompt=Prompt(id="0", text="1+2=", answer="3"), completion=done)
        []
    """

    def __call__(self, *, prompt: Prompt, completion: Completion) -> list[tuple[int, bool]]:
        return []


@dataclass(frozen=True, kw_only=True)
class ArithmeticSteps(StepVerifier):
    """The steps of the built-in task: each is a piece up to its `;`, compared with what the prompt accepts there.

        r_j = right if step_j ∈ accepted_j, else wrong

    Each step is compared with the true running result, whatever the steps before it say. The text behind the first `#`
    belongs to the last step, whose verdict is the completion's. The paper scores steps with a learned reward model;
    here a rule does.

    Args:
        prompt: a prompt whose meta holds the accepted `steps`.
        completion: one completion of it.

    Returns: of each step in order, the position in the text just behind it (behind its `;`), and whether it is right.

    Raises: ValueError if right ≤ wrong; UserError if the prompt is from another source.

    Source: Shao et al. 2024, DeepSeekMath, process supervision, §4.1.3 (arXiv:2402.03300).

    Example:
        >>> prompt = Prompt(id="0", text="1+2=", answer="3", meta={"steps": [["1+2=3", "1+2=3(3-2=1)"]]})
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text="1+2=3;#3", finish_reason="stop")
        >>> ArithmeticSteps()(prompt=prompt, completion=done)
        [(6, True)]
    """

    right: float = 1.0
    """Reward of a right step, and of the last step of a right completion."""
    wrong: float = -1.0
    """Reward of any other step."""

    def __post_init__(self) -> None:
        require(self.right > self.wrong, f"ArithmeticSteps: right is above wrong, got {self.right} and {self.wrong}")

    def __call__(self, *, prompt: Prompt, completion: Completion) -> list[tuple[int, bool]]:
        if "steps" not in prompt.meta:
            raise UserError(
                f"ArithmeticSteps verifies prompts of the built-in task, and {prompt.id} is not: take NoSteps"
            )
        accepted, found, position = prompt.meta["steps"], [], 0
        for k, step in enumerate(completion.text.split("#")[0].split(";")[:-1]):
            position += len(step) + 1
            found.append((position, k < len(accepted) and step in accepted[k]))
        return found


def step_rewards(steps: StepVerifier, group: Group, decode: Decode) -> tuple[tuple[float | None, ...], ...]:
    """For each token of each completion of a verified group: the reward of the step that ends there, or None.

    A step that a tool ends is rewarded on the last token before it that the policy wrote.

    Steps that end on the same token, as tokens of several characters allow, are one step, right if all of them are. A
    completion that could not be judged has no steps.
    """
    rows, unknown = [], {i for i, scored in enumerate(group.scored) if not scored}
    for i, (completion, right) in enumerate(zip(group.completions, group.right, strict=True)):
        T = len(completion.token_ids)
        if i in unknown:
            rows.append((None,) * T)
            continue
        written = list(accumulate((t if own else 0 for t, own in enumerate(completion.own)), max))
        last = written[-1]
        ends = {last: right}
        for position, accepted in steps(prompt=group.prompt, completion=completion):
            token = written[min(last, last_token(completion, position, decode))]
            ends[token] = ends.get(token, True) and accepted
        rows.append(tuple(steps.reward(ends[t]) if t in ends else None for t in range(T)))
    return tuple(rows)


def last_token(completion: Completion, position: int, decode: Decode) -> int:
    """The index of the token that completes the character before `position`.

    Example:
        >>> words = {0: "1+1=", 1: "2;#", 2: "2"}
        >>> done = Completion(token_ids=(0, 1, 2), rollout_logprobs=(0.0,) * 3, text="1+1=2;#2", finish_reason="length")
        >>> last_token(done, 6, lambda ids: "".join(words[i] for i in ids))
        1
    """
    ids, wanted = completion.token_ids, completion.text[:position]
    return bisect_left(range(len(ids)), True, key=lambda t: decode(ids[: t + 1])[:position] == wanted)
