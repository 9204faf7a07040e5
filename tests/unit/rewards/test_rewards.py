"""Verifiers, shaping, and what a completion is worth."""

from dataclasses import dataclass
from typing import Any

import pytest
import reasoning_gym
from torch import Tensor, tensor

from research.errors import UserError
from research.rewards import ExactAnswer, NoSteps, OverlongPenalty, ReasoningGymAnswer, Rewards, Shaping, Verifier
from research.rewards.verifiers import answer_after
from research.rollouts import MixedOutcomes
from research.types import Completion, Group, Prompt

MASK = tensor([[True]])
PLAIN: dict[str, Any] = {"tokens": [], "steps": NoSteps()}


def completed(text: str, *, truncated: bool = False) -> Completion:
    reason = "length" if truncated else "stop"
    return Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=text, finish_reason=reason)


@dataclass(frozen=True, kw_only=True)
class Short(Verifier):
    """Right when the text has at most so many characters."""

    most: int
    right: float = 0.5
    wrong: float = 0.0

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool:
        return len(completion.text) <= self.most


@dataclass(frozen=True, kw_only=True)
class Undefined(Shaping):
    """0/0."""

    def __call__(self, *, outcomes: Tensor) -> Tensor:
        return outcomes * 0 / 0


class TestShapingThatIsNoNumber:
    REWARDS = Rewards(verifiers=[Short(most=3)], shaping=[Undefined()], **PLAIN)

    def quantities(self, *outcomes: float) -> dict[str, Tensor]:
        return {"outcomes": tensor([outcomes]), "columns": tensor([[outcomes]]), "mask": MASK}

    def test_is_refused(self) -> None:
        with pytest.raises(UserError, match="Undefined gave a reward that is not a number"):
            self.REWARDS(self.quantities(1.0, 0.0))

    def test_is_none_of_a_completion_that_was_not_judged(self) -> None:
        assert self.REWARDS(self.quantities(float("nan")))["rewards"].isnan().all()


class TestExactAnswer:
    @pytest.mark.parametrize(
        ("text", "right"),
        [
            ("1+2=3;#3", True),
            ("# 3 ", True),
            ("#4;#3", True),  # the last marker counts
            ("#3;#4", False),
            ("#33", False),
            ("#", False),
            ("3", False),  # no marker
            ("", False),
            ("#3.0", False),  # to the letter
        ],
    )
    def test_reads_what_follows_the_last_marker(self, text: str, right: bool) -> None:
        prompt = Prompt(id="0", text="1+2=", answer=" 3")
        assert ExactAnswer(marker="#")(prompt=prompt, completion=completed(text)) is right

    def test_a_truncated_completion_has_no_answer(self) -> None:
        prompt = Prompt(id="0", text="1+2=", answer="3")
        assert not ExactAnswer(marker="#")(prompt=prompt, completion=completed("#3", truncated=True))

    def test_markers_of_several_characters(self) -> None:
        assert answer_after("Answer:", "Answer: 1\nAnswer: 2 ") == "2"
        assert answer_after("Answer:", "answer: 1") is None

    def test_worth(self) -> None:
        assert ExactAnswer(marker="#").reward(True) == 1.0
        assert ExactAnswer(marker="#").reward(False) == -1.0
        assert ExactAnswer(marker="#", right=2.0, wrong=0.5).reward(False) == 0.5

    @pytest.mark.parametrize("fields", [{"marker": ""}, {"right": -1.0}, {"right": 0.0, "wrong": 0.5}])
    def test_out_of_range(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="ExactAnswer"):
            ExactAnswer(**{"marker": "#", **fields})


class TestReasoningGymAnswer:
    def test_asks_the_task(self) -> None:
        entry = reasoning_gym.create_dataset("chain_sum", seed=1, size=1)[0]
        prompt = Prompt(id="0", text="", answer=entry["answer"], meta={"task": "chain_sum", "entry": entry})
        verifier = ReasoningGymAnswer(marker="=>")
        assert verifier(prompt=prompt, completion=completed(f"so => {entry['answer']}"))
        assert not verifier(prompt=prompt, completion=completed("so => 123456789"))
        assert not verifier(prompt=prompt, completion=completed(entry["answer"]))
        assert not verifier(prompt=prompt, completion=completed(f"=> {entry['answer']}", truncated=True))

    @pytest.mark.parametrize("threshold", [0.0, 1.5])
    def test_out_of_range(self, threshold: float) -> None:
        with pytest.raises(ValueError, match="threshold"):
            ReasoningGymAnswer(marker="#", threshold=threshold)


