"""A tool in a completion: what is written, by whom, and that the tool's part is nobody's merit."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
import torch

from research.errors import UserError
from research.policy import Policy, PolicySpec, character_tokenizer
from research.prompts.arithmetic import ALPHABET
from research.rollouts import (
    Answer,
    Calculator,
    CompactSampler,
    Decoding,
    Demonstrations,
    Sampler,
    Tool,
    ToolSampler,
    TransformersSampler,
)
from research.rollouts.sampler import Turn, prompt_tokens
from research.rollouts.tool import pieces_of
from research.rollouts.vllm.requests import check_room
from research.training.batch import assemble
from research.training.measures import tool_measures
from research.types import Completion, Group, Prompt, ToolCall

CALCULATOR = Calculator(open="(", close=")", before="=", after="", failed="()")
TOKENIZER = character_tokenizer(ALPHABET)
PROMPT = Prompt(id="0", text="47+8-19=", answer="36")


class Writer(Sampler):
    """Goes on with a text as a script says, stopping as samplers do; log-probabilities count down from −1."""

    def __init__(self, script: Mapping[str, str]) -> None:
        self.script = script
        self.asked: list[tuple[Sequence[Prompt], Decoding]] = []

    def attach(self, model: Any, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        self.asked.append((prompts, decoding))
        made = []
        for prompt, ids in zip(prompts, prompt_tokens(prompts, self.tokenizer), strict=True):
            drawn = self.write(self.script[self.tokenizer.decode(ids)], decoding)
            made.append(Group(prompt=prompt, prompt_ids=tuple(ids), completions=(drawn,) * n))
        return made

    def write(self, script: str, decoding: Decoding) -> Completion:
        ids = [*self.tokenizer(script)["input_ids"], self.tokenizer.eos_token_id]
        ends = [script.find(stop) + len(stop) for stop in decoding.stop if stop in script]
        count = min([*ends, len(ids)])
        kept = ids[: min(count, decoding.max_tokens)]
        return Completion(
            token_ids=tuple(kept),
            rollout_logprobs=tuple(-1.0 - t for t in range(len(kept))),
            text=self.tokenizer.decode(kept, skip_special_tokens=True),
            finish_reason="stop" if len(kept) == count else "length",
        )


def written(
    script: Mapping[str, str], *, max_calls: int = 4, max_tokens: int = 64, tool: Tool = CALCULATOR, stop: str = ""
) -> tuple[Completion, Writer]:
    writer = Writer(script)
    sampler = ToolSampler(sampler=writer, tool=tool, max_calls=max_calls)
    sampler.attach(torch.nn.Module(), TOKENIZER)
    decoding = Decoding(max_tokens=max_tokens, stop=(stop,) if stop else ())
    (group,) = sampler.sample([PROMPT], n=1, decoding=decoding, seed=0)
    assert group.prompt is PROMPT
    return group.completions[0], writer


def by_author(completion: Completion) -> tuple[str, str]:
    """What the policy wrote and what the tool did."""
    pairs = list(zip(completion.token_ids, completion.own, strict=True))
    return tuple(TOKENIZER.decode([t for t, own in pairs if own == who]) for who in (True, False))  # pyright: ignore


class TestCalculator:
    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("(47+8)", "=55"),
            ("(47+8)=55;(55-19)", "=36"),
            ("((3+4)", "=7"),  # the last bracket opened is the call
            ("(1-3)", "=-2"),
            ("(1/4)", "=0.25"),
            ("(12+30);", "=42"),  # a token may bring more than the mark
        ],
    )
    def test_the_last_call_is_answered(self, text: str, answer: str) -> None:
        assert CALCULATOR(text) == Answer(text=answer, failed=False)

    @pytest.mark.parametrize(
        "call",
        [
            "()",
            "47+8)",
            "(1+2)=3;4)",
            "(5/0)",
            "(0^-1)",
            "(9**9**9**9)",
            "(7**1400)",
            f"({'9' * 300})",
            f"({'-' * 200}x)",
            f"({'1+' * 5000}1)",
            "(os.getcwd)",
            "(import os)",
            "(1,2)",
            "(1 if 1 else 2)",
            "(a:=1)",
            "(\x00)",
            "(1\n+)",
            "(１+１)",
            "(1e999)",
            "(True+1)",
            "('a'*3)",
            "(55-8=47)",
        ],
    )
    def test_what_has_no_value_fails_soon_and_shortly(self, call: str) -> None:
        began = perf_counter()
        assert CALCULATOR(call) == Answer(text="=()", failed=True)
        told = replace(CALCULATOR, failed=None)(call)
        assert told.failed
        assert told.text.startswith("=error: ")
        assert len(told.text) < 80
        assert perf_counter() - began < 1

    def test_a_value_may_be_too_long_to_say(self) -> None:
        assert replace(CALCULATOR, longest=3)("(10^2)") == Answer(text="=100", failed=False)
        assert replace(CALCULATOR, longest=3)("(10^3)").failed

    @pytest.mark.parametrize(
        "change",
        [{"open": ""}, {"close": ""}, {"open": "|", "close": "|"}, {"open": "<=>", "close": "="}, {"longest": 0}],
    )
    def test_refuses_marks_that_mark_nothing(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Calculator"):
            replace(CALCULATOR, **change)


class TestToolSampler:
    def test_answers_stand_where_they_were_asked_for(self) -> None:
        completion, writer = written(
            {
                "47+8-19=": "(47+8);",
                "47+8-19=(47+8)=55": ";(55-19)#",
                "47+8-19=(47+8)=55;(55-19)=36": ";#36",
            }
        )
        assert completion.text == "(47+8)=55;(55-19)=36;#36"
        assert by_author(completion) == ("(47+8);(55-19);#36<end>", "=55=36")
        assert completion.tool_calls == (
            ToolCall(start=6, tokens=3, failed=False),
            ToolCall(start=17, tokens=3, failed=False),
        )
        first = tuple(-1.0 - t for t in range(6))
        second = tuple(-1.0 - t for t in range(8))
        third = tuple(-1.0 - t for t in range(5))
        assert completion.rollout_logprobs == (*first, 0.0, 0.0, 0.0, *second, 0.0, 0.0, 0.0, *third)
        assert completion.finish_reason == "stop"
        (turn,), decoding = writer.asked[1]
        assert isinstance(turn, Turn)
        assert turn.token_ids == tuple(TOKENIZER("47+8-19=(47+8)=55")["input_ids"])
        assert (turn.room, decoding.max_tokens) == (55, 55)

    def test_a_failed_call_is_counted_and_the_policy_goes_on(self) -> None:
        completion, _ = written({"47+8-19=": "(47+)", "47+8-19=(47+)=()": "#36"})
        assert completion.text == "(47+)=()#36"
        assert by_author(completion)[1] == "=()"
        assert completion.tool_calls == (ToolCall(start=5, tokens=3, failed=True),)

    def test_calls_beyond_the_most_are_not_answered(self) -> None:
        completion, writer = written({"47+8-19=": "(1+1)", "47+8-19=(1+1)=2": ";(2+2);(4+4)#"}, max_calls=1)
        assert completion.text == "(1+1)=2;(2+2);(4+4)#"
        assert len(completion.tool_calls or ()) == 1
        assert len(writer.asked) == 2
        assert writer.asked[1][1].stop == ()

    @pytest.mark.parametrize(
        ("limit", "text", "tool_tokens"),
        [
            (3, "(47", None),  # before the call
            (6, "(47+8)", 0),  # no room for an answer
            (8, "(47+8)=5", 2),  # within the answer
            (9, "(47+8)=55", 3),  # right behind it
            (11, "(47+8)=55;#", 3),  # in the next turn
        ],
    )
    def test_a_tools_tokens_count_in_the_limit(self, limit: int, text: str, tool_tokens: int | None) -> None:
        completion, _ = written({"47+8-19=": "(47+8)", "47+8-19=(47+8)=55": ";#36"}, max_tokens=limit)
        assert (completion.text, completion.finish_reason) == (text, "length")
        assert len(completion.token_ids) == len(completion.rollout_logprobs) == limit
        assert [call.tokens for call in completion.tool_calls or ()] == ([] if tool_tokens is None else [tool_tokens])

    def test_a_row_is_cut_at_its_own_limit_where_others_have_more_room(self) -> None:
        sampler = ToolSampler(
            sampler=Writer(
                {
                    "1=": "(1+1)",
                    "1=(1+1)=2": ";;;;;;;;;;;;",
                    "2=": "((((((1+1)",
                    "2=((((((1+1)=2": ";;;;;;;;;;;;",
                }
            ),
            tool=CALCULATOR,
            max_calls=2,
        )
        sampler.attach(torch.nn.Module(), TOKENIZER)
        prompts = [Prompt(id=text, text=text, answer="") for text in ("1=", "2=")]
        groups = sampler.sample(prompts, n=2, decoding=Decoding(max_tokens=15), seed=0)
        texts = [completion.text for group in groups for completion in group.completions]
        assert texts == ["(1+1)=2;;;;;;;;"] * 2 + ["((((((1+1)=2;;;"] * 2
        assert all(len(c.token_ids) == 15 and c.truncated for group in groups for c in group.completions)

    def test_a_stop_string_ends_as_ever(self) -> None:
        completion, _ = written({"47+8-19=": "(47+8)", "47+8-19=(47+8)=55": ";#36;(1+1)"}, stop="#36")
        assert (completion.text, completion.finish_reason) == ("(47+8)=55;#36", "stop")

    def test_an_answer_that_cannot_be_said_has_failed(self) -> None:
        completion, _ = written({"47+8-19=": "(1)", "47+8-19=(1)=025": "#0"}, tool=Quarter())
        assert completion.text == "(1)=025#0"
        assert completion.tool_calls == (ToolCall(start=3, tokens=4, failed=True),)

    def test_refuses_marks_that_the_tokenizer_cannot_say(self) -> None:
        sampler = ToolSampler(sampler=Writer({}), tool=replace(CALCULATOR, open="<calc>"), max_calls=1)
        with pytest.raises(UserError, match="no ordinary tokens for '<calc>'"):
            sampler.attach(torch.nn.Module(), TOKENIZER)

    def test_refuses_no_calls_and_a_tool_within_a_tool(self) -> None:
        with pytest.raises(ValueError, match="max_calls is at least 1"):
            ToolSampler(sampler=Writer({}), tool=CALCULATOR, max_calls=0)
        with pytest.raises(ValueError, match="has a tool already"):
            ToolSampler(
                sampler=ToolSampler(sampler=Writer({}), tool=CALCULATOR, max_calls=1), tool=CALCULATOR, max_calls=1
            )

    def test_a_copy_has_a_sampler_of_its_own(self) -> None:
        sampler = ToolSampler(sampler=CompactSampler(), tool=CALCULATOR, max_calls=3)
        other = copy(sampler)
        assert other.engine is not sampler.engine
        assert (other.tool, other.max_calls) == (sampler.tool, 3)


class Quarter(Tool):
    close = ")"

    def __call__(self, text: str) -> Answer:
        return Answer(text="=0.25", failed=False)


def test_an_engine_has_room_for_what_a_turn_has_left() -> None:
    turn = Turn(id="0", text="", answer="", token_ids=(1,) * 90, room=10)
    check_room([turn], [turn.token_ids], Decoding(max_tokens=80), limit=100)
    with pytest.raises(UserError, match="90 tokens and its completions up to 10, which is 100"):
        check_room([turn], [turn.token_ids], Decoding(max_tokens=80), limit=99)


class TestDemonstrations:
    @pytest.mark.parametrize(("limit", "tool", "finish"), [(64, "=55=36", "stop"), (8, "=5", "length")])
    def test_what_the_tool_would_write_is_not_imitated(self, limit: int, tool: str, finish: str) -> None:
        solution = "(47+8)=55;(55-19)=36;#36"
        source = Demonstrations()
        source.attach(ToolSampler(sampler=Writer({}), tool=CALCULATOR, max_calls=1), None, TOKENIZER)
        prompt = replace(PROMPT, meta={"solution": solution})
        (group,) = source.sample([prompt], n=1, decoding=Decoding(max_tokens=limit), seed=0)
        assert group.completions[0].text == solution[:limit]
        assert group.completions[0].finish_reason == finish
        assert by_author(group.completions[0])[1] == tool

    def test_a_wrong_answer_is_not_the_tools(self) -> None:
        assert pieces_of("(1+1)=3;#3", CALCULATOR) == ["(1+1)=3;#3"]


def test_how_a_tool_was_used_is_measured() -> None:
    used, _ = written({"47+8-19=": "(47+)", "47+8-19=(47+)=()": "(1+1)", "47+8-19=(47+)=()(1+1)=2": "#2"})
    unused, _ = written({"47+8-19=": "#36"})
    without = replace(unused, tool_calls=None)
    assert tool_measures([Group(prompt=PROMPT, prompt_ids=(2,), completions=(used, unused))], "rollouts") == {
        "rollouts/tool_calls_mean": 1.0,
        "rollouts/tool_failures_mean": 0.5,
        "rollouts/tool_tokens": 5 / (18 + 4),
    }
    assert tool_measures([Group(prompt=PROMPT, prompt_ids=(2,), completions=(without,))], "rollouts") == {}


@pytest.fixture(scope="module")
def policy(tiny_policy: str) -> Policy:
    return Policy(PolicySpec(path=tiny_policy, lora=None, precision="float32"), temperature=1.0, with_reference=False)


@pytest.mark.parametrize("engine", [CompactSampler, TransformersSampler])
class TestRealSampling:
    """With a policy of random weights, which closes brackets now and then."""

    def groups(self, engine: type[TransformersSampler], policy: Policy, seed: int = 0) -> list[Group]:
        sampler = ToolSampler(sampler=engine(), tool=CALCULATOR, max_calls=2)
        sampler.attach(policy.model, policy.tokenizer)
        prompts = [replace(PROMPT, text=text) for text in ("1+2=", "47+8-19=", "9-3+11=")]
        groups = sampler.sample(prompts, n=6, decoding=Decoding(max_tokens=20), seed=seed)
        return [replace(g, outcomes=(0.0,) * 6, right=(True,) * 6, columns=((0.0,) * 6,)) for g in groups]

    def test_is_a_function_of_the_seed(self, engine: type[TransformersSampler], policy: Policy) -> None:
        groups = self.groups(engine, policy)
        assert self.groups(engine, policy) == groups
        assert self.groups(engine, policy, seed=1) != groups
        calls = [len(c.tool_calls or ()) for group in groups for c in group.completions]
        assert sum(calls) >= 4
        assert max(calls) == 2

    def test_log_probabilities_are_the_policys_in_every_turn(
        self, engine: type[TransformersSampler], policy: Policy
    ) -> None:
        batch = assemble(self.groups(engine, policy), pad=0, device=torch.device("cpu"))
        values = policy.annotate(batch, 512)
        mask = batch["mask"]
        assert (~mask & (torch.arange(mask.shape[1]) < batch.lengths[:, None])).sum() >= 8
        torch.testing.assert_close(values.logprobs, batch["rollout_logprobs"], rtol=0, atol=1e-5)  # float32
        for value in values:
            assert torch.count_nonzero(value[~mask]) == 0
            assert bool((value[mask] != 0).all())


def test_a_model_is_asked_of_the_policys_tokens_alone(policy: Policy) -> None:
    """The gradient is that of the rows with the tool's tokens in the context and in no target."""
    ids = tuple(TOKENIZER("(47+8)=55;#36")["input_ids"])
    call = ToolCall(start=6, tokens=3, failed=False)
    completion = Completion(
        token_ids=ids, rollout_logprobs=(0.0,) * len(ids), text="", finish_reason="stop", tool_calls=(call,)
    )
    group = Group(
        prompt=PROMPT,
        prompt_ids=tuple(TOKENIZER(PROMPT.text)["input_ids"]),
        completions=(completion, completion),
        outcomes=(0.0, 0.0),
        right=(True, True),
        columns=((0.0, 0.0),),
    )
    batch = assemble([group], pad=0, device=torch.device("cpu"))
    logits = policy.model(input_ids=batch.input_ids[:1]).logits[0].log_softmax(-1)
    P = len(group.prompt_ids)
    wanted = sum(logits[P + t - 1, ids[t]] for t in range(len(ids)) if not 6 <= t < 9)
    assert isinstance(wanted, torch.Tensor)
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    found = policy.values(batch, entropy_gradient=False).logprobs[0].sum()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)  # float32 sums
    for one, other in zip(torch.autograd.grad(found, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
