"""What must hold for whatever a policy writes: searches agree with regular expressions, numbers with fractions."""

import re
from contextlib import suppress
from fractions import Fraction
from math import isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.hostile_completions import PROMPT, functions, hostile, prompt_of
from research.calculator import CalculationError, evaluate
from research.rewards import NumberInSolution, TagFormat
from research.rewards.answer_line import normal_form
from research.rewards.answers import boxed, last_number, number
from research.rewards.hostile import deepest, refusal
from research.rewards.solution import solution_in
from research.rewards.verdicts import FAULTS, Fault, judged
from research.types import Completion, Prompt

quick = settings(max_examples=60, deadline=None)
W, S, E = "<end_working_out>", "<SOLUTION>", "</SOLUTION>"


def completed(text: str) -> Completion:
    return Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=text, finish_reason="stop")


def pieces(*words: str) -> st.SearchStrategy[str]:
    """Texts of these words and a few others in any order."""
    return st.lists(st.sampled_from([*words, "4", " ", "\n", "x", "-1,0.5", "."]), max_size=12).map("".join)


# Searches -------------------------------------------------------------------------------------------------------------

FORMAT = re.compile(rf"{W}.*?{S}(.+?){E}\s*$", re.MULTILINE | re.DOTALL)
FIRST_NUMBER = re.compile(rf"{S}.*?\s*(-?[\d.,]+)", re.MULTILINE | re.DOTALL)
SOFT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
STRICT = re.compile(r"<think>\n(.*)\n</think>\n<answer>\n(.*)\n</answer>\n?", re.DOTALL)


@quick
@given(pieces(W, S, E))
def test_the_solution_is_what_the_regular_expression_captures(text: str):
    match = FORMAT.search(text)
    assert solution_in(text, worked=W, opening=S, closing=E) == (match[1] if match else None)


@quick
@given(pieces(S, E))
def test_the_first_number_is_what_the_regular_expression_captures(text: str):
    match = FIRST_NUMBER.search(text)
    try:
        expected = -2.5 if match is None else 3.5 if float(match[1].replace(",", "")) == 4.0 else -1.5
    except ValueError:
        expected = 0.0
    function = NumberInSolution()
    assert function(prompt=Prompt(id="0", text="", answer="4"), completion=completed(text)) == expected


@quick
@given(pieces("<think>", "</think>", "<answer>", "</answer>", "<think>\n", "\n</think>\n<answer>\n", "\n</answer>"))
def test_tags_are_where_the_regular_expressions_find_them(text: str):
    soft, strict = TagFormat(layout="soft"), TagFormat(layout="strict")
    assert soft(prompt=PROMPT, completion=completed(text)) == float(SOFT.search(text) is not None)
    once = all(text.count(tag) == 1 for tag in ("<think>", "</think>", "<answer>", "</answer>"))
    assert strict(prompt=PROMPT, completion=completed(text)) == float(once and STRICT.fullmatch(text) is not None)


balanced = st.recursive(
    st.text("x1 \\,^", max_size=4).map(lambda text: text.replace("\\", "\\\\")),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "{" + "".join(parts) + "}"),
    max_leaves=8,
)


@quick
@given(st.text(max_size=20), balanced, st.text("abc }$.", max_size=10))
def test_a_box_holds_whatever_is_balanced(before: str, content: str, behind: str):
    assert boxed(f"{before}\\boxed{{{content}}}{behind}") == content.strip()


# Numbers --------------------------------------------------------------------------------------------------------------


@quick
@given(
    st.integers(-(10**12), 10**12),
    st.integers(0, 4),
    st.sampled_from(
        ["{}", "${}$", "\\${}", "{} apples", "{}\\text{{ cm}}", "{}%", " {} ", "x = {}", "\\({}\\)", "{}."]
    ),
    st.sampled_from(["-", "−", "－"]),
)
def test_a_number_is_read_however_it_is_dressed(units: int, places: int, dress: str, minus: str):
    value = Fraction(units, 10**places)
    digits = f"{abs(units) // 10**places:,}" + (f".{abs(units) % 10**places:0{places}d}" if places else "")
    text = dress.format((minus if units < 0 else "") + digits)
    assert number(text) == value
    assert number(last_number(f"so {digits} it is") or "") == abs(value)


def combined(
    parts: tuple[tuple[str, Fraction | None], str, tuple[str, Fraction | None]],
) -> tuple[str, Fraction | None]:
    (left, a), sign, (right, b) = parts
    text = f"({left} {sign} {right})"
    if a is None or b is None or (sign == "/" and b == 0):
        return text, None
    return text, {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[sign]()


expressions = st.recursive(
    st.integers(0, 99).map(lambda n: (str(n), Fraction(n))),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(combined),
    max_leaves=10,
)


@quick
@given(expressions)
def test_the_calculator_is_exact(expression: tuple[str, Fraction | None]):
    text, value = expression
    if value is None:
        with pytest.raises(CalculationError, match="division by zero"):
            evaluate(text)
    else:
        assert evaluate(text) == value


@quick
@given(st.text(max_size=300))
def test_the_calculator_takes_any_text(text: str):
    with suppress(CalculationError):
        assert isinstance(evaluate(text), Fraction)


# Verdicts -------------------------------------------------------------------------------------------------------------

verdicts = st.sampled_from([True, False, None, Fault(reason="timeout"), Fault(reason="crash", verdict=False)])


@quick
@given(st.integers(1, 3), st.integers(0, 2), st.integers(1, 4), st.data())
def test_a_reward_is_a_sum_of_verdicts_or_none_at_all(verifiers: int, others: int, size: int, data: st.DataObject):
    rows = [data.draw(st.lists(verdicts, min_size=size, max_size=size)) for _ in range(verifiers + others)]
    taken = [[v.verdict if isinstance(v, Fault) else v for v in row] for row in rows]
    worth = [[None if v is None else 2.0 * v - 1.0 for v in row] for row in taken]
    found = judged(rows, worth, verifiers)
    for i in range(size):
        column = [values[i] for values in found.columns]
        if isnan(found.outcomes[i]):
            assert all(isnan(value) for value in column)
            assert not found.right[i]
        else:
            assert found.outcomes[i] == sum(column)
            assert any(row[i] is not None for row in taken[:verifiers])
            judges = [row for row in taken[:verifiers] if row[i] is not None]
            assert found.right[i] == all(row[i] for row in judges)
        assert (found.faults[i] is None) == (not any(isinstance(row[i], Fault) for row in rows))


# Anything at all ------------------------------------------------------------------------------------------------------


@quick
@given(st.text(max_size=200))
def test_no_text_is_too_strange(text: str):
    for function in functions(timeout=5.0):
        if not function.in_workers:
            value = function(prompt=prompt_of(function), completion=completed(text))
            assert isinstance(value, (bool, float))
    assert refusal(text) is None or refusal(text) in FAULTS
    assert deepest(text) <= len(text)
    assert isinstance(normal_form(text), str)


def test_two_hundred_hostile_completions():
    """Of the kinds of the benchmark: what runs out of its short time is a timeout, and no fault is a verdict."""
    completions = [completion for _, completion in hostile(200, seed=11)]
    reasons: set[str] = set()
    for function in functions(timeout=0.25):
        for completion in completions[:32] if function.in_workers else completions:
            verdict = function(prompt=prompt_of(function), completion=completion)
            assert isinstance(verdict, (bool, float, Fault))
            if isinstance(verdict, Fault):
                assert verdict.verdict is None
                reasons.add(verdict.reason)
    assert {"tower", "nesting"} <= reasons <= set(FAULTS)
