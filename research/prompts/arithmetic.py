"""The built-in task: sums and differences worked out step by step, every step checkable.

A prompt is a chain of numbers, `47+8-19=`. A worked solution computes it from the left, one step for each operator,
and ends with the answer: `47+8=55;55-19=36;#36`. A step may be followed by its check, in brackets, `47+8=55(55-8=47);`,
which lengthens a solution and cannot change its answer. So the number of operators sets the difficulty, and the number
of checks the verbosity: a policy that has learned from both kinds has a length to control as well as an answer to find.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from research.component import require
from research.prompts.source import PromptSource
from research.seeding import derive_seed
from research.types import Prompt

ALPHABET = "0123456789+-=;()#"
"""Every character that prompts and solutions are made of."""


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """The chains that are drawn: uniformly many operators, each an addition or a subtraction of a uniform number."""

    operators: tuple[int, int] = (1, 3)
    """Fewest and most operators in a chain; at least 1."""
    largest: int = 9
    """Largest number in a chain; at least 1. No intermediate result is negative or has more digits than 3."""

    def __post_init__(self) -> None:
        low, high = self.operators
        require(
            1 <= low <= high, f"Difficulty: operators is (fewest, most) with 1 ≤ fewest ≤ most, got {self.operators}"
        )
        require(
            1 <= self.largest <= 999 // (high + 1),
            f"Difficulty: largest is 1 to {999 // (high + 1)}, got {self.largest}",
        )


def draw_chain(random: Random, difficulty: Difficulty) -> str:
    """One prompt text, `a±b±…=`, whose running result stays at or above 0."""
    total = random.randint(1, difficulty.largest)
    text = str(total)
    for _ in range(random.randint(*difficulty.operators)):
        number = random.randint(1, difficulty.largest)
        minus = number <= total and random.random() < 0.5
        total += -number if minus else number
        text += f"{'-' if minus else '+'}{number}"
    return text + "="


def worked_solution(
    text: str, checks: Sequence[bool] = (), slips: Sequence[int] = (), calls: Sequence[bool] = ()
) -> str:
    """The worked solution of a prompt text.

    Args:
        text: the prompt.
        checks: True at k if step k is followed by its check; steps beyond the list are not.
        slips: number k is added to the result of step k by mistake, and the solution goes on from there. A slip that
            would make a result negative is not made.
        calls: True at k if step k asks a calculator, with its sum in brackets; such a step has no slip.

    Example:
        >>> worked_solution("47+8-19=", [True, False])
        '47+8=55(55-8=47);55-19=36;#36'
        >>> worked_solution("47+8-19=", slips=[1])
        '47+8=56;56-19=37;#37'
        >>> worked_solution("47+8-19=", calls=[True, False])
        '(47+8)=55;55-19=36;#36'
    """
    first, *rest = re.findall(r"[+-]?\d+", text)
    total, steps = int(first), ""
    for k, signed in enumerate(rest):
        sign, number = signed[0], int(signed[1:])
        before, total = total, max(0, total + int(signed))
        asked = k < len(calls) and calls[k]
        slipped = total + (slips[k] if k < len(slips) and not asked else 0)
        total = slipped if slipped >= 0 else total
        check = f"({total}{'-' if sign == '+' else '+'}{number}={before})" if k < len(checks) and checks[k] else ""
        claim = f"({before}{sign}{number})" if asked else f"{before}{sign}{number}"
        steps += f"{claim}={total}{check};"
    return f"{steps}#{total}"


def accepted_steps(text: str) -> list[tuple[str, str]]:
    """The texts that each step of a solution may have: the sum at its place, alone or with its check.

    Example:
        >>> accepted_steps("47+8=")
        [('47+8=55', '47+8=55(55-8=47)')]
    """
    first, *rest = re.findall(r"[+-]?\d+", text)
    total, accepted = int(first), []
    for signed in rest:
        before, total = total, total + int(signed)
        claim = f"{before}{signed}={total}"
        accepted.append((claim, f"{claim}({total}{'-' if signed[0] == '+' else '+'}{signed[1:]}={before})"))
    return accepted


def right_steps(text: str, completion: str) -> list[bool]:
    """The verdict on each step of a completion: True if it is correct and continues the step before it.

    Steps are separated by `;`; brackets must hold a correct check of their step. Text after `#` is not a step.

    Example:
        >>> right_steps("47+8-19=", "47+8=55;55-19=37;#37")
        [True, False]
    """
    accepted = accepted_steps(text)
    steps = completion.split("#")[0].split(";")[:-1]
    return [k < len(accepted) and step in accepted[k] for k, step in enumerate(steps)]


@dataclass(frozen=True, kw_only=True)
class Arithmetic(PromptSource):
    """Prompts of the built-in task, generated from a seed.

    A prompt's meta holds its number of `operators`, its worked `solution` without checks and slips, and the `steps`
    that a verifier of steps accepts, so that both are known even where a template surrounds the text.
    """

    size: int
    """Number of prompts; at least 1."""
    seed: int
    """The source's own seed. Sources of different seeds may share prompts; `PromptData` keeps those out of training."""
    difficulty: Difficulty = field(default_factory=Difficulty)
    """The chains that are drawn."""
    distinct: bool = True
    """True if no text repeats. With repeats, short chains, of which there are few, stay as frequent as long ones."""

    def __post_init__(self) -> None:
        require(self.size >= 1, f"Arithmetic: size is at least 1, got {self.size}")

    def load(self) -> list[Prompt]:
        random = Random(derive_seed(self.seed, "arithmetic"))
        drawn: list[str] = []
        seen: set[str] = set()
        for _ in range(100 * self.size):
            text = draw_chain(random, self.difficulty)
            if not self.distinct or text not in seen:
                drawn.append(text)
                seen.add(text)
            if len(drawn) == self.size:
                return [self._prompt(index, text) for index, text in enumerate(drawn)]
        raise ValueError(f"Arithmetic: this difficulty has fewer than size={self.size} different prompts: lower size")

    def _prompt(self, index: int, text: str) -> Prompt:
        solution, steps = worked_solution(text), accepted_steps(text)
        meta = {"operators": len(steps), "solution": solution, "steps": steps}
        return Prompt(id=f"arithmetic/{self.seed}/{index}", text=text, answer=solution.rpartition("#")[2], meta=meta)
