"""Which groups train, and what the samplers return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from research.policy import LoRA, Policy, PolicySpec, character_tokenizer
from research.prompts.arithmetic import ALPHABET
from research.rollouts import (
    Collected,
    Collector,
    CompactSampler,
    Decoding,
    Keep,
    KeepAll,
    MixedOutcomes,
    ScriptedSampler,
    TransformersSampler,
)
from research.types import Completion, Group, Prompt

MIXED, DEAD = (1.0, -1.0), (1.0, 1.0)


def prompt(name: str) -> Prompt:
    return Prompt(id=name, text=f"{len(name)}+1=", answer="2")


@dataclass
class World:
    """Numbers prompts as they are drawn; whether a prompt's group is mixed is written down, in that order."""

    mixed: Sequence[bool]
    drawn: int = 0
    step: int = 0

    def draw(self, n: int) -> list[Prompt]:
        self.drawn += n
        return [prompt(str(k)) for k in range(self.drawn - n, self.drawn)]

    def sample(self, prompts: Sequence[Prompt], round_: int) -> list[Group]:
        return [
            Group(
                prompt=p,
                prompt_ids=(round_,),
                completions=(),
                outcomes=MIXED if self.mixed[int(p.id) % len(self.mixed)] else DEAD,
                step=self.step,
            )
            for p in prompts
        ]

    def collect(self, keep: Keep, wanted: int, max_rounds: int, surplus: Sequence[Group] = ()) -> Collected:
        collector = Collector(keep=keep, max_rounds=max_rounds)
        return collector(self.draw(wanted), draw=self.draw, sample=self.sample, surplus=surplus)


def ids(groups: Sequence[Group]) -> list[int]:
    return [int(group.prompt.id) for group in groups]


class TestCollector:
    def test_keep_all_takes_one_round_whatever_the_outcomes(self) -> None:
        collected = World([False]).collect(KeepAll(), wanted=3, max_rounds=5)
        assert ids(collected.groups) == ids(collected.sampled) == [0, 1, 2]
        assert (collected.surplus, collected.dropped, collected.rounds) == ((), 0, 1)

    def test_enough_at_once_takes_one_round(self) -> None:
        collected = World([True]).collect(MixedOutcomes(), wanted=3, max_rounds=5)
        assert (ids(collected.groups), collected.rounds, collected.dropped) == ([0, 1, 2], 1, 0)

    def test_refills_until_there_are_enough(self) -> None:
        """First every other group is mixed; then 0, 2, 3 and 5: three train, one is left over, two are dropped."""
        collected = World([True, False]).collect(MixedOutcomes(), wanted=3, max_rounds=5)
        assert ids(collected.sampled) == [0, 1, 2, 3, 4, 5]
        assert ids(collected.groups) == [0, 2, 4]
        assert ids(collected.surplus) == []
        assert (collected.dropped, collected.rounds) == (3, 2)
        collected = World([True, False, True, True, False, True]).collect(MixedOutcomes(), wanted=3, max_rounds=5)
        assert ids(collected.groups) == [0, 2, 3]
        assert ids(collected.surplus) == [5]
        assert (collected.dropped, collected.rounds) == (2, 2)

    def test_stops_at_the_last_round_with_what_it_has(self) -> None:
        collected = World([True, False, False, False]).collect(MixedOutcomes(), wanted=4, max_rounds=3)
        assert ids(collected.groups) == [0, 4, 8]
        assert (collected.dropped, collected.rounds, len(collected.sampled)) == (9, 3, 12)

    def test_finds_nothing_and_ends(self) -> None:
        world = World([False])
        collected = world.collect(MixedOutcomes(), wanted=4, max_rounds=3)
        assert (collected.groups, collected.surplus) == ((), ())
        assert (collected.dropped, collected.rounds, world.drawn) == (12, 3, 12)

    def test_surplus_trains_first_the_oldest_before_all(self) -> None:
        world = World([True])
        old = [replace(group, step=-2) for group in world.sample([prompt("90"), prompt("91")], 0)]
        collected = world.collect(MixedOutcomes(), wanted=3, max_rounds=2, surplus=old)
        assert ids(collected.groups) == [90, 91, 0]
        assert ids(collected.surplus) == [1, 2]
        assert ids(collected.sampled) == [0, 1, 2]
        assert collected.dropped == 0
        assert [group.step for group in collected.groups] == [-2, -2, 0]

    def test_every_group_trains_once_or_is_dropped_and_the_surplus_stays_small(self) -> None:
        """Twenty steps in a row: what was sampled is trained, waiting or counted as dropped; nothing twice."""
        world = World([True, False, False, True, True, False, True])
        surplus: tuple[Group, ...] = ()
        trained, sampled, dropped = [], 0, 0
        for _ in range(20):
            collected = world.collect(MixedOutcomes(), wanted=4, max_rounds=3, surplus=surplus)
            assert len(collected.surplus) < 4
            surplus = collected.surplus
            trained += ids(collected.groups)
            sampled, dropped = sampled + len(collected.sampled), dropped + collected.dropped
            world.step += 1
        assert sampled == world.drawn == len(trained) + len(surplus) + dropped
        assert trained == sorted(set(trained))
        assert all(world.mixed[k % 7] for k in trained)

    @pytest.mark.parametrize("max_rounds", [0, -1])
    def test_refuses_no_round(self, max_rounds: int) -> None:
        with pytest.raises(ValueError, match="max_rounds is at least 1"):
            Collector(keep=KeepAll(), max_rounds=max_rounds)


