"""What an engine of vLLM is asked, in which order it takes weights, and what is refused before it is asked."""

from typing import Any

import pytest
import torch

import research.rollouts.vllm.engine as engine_module
import research.rollouts.vllm.sampler as sampler_module
from research.errors import UserError
from research.policy import character_tokenizer
from research.prompts.arithmetic import ALPHABET
from research.rollouts import Decoding, VLLMSampler
from research.rollouts.vllm.engine import Engine
from research.rollouts.vllm.requests import adapter_settings, check_room, completion, sampling_parameters
from research.types import Prompt

TOKENIZER = character_tokenizer(ALPHABET)


class TestRequests:
    def asked(self, **changes: Any) -> dict[str, Any]:
        decoding = Decoding(max_tokens=7, temperature=0.5, top_p=0.9, top_k=4, stop=(";",))
        return sampling_parameters(decoding, **{"n": 3, "seed": 5, "index": 2, "end_tokens": [9, 1], **changes})

    def test_say_all_that_decoding_says(self) -> None:
        expected = {"max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "stop": [";"], "n": 3}
        assert self.asked() == {**self.asked(), **expected}

    def test_end_at_the_models_end_tokens_alone(self) -> None:
        assert self.asked()["stop_token_ids"] == [1, 9]
        assert self.asked()["ignore_eos"]

    def test_have_seeds_of_their_own(self) -> None:
        seeds = [self.asked(seed=seed, index=index)["seed"] for seed in range(4) for index in range(50)]
        assert len(set(seeds)) == 200
        assert max(seeds) < 2**62  # completion k draws with seed + k, which stays below 2⁶³

    @pytest.mark.parametrize("reason", ["abort", None, "error"])
    def test_that_the_engine_gave_up_are_no_completions(self, reason: str | None) -> None:
        with pytest.raises(UserError, match=f"a completion of 2 tokens with the reason {reason!r}"):
            completion(TOKENIZER, [2, 3], [-1.0, -2.0], reason)

    def test_give_completions_without_special_tokens_in_the_text(self) -> None:
        ids = [*TOKENIZER("12")["input_ids"], TOKENIZER.eos_token_id]
        found = completion(TOKENIZER, ids, [-1.0, -2.0, -0.5], "stop")
        assert (found.text, found.token_ids, found.truncated) == ("12", tuple(ids), False)

    def test_need_room(self) -> None:
        prompts = [Prompt(id="short", text="", answer=""), Prompt(id="long", text="", answer="")]
        check_room(prompts, [[2] * 3, [2] * 5], Decoding(max_tokens=5), 10)
        with pytest.raises(
            UserError, match=r"prompt long has 6 tokens and its completions up to 5, which is 11, .* 10:"
        ):
            check_room(prompts, [[2] * 3, [2] * 6], Decoding(max_tokens=5), 10)

    @pytest.mark.parametrize(("rank", "room"), [(1, 8), (8, 8), (9, 16), (512, 512)])
    def test_of_adapters_have_the_next_rank_there_is(self, rank: int, room: int) -> None:
        assert adapter_settings(rank) == {"enable_lora": True, "max_lora_rank": room}

    def test_of_adapters_above_all_ranks_are_refused(self) -> None:
        with pytest.raises(UserError, match="rank 512 at most, and LoRA's rank is 513"):
            adapter_settings(513)


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"tolerance": 0.0}, "tolerance is above 0"),
            ({"tolerance": float("nan")}, "tolerance is above 0"),
            ({"tolerance": 1e-3, "dtype": "bfloat16"}, "bfloat16 rounds log-probabilities by more"),
            ({"gpu_memory_utilization": 0.0}, r"gpu_memory_utilization is in \(0, 1\]"),
            ({"gpu_memory_utilization": 1.1}, r"gpu_memory_utilization is in \(0, 1\]"),
            ({"kv_cache_gib": 0.0}, "kv_cache_gib is above 0"),
            ({"max_model_len": 1}, "max_model_len is at least 2"),
        ],
    )
    def test_out_of_range_are_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            VLLMSampler(**settings)

    def test_without_vllm_a_sentence_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=r"VLLMSampler needs vLLM, which is not installed: .*research-rlvr\[vllm\]"):
            VLLMSampler().attach(torch.nn.Module(), TOKENIZER)

    def test_another_device_than_the_first_is_refused(self) -> None:
        with pytest.raises(UserError, match="policy is on cuda:1: set CUDA_VISIBLE_DEVICES"):
            Engine(torch.device("cuda:1"))


class Recorder(Engine):
    """Stands for an engine on a GPU, and writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def load(self, weights: Any) -> None:
        self.told.append("load")

    def forget(self) -> None:
        self.told.append("forget")

    def sleep(self, level: int) -> None:
        self.told.append(f"sleep {level}")

    def wake(self, what: str) -> None:
        self.told.append(f"wake {what}")

    def end(self) -> None:
        self.told.append("end")


class TestSleep:
    @pytest.fixture
    def engine(self, monkeypatch: pytest.MonkeyPatch) -> Recorder:
        engine = Recorder()
        monkeypatch.setattr(engine_module, "find_spec", lambda name: object())
        monkeypatch.setattr(VLLMSampler, "_start", lambda self: engine)
        monkeypatch.setattr(sampler_module, "full_weights", lambda model: iter(()))
        return engine

    def sampler(self, level: Any, device: str = "cuda") -> VLLMSampler:
        sampler = VLLMSampler(sleep_level=level)
        model = torch.nn.Module()
        model.device = torch.device(device)
        sampler.attach(model, TOKENIZER)
        sampler.sync(0)
        return sampler

    @pytest.mark.parametrize("level", [1, 2])
    def test_memory_for_weights_then_weights_then_memory_for_keys(self, engine: Recorder, level: int) -> None:
        sampler = self.sampler(level)
        assert engine.told == ["load", "forget"]
        engine.told.clear()
        sampler.sleep()
        sampler.sync(1)
        assert engine.told == [f"sleep {level}", "wake weights", "load", "wake kv_cache", "forget"]

    def test_weights_set_aside_come_back_and_lost_ones_are_taken_again(self, engine: Recorder) -> None:
        for level, middle in ((1, []), (2, ["load"])):
            sampler = self.sampler(level)
            sampler.sleep()
            engine.told.clear()
            sampler.sync(0)
            assert engine.told == ["wake weights", *middle, "wake kv_cache", "forget"]

    @pytest.mark.parametrize(("level", "device"), [(0, "cuda"), (1, "cpu"), (2, "cpu")])
    def test_an_engine_that_gives_nothing_up_stays_awake(self, engine: Recorder, level: int, device: str) -> None:
        sampler = self.sampler(level, device)
        sampler.sleep()
        sampler.sync(1)
        assert engine.told == ["load", "forget", "load", "forget"]

    def test_once_is_enough(self, engine: Recorder) -> None:
        sampler = self.sampler(1)
        sampler.sleep()
        sampler.sleep()
        assert engine.told.count("sleep 1") == 1

    def test_the_end_ends_the_engine_once(self, engine: Recorder) -> None:
        sampler = self.sampler(1)
        sampler.close()
        sampler.close()
        assert engine.told.count("end") == 1
