"""The engine in the training process, with all weights of a policy: its log-probabilities, its samples, its weights."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from engines import FOREIGN, LONG, PARITY, PROMPTS, completions, gap, loaded, prove, saved, shake, started

import research.rollouts.vllm.sampler as sampler_module
from research.errors import UserError
from research.policy import Policy
from research.rollouts import Decoding
from research.rollouts.transformers import warpers
from research.types import Group, Prompt

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module", params=["tied", "untied"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Policy]]:
    """A running sampler and the policy that it samples from."""
    policy = loaded(saved(tmp_path_factory.mktemp(request.param), tied=request.param == "tied"))
    assert policy.tied == (request.param == "tied")
    sampler = started(policy)
    yield sampler, policy
    sampler.close()


class TestLogProbabilities:
    @pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
    def test_are_the_policys_after_temperature(self, pair: tuple[Any, Policy], temperature: float) -> None:
        sampler, policy = pair
        assert gap(sampler, policy, temperature=temperature) <= PARITY

    @pytest.mark.parametrize("truncation", [{"top_k": 3}, {"top_p": 0.5}, {"top_k": 6, "top_p": 0.8}], ids=str)
    def test_are_those_of_the_tokens_that_truncation_leaves(
        self, pair: tuple[Any, Policy], truncation: dict[str, Any]
    ) -> None:
        sampler, policy = pair
        decoding = Decoding(max_tokens=12, temperature=1.5, **truncation)
        for group in sampler.sample(PROMPTS, n=4, decoding=decoding, seed=3):
            for c in group.completions:
                ids = torch.tensor([[*group.prompt_ids, *c.token_ids]])
                with torch.no_grad():
                    scores = policy.causal_lm(input_ids=ids).logits[0, len(group.prompt_ids) - 1 : -1]
                for warp in warpers(decoding):
                    scores = warp(ids, scores)  # pyright: ignore[reportArgumentType]
                expected = torch.log_softmax(scores, -1)[range(len(c.token_ids)), list(c.token_ids)]
                assert torch.tensor(c.rollout_logprobs) == pytest.approx(expected, abs=PARITY)


class TestSamples:
    @pytest.fixture
    def sample(self, pair: tuple[Any, Policy]) -> Callable[..., list[Group]]:
        def sample(prompts: Sequence[Prompt] = PROMPTS, n: int = 3, seed: int = 0, **decoding: Any) -> list[Group]:
            return pair[0].sample(prompts, n=n, decoding=Decoding(**{"max_tokens": 12, **decoding}), seed=seed)

        return sample

    def test_the_same_call_gives_the_same_groups(self, sample: Callable[..., list[Group]]) -> None:
        assert [c.token_ids for c in completions(sample())] == [c.token_ids for c in completions(sample())]

    def test_seeds_completions_and_places_draw_anew(self, sample: Callable[..., list[Group]]) -> None:
        same = [PROMPTS[0]] * 4
        texts = [c.text for group in sample(same, n=4) for c in group.completions]
        other = [c.text for group in sample(same, n=4, seed=1) for c in group.completions]
        assert len(set(texts + other)) > 28  # of 32; the random policy seldom repeats itself

    def test_a_group_does_not_depend_on_the_others(self, sample: Callable[..., list[Group]]) -> None:
        alone = sample(PROMPTS[:1], n=2)
        assert [c.token_ids for c in sample(n=5)[0].completions[:2]] == [c.token_ids for c in alone[0].completions]

    def test_groups_come_in_the_prompts_order(
        self, sample: Callable[..., list[Group]], pair: tuple[Any, Policy]
    ) -> None:
        groups = sample(n=2)
        assert [group.prompt for group in groups] == PROMPTS
        assert [list(g.prompt_ids) for g in groups] == [pair[1].tokenizer(p.text)["input_ids"] for p in PROMPTS]
        assert {len(group.completions) for group in groups} == {2}

    def test_what_ends_a_completion(self, sample: Callable[..., list[Group]], pair: tuple[Any, Policy]) -> None:
        tokenizer = pair[1].tokenizer
        rows = completions(sample(n=32))
        assert {c.finish_reason for c in rows} == {"stop", "length"}
        for c in rows:
            assert c.truncated == (c.token_ids[-1] != tokenizer.eos_token_id)
            assert tokenizer.eos_token_id not in c.token_ids[:-1]
            assert len(c.token_ids) == 12 or not c.truncated
            assert len(c.rollout_logprobs) == len(c.token_ids)
            assert c.text == tokenizer.decode(c.token_ids, skip_special_tokens=True)

    def test_several_end_tokens(
        self, sample: Callable[..., list[Group]], pair: tuple[Any, Policy], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy = pair[1]
        semicolon, end = policy.tokenizer(";")["input_ids"][0], policy.tokenizer.eos_token_id
        monkeypatch.setattr(policy.model.generation_config, "eos_token_id", [end, semicolon])
        rows = completions(sample(n=16))
        assert any(c.token_ids[-1] == semicolon for c in rows)
        for c in rows:
            assert not {semicolon, end} & set(c.token_ids[:-1])
            assert c.truncated == (c.token_ids[-1] not in (semicolon, end))

    def test_a_stop_string_ends_a_completion_as_an_end_token_does(
        self, sample: Callable[..., list[Group]], pair: tuple[Any, Policy]
    ) -> None:
        rows = completions(sample(n=64, stop=(";", "+1")))
        ended = [c for c in rows if ";" in c.text or "+1" in c.text]
        assert len([c for c in ended if c.text.endswith("+1")]) > 0
        for c in ended:
            assert c.finish_reason == "stop"
            assert c.text.endswith((";", "+1"))
            assert len(c.rollout_logprobs) == len(c.token_ids)
            assert not any(string in c.text[:-1] for string in (";", "+1"))
        for c in rows:
            assert c.truncated == (c not in ended and c.token_ids[-1] != pair[1].tokenizer.eos_token_id)

    def test_a_prompt_without_room_is_refused(self, sample: Callable[..., list[Group]]) -> None:
        with pytest.raises(UserError, match=r"prompt long has 180 tokens and its completions up to 77, which is 257"):
            sample(LONG, max_tokens=77)
        assert len(completions(sample(LONG, n=1, max_tokens=76))) == 1


class TestFullSync:
    def test_ten_versions_of_two_policies_in_turn(self, pair: tuple[Any, Policy]) -> None:
        sampler, policy = pair
        size = sum(p.numel() * 4 for p in policy.causal_lm.state_dict().values())
        for version in range(1, 11):
            shake(policy, seed=version % 2)
            assert gap(sampler, policy) > FOREIGN  # not yet
            assert sampler.sync(version) == {"rollouts/sync_bytes": size}
            assert gap(sampler, policy) <= PARITY

    def test_a_version_that_it_has_is_not_taken_again(self, pair: tuple[Any, Policy]) -> None:
        sampler, policy = pair
        sampler.sync(100)
        assert sampler.sync(100) == {"rollouts/sync_bytes": 0.0}
        assert gap(sampler, policy) <= PARITY

    def test_keys_and_values_of_earlier_weights_are_forgotten(
        self, pair: tuple[Any, Policy], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sampler, policy = pair
        sampler.sync(200)
        assert gap(sampler, policy, LONG) <= PARITY
        with monkeypatch.context() as patch:
            patch.setattr(sampler._engine, "forget", lambda: None)
            shake(policy, seed=5)
            sampler.sync(201)
            assert gap(sampler, policy, LONG) > PARITY  # what would happen
        sampler.sync(202)
        assert gap(sampler, policy, LONG) <= PARITY


class TestProof:
    def test_says_how_far_apart_the_two_are(self, pair: tuple[Any, Policy]) -> None:
        shake(pair[1], seed=300)
        measures = prove(*pair, 300)
        assert 0 < measures["rollouts/sync_gap_mean"] <= measures["rollouts/sync_gap_max"] <= PARITY

    def test_a_stale_output_layer_is_caught(self, pair: tuple[Any, Policy], monkeypatch: pytest.MonkeyPatch) -> None:
        sampler, policy = pair
        shake(policy, seed=400)
        everything = sampler_module.full_weights
        with monkeypatch.context() as patch:
            patch.setattr(
                sampler_module,
                "full_weights",
                lambda model: ((name, value) for name, value in everything(model) if name != "lm_head.weight"),
            )
            cause = "stale output layer" if policy.tied else "kept the weights of an earlier version"
            with pytest.raises(UserError, match=rf"VLLMSampler does not have the policy's weights.*{cause}"):
                prove(sampler, policy, 400)
        prove(sampler, policy, 401)

    def test_log_probabilities_from_before_the_temperature_are_caught(
        self, pair: tuple[Any, Policy], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sampler, policy = pair
        core = sampler._engine._llm.llm_engine.engine_core.engine_core
        drawing = core.model_executor.driver_worker.worker.model_runner.sampler
        for part in (drawing, drawing.topk_topp_sampler):
            monkeypatch.setattr(part, "logprobs_mode", "raw_logprobs")
        with policy.at_temperature(0.7), pytest.raises(UserError, match="processed_logprobs"):
            prove(sampler, policy, 600, temperature=0.7)
