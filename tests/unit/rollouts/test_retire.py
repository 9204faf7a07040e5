"""Retired prompts, length targets and reference solutions: what the data module does to prompts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from research.errors import UserError
from research.evaluation import Evaluation
from research.prompts import (
    Arithmetic,
    LengthTarget,
    LocalJsonl,
    NoTarget,
    PlainText,
    PromptData,
    PromptSource,
    PromptStream,
    Targets,
)
from research.rollouts import Collected, RetireSolved
from research.training.measures import collected_measures
from research.types import Completion, Group, Prompt


@dataclass(frozen=True, kw_only=True)
class Letters(PromptSource):
    """One prompt a letter, called by it."""

    letters: str
    meta: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Sequence[Prompt]:
        return [Prompt(id=letter, text=letter, answer="", meta=self.meta) for letter in self.letters]


def data_of(train: str, evaluation: str = "z", n: int = 2, targets: Targets | None = None) -> PromptData:
    data = PromptData(
        train=Letters(letters=train),
        evaluation=Letters(letters=evaluation),
        targets=targets or NoTarget(),
        chat=PlainText(),
        filters=[],
        prompts_per_step=n,
        seed=3,
    )
    data.setup()
    return data


def stream_of(data: PromptData) -> PromptStream:
    assert data.stream is not None
    return data.stream


def drawn(stream: PromptStream, n: int) -> str:
    return "".join(prompt.id for prompt in stream.draw(n))


class TestRetire:
    def test_out_of_range(self) -> None:
        for rate in (0.0, 1.1):
            with pytest.raises(ValueError, match=rf"RetireSolved: pass_rate is in \(0, 1\], got {rate}"):
                RetireSolved(pass_rate=rate)

    def test_the_bound_itself_retires(self) -> None:
        assert RetireSolved(pass_rate=0.5)(right=[True, False])
        assert not RetireSolved()(right=[True] * 8 + [False])
        assert RetireSolved()(right=[True] * 9 + [False])


class TestStream:
    def stream(self) -> PromptStream:
        return PromptStream(Letters(letters="abcde").load(), 7)

    def test_a_retired_prompt_is_passed_over_and_the_others_keep_their_order(self) -> None:
        whole = drawn(self.stream(), 40)
        stream = self.stream()
        first = drawn(stream, 5)
        stream.retire(["b", "d"])
        later = drawn(stream, 21)
        assert first == whole[:5]
        assert later == "".join(letter for letter in whole[5:] if letter not in "bd")[:21]

    def test_nothing_changes_without_retirement(self) -> None:
        stream = self.stream()
        stream.retire([])
        assert drawn(stream, 40) == drawn(self.stream(), 40)

    def test_one_prompt_left(self) -> None:
        """It may stand first in one pass and last in the next."""
        stream = self.stream()
        stream.retire("abcd")
        assert drawn(stream, 30) == "e" * 30

    def test_all_retired(self) -> None:
        stream = self.stream()
        stream.retire("abcde")
        with pytest.raises(UserError, match="all 5 training prompts are retired as solved: give more or harder"):
            stream.draw(1)
        assert stream.draw(0) == []

    @pytest.mark.parametrize("at", range(6))
    @pytest.mark.parametrize("restore_first", [True, False])
    def test_a_restored_stream_goes_on_as_it_would_have(self, at: int, restore_first: bool) -> None:
        """Bit for bit, wherever it was interrupted, and with a prompt retired in every step."""

        def step(data: PromptData, k: int) -> str:
            (prompts,) = list(data.train_dataloader())
            stream_of(data).retire([prompts[0].id] if k % 2 == 0 else [])
            return "".join(prompt.id for prompt in prompts)

        whole, first = data_of("abcdefghij"), data_of("abcdefghij")
        expected = [step(whole, k) for k in range(6)]
        assert [step(first, k) for k in range(at)] == expected[:at]
        state = json.loads(json.dumps(first.state_dict()))
        if restore_first:
            second = PromptData(
                train=Letters(letters="abcdefghij"),
                evaluation=Letters(letters="z"),
                targets=NoTarget(),
                chat=PlainText(),
                filters=[],
                prompts_per_step=2,
                seed=3,
            )
            second.load_state_dict(state)
            assert second.state_dict() == state
            second.setup()
        else:
            second = data_of("abcdefghij")
            second.load_state_dict(state)
        assert [step(second, k) for k in range(at, 6)] == expected[at:]
        assert second.state_dict() == whole.state_dict()
        assert len(whole.state_dict()["retired"]) == 3

    def test_the_state_is_a_copy(self) -> None:
        data = data_of("abc")
        state = data.state_dict()
        stream_of(data).retire("a")
        assert state == {"position": 0, "retired": []}


class TestLengthTarget:
    ASKS = LengthTarget(template="{target}:{text}:{target}", low=10, high=99, seed=0)

    def test_template(self) -> None:
        prompt = self.ASKS(Prompt(id="a", text="{target}{text}", answer="1", meta={"level": 2}))
        n = prompt.meta["target"]
        assert prompt.text == f"{n}:{{target}}{{text}}:{n}"  # braces in the prompt's own text stay
        twice = LengthTarget(template="{text}{target}{text}", low=7, high=7, seed=0)
        assert twice(Prompt(id="a", text="1+1=", answer="2")).text == "1+1=71+1="
        assert (prompt.id, prompt.answer, prompt.meta["level"]) == ("a", "1", 2)

    def test_targets_are_uniform_and_of_the_prompts_id_and_the_seed_alone(self) -> None:
        prompts = [Prompt(id=str(n), text="q", answer="") for n in range(2000)]
        targets = [self.ASKS(prompt).meta["target"] for prompt in prompts]
        assert set(targets) == set(range(10, 100))
        assert sum(targets) / 2000 == pytest.approx(54.5, abs=2.5)  # four standard errors of 26/√2000
        assert [self.ASKS(prompt).meta["target"] for prompt in prompts] == targets
        other = LengthTarget(template="{target}{text}", low=10, high=99, seed=1)
        assert [other(prompt).meta["target"] for prompt in prompts[:20]] != targets[:20]

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"template": "{text}"}, r"template must contain \{target\}"),
            ({"template": "{target}"}, r"template must contain \{text\}"),
            ({"low": 0}, "1 ≤ low ≤ high, got low=0 and high=99"),
            ({"low": 100}, "1 ≤ low ≤ high, got low=100 and high=99"),
        ],
    )
    def test_out_of_range(self, fields: dict[str, Any], says: str) -> None:
        with pytest.raises(ValueError, match=says):
            LengthTarget(**{"template": "{target}{text}", "low": 10, "high": 99, "seed": 0, **fields})

    def test_training_and_evaluation_prompts_have_targets_and_are_told_apart_by_their_own_text(self) -> None:
        data = data_of("abz", "z", targets=self.ASKS)
        assert [prompt.id for prompt in data.train_prompts] == ["a", "b"]
        assert all("target" in prompt.meta for prompt in [*data.train_prompts, *data.evaluation_prompts])
        assert data.hashes() != data_of("abz", "z").hashes()

    def test_a_source_with_a_field_of_that_name(self) -> None:
        (prompt,) = Letters(letters="a", meta={"target": "other", "level": 1}).load()
        assert dict(NoTarget()(prompt).meta) == {"level": 1}
        plain = Prompt(id="a", text="a", answer="")
        assert NoTarget()(plain) is plain


class TestMeasures:
    def group(self, target: int | None, *lengths: int) -> Group:
        meta = {} if target is None else {"target": target}
        completions = tuple(
            Completion(token_ids=(1,) * n, rollout_logprobs=(0.0,) * n, text="", finish_reason="stop") for n in lengths
        )
        return Group(
            prompt=Prompt(id="0", text="", answer="", meta=meta),
            prompt_ids=(1,),
            completions=completions,
            outcomes=(1.0,) * len(lengths),
            right=(True,) * len(lengths),
        )

    def measures(self, *groups: Group) -> dict[str, float]:
        collected = Collected(groups=groups, surplus=(), sampled=groups, dropped=0, rounds=1)
        return {**collected_measures(collected), **Evaluation(completions_per_prompt=2).metrics(groups)}

    def test_length_error(self) -> None:
        measures = self.measures(self.group(10, 7, 12), self.group(4, 4, 5))
        assert measures["rollouts/length_error_mean"] == 1.5
        assert measures["evaluation/length_error_mean"] == 1.5

    def test_without_targets_there_is_none(self) -> None:
        measures = self.measures(self.group(None, 7, 12))
        assert not [name for name in measures if "length_error" in name]


class TestSolutions:
    def test_the_built_in_task_carries_a_plain_worked_solution(self) -> None:
        for prompt in Arithmetic(size=20, seed=0).load():
            assert prompt.meta["solution"].endswith(f"#{prompt.answer}")
            assert "(" not in prompt.meta["solution"]
            assert prompt.meta["operators"] == len(prompt.meta["steps"]) == prompt.meta["solution"].count(";")

    def test_rows_name_the_field(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text(json.dumps({"q": "1+1?", "a": "so #### 2", "work": {"text": "1+1 is 2"}}) + "\n")
        fields = {"path": str(path), "prompt_field": "q", "answer_field": "a", "answer_pattern": "#### (.*)"}
        assert "solution" not in LocalJsonl(**fields).load()[0].meta
        (prompt,) = LocalJsonl(**fields, solution_field="work.text").load()
        assert (prompt.answer, prompt.meta["solution"]) == ("2", "1+1 is 2")
        (prompt,) = LocalJsonl(**fields, solution_field="a").load()
        assert prompt.meta["solution"] == "so #### 2"
        with pytest.raises(UserError, match=r"no field 'none'; there are: q, a, work\.text"):
            LocalJsonl(**fields, solution_field="none").load()
