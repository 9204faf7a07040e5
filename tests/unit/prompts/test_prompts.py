"""The built-in task, the order of prompts, the data module and seeds, on numbers that a reader checks by hand."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
import torch

from research.errors import UserError
from research.prompts import (
    Arithmetic,
    Difficulty,
    NoTarget,
    PlainText,
    PromptData,
    PromptSource,
    PromptStream,
    right_steps,
    worked_solution,
)
from research.prompts.arithmetic import ALPHABET, draw_chain
from research.prompts.source import content_hash
from research.seeding import derive_seed, random_states, set_random_states, torch_seed
from research.types import Prompt


def prompts_called(*texts: str) -> list[Prompt]:
    return [Prompt(id=f"p{n}", text=text, answer=str(n)) for n, text in enumerate(texts)]


@dataclass(frozen=True, kw_only=True)
class Fixed(PromptSource):
    """The prompts it is given."""

    prompts: tuple[Prompt, ...]

    def load(self) -> Sequence[Prompt]:
        return self.prompts


class TestWorkedSolution:
    @pytest.mark.parametrize(
        ("text", "checks", "solution"),
        [
            ("47+8-19=", [], "47+8=55;55-19=36;#36"),
            ("47+8-19=", [True, False], "47+8=55(55-8=47);55-19=36;#36"),
            ("47+8-19=", [False, True], "47+8=55;55-19=36(36+19=55);#36"),
            ("5-5=", [True], "5-5=0(0+5=5);#0"),
            ("99+99=", [], "99+99=198;#198"),
        ],
    )
    def test_by_hand(self, text: str, checks: list[bool], solution: str) -> None:
        assert worked_solution(text, checks) == solution

    def test_every_step_of_a_worked_solution_is_right(self) -> None:
        random = Random(0)
        for _ in range(200):
            text = draw_chain(random, Difficulty())
            checks = [random.random() < 0.5 for _ in range(5)]
            solution = worked_solution(text, checks)
            verdicts = right_steps(text, solution)
            assert verdicts == [True] * (text.count("+") + text.count("-"))
            assert set(solution) <= set(ALPHABET)


class TestRightSteps:
    @pytest.mark.parametrize(
        ("completion", "verdicts"),
        [
            ("47+8=55;55-19=36;#36", [True, True]),
            ("47+8=55(55-8=47);55-19=36(36+19=55);#36", [True, True]),
            ("47+8=55;55-19=37;#37", [True, False]),  # a wrong result
            ("47+8=54;54-19=35;#35", [False, False]),  # a step that goes on from a wrong one is wrong too
            ("47+8=54;55-19=36;#36", [False, True]),  # each step is compared with the true running result
            ("55-19=36;47+8=55;#36", [False, False]),  # out of order
            ("47-19=28;28+8=36;#36", [False, False]),  # true sums, but not in the prompt's order
            ("47+8=55;55-19=36;36+0=36;#36", [True, True, False]),  # an extra step
            ("47+8=55(55-8=46);55-19=36;#36", [False, True]),  # a false check
            ("47+8=55(55+8=47);55-19=36;#36", [False, True]),  # a check with the wrong sign
            ("47+8=55(47+8=55);55-19=36;#36", [False, True]),  # the step again is no check
            ("47+8=55();55-19=36;#36", [False, True]),
            ("047+8=55;55-19=36;#36", [False, True]),  # digits are compared as text
            ("47+8=55;55-19=36#36", [True]),  # the second step is not closed
            ("47+8=55;#36;55-19=36;", [True]),  # what follows the answer mark is no step
            (";;#36", [False, False]),
            ("#36", []),
            ("", []),
        ],
    )
    def test_by_hand(self, completion: str, verdicts: list[bool]) -> None:
        assert right_steps("47+8-19=", completion) == verdicts


class TestArithmetic:
    def test_answers_are_what_python_computes(self) -> None:
        prompts = Arithmetic(size=500, seed=3).load()
        assert len({prompt.text for prompt in prompts}) == len({prompt.id for prompt in prompts}) == 500
        for prompt in prompts:
            assert re.fullmatch(r"\d+([+-]\d+)+=", prompt.text)
            assert prompt.answer == str(eval(prompt.text[:-1]))
            assert prompt.meta["operators"] == len(re.findall(r"[+-]", prompt.text))

    def test_a_seed_is_a_list_of_prompts(self) -> None:
        assert Arithmetic(size=20, seed=1).load() == Arithmetic(size=20, seed=1).load()
        assert Arithmetic(size=20, seed=1).load() == Arithmetic(size=40, seed=1).load()[:20]
        assert Arithmetic(size=20, seed=1).load() != Arithmetic(size=20, seed=2).load()

    @pytest.mark.parametrize("difficulty", [Difficulty(), Difficulty(operators=(3, 3), largest=9)])
    def test_running_results_and_operators_stay_in_their_range(self, difficulty: Difficulty) -> None:
        random, seen = Random(4), set()
        for _ in range(500):
            numbers = [int(number) for number in re.findall(r"[+-]?\d+", draw_chain(random, difficulty))]
            assert all(1 <= abs(number) <= difficulty.largest for number in numbers)
            assert all(0 <= sum(numbers[: k + 1]) <= 999 for k in range(len(numbers)))
            seen.add(len(numbers) - 1)
        low, high = difficulty.operators
        assert seen == set(range(low, high + 1))

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"operators": (0, 2)}, r"1 ≤ fewest ≤ most, got \(0, 2\)"),
            ({"operators": (3, 2)}, r"1 ≤ fewest ≤ most, got \(3, 2\)"),
            ({"largest": 0}, "largest is 1 to 249, got 0"),
            ({"largest": 250}, "largest is 1 to 249, got 250"),  # 4 numbers of 250 are 1000, four digits
        ],
    )
    def test_difficulty_refuses_what_is_out_of_range(self, fields: dict, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            Difficulty(**fields)

    def test_size_refuses_what_cannot_be(self) -> None:
        with pytest.raises(ValueError, match="size is at least 1, got 0"):
            Arithmetic(size=0, seed=0)
        two = Difficulty(operators=(1, 1), largest=1)  # only 1+1= and 1-1=
        assert {prompt.text for prompt in Arithmetic(size=2, seed=0, difficulty=two).load()} == {"1+1=", "1-1="}
        with pytest.raises(ValueError, match="fewer than size=3 different prompts"):
            Arithmetic(size=3, seed=0, difficulty=two).load()


class TestPromptStream:
    prompts = prompts_called("a", "b", "c", "d", "e")

    def test_each_time_through_is_a_permutation(self) -> None:
        stream = PromptStream(self.prompts, 0)
        epochs = [[prompt.text for prompt in stream.draw(5)] for _ in range(6)]
        assert all(sorted(epoch) == ["a", "b", "c", "d", "e"] for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1

    def test_a_draw_depends_on_its_position_alone(self) -> None:
        whole = PromptStream(self.prompts, 7).draw(23)
        for position in (0, 3, 5, 14, 22):
            stream = PromptStream(self.prompts, 7)
            stream.position = position
            assert stream.draw(23 - position) == whole[position:]
        stream = PromptStream(self.prompts, 7)
        assert [prompt for n in (1, 7, 0, 12, 3) for prompt in stream.draw(n)] == whole
        assert stream.position == 23
        stream.position = 2  # also backwards
        assert stream.draw(4) == whole[2:6]

    def test_seeds_differ(self) -> None:
        assert PromptStream(self.prompts, 0).draw(20) != PromptStream(self.prompts, 1).draw(20)


def prompt_data(
    train: Sequence[str], evaluation: Sequence[str], prompts_per_step: int = 2, seed: int = 0
) -> PromptData:
    return PromptData(
        train=Fixed(prompts=tuple(prompts_called(*train))),
        evaluation=Fixed(prompts=tuple(prompts_called(*evaluation))),
        targets=NoTarget(),
        chat=PlainText(),
        filters=[],
        prompts_per_step=prompts_per_step,
        evaluation_chunk=2,
        seed=seed,
    )


def steps(data: PromptData, n: int) -> list[list[Prompt]]:
    return [batch for _ in range(n) for batch in data.train_dataloader()]


class TestPromptData:
    def test_evaluation_prompts_are_taken_out_of_training(self) -> None:
        data = prompt_data(["a", "b", "c", "d"], ["d", "x", "b"])
        data.setup()
        assert [prompt.text for prompt in data.train_prompts] == ["a", "c"]
        assert data.counts == {
            "train": {"loaded": 4, "evaluation questions": 2, "kept": 2},
            "evaluation": {"loaded": 3},
        }
        assert [prompt.text for prompt in data.evaluation_prompts] == ["d", "x", "b"]
        assert {prompt.text for step in steps(data, 5) for prompt in step} == {"a", "c"}

    def test_loaders_give_a_step_and_the_evaluation_in_order(self) -> None:
        data = prompt_data(["a", "b", "c"], ["x", "y", "z"])
        data.setup()
        (step,) = list(data.train_dataloader())
        assert len(data.train_dataloader()) == 1
        assert len(step) == 2
        assert [[prompt.text for prompt in chunk] for chunk in data.val_dataloader()] == [["x", "y"], ["z"]]

    @pytest.mark.parametrize("restore_first", [True, False])
    def test_a_restored_position_continues_the_draws(self, restore_first: bool) -> None:
        whole, first, second = (prompt_data(list("abcde"), ["x"]) for _ in range(3))
        whole.setup()
        expected = steps(whole, 6)
        first.setup()
        steps(first, 4)
        assert first.state_dict() == {"position": 8, "retired": []}
        if restore_first:
            second.load_state_dict(first.state_dict())
            assert second.state_dict() == {"position": 8, "retired": []}
            second.setup()
        else:
            second.setup()
            second.load_state_dict(first.state_dict())
        assert steps(second, 2) == expected[4:]

    def test_setting_up_twice_moves_nothing(self) -> None:
        once, twice = prompt_data(list("abcde"), ["x"]), prompt_data(list("abcde"), ["x"])
        once.setup("fit")
        twice.setup("fit")
        expected = steps(once, 3)
        drawn = steps(twice, 1)
        twice.setup("validate")
        assert drawn + steps(twice, 2) == expected

    def test_no_training_prompt_left(self) -> None:
        with pytest.raises(
            UserError,
            match=r"change data\.train or data\.filters: loaded 2, evaluation questions 2, kept 0",
        ):
            prompt_data(["a", "b"], ["b", "a"]).setup()

    @pytest.mark.parametrize("field", ["prompts_per_step", "evaluation_chunk"])
    def test_sizes_out_of_range(self, field: str) -> None:
        source = Fixed(prompts=tuple(prompts_called("a")))
        sizes = {"prompts_per_step": 1, "evaluation_chunk": 1, field: 0}
        with pytest.raises(ValueError, match="at least 1"):
            PromptData(train=source, evaluation=source, targets=NoTarget(), chat=PlainText(), filters=[], **sizes)

    def test_hashes_change_with_text_and_answer(self) -> None:
        data = prompt_data(["a", "b"], ["x"])
        data.setup()
        assert data.hashes() == {
            "train": content_hash(data.train_prompts),
            "evaluation": content_hash(prompts_called("x")),
        }
        changed = [Prompt(id="p0", text="a", answer="0"), Prompt(id="p1", text="b", answer="2")]
        assert content_hash(changed) != content_hash(data.train_prompts)


class TestSeeding:
    def test_seeds_tell_types_and_parts_apart(self) -> None:
        parts = [(1,), ("1",), (1, 1), (11,), ("1", 1), (1, "1"), ("a", "b"), ("ab",), ("b", "a")]
        assert len({derive_seed(*part) for part in parts}) == len(parts)

    def test_a_seed_is_a_fixed_63_bit_number(self) -> None:
        # int.from_bytes(sha256(b"int:0\x1fstr:prompts\x1fint:0").digest()[:8], "big") >> 1
        assert derive_seed(0, "prompts", 0) == 7639971147349632479
        assert all(0 <= derive_seed(n) < 2**63 for n in range(100))

    def test_torch_seed_repeats_inside_and_restores_outside(self) -> None:
        before = torch.get_rng_state()
        with torch_seed(3):
            first = torch.rand(4)
        with torch_seed(3):
            second = torch.rand(4)
        with torch_seed(4):
            third = torch.rand(4)
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
        assert torch.equal(torch.get_rng_state(), before)

    def test_torch_seed_restores_after_an_error(self) -> None:
        before = torch.get_rng_state()
        with pytest.raises(RuntimeError, match="inside"), torch_seed(3):
            raise RuntimeError("inside")
        assert torch.equal(torch.get_rng_state(), before)

    def test_random_states_round_trip(self) -> None:
        states = random_states()
        first = torch.rand(3)
        set_random_states(states)
        assert torch.equal(torch.rand(3), first)
