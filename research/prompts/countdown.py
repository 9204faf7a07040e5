"""Countdown: an equation that reaches a goal from given numbers. Prompts are generated, and each can be solved."""

from dataclasses import dataclass
from random import Random

from research.component import require
from research.prompts.source import PromptSource
from research.prompts.templates import template_text
from research.seeding import derive_seed
from research.types import Prompt


def draw_expression(random: Random, numbers: list[int]) -> tuple[int, str]:
    """The value of an expression that uses each of two or more numbers once, and the expression.

    Every intermediate result is a whole number above 0.

    Example:
        >>> draw_expression(Random(1), [3, 8, 2])
        (13, '8 + (3 + 2)')
    """
    parts = [(number, str(number)) for number in numbers]
    while len(parts) > 1:
        random.shuffle(parts)
        (a, left), (b, right) = sorted((parts.pop(), parts.pop()), key=lambda part: -part[0])
        results = {"+": a + b, "*": a * b}
        if a > b:
            results["-"] = a - b
        if a % b == 0:
            results["/"] = a // b
        sign = random.choice(sorted(results))
        parts.append((results[sign], f"({left} {sign} {right})"))
    value, expression = parts[0]
    return value, expression[1:-1]


@dataclass(frozen=True, kw_only=True)
class Countdown(PromptSource):
    """Prompts of the countdown game, generated from a seed; every goal can be reached with each number used once.

    A prompt's reference answer is the goal. Its meta holds the `numbers`, and an `expression` that reaches the goal.

    Source: Pan et al. 2025, TinyZero (github.com/Jiayi-Pan/TinyZero).

    Example:
        >>> (prompt,) = Countdown(size=1, seed=0, template="{goal} from {numbers}").load()
        >>> eval(prompt.meta["expression"]) == int(prompt.answer)
        True
    """

    size: int
    """Number of prompts; at least 1."""
    seed: int
    """The source's own seed."""
    count: tuple[int, int] = (3, 4)
    """Fewest and most numbers of a prompt; at least 2."""
    largest: int = 99
    """Numbers are drawn from 1 to this; at least 1."""
    goal: tuple[int, int] = (10, 99)
    """Lowest and highest goal; at least 1."""
    template: str = "countdown"
    """Name of a template, or a text with `{numbers}` and `{goal}`."""

    def __post_init__(self) -> None:
        require(self.size >= 1, f"Countdown: size is at least 1, got {self.size}")
        require(self.largest >= 1, f"Countdown: largest is at least 1, got {self.largest}")
        require(2 <= self.count[0] <= self.count[1], f"Countdown: count is (fewest, most) from 2, got {self.count}")
        require(1 <= self.goal[0] <= self.goal[1], f"Countdown: goal is (lowest, highest) from 1, got {self.goal}")
        text = template_text(self.template, ("numbers", "goal"))
        missing = [place for place in ("{numbers}", "{goal}") if place not in text]
        require(not missing, f"Countdown: template must contain {' and '.join(missing)}, got {self.template!r}")

    def load(self) -> list[Prompt]:
        random, prompts = Random(derive_seed(self.seed, "countdown")), []
        seen: set[tuple[int, ...]] = set()
        for _ in range(1000 * self.size):
            numbers = [random.randint(1, self.largest) for _ in range(random.randint(*self.count))]
            goal, expression = draw_expression(random, numbers)
            task = (goal, *sorted(numbers))
            if self.goal[0] <= goal <= self.goal[1] and task not in seen:
                seen.add(task)
                prompts.append(self._prompt(len(prompts), numbers, goal, expression))
            if len(prompts) == self.size:
                return prompts
        raise ValueError(f"Countdown: these settings give fewer than size={self.size} different prompts: lower size")

    def _prompt(self, index: int, numbers: list[int], goal: int, expression: str) -> Prompt:
        text = template_text(self.template, ("numbers", "goal"))
        text = text.replace("{numbers}", str(numbers)).replace("{goal}", str(goal))
        meta = {"numbers": numbers, "expression": expression, "question": f"numbers {numbers}, goal {goal}"}
        return Prompt(id=f"countdown/{self.seed}/{index}", text=text, answer=str(goal), meta=meta)