class TestKeep:
    @pytest.mark.parametrize(
        ("outcomes", "kept"),
        [
            ((1.0, -1.0, 1.0), True),
            ((1.0, 1.0), False),
            ((-1.0, -1.0), False),
            ((0.1 + 0.2, 0.3), True),
            ((1.0,), False),
        ],
    )
    def test_mixed_outcomes_are_compared_exactly(self, outcomes: tuple[float, ...], kept: bool) -> None:
        assert MixedOutcomes()(outcomes=outcomes) is kept
        assert KeepAll()(outcomes=outcomes) is True

    def test_shaping_is_out_of_sight(self) -> None:
        """What dynamic sampling sees is decided before any shaping: it names outcomes, and nothing else."""
        assert MixedOutcomes.needs() == KeepAll.needs() == {"outcomes"}


class TestDecoding:
    @pytest.mark.parametrize(
        "fields",
        [
            {"max_tokens": 0},
            {"temperature": 0.0},
            {"temperature": -1.0},
            {"top_p": 0.0},
            {"top_p": 1.1},
            {"top_k": -1},
            {"stop": ("",)},
        ],
    )
    def test_out_of_range(self, fields: dict[str, Any]) -> None:
        name = next(iter(fields))
        with pytest.raises(ValueError, match=f"{name}|a {name} string"):
            Decoding(**{"max_tokens": 4, **fields})


class TestScriptedSampler:
    def sampler(self, *texts: str) -> ScriptedSampler:
        sampler = ScriptedSampler({"1+1=": list(texts)})
        sampler.attach(None, character_tokenizer(ALPHABET))
        return sampler

    def sample(self, sampler: ScriptedSampler, n: int, max_tokens: int = 10) -> tuple[Completion, ...]:
        (group,) = sampler.sample([prompt("a")], n=n, decoding=Decoding(max_tokens=max_tokens), seed=0)
        return group.completions

    def test_takes_the_texts_in_turn_and_begins_again(self) -> None:
        sampler = self.sampler("#2", "#3", "#4")
        assert [c.text for c in self.sample(sampler, 2)] == ["#2", "#3"]
        assert [c.text for c in self.sample(sampler, 2)] == ["#4", "#2"]

    def test_cuts_at_the_limit_end_token_included(self) -> None:
        fits, cut = self.sample(self.sampler("#2", "#23"), 2, max_tokens=3)
        assert (fits.finish_reason, len(fits.token_ids), fits.truncated) == ("stop", 3, False)
        assert (cut.finish_reason, cut.text, cut.truncated) == ("length", "#23", True)

    def test_unknown_prompt(self) -> None:
        with pytest.raises(KeyError):
            self.sampler("#2").sample([prompt("abc")], n=1, decoding=Decoding(max_tokens=4), seed=0)


@pytest.fixture(scope="module")
def policy(tiny_policy: str) -> Policy:
    return Policy(PolicySpec(path=tiny_policy, lora=None, precision="float32"), temperature=1.0, with_reference=False)


