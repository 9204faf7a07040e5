"""What follows from the verdicts on a group: outcomes, columns, who is right, and who has no reward."""

from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

import pytest
from torch import tensor

from research.evaluation import Evaluation
from research.rewards import ArithmeticSteps, ExactAnswer, LengthMax, NoSteps, RewardFunction, Rewards, Verifier
from research.rewards.steps import step_rewards
from research.rewards.verdicts import Fault
from research.rollouts import KeepAll, MixedOutcomes
from research.rollouts.collect import Collector
from research.training.measures import ranked_right
from research.training.reward_measures import reward_measures, verdict_measures
from research.types import Completion, Group, Prompt

PROMPT = Prompt(id="0", text="1+2=", answer="3")


@dataclass(frozen=True, kw_only=True)
class Says(Verifier):
    """What stands for each completion's text in a table."""

    table: dict[str, bool | Fault | None]
    right: float = 1.0
    wrong: float = -1.0

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool | Fault | None:
        return self.table[completion.text]


@dataclass(frozen=True, kw_only=True)
class Gives(RewardFunction):
    """The same with numbers."""

    table: dict[str, float | Fault | None]
    weight: float = 1.0

    def __call__(self, *, prompt: Prompt, completion: Completion) -> float | Fault | None:
        return self.table[completion.text]


def group(texts: str) -> Group:
    done = (Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=t, finish_reason="stop") for t in texts)
    return Group(prompt=PROMPT, prompt_ids=(2,), completions=tuple(done))


def verified(verifiers: list[Verifier], functions: list[RewardFunction], texts: str = "abc") -> Group:
    rewards = Rewards(verifiers=verifiers, functions=functions, shaping=[], tokens=[], steps=NoSteps())
    return rewards.verify(group(texts))


def known(values: tuple[float, ...]) -> list[float | None]:
    return [None if isnan(value) else value for value in values]


TIMEOUT, WRONG = Fault(reason="timeout"), Fault(reason="timeout", verdict=False)


def test_weighted_functions_add_up_and_do_not_decide_what_is_right():
    judge = Says(table={"a": True, "b": False, "c": False})
    found = verified([judge], [Gives(table={"a": 1.0, "b": 3.0, "c": -1.0}, weight=0.5)])
    assert found.outcomes == (1.5, 0.5, -1.5)
    assert found.right == (True, False, False)
    assert found.columns == ((1.0, -1.0, -1.0), (0.5, 1.5, -0.5))
    assert found.faults == ()


@pytest.mark.parametrize("silent", [None, TIMEOUT], ids=["nothing to say", "fault"])
@pytest.mark.parametrize("place", ["verifier", "function"])
def test_who_is_silent_about_one_leaves_it_without_a_reward(silent: Any, place: str):
    """Not with a reward of 0, which would lie between right and wrong."""
    other = Says(table={"a": True, "b": True, "c": False})
    if place == "verifier":
        found = verified([other, Says(table={"a": True, "b": silent, "c": False})], [])
    else:
        found = verified([other], [Gives(table={"a": 1.0, "b": silent, "c": -1.0})])
    assert known(found.outcomes) == [2.0, None, -2.0]
    assert [known(column) for column in found.columns] == [[1.0, None, -1.0]] * 2
    assert found.right == (True, False, False)
    assert found.scored == (True, False, True)
    assert found.known_outcomes == (2.0, -2.0)
    assert found.faults == (() if silent is None else (None, "timeout", None))


