"""The four functions of one notebook recipe, and format rewards: every case of their tables."""

from typing import Any

import pytest

from research.rewards import NumberInSolution, RewardFunction, SolutionAnswer, SolutionFormat, TagFormat, TagsOnce
from research.rewards.verdicts import Fault
from research.types import Completion, Prompt

W, S, E = "<end_working_out>", "<SOLUTION>", "</SOLUTION>"


def value(function: RewardFunction, text: str, answer: str = "4") -> float:
    done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=text, finish_reason="stop")
    return function(prompt=Prompt(id="0", text="", answer=answer), completion=done)


FORMAT = [
    (f"2+2{W}{S}4{E}", 3.0),
    (f"2+2{W} then {S}4{E}  \n", 3.0),
    (f"{W}{S}4{E}\nmore", 3.0),  # the line ends there, not the text
    (f"{W}{S}4{E} more", 0.0),
    (f"{W}{S}4{E} more {S}5{E}", 3.0),  # up to the closing tag that ends a line
    (f"{W}{S}{E}", 0.0),  # at least one character
    (f"{W}{S}\n{E}", 3.0),
    (f"{S}4{E}{W}", 0.0),
    (f"{S}4{E}", 0.0),
    (f"{W}{S}4", 0.0),
    (f"{W}4{E}", 0.0),
    ("", 0.0),
]


@pytest.mark.parametrize(("text", "worth"), FORMAT)
def test_solution_format(text: str, worth: float):
    assert value(SolutionFormat(), text) == worth


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        (f"{W}{S}4{E}", 1.5),
        (f"{E}{S}{W}", 1.5),  # the order does not matter
        (f"{W}{S}4", 0.0),
        (f"{W}{W}{S}4{E}", 0.0),
        (f"{S}", -1.5),
        ("", -3.0),
        (f"{W}{W}{S}{S}{E}{E}", -3.0),
    ],
)
def test_tags_once(text: str, worth: float):
    assert value(TagsOnce(), text) == worth


@pytest.mark.parametrize(
    ("found", "answer", "worth"),
    [
        ("4", "4", 5.0),
        (" 4 ", "4", 3.5),
        ("4\n", "4", 3.5),
        ("4.0", "4", 2.0),
        ("4.4", "4", 2.0),
        ("3.6", "4", 2.0),
        ("4.8", "4", 1.5),
        ("3.2", "4", 1.5),
        ("4.9", "4", -2.5),
        ("-4", "4", -2.5),
        ("four", "4", -4.5),
        ("4,000", "4000", -4.5),  # no number to float()
        ("1", "0", -4.5),  # nothing is near 0
        ("nan", "4", -2.5),
        ("x", "x", 5.0),
    ],
)
def test_solution_answer(found: str, answer: str, worth: float):
    assert value(SolutionAnswer(), f"{W}{S}{found}{E}", answer) == worth


def test_solution_answer_without_a_solution():
    assert value(SolutionAnswer(), "4") == -2.0
    assert value(SolutionAnswer(), f"{S}4{E}") == -2.0


@pytest.mark.parametrize(
    ("text", "answer", "worth"),
    [
        (f"{S}4{E}", "4", 3.5),
        (f"{S}4.0 apples", "4", 3.5),
        (f"{S} it is 4", "4", 3.5),
        (f"{S}4,000{E}", "4000", 3.5),
        (f"{S}-4", "4", -1.5),
        (f"{S}5 or 4", "4", -1.5),  # the first number
        (f"{S}{E} 4", "4", 3.5),  # behind the tag, wherever
        (f"{S}4{E}{S}5", "4", 3.5),
        ("4", "4", -2.5),
        (f"{S}four{E}", "4", -2.5),
        (f"{S}well, 4", "4", 0.0),  # the comma is taken for a number
        (f"{S}1.2.3", "4", 0.0),
        (f"{S}4", "four", 0.0),
    ],
)
def test_number_in_solution(text: str, answer: str, worth: float):
    assert value(NumberInSolution(), text, answer) == worth


def test_the_best_completion_gets_thirteen():
    functions = (SolutionFormat(), TagsOnce(), SolutionAnswer(), NumberInSolution())
    assert sum(value(function, f"2+2{W}{S}4{E}") for function in functions) == 13.0


@pytest.mark.parametrize(
    ("text", "soft", "strict"),
    [
        ("<think>\na\n</think>\n<answer>\nb\n</answer>\n", 1.0, 1.0),
        ("<think>\na\n</think>\n<answer>\nb\n</answer>", 1.0, 1.0),
        ("<think>\n\n</think>\n<answer>\n\n</answer>", 1.0, 1.0),
        ("<think>a</think><answer>b</answer>", 1.0, 0.0),
        ("so <think>a</think> \n <answer>b</answer> done", 1.0, 0.0),
        ("<think>\na\n</think>\n<answer>\nb\n</answer>\n\n", 1.0, 0.0),
        ("<think>\na\n</think>\n\n<answer>\nb\n</answer>", 1.0, 0.0),
        ("<think>\na\n</think>\n<answer>\n</answer>", 1.0, 0.0),
        ("<think>\n<think>\n</think>\n<answer>\nb\n</answer>", 1.0, 0.0),
        ("<think>a</think> then <answer>b</answer>", 0.0, 0.0),
        ("<answer>b</answer><think>a</think>", 0.0, 0.0),
        ("</think><answer>b</answer><think>", 0.0, 0.0),
        ("<think>a</think><answer>b", 0.0, 0.0),
        ("<think>a<answer>b</answer>", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_tag_format(text: str, soft: float, strict: float):
    assert value(TagFormat(layout="soft"), text) == soft
    assert value(TagFormat(layout="strict"), text) == strict


def test_weight_multiplies_and_a_fault_is_worth_nothing():
    half = SolutionFormat(weight=0.5)
    assert (half.reward(3.0), half.reward(None), half.reward(Fault(reason="timeout"))) == (1.5, None, None)


@pytest.mark.parametrize(
    ("function", "fields", "reason"),
    [
        (SolutionFormat, {"weight": 0.0}, "weight is not 0"),
        (TagsOnce, {"opening": ""}, "three different tags"),
        (SolutionAnswer, {"opening": "</SOLUTION>"}, "three different tags"),
        (NumberInSolution, {"opening": ""}, "opening is a tag"),
        (TagFormat, {"layout": "soft", "first": "answer"}, "two different words"),
        (TagFormat, {"layout": "soft", "second": "<a>"}, "two different words"),
    ],
)
def test_out_of_range(function: type, fields: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=f"^{function.__name__}: .*{reason}"):
        function(**fields)