@pytest.fixture(params=[TransformersSampler, CompactSampler])
def sample(policy: Policy, request: pytest.FixtureRequest) -> Callable[..., list[Group]]:
    def call(texts: Sequence[str], *, n: int = 3, seed: int = 0, max_rows: int = 512, **decoding: Any) -> list[Group]:
        sampler = request.param(max_rows=max_rows)
        sampler.attach(policy.model, policy.tokenizer)
        prompts = [Prompt(id=str(k), text=text, answer="") for k, text in enumerate(texts)]
        return sampler.sample(prompts, n=n, decoding=Decoding(**{"max_tokens": 12, **decoding}), seed=seed)

    return call


def completions(groups: Sequence[Group]) -> list[Completion]:
    return [completion for group in groups for completion in group.completions]


class TestTransformersSampler:
    TEXTS = ("1+2=", "9-3+4+5-6+7=", "8-1=", "3+3+3=")

    def test_groups_are_in_the_prompts_order(self, sample: Callable[..., list[Group]], policy: Policy) -> None:
        for max_rows in (512, 6, 1):
            groups = sample(self.TEXTS, max_rows=max_rows)
            assert [group.prompt.text for group in groups] == list(self.TEXTS)
            assert [policy.tokenizer.decode(group.prompt_ids) for group in groups] == list(self.TEXTS)
            assert [len(group.completions) for group in groups] == [3] * 4

    def test_same_seed_same_completions_and_another_others(self, sample: Callable[..., list[Group]]) -> None:
        first = sample(self.TEXTS, seed=1)
        torch.manual_seed(99)
        assert sample(self.TEXTS, seed=1) == first
        assert sample(self.TEXTS, seed=2) != first

    def test_leaves_the_global_generator_and_the_mode_alone(
        self, sample: Callable[..., list[Group]], policy: Policy
    ) -> None:
        policy.model.train()
        state = torch.get_rng_state()
        sample(self.TEXTS)
        assert torch.equal(torch.get_rng_state(), state)
        assert policy.model.training

    def test_equal_prompts_get_different_completions(self, sample: Callable[..., list[Group]]) -> None:
        for max_rows in (512, 3):
            first, second = sample(["1+2=", "1+2="], max_rows=max_rows)
            assert first.completions != second.completions
            assert len(set(first.completions)) == 3

    def test_completions_end_at_the_first_end_token(self, sample: Callable[..., list[Group]], policy: Policy) -> None:
        end = policy.tokenizer.eos_token_id
        rows = completions(sample(self.TEXTS, n=8))
        assert {c.finish_reason for c in rows} == {"stop", "length"}
        assert len({len(c.token_ids) for c in rows}) > 3
        for c in rows:
            assert end not in c.token_ids[:-1]
            assert c.truncated == (c.token_ids[-1] != end)
            assert len(c.token_ids) == len(c.rollout_logprobs) <= 12
            assert len(c.token_ids) == 12 or not c.truncated
            assert c.text == policy.tokenizer.decode(c.token_ids, skip_special_tokens=True)
            assert all(value < 0 for value in c.rollout_logprobs)

    def test_left_padding_leaves_the_log_probabilities_alone(
        self, sample: Callable[..., list[Group]], policy: Policy
    ) -> None:
        """A short prompt sampled beside a long one: its tokens have the probabilities they have alone."""
        short = sample(self.TEXTS)[0]
        for c in short.completions:
            ids_ = torch.tensor([[*short.prompt_ids, *c.token_ids]])
            with torch.no_grad():
                log_p = torch.log_softmax(policy.model(input_ids=ids_).logits[0], -1)
            p = len(short.prompt_ids)
            alone = [float(log_p[p + t - 1, token]) for t, token in enumerate(c.token_ids)]
            assert c.rollout_logprobs == pytest.approx(alone, abs=1e-5)  # float32

    @pytest.mark.parametrize("decoding", [{"temperature": 0.5}, {"temperature": 2.0}, {"top_p": 0.5}, {"top_k": 3}])
    def test_log_probabilities_are_of_the_distribution_drawn_from(
        self, decoding: dict[str, float], sample: Callable[..., list[Group]], policy: Policy
    ) -> None:
        """After temperature and top-p: the first token of many completions, against the distribution by hand."""
        (group,) = sample(["1+2="], n=64, **decoding)
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([group.prompt_ids])).logits[0, -1]
        p = torch.softmax(logits / decoding.get("temperature", 1.0), -1)
        order = p.argsort(descending=True)
        before = p[order].cumsum(0) - p[order]
        kept = order[before < decoding.get("top_p", 1.0)][: int(decoding.get("top_k", len(order)))]
        share = torch.zeros_like(p)
        share[kept] = p[kept] / p[kept].sum()
        for c in group.completions:
            assert c.rollout_logprobs[0] == pytest.approx(float(share[c.token_ids[0]].log()), abs=1e-5)

    @pytest.mark.parametrize(
        "habit",
        [{"repetition_penalty": 3.0}, {"min_p": 0.5}, {"top_k": 2}, {"temperature": 0.2}, {"suppress_tokens": [9]}],
    )
    def test_a_models_own_generation_settings_take_no_part(
        self, habit: dict[str, Any], sample: Callable[..., list[Group]], policy: Policy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Hub models come with a repetition penalty or a top-k: completions would not be the policy's own."""
        usual = sample(self.TEXTS)
        ((name, value),) = habit.items()
        monkeypatch.setattr(policy.model.generation_config, name, value)
        assert sample(self.TEXTS) == usual
        assert getattr(policy.model.generation_config, name) == value  # and they are still the model's own

    @pytest.mark.parametrize("kind", [TransformersSampler, CompactSampler])
    def test_nor_do_those_of_a_model_with_adapters(
        self, kind: type[TransformersSampler], tiny_policy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """PEFT's wrapper passes `generate` on to the model inside, whose settings are the ones that count."""
        spec = PolicySpec(path=tiny_policy, lora=LoRA(rank=2, alpha=4.0), precision="float32")
        policy = Policy(spec, temperature=1.0, with_reference=False)
        sampler = kind()
        sampler.attach(policy.model, policy.tokenizer)
        prompts = [Prompt(id=text, text=text, answer="") for text in self.TEXTS]
        usual = sampler.sample(prompts, n=3, decoding=Decoding(max_tokens=12), seed=0)
        monkeypatch.setattr(policy.causal_lm.generation_config, "repetition_penalty", 3.0)
        assert sampler.sample(prompts, n=3, decoding=Decoding(max_tokens=12), seed=0) == usual
        assert policy.causal_lm.generation_config.repetition_penalty == 3.0

    def test_several_end_tokens(
        self, sample: Callable[..., list[Group]], policy: Policy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        semicolon, end = policy.tokenizer(";")["input_ids"][0], policy.tokenizer.eos_token_id
        monkeypatch.setattr(policy.model.generation_config, "eos_token_id", [end, semicolon])
        rows = completions(sample(self.TEXTS, n=8))
        assert any(c.token_ids[-1] == semicolon for c in rows)
        for c in rows:
            assert not {semicolon, end} & set(c.token_ids[:-1])
            assert c.truncated == (c.token_ids[-1] not in (semicolon, end))

    def test_a_stop_string_ends_a_completion_as_an_end_token_does(
        self, sample: Callable[..., list[Group]], policy: Policy
    ) -> None:
        rows = completions(sample(self.TEXTS, n=16, max_tokens=12, stop=(";", "+1")))
        ended = [c for c in rows if ";" in c.text or "+1" in c.text]
        assert len([c for c in ended if c.text.endswith("+1")]) > 0
        for c in ended:
            assert c.finish_reason == "stop"
            assert c.text.endswith((";", "+1"))
            assert len(c.rollout_logprobs) == len(c.token_ids)
            assert not any(string in c.text[:-1] for string in (";", "+1"))
        for c in rows:
            assert c.truncated == (c not in ended and c.token_ids[-1] != policy.tokenizer.eos_token_id)

    def test_refuses_no_rows(self) -> None:
        with pytest.raises(ValueError, match="max_rows is at least 1"):
            TransformersSampler(max_rows=0)


@pytest.mark.parametrize("decoding", [{"temperature": 1e-3}, {"top_p": 1e-6}], ids=["cold", "narrow"])
def test_both_samplers_draw_the_same_tokens_where_nothing_is_random(policy: Policy, decoding: dict[str, float]) -> None:
    prompts = [Prompt(id=str(k), text=text, answer="") for k, text in enumerate(TestTransformersSampler.TEXTS)]
    drawn = []
    for kind in (TransformersSampler, CompactSampler):
        sampler = kind()
        sampler.attach(policy.model, policy.tokenizer)
        groups = sampler.sample(prompts, n=2, decoding=Decoding(max_tokens=20, **decoding), seed=0)
        drawn.append([[completion.token_ids for completion in group.completions] for group in groups])
    assert drawn[0] == drawn[1]
