"""Countdown, mixtures of reasoning-gym tasks, and sources together."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from research.errors import UserError
from research.prompts import Arithmetic, Countdown, ReasoningGymMixture, Together, WeightedTask
from research.prompts import gym as gym_source
from research.prompts.countdown import draw_expression
from research.prompts.gym_process import generate


class TestCountdown:
    def test_every_goal_is_reached_with_each_number_once(self) -> None:
        prompts = Countdown(size=300, seed=1).load()
        assert len({prompt.id for prompt in prompts}) == len({prompt.question for prompt in prompts}) == 300
        for prompt in prompts:
            expression, numbers = prompt.meta["expression"], prompt.meta["numbers"]
            assert eval(expression) == int(prompt.answer)
            spaced = expression.replace("(", " ").replace(")", " ").split()
            assert Counter(int(word) for word in spaced if word.isdecimal()) == Counter(numbers)
            assert 3 <= len(numbers) <= 4
            assert all(1 <= number <= 99 for number in numbers)
            assert 10 <= int(prompt.answer) <= 99
            assert f"numbers {numbers}, create an equation that equals {prompt.answer}." in prompt.text

    def test_all_four_operators_come(self) -> None:
        expressions = "".join(prompt.meta["expression"] for prompt in Countdown(size=300, seed=1).load())
        assert all(sign in expressions for sign in "+-*/")

    def test_intermediate_results_are_whole_numbers_above_zero(self) -> None:
        random = Random(0)
        for _ in range(300):
            value, expression = draw_expression(random, [random.randint(1, 9) for _ in range(4)])
            assert eval(expression.replace("/", "//")) == eval(expression) == value
            assert value >= 1

    def test_a_seed_is_a_list_of_prompts(self) -> None:
        assert Countdown(size=20, seed=1).load() == Countdown(size=40, seed=1).load()[:20]
        assert Countdown(size=20, seed=1).load() != Countdown(size=20, seed=2).load()

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"size": 0}, "size is at least 1, got 0"),
            ({"largest": 0}, "largest is at least 1, got 0"),
            ({"count": (1, 3)}, r"count is \(fewest, most\) from 2, got \(1, 3\)"),
            ({"count": (4, 3)}, r"count is \(fewest, most\) from 2, got \(4, 3\)"),
            ({"goal": (0, 3)}, r"goal is \(lowest, highest\) from 1, got \(0, 3\)"),
            ({"goal": (9, 3)}, r"goal is \(lowest, highest\) from 1, got \(9, 3\)"),
            ({"template": "{goal}"}, "template must contain {numbers}, got '{goal}'"),
            ({"template": "plain"}, "template must contain {numbers} and {goal}, got 'plain'"),
            ({"template": "none"}, "or a text with {numbers} or {goal}, got 'none'"),
        ],
    )
    def test_refusals(self, changed: dict[str, Any], says: str) -> None:
        with pytest.raises(ValueError, match=says):
            Countdown(**{"size": 1, "seed": 0, **changed})

    def test_settings_with_too_few_prompts(self) -> None:
        few = Countdown(size=3, seed=0, largest=1, count=(2, 2), goal=(1, 9))  # 1 + 1, 1 * 1 and 1 / 1: goals 1 and 2
        assert sorted(p.answer for p in Countdown(size=2, seed=0, largest=1, count=(2, 2), goal=(1, 9)).load()) == [
            "1",
            "2",
        ]
        with pytest.raises(ValueError, match="fewer than size=3 different prompts"):
            few.load()


class TestMixture:
    TASKS = (WeightedTask(task="gcd", weight=3.0), WeightedTask(task="leg_counting", config={"max_animals": 4}))

    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Generate in this process: another one would take seconds to start."""
        monkeypatch.setattr(gym_source, "_entries", lambda request: generate(**request))

    def test_tasks_come_by_weight_and_keep_their_own_scorer(self) -> None:
        prompts = ReasoningGymMixture(tasks=list(self.TASKS), size=200, seed=0).load()
        counts = Counter(prompt.meta["task"] for prompt in prompts)
        assert counts["gcd"] + counts["leg_counting"] == 200
        assert 130 <= counts["gcd"] <= 170  # 150 expected, 6 a standard deviation
        assert [prompt.id for prompt in prompts] == [f"mixture/0/{n}" for n in range(200)]
        assert all(prompt.meta["entry"]["question"] == prompt.text for prompt in prompts)
        assert len({prompt.meta["task"] for prompt in prompts[:20]}) == 2

    def test_a_seed_is_a_list_of_prompts(self) -> None:
        first, again, other = (ReasoningGymMixture(tasks=list(self.TASKS), size=8, seed=s).load() for s in (3, 3, 4))
        assert first == again
        assert [p.text for p in first] != [p.text for p in other]

    def test_one_task_with_two_settings(self) -> None:
        twice = [WeightedTask(task="gcd", config={"max_value": 9}), WeightedTask(task="gcd")]
        prompts = ReasoningGymMixture(tasks=twice, size=20, seed=0).load()
        assert len({prompt.id for prompt in prompts}) == 20
        assert len({prompt.text for prompt in prompts}) > 10

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: WeightedTask(task="gcd", weight=0.0), "weight is above 0, got 0.0"),
            (lambda: ReasoningGymMixture(tasks=[], size=1, seed=0), "give at least one task"),
            (lambda: ReasoningGymMixture(tasks=[WeightedTask(task="gcd")], size=0, seed=0), "size is at least 1"),
            (lambda: ReasoningGymMixture(tasks=[WeightedTask(task="gcd")], size=1, seed=-1), "seed is at least 0"),
            (
                lambda: ReasoningGymMixture(tasks=[WeightedTask(task="gcd", config={"size": 3})], size=1, seed=0),
                "size stand beside config",
            ),
        ],
    )
    def test_refusals(self, make: Any, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            make()


class TestTogether:
    def test_one_after_another(self) -> None:
        parts = [Arithmetic(size=3, seed=1), Countdown(size=2, seed=1)]
        both = Together(sources=list(parts))
        assert both.load() == [*parts[0].load(), *parts[1].load()]
        assert both.counted()[1] == {}

    def test_counts_are_added(self) -> None:
        class Counting(Arithmetic):
            def counted(self) -> Any:
                return self.load(), {"rows": self.size, "unreadable": 1}

        both = Together(sources=[Counting(size=3, seed=1), Counting(size=2, seed=2)])
        assert both.counted()[1] == {"rows": 5, "unreadable": 2}

    def test_no_source(self) -> None:
        with pytest.raises(ValueError, match="give at least one source"):
            Together(sources=[])


def test_an_unknown_task_of_a_mixture_is_told_its_neighbours() -> None:
    mixture = ReasoningGymMixture(tasks=[WeightedTask(task="leg_countin")], size=1, seed=0)
    with pytest.raises(UserError, match="no task 'leg_countin'; the nearest names are leg_counting"):
        mixture.load()
