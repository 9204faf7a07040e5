"""Completions that try to hang, crash or fill the verifiers: what each verifier makes of ten thousand of them.

python -m benchmarks.hostile_completions --output benchmarks/hostile_completions.md
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from textwrap import fill
from time import perf_counter

import psutil

from research.rewards import (
    AnswerLine,
    ChoiceAnswer,
    CountdownAnswer,
    ExactAnswer,
    MathVerifyAnswer,
    NumberInSolution,
    NumericAnswer,
    RewardFunction,
    SolutionAnswer,
    SolutionFormat,
    TagFormat,
    TagsOnce,
    Verifier,
)
from research.rewards.verdicts import Fault
from research.types import Completion, Prompt

CHOICE = Prompt(id="choice", text="Which?", answer="B")
PROMPT = Prompt(id="hostile", text="How many?", answer="24", meta={"numbers": [2, 3, 4]})
WRAPPERS = ("{}", "\\boxed{{{}}}", "Answer: {}", "The answer is ${}$.", "<answer>{}</answer>", "#### {}")
JUNK = "0123456789.,+-*/^=()[]{}<>$%\\#&_~|!'\"; \n\t\x00\x01\x7f\u200b\u202e\ufeff√∞½²٣五é\ud7ff"
LATEX = ("\\frac", "\\sqrt", "\\binom", "\\left(", "\\right)", "\\begin{pmatrix}", "\\int", "\\sum", "\\text", "^", "_")


def towers(draw: random.Random) -> str:
    power = draw.choice(["**", "^", "^{", " ** ("])
    closing = {"^{": "}", " ** (": ")"}.get(power, "")
    levels = draw.randint(2, 6)
    return power.join(str(draw.randint(2, 99)) for _ in range(levels)) + closing * (levels - 1)


def brackets(draw: random.Random) -> str:
    opening, closing = draw.choice(["()", "{}", "[]", "<>"])
    depth = 10 ** draw.randint(2, 6)
    return opening * depth + (closing * depth if draw.random() < 0.5 else "")


def nested_latex(draw: random.Random) -> str:
    command, depth = (
        draw.choice(["\\frac{1}{", "\\sqrt{", "\\text{", "\\binom{2}{", "2^{", "\\boxed{"]),
        2 ** draw.randint(3, 11),
    )
    return command * depth + "1" + "}" * (depth if draw.random() < 0.8 else 0)


def big_numbers(draw: random.Random) -> str:
    digits = str(draw.randint(1, 9)) * 10 ** draw.randint(2, 6)
    return draw.choice(
        [digits, f"1e{digits[:6]}", f"0.{digits}", f"{digits}!", f"{draw.randint(2, 9)}^{{{digits[:9]}}}"]
    )


def heavy_algebra(draw: random.Random) -> str:
    n = draw.randint(8, 4000)
    return draw.choice(
        [
            f"(x+y+z+w)^{{{n}}}",
            f"\\sum_{{k=1}}^{{{10**9}}} k^k",
            f"\\int_0^1 x^{{x^{{x^{n}}}}} dx",
            f"{n}^{{{n}^{{2}}}} \\bmod 7",
            f"\\prod_{{k=1}}^{{{n}000}} k",
            f"{n}00000!",
            "+".join(f"\\sin({k}x)" for k in range(n % 200)),
            f"\\binom{{{10**8}}}{{{5 * 10**7}}}",
        ]
    )


def junk(draw: random.Random) -> str:
    return "".join(draw.choices([*JUNK, *LATEX], k=4 ** draw.randint(1, 8)))


def many_markers(draw: random.Random) -> str:
    piece = draw.choice(
        ["Answer:", "\\boxed{", "<answer>", "</think> ", "<SOLUTION>", "</SOLUTION>   ", "#### ", "$", "1,"]
    )
    return piece * 10 ** draw.randint(2, 5)


def sentences(draw: random.Random) -> str:
    return draw.choice(
        ["24", "24.0", "\\frac{48}{2}", "2 * 3 * 4", "(A) or (B)", "−24", "", "nan", "inf", "1/0", "0^{0}"]
    )


HEAVY = (towers, nested_latex, big_numbers, heavy_algebra)
KINDS: tuple[Callable[[random.Random], str], ...] = (*HEAVY, *(brackets, junk, many_markers, sentences) * 3)
"""In turn; a computation that times out costs the start of a worker too, so there are fewer of these."""


def hostile(count: int, seed: int) -> Iterator[tuple[str, Completion]]:
    """So many completions, each with the name of its kind; the same for the same seed."""
    draw = random.Random(seed)
    for k in range(count):
        kind = KINDS[k % len(KINDS)]
        text = draw.choice(WRAPPERS).replace("{{", "{").replace("}}", "}").replace("{}", kind(draw), 1)
        yield kind.__name__, Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=text, finish_reason="stop")


def functions(timeout: float) -> list[Verifier | RewardFunction]:
    """Every verifier and reward function that takes any text."""
    return [
        MathVerifyAnswer(marker="", timeout=timeout),
        MathVerifyAnswer(marker="\\boxed", timeout=timeout),
        ExactAnswer(marker="Answer:"),
        NumericAnswer(marker="\\boxed"),
        NumericAnswer(marker=""),
        AnswerLine(),
        ChoiceAnswer(marker="Answer:"),
        CountdownAnswer(marker="<answer>"),
        SolutionFormat(),
        TagsOnce(),
        SolutionAnswer(),
        NumberInSolution(),
        TagFormat(layout="soft"),
        TagFormat(layout="strict"),
    ]


def prompt_of(function: Verifier | RewardFunction) -> Prompt:
    """A prompt that the function has something to say on."""
    return CHOICE if isinstance(function, ChoiceAnswer) else PROMPT


@dataclass
class Account:
    """What one function made of the completions."""

    verdicts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    seconds: float = 0.0

    def add(self, verdict: object, seconds: float) -> None:
        reason = verdict.reason if isinstance(verdict, Fault) else "judged"
        self.verdicts[reason] += 1
        self.slowest, self.seconds = max(self.slowest, seconds), self.seconds + seconds


def judge(function: Verifier | RewardFunction, completions: Sequence[Completion], account: Account) -> None:
    """Add the verdicts on these completions to the account; whatever the function raises ends the run."""

    def one(completion: Completion) -> tuple[object, float]:
        began = perf_counter()
        verdict = function(prompt=prompt_of(function), completion=completion)
        return verdict, perf_counter() - began

    # As many threads as workers, so that a second is a second of verifying and not of waiting for a worker.
    with ThreadPoolExecutor(max_workers=2 if function.in_workers else 1) as threads:
        for verdict, seconds in threads.map(one, completions):
            account.add(verdict, seconds)


def chunks(count: int, seed: int, size: int = 200) -> Iterator[list[tuple[str, Completion]]]:
    """The completions, some at a time: all of them would take gigabytes."""
    completions = hostile(count, seed)
    while chunk := list(islice(completions, size)):
        yield chunk


def label(function: Verifier | RewardFunction) -> str:
    settings = [f"{name}={getattr(function, name)!r}" for name in ("marker", "layout") if hasattr(function, name)]
    return f"{type(function).__name__}({', '.join(settings)})"


def report(count: int, seed: int, timeout: float) -> str:
    """The accounts of all functions as Markdown."""
    accounts = [(function, Account()) for function in functions(timeout)]
    kinds: Counter[str] = Counter()
    characters = longest = 0
    process, before = psutil.Process(), None
    for chunk in chunks(count, seed):
        kinds.update(kind for kind, _ in chunk)
        completions = [completion for _, completion in chunk]
        characters += sum(len(c.text) for c in completions)
        longest = max(longest, *(len(c.text) for c in completions))
        for function, account in accounts:
            judge(function, completions, account)
        before = before or process.memory_info().rss
    grown = (process.memory_info().rss - (before or 0)) / 2**20
    workers = [child for child in process.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    return "\n".join(
        [
            "# Hostile completions",
            "",
            f"`python -m benchmarks.hostile_completions --count {count} --seed {seed} --timeout {timeout:g}`",
            "",
            f"{count:,} completions,",
            fill(f"{', '.join(f'{n:,} {kind}' for kind, n in sorted(kinds.items()))};", 118),
            f"{characters / 1e6:,.0f} million characters in all, the longest {longest:,}.",
            "No function hung, crashed or raised. The slowest time of a verifier in workers holds its timeout and the",
            "start of the next worker.",
            "",
            "| function | judged | not judged, by reason | slowest, s | mean, ms |",
            "|---|---|---|---|---|",
            *(row(function, account, count) for function, account in accounts),
            "",
            f"Memory of the process from the first 200 completions to the end: {grown:+.0f} MiB.",
            f"Worker processes at the end: {len(workers)}.",
            "",
        ]
    )


def row(function: Verifier | RewardFunction, account: Account, count: int) -> str:
    faults = ", ".join(f"{n} {reason}" for reason, n in sorted(account.verdicts.items()) if reason != "judged")
    cells = (
        f"`{label(function)}`",
        f"{account.verdicts['judged']:,}",
        faults or "–",
        f"{account.slowest:.2f}",
        f"{1000 * account.seconds / count:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds a completion, of verifiers in workers")
    parser.add_argument("--output", type=Path, help="a Markdown file; printed if left out")
    options = parser.parse_args()
    text = report(options.count, options.seed, options.timeout)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