def test_who_is_silent_about_all_has_nothing_to_do_with_the_prompt():
    """As in a recipe for several kinds of prompts, each with its own verifier."""
    mine, other = Says(table={"a": True, "b": False, "c": True}), Says(table=dict.fromkeys("abc"))
    found = verified([mine, other], [Gives(table=dict.fromkeys("abc"))])
    assert found.outcomes == (1.0, -1.0, 1.0)
    assert found.right == (True, False, True)
    assert found.columns == ((1.0, -1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def test_faults_on_all_are_not_silence():
    found = verified([Says(table=dict.fromkeys("abc", True)), Says(table=dict.fromkeys("abc", TIMEOUT))], [])
    assert found.scored == (False, False, False)
    assert found.faults == ("timeout",) * 3


def test_without_a_verdict_no_reward_function_makes_a_reward():
    found = verified([Says(table=dict.fromkeys("abc"))], [Gives(table=dict.fromkeys("abc", 1.0))])
    assert found.scored == (False, False, False)
    assert found.right == (False, False, False)


def test_a_fault_that_the_recipe_takes_for_wrong_is_wrong_and_counted():
    found = verified([Says(table={"a": True, "b": WRONG, "c": False})], [])
    assert found.outcomes == (1.0, -1.0, -1.0)
    assert found.right == (True, False, False)
    assert found.faults == (None, "timeout", None)


def test_the_first_reason_of_several_is_kept():
    crash = Fault(reason="crash")
    verdicts = {"a": crash, "b": True, "c": True}
    found = verified([Says(table=verdicts), Says(table={"a": TIMEOUT, "b": TIMEOUT, "c": False})], [])
    assert found.faults == ("crash", "timeout", None)


def test_names_of_columns():
    judges: list[Verifier] = [ExactAnswer(marker="#"), Says(table={}), ExactAnswer(marker="=")]
    rewards = Rewards(verifiers=judges, functions=[Gives(table={})], shaping=[], tokens=[], steps=NoSteps())
    assert rewards.names() == ["ExactAnswer_1", "Says", "ExactAnswer_2", "Gives"]


def test_shaping_for_an_outcome_of_one_or_zero_refuses_graded_rewards():
    term = LengthMax(alpha=0.1, delta=0.5)
    judge = ExactAnswer(marker="#", right=1.0, wrong=0.0)
    Rewards(verifiers=[judge], shaping=[term], tokens=[], steps=NoSteps())
    with pytest.raises(ValueError, match=r"LengthMax is written for an outcome of 1 or 0: .* not 1/0 and Gives"):
        Rewards(verifiers=[judge], functions=[Gives(table={})], shaping=[term], tokens=[], steps=NoSteps())


# Downstream -----------------------------------------------------------------------------------------------------------


def judged(*outcomes: float) -> Group:
    made = group("x" * len(outcomes))
    return replace(made, outcomes=outcomes, right=tuple(o > 0 for o in outcomes), columns=(outcomes,))


@pytest.mark.parametrize(
    ("outcomes", "mixed"),
    [((1.0, nan, -1.0), True), ((1.0, nan, 1.0), False), ((nan, nan), False), ((nan, 1.0), False), ((1.0, -1.0), True)],
)
def test_dynamic_sampling_looks_at_those_that_were_judged(outcomes: tuple[float, ...], mixed: bool):
    found = Collector(keep=MixedOutcomes(), max_rounds=1)(
        [PROMPT], draw=lambda n: [], sample=lambda prompts, k: [judged(*outcomes)], surplus=[]
    )
    assert bool(found.groups) is mixed
    assert KeepAll()(outcomes=judged(*outcomes).known_outcomes)


def test_measures_are_of_those_that_were_judged():
    groups = [judged(1.0, nan, -1.0, -1.0), judged(1.0, 1.0, nan, nan), judged(nan, nan, nan, nan)]
    assert verdict_measures(groups) == {
        "rewards/accuracy": 3 / 5,
        "rewards/outcome_mean": 1 / 5,
        "rollouts/zero_variance_groups": 0.5,
        "rollouts/all_right_groups": 0.5,
        "rollouts/all_wrong_groups": 0.0,
    }
    assert verdict_measures(groups[2:]) == {}


def test_what_was_not_judged_is_counted():
    groups = [
        replace(judged(1.0, nan), faults=(None, "timeout"), columns=((2.0, nan), (-1.0, nan))),
        replace(judged(-1.0, -1.0), faults=("tower", None), columns=((-1.0, -1.0), (0.0, 0.0))),
    ]
    assert reward_measures(groups, ["A", "B"]) == {
        "rewards/timeouts": 1,
        "rewards/faults": 2,
        "rewards/unscored": 0.25,
        "rewards/A": 0.0,
        "rewards/B": -1 / 3,
    }
    assert "rewards/A" not in reward_measures(groups, ["A"])


def test_ranking_leaves_them_out():
    assert ranked_right(tensor([[2.0, nan, 1.0]]), tensor([[True, False, False]])) == 1.0


def test_evaluation_counts_them_as_not_right_and_says_so():
    evaluation = Evaluation(completions_per_prompt=2)
    metrics = evaluation.metrics([judged(1.0, nan)])
    assert (metrics["evaluation/avg_at_k"], metrics["evaluation/unscored"]) == (0.5, 0.5)
    assert "evaluation/unscored" not in evaluation.metrics([judged(1.0, -1.0)])


def test_no_step_of_them_is_right_or_wrong():
    prompt = Prompt(id="0", text="1+2=", answer="3", meta={"steps": [["1+2=3"]]})
    made = replace(judged(1.0, nan), prompt=prompt)
    rows = step_rewards(ArithmeticSteps(), made, lambda ids: "x")
    assert rows == ((1.0,), (None,))
