"""Verified steps: where they end in the text, on which tokens, and what the quantities of a batch then are."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from research.errors import UserError
from research.policy import character_tokenizer
from research.prompts import Arithmetic, LengthTarget
from research.prompts.arithmetic import ALPHABET, accepted_steps
from research.rewards import ArithmeticSteps, ExactAnswer, NoSteps, Rewards
from research.rewards.steps import last_token, step_rewards
from research.training.batch import assemble
from research.types import Completion, Group, Prompt, ToolCall

TEXT = "47+8-19="
PROMPT = Prompt(id="0", text=TEXT, answer="36", meta={"steps": accepted_steps(TEXT)})
SOLUTION = "47+8=55;55-19=36;#36"
END = "<end>"


def completed(*tokens: str, finish_reason: str = "stop") -> tuple[Completion, list[str]]:
    """A completion whose token k is the k-th of these texts; `<end>` has none."""
    text = "".join(token for token in tokens if token != END)
    ids = tuple(range(len(tokens)))
    done = Completion(token_ids=ids, rollout_logprobs=(0.0,) * len(ids), text=text, finish_reason=finish_reason)  # pyright: ignore[reportArgumentType]
    return done, list(tokens)


def rewarded(
    tokens: Sequence[str], right: bool, finish_reason: str = "stop", calls: Sequence[ToolCall] = ()
) -> list[float | None]:
    """The reward of each token, steps worth 1 and 0."""
    done, texts = completed(*tokens, finish_reason=finish_reason)
    done = replace(done, tool_calls=tuple(calls))
    group = Group(prompt=PROMPT, prompt_ids=(0,), completions=(done,), right=(right,))
    steps = ArithmeticSteps(right=1.0, wrong=0.0)
    (row,) = step_rewards(steps, group, lambda ids: "".join(texts[i] for i in ids if texts[i] != END))
    return list(row)


def test_a_step_that_a_tool_ends_is_rewarded_where_the_policy_wrote_last() -> None:
    calls = [ToolCall(start=1, tokens=2, failed=False), ToolCall(start=4, tokens=1, failed=False)]
    tokens = ["47+8=", "5", "5;", "55-19=", "36;"]
    assert rewarded(tokens, right=False, finish_reason="length", calls=calls) == [1.0, None, None, 0.0, None]


class TestPositions:
    @pytest.mark.parametrize(
        ("text", "steps"),
        [
            (SOLUTION, [(8, True), (17, True)]),
            ("47+8=56;56-19=37;#37", [(8, False), (17, False)]),
            ("47+8=55(55-8=47);55-19=36;#36", [(17, True), (26, True)]),
            ("47+8=55;55-19=36;36=36;#36", [(8, True), (17, True), (23, False)]),  # one too many
            ("47+8=55;55-1", [(8, True)]),  # cut
            ("#36", []),
            ("", []),
            (";", [(1, False)]),
            ("47+8=55;#3;4", [(8, True)]),  # nothing behind # is a step
        ],
    )
    def test_a_step_ends_behind_its_separator(self, text: str, steps: list[tuple[int, bool]]) -> None:
        assert ArithmeticSteps()(prompt=PROMPT, completion=completed(text, END)[0]) == steps

    def test_the_prompts_own_words_may_change(self) -> None:
        """A template around the prompt leaves the accepted steps alone."""
        prompt = LengthTarget(template="{target}#{text}", low=9, high=9, seed=0)(PROMPT)
        assert prompt.text == "9#47+8-19="
        assert ArithmeticSteps()(prompt=prompt, completion=completed(SOLUTION)[0]) == [(8, True), (17, True)]

    def test_a_prompt_of_another_source(self) -> None:
        other = Prompt(id="gsm/1", text="", answer="")
        with pytest.raises(UserError, match="gsm/1 is not: take NoSteps"):
            ArithmeticSteps()(prompt=other, completion=completed(SOLUTION)[0])


class TestTokens:
    def test_characters(self) -> None:
        expected: list[float | None] = [None] * 21
        expected[7], expected[16], expected[20] = 1.0, 1.0, 1.0
        assert rewarded([*SOLUTION, END], right=True) == expected
        expected[20] = 0.0
        assert rewarded([*SOLUTION, END], right=False) == expected

    def test_a_step_ends_on_the_token_that_holds_its_last_character(self) -> None:
        tokens = ["47+8", "=55;55", "-19=3", "6;#3", "6", END]
        assert rewarded(tokens, right=True) == [None, 1.0, None, 1.0, None, 1.0]
        assert rewarded(["47+8=56;55", "-19=36;#", "36", END], right=True) == [0.0, 1.0, None, 1.0]

    def test_steps_that_end_on_one_token_are_one(self) -> None:
        assert rewarded(["47+8=55;55-19=36;", "#36", END], right=True) == [1.0, None, 1.0]
        assert rewarded(["47+8=56;55-19=36;", "#36", END], right=True) == [0.0, None, 1.0]

    def test_the_last_step_is_the_completions_verdict_on_its_last_token(self) -> None:
        assert rewarded(["#36", END], right=True) == [None, 1.0]
        assert rewarded([END], right=False) == [0.0]
        assert rewarded(["47+8", "=5"], right=False, finish_reason="length") == [None, 0.0]

    def test_cut_just_behind_a_step(self) -> None:
        """The step's last token is the completion's: both verdicts must be right, and a cut completion is not."""
        assert rewarded(["47+8=55", ";"], right=False, finish_reason="length") == [None, 0.0]

    def test_a_character_of_several_tokens_ends_on_the_last_of_them(self) -> None:
        pieces = [b"a", "é".encode()[:1], "é".encode()[1:], b";", "−".encode()[:2], "−".encode()[2:] + b"b"]

        def decode(ids: Sequence[int]) -> str:
            return b"".join(pieces[i] for i in ids).decode(errors="replace")

        done = Completion(
            token_ids=tuple(range(6)), rollout_logprobs=(0.0,) * 6, text=decode(range(6)), finish_reason="stop"
        )
        assert done.text == "aé;−b"
        assert [last_token(done, position, decode) for position in range(1, 6)] == [0, 2, 3, 5, 5]

    def test_the_built_in_tokenizer(self) -> None:
        tokenizer = character_tokenizer(ALPHABET)
        ids = tuple(tokenizer(SOLUTION + END)["input_ids"])
        done = Completion(token_ids=ids, rollout_logprobs=(0.0,) * len(ids), text=SOLUTION, finish_reason="stop")
        group = Group(prompt=PROMPT, prompt_ids=(0,), completions=(done,), right=(True,))

        def decode(ids: Sequence[int]) -> str:
            return str(tokenizer.decode(list(ids), skip_special_tokens=True))

        (row,) = step_rewards(ArithmeticSteps(), group, decode)
        assert [t for t, reward in enumerate(row) if reward is not None] == [7, 16, 20]


class TestBatch:
    def group(self, steps: bool) -> Group:
        first, second = completed(*"#36", END)[0], completed(*"47+8=55;#3", END)[0]
        group = Group(prompt=PROMPT, prompt_ids=(3,), completions=(first, second))
        verifier = ArithmeticSteps() if steps else NoSteps()
        rewards = Rewards(verifiers=[ExactAnswer(marker="#")], shaping=[], tokens=[], steps=verifier)
        texts = {len(first.token_ids): "#36", len(second.token_ids): "47+8=55;#3"}

        def decode(ids: Sequence[int]) -> str:
            """Only the second has steps to look for."""
            return texts[len(second.token_ids)][: len(ids)]

        return rewards.verify_steps(rewards.verify(group), decode)

    def test_step_quantities_are_padded_with_nothing(self) -> None:
        batch = assemble([self.group(True)], pad=0, device=torch.device("cpu"))
        assert batch["step_ends"].dtype == torch.bool
        assert batch["step_rewards"].dtype == torch.float32
        assert batch["step_ends"].nonzero().tolist() == [[0, 3], [1, 7], [1, 10]]
        assert batch["step_rewards"][batch["step_ends"]].tolist() == [1.0, 1.0, -1.0]
        assert torch.count_nonzero(batch["step_rewards"][~batch["step_ends"]]) == 0
        assert not batch["step_ends"][~batch["mask"]].any()
        assert batch["step_ends"].any(1).all()

    def test_without_steps_there_are_no_step_quantities(self) -> None:
        group = self.group(False)
        assert group.step_rewards == ()
        batch = assemble([group], pad=0, device=torch.device("cpu"))
        assert not {"step_ends", "step_rewards", "targets"} & set(batch.quantities)

    def test_a_reward_of_zero_is_still_a_step(self) -> None:
        done = completed("#", END)[0]
        group = Group(
            prompt=PROMPT,
            prompt_ids=(3,),
            completions=(done,),
            outcomes=(1.0,),
            right=(True,),
            columns=((1.0,),),
            step_rewards=((None, 0.0),),
        )
        batch = assemble([group], pad=0, device=torch.device("cpu"))
        assert batch["step_ends"].tolist() == [[False, True]]

    def test_targets(self) -> None:
        asks = LengthTarget(template="{target}#{text}", low=5, high=30, seed=1)
        prompts = [asks(prompt) for prompt in Arithmetic(size=3, seed=0).load()]
        groups = [
            Group(
                prompt=prompt,
                prompt_ids=(3,),
                completions=(completed("1", "2")[0], completed("1")[0]),
                outcomes=(1.0, 1.0),
                right=(True, True),
                columns=((1.0, 1.0),),
            )
            for prompt in prompts
        ]
        targets = assemble(groups, pad=0, device=torch.device("cpu"))["targets"]
        assert targets.tolist() == [[float(prompt.meta["target"])] * 2 for prompt in prompts]
        assert targets.dtype == torch.float32
        assert groups[0].length_errors == (prompts[0].meta["target"] - 2, prompts[0].meta["target"] - 1)