class TestOverlongPenalty:
    def test_grows_linearly_over_the_buffer_and_no_further(self) -> None:
        """DAPO's numbers: 16,384 expected, 4,096 of buffer, 20,480 at most."""
        lengths = tensor([[1, 16384, 16385, 18432, 20480, 30000]])
        penalties = OverlongPenalty(max_length=20480, buffer=4096)(lengths=lengths)
        assert penalties.tolist() == [[0.0, 0.0, pytest.approx(-1 / 4096), -0.5, -1.0, -1.0]]

    @pytest.mark.parametrize("fields", [(10, 0), (10, 11), (0, 0)])
    def test_out_of_range(self, fields: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="1 ≤ buffer ≤ max_length"):
            OverlongPenalty(max_length=fields[0], buffer=fields[1])


class TestRewards:
    PROMPT = Prompt(id="0", text="1+2=", answer="3")

    def group(self, *texts: str) -> Group:
        return Group(prompt=self.PROMPT, prompt_ids=(2,), completions=tuple(completed(text) for text in texts))

    def test_outcomes_add_up_and_right_needs_all(self) -> None:
        rewards = Rewards(verifiers=[ExactAnswer(marker="#"), Short(most=4)], shaping=[], **PLAIN)
        verified = rewards.verify(self.group("#3", "1+2;#3", "#4", "1+2;#4"))
        assert verified.outcomes == (1.5, 1.0, -0.5, -1.0)
        assert verified.right == (True, False, False, False)

    def test_the_group_is_otherwise_as_it_was(self) -> None:
        group = self.group("#3")
        verified = Rewards(verifiers=[ExactAnswer(marker="#")], shaping=[], **PLAIN).verify(group)
        assert (verified.prompt, verified.completions, verified.step) == (group.prompt, group.completions, 0)
        assert group.outcomes == ()

    def test_shaping_terms_add_up_in_any_order(self) -> None:
        outcomes, lengths = tensor([[1.0, -1.0, 1.0]]), tensor([[4, 9, 10]])
        terms = [OverlongPenalty(max_length=10, buffer=4), OverlongPenalty(max_length=20, buffer=20)]
        quantities = {"outcomes": outcomes, "columns": outcomes[None], "lengths": lengths, "mask": MASK}
        expected = [[1.0 - 0.2, -1.0 - 0.75 - 0.45, 1.0 - 1.0 - 0.5]]
        for order in (terms, terms[::-1]):
            shaped = Rewards(verifiers=[ExactAnswer(marker="#")], shaping=order, **PLAIN)(quantities)["rewards"]
            assert shaped.tolist() == [pytest.approx(expected[0])]
        assert outcomes.tolist() == [[1.0, -1.0, 1.0]]

    def test_no_shaping_leaves_outcomes(self) -> None:
        outcomes = tensor([[1.0, -1.0]])
        shaped = Rewards(verifiers=[ExactAnswer(marker="#")], shaping=[], **PLAIN)(
            {"outcomes": outcomes, "columns": outcomes[None], "mask": MASK}
        )["rewards"]
        assert shaped.tolist() == outcomes.tolist()

    def test_shaping_cannot_change_what_dynamic_sampling_keeps(self) -> None:
        """All right, of different lengths: shaped rewards differ, outcomes do not, and the group is dropped."""
        rewards = Rewards(
            verifiers=[ExactAnswer(marker="#")], shaping=[OverlongPenalty(max_length=10, buffer=9)], **PLAIN
        )
        verified = rewards.verify(self.group("#3", "1+2=3;#3"))
        shaped = rewards(
            {
                "outcomes": tensor([verified.outcomes]),
                "columns": tensor([verified.columns]).transpose(0, 1),
                "lengths": tensor([[2, 8]]),
                "mask": MASK,
            }
        )["rewards"]
        assert shaped[0, 0] != shaped[0, 1]
        assert verified.outcomes == (1.0, 1.0)
        assert not MixedOutcomes()(outcomes=verified.outcomes)

    def test_refuses_no_verifier(self) -> None:
        with pytest.raises(ValueError, match="at least one verifier"):
            Rewards(verifiers=[], shaping=[], **PLAIN)
