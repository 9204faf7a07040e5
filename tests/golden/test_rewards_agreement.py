"""Exact, numeric and math-verify on pairs of known truth: where they disagree with it stands in docs/verifiers.md.

`python tests/golden/test_rewards_agreement.py` prints the tables that belong there.
"""

from functools import lru_cache
from pathlib import Path

import pytest
from answer_pairs import PAIRS, Pair

from research.rewards import AnswerLine, ExactAnswer, MathVerifyAnswer, NumericAnswer, Verifier
from research.types import Completion, Prompt

PAGE = Path(__file__).parents[2] / "docs" / "verifiers.md"
VERIFIERS: dict[str, Verifier] = {
    "ExactAnswer": ExactAnswer(marker="Answer:"),
    "AnswerLine": AnswerLine(),
    "NumericAnswer": NumericAnswer(marker="Answer:"),
    "MathVerifyAnswer": MathVerifyAnswer(marker="Answer:", timeout=120.0),
}


@lru_cache
def verdicts(name: str) -> tuple[object, ...]:
    """Of every pair in order."""
    return tuple(
        VERIFIERS[name](
            prompt=Prompt(id="pair", text="", answer=reference),
            completion=Completion(
                token_ids=(1,), rollout_logprobs=(0.0,), text=f"Answer: {answer}", finish_reason="stop"
            ),
        )
        for _, reference, answer, _ in PAIRS
    )


def mistakes(name: str) -> list[tuple[Pair, bool]]:
    """The pairs on which the verifier speaks and is not right, with what it says."""
    pairs = zip(PAIRS, verdicts(name), strict=True)
    return [(pair, verdict) for pair, verdict in pairs if isinstance(verdict, bool) and verdict != pair[3]]


def counts() -> list[str]:
    """The rows of the table of counts."""
    rows = []
    for name in VERIFIERS:
        wrong = mistakes(name)
        false_right = sum(verdict for _, verdict in wrong)
        silent = sum(verdict is None for verdict in verdicts(name))
        agree = len(PAIRS) - len(wrong) - silent
        rows.append(f"| `{name}` | {agree} | {len(wrong) - false_right} | {false_right} | {silent} |")
    return rows


def disagreements() -> list[str]:
    """The rows of the table of disagreements, of the two verifiers that compute."""
    return [
        f"| `{name}` | {kind} | `{reference}` | `{answer}` | {'right' if verdict else 'wrong'} |"
        for name in ("NumericAnswer", "MathVerifyAnswer")
        for (kind, reference, answer, _), verdict in mistakes(name)
    ]


def test_there_are_a_few_hundred_pairs_each_once():
    assert len(PAIRS) >= 300
    assert len({pair[:3] for pair in PAIRS}) == len(PAIRS)
    assert 0.4 < sum(truth for *_, truth in PAIRS) / len(PAIRS) < 0.6


def test_none_is_left_unjudged():
    """No pair is hostile, so no verdict is a fault."""
    assert all(verdict is None or isinstance(verdict, bool) for name in VERIFIERS for verdict in verdicts(name))


@pytest.mark.parametrize("name", ["ExactAnswer", "AnswerLine", "NumericAnswer"])
def test_what_compares_text_or_numbers_never_takes_another_answer_for_right(name: str):
    assert [pair for pair, verdict in mistakes(name) if verdict] == []


def test_the_page_has_the_counts_and_every_disagreement():
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert [
        line for line in page if line.startswith("| `") and line.count("|") == 6 and line[3:].split("`")[0] in VERIFIERS
    ] == [
        *counts(),
        *disagreements(),
    ]


if __name__ == "__main__":
    print("\n".join([*counts(), "", *disagreements()]))
