"""The server sampler against a server of our own: what is asked, what goes wrong; and a restart changes nothing."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from fake_vllm import FakeVLLM, drop, hang
from safetensors.torch import load_file

from research.errors import UserError
from research.policy import LoRA, Policy, PolicySpec
from research.recipe import Recipe
from research.rollouts import CheckpointRoute, Decoding, NCCLRoute, VLLMServerSampler
from research.rollouts.vllm.http import Server
from research.rollouts.vllm.nccl import TransferCalls
from research.types import Prompt

PROMPTS = [Prompt(id=str(k), text=f"{k}+{k}=", answer=str(2 * k)) for k in range(3)]
WARM = Decoding(max_tokens=6, temperature=1.3)
RELOAD, LABEL, COMPLETIONS = "/collective_rpc", "/update_weight_version", "/v1/completions"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("research.rollouts.vllm.http.POLL_SECONDS", 0.01)


@pytest.fixture
def fake(tiny_policy: str) -> Iterator[FakeVLLM]:
    server = FakeVLLM(tiny_policy)
    yield server
    server.kill()


@pytest.fixture
def policy(tiny_policy: str) -> Policy:
    return loaded(tiny_policy)


def loaded(path: str, lora: LoRA | None = None) -> Policy:
    spec = PolicySpec(path=path, lora=lora, precision="float32")
    return Policy(spec, temperature=WARM.temperature, with_reference=False)


def moved(policy: Policy, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def make(fake: FakeVLLM, tmp_path: Path) -> Iterator[Callable[..., VLLMServerSampler]]:
    made = []

    def make(policy: Policy | None = None, **settings: Any) -> VLLMServerSampler:
        settings = {
            "url": fake.url,
            "route": CheckpointRoute(folder=str(tmp_path)),
            "tolerance": 1e-4,
            "request_timeout": 5.0,
            "restart_timeout": 5.0,
            **settings,
        }
        sampler = VLLMServerSampler(**settings)
        if policy is not None:
            sampler.attach(policy.model, policy.tokenizer)
            made.append(sampler)
        return sampler

    yield make
    for sampler in made:
        sampler.close()


def drawn(sampler: VLLMServerSampler, seed: int = 7, n: int = 2) -> list[list[tuple[int, ...]]]:
    groups = sampler.sample(PROMPTS, n=n, decoding=WARM, seed=seed)
    return [[completion.token_ids for completion in group.completions] for group in groups]


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"url": "localhost:8000"}, "url begins with http://"),
            ({"tolerance": 0.0}, "tolerance is above 0"),
            ({"request_timeout": 0.0}, "request_timeout is above 0"),
            ({"restart_timeout": -1.0}, "restart_timeout is at least 0"),
            ({"rollout_timeout": 0.0}, "rollout_timeout is above 0"),
            ({"concurrency": 0}, "concurrency is at least 1"),
        ],
    )
    def test_refused(self, settings: dict[str, Any], message: str, make: Callable[..., VLLMServerSampler]) -> None:
        with pytest.raises(ValueError, match=message):
            make(**settings)

    def test_of_routes_refused(self) -> None:
        with pytest.raises(ValueError, match="names a folder"):
            CheckpointRoute(folder=" ")
        with pytest.raises(ValueError, match="port is in"):
            NCCLRoute(address="trainer", port=0)
        with pytest.raises(ValueError, match="address is this host's"):
            NCCLRoute(address="", port=1)

    def test_in_a_recipe(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        route = {"class_path": "CheckpointRoute", "init_args": {"folder": str(tmp_path)}}
        settings = {"url": "http://there:8000", "route": route, "tolerance": 1e-3}
        node = {"class_path": "VLLMServerSampler", "init_args": settings}
        assert "there:8000" in str(recipe("grpo", {"model.rollouts.sampler": node}).config)


class TestAttach:
    def test_nobody_there(self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]) -> None:
        fake.kill()
        with pytest.raises(UserError, match=r"127.0.0.1:\d+ cannot be reached.*refused.*vllm serve"):
            make(policy)
        fake.start()

    def test_without_development_routes(
        self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]
    ) -> None:
        fake.missing.add("/weight_info")
        with pytest.raises(UserError, match=r"GET /weight_info with 404.*VLLM_SERVER_DEV_MODE=1"):
            make(policy)

    def test_key_is_sent_and_asked_for(
        self,
        fake: FakeVLLM,
        policy: Policy,
        make: Callable[..., VLLMServerSampler],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fake.faults["/v1/models"].append(lambda _: (401, {"error": "Unauthorized"}))
        with pytest.raises(UserError, match=r"401.*VLLM_API_KEY"):
            make(policy)
        monkeypatch.setenv("VLLM_API_KEY", "secret")
        assert make().server.session.headers["Authorization"] == "Bearer secret"

    def test_smaller_vocabulary(self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]) -> None:
        policy.model.resize_token_embeddings(100)  # pyright: ignore
        with pytest.raises(UserError, match=r"does not read the policy's last token 99.*out of vocabulary"):
            make(policy)

    def test_something_else(self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]) -> None:
        fake.faults["/v1/models"].append(lambda _: (200, "<html>Welcome!</html>\nmore"))
        with pytest.raises(UserError, match="no vLLM server: it said '<html>Welcome!</html>' to GET /v1/models"):
            make(policy)

    def test_folder_of_another_run(
        self, policy: Policy, make: Callable[..., VLLMServerSampler], tmp_path: Path
    ) -> None:
        make(policy)
        with pytest.raises(UserError, match="another run sends its weights through"):
            make(policy)

    def test_folder_that_is_none(self, policy: Policy, make: Callable[..., VLLMServerSampler], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"cannot keep the policy's weights in .*file"):
            make(policy, route=CheckpointRoute(folder=str(tmp_path / "file")))

    def test_adapters_on_weights_of_another_run(
        self, fake: FakeVLLM, tiny_policy: str, make: Callable[..., VLLMServerSampler]
    ) -> None:
        adapted = loaded(tiny_policy, LoRA(rank=2, alpha=4.0))
        fake.label = "other/7/adapter"
        make(adapted).close()
        fake.label = "other/7"
        with pytest.raises(UserError, match=r"sent \(other/7\): restart it"):
            make(adapted)


class TestSample:
    def test_groups(self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]) -> None:
        """In the prompts' order, with the policy's own log-probabilities, however few requests are sent at once."""
        sampler = make(policy)
        sampler.sync(0)
        groups = sampler.sample(PROMPTS, n=3, decoding=WARM, seed=1)
        assert [group.prompt for group in groups] == PROMPTS
        assert len({completion.token_ids for group in groups for completion in group.completions}) > 4
        for group in groups:
            assert policy.tokenizer.decode(list(group.prompt_ids)) == group.prompt.text
            for completion in group.completions:
                ids = torch.tensor([[*group.prompt_ids, *completion.token_ids]])
                scores = torch.log_softmax(policy.model(input_ids=ids).logits[0] / 1.3, -1)  # pyright: ignore
                start = len(group.prompt_ids) - 1
                expected = [scores[start + t, token].item() for t, token in enumerate(completion.token_ids)]
                assert completion.rollout_logprobs == pytest.approx(expected, abs=1e-5)
                assert (completion.finish_reason == "stop") == (completion.token_ids[-1] == 1)
        assert sampler.sample(PROMPTS, n=3, decoding=WARM, seed=1) == groups
        assert sampler.sample(PROMPTS, n=3, decoding=WARM, seed=2) != groups
        sampler.completions = replace(sampler.completions, concurrency=1)
        assert sampler.sample(PROMPTS, n=3, decoding=WARM, seed=1) == groups
        alone = sampler.sample(PROMPTS, n=1, decoding=WARM, seed=1)
        assert [group.completions for group in alone] == [group.completions[:1] for group in groups]
        assert sampler.sample([], n=3, decoding=WARM, seed=1) == []

    def test_request(self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]) -> None:
        sampler = make(policy)
        sampler.sync(0)
        decoding = Decoding(max_tokens=4, temperature=0.7, top_p=0.9, top_k=5, stop=("=",))
        sampler.sample(PROMPTS[:1], n=2, decoding=decoding, seed=3)
        body = fake.bodies[COMPLETIONS][-1]
        seed = body.pop("seed")
        assert 0 <= seed < 2**62
        assert body == {
            "model": "served",
            "prompt": policy.tokenizer("0+0=")["input_ids"],
            "n": 2,
            "max_tokens": 4,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 5,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": ["="],
            "stop_token_ids": [1],
            "ignore_eos": True,
            "include_stop_str_in_output": True,
            "logprobs": 0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    def test_no_room(self, policy: Policy, make: Callable[..., VLLMServerSampler]) -> None:
        sampler = make(policy)
        with pytest.raises(UserError, match=r"prompt 0 has 4 tokens and its completions up to 61, which is 65.*64"):
            sampler.sample(PROMPTS, n=1, decoding=Decoding(max_tokens=61), seed=0)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (lambda _: (400, {"error": {"message": "n is too large\nhint"}}), "with 400 Bad Request: 'n is too large'"),
            (lambda _: (500, "it broke\nhere"), "with 500 Internal Server Error: 'it broke'.*log says more"),
            (hang(0.5), "has not answered POST /v1/completions within 0.2 s.*request_timeout"),
            (lambda _: (200, {"choices": [{"index": 0, "finish_reason": "stop"}]}), "does not say tokens"),
        ],
        ids=["refused", "broken", "slow", "old"],
    )
    def test_failure_of_a_server_that_was_not_lost(
        self, fault: Any, message: str, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]
    ) -> None:
        sampler = make(policy, request_timeout=0.2, concurrency=1)
        sampler.sync(0)
        fake.faults[COMPLETIONS].append(fault)
        with pytest.raises(UserError, match=message):
            drawn(sampler)

    def test_deadline_of_a_rollout(
        self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]
    ) -> None:
        sampler = make(policy, rollout_timeout=0.2, concurrency=1)
        sampler.sync(0)
        fake.faults[COMPLETIONS].append(hang(0.5))
        with pytest.raises(UserError, match=r"still owes 3 of 3 groups.*rollout_timeout"):
            drawn(sampler)


class TestSync:
    def test_checkpoint(
        self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler], tmp_path: Path
    ) -> None:
        """Every weight, the tied output layer too, newest version alone; the cache is reset before the label is set."""
        sampler = make(policy)
        before: list[Any] = []
        for version in range(3):
            measures = sampler.sync(version)
            assert [folder.name for folder in tmp_path.rglob("version-*")] == [f"version-{version}"]
            weights = load_file(tmp_path / f"policy-weights/version-{version}/model-00000.safetensors")
            expected = policy.model.state_dict()
            assert set(weights) == set(expected)
            assert "lm_head.weight" in weights
            assert all(weights[name].equal(expected[name]) for name in expected)
            assert measures["rollouts/sync_bytes"] == sum(value.numel() * 4 for value in expected.values())
            assert fake.calls[-3:] == [RELOAD, "/reset_prefix_cache", LABEL]
            assert all(value.equal(expected[name]) for name, value in fake.model.state_dict().items())
            before.append(drawn(sampler))
            moved(policy, version)
        assert before[0] != before[1] != before[2]

    def test_the_same_version_is_there_already(
        self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]
    ) -> None:
        sampler = make(policy)
        sampler.sync(3)
        asked = len(fake.calls)
        sampler.sleep()
        assert sampler.sync(3) == {}
        assert len(fake.calls) == asked

    def test_large_models_are_cut_into_files(
        self,
        policy: Policy,
        make: Callable[..., VLLMServerSampler],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("research.rollouts.vllm.routes.SHARD_BYTES", 20_000)
        sampler = make(policy)
        sampler.sync(0)
        files = sorted(tmp_path.rglob("*.safetensors"))
        assert len(files) > 2
        assert all(file.stat().st_size < 30_000 for file in files)
        assert {name for file in files for name in load_file(file)} == set(policy.model.state_dict())
        drawn(sampler)

    def test_adapters(
        self, fake: FakeVLLM, tiny_policy: str, make: Callable[..., VLLMServerSampler], tmp_path: Path
    ) -> None:
        """A name of its own in every version, the one before is forgotten, and completions are asked under it."""
        adapted = loaded(tiny_policy, LoRA(rank=2, alpha=4.0))
        sampler = make(adapted)
        seen = []
        for version in range(3):
            sampler.sync(version)
            seen.append(drawn(sampler))
            assert list(fake.adapters) == [f"policy-version-{version}"] == [fake.bodies[COMPLETIONS][-1]["model"]]
            assert [folder.name for folder in tmp_path.rglob("version-*")] == [f"version-{version}"]
            moved(adapted, version)
        assert seen[0] != seen[1] != seen[2]
        fake.restart()
        assert drawn(sampler) == seen[2]
        assert fake.label.endswith("/2/adapter")
        sampler.close()
        assert not fake.adapters

    def test_adapters_on_a_server_without(
        self, fake: FakeVLLM, tiny_policy: str, make: Callable[..., VLLMServerSampler]
    ) -> None:
        sampler = make(loaded(tiny_policy, LoRA(rank=2, alpha=4.0)))
        fake.missing |= {"/v1/load_lora_adapter", "/v1/unload_lora_adapter"}
        with pytest.raises(UserError, match=r"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.*--enable-lora"):
            sampler.sync(0)

    def test_folder_that_the_server_does_not_see(
        self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]
    ) -> None:
        sampler = make(policy)
        fake.faults[RELOAD].append(lambda _: (500, {"error": {"message": "no such folder"}}))
        with pytest.raises(UserError, match=r"'no such folder'.*Does it see .*version-4, under this path.*restart it"):
            sampler.sync(4)

    def test_cache_that_is_not_reset(
        self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]
    ) -> None:
        sampler = make(policy)
        fake.faults["/reset_prefix_cache"].append(lambda _: (200, {"success": False}))
        with pytest.raises(UserError, match="does not empty its cache after a sync"):
            sampler.sync(0)

    def test_full_disk(
        self, policy: Policy, make: Callable[..., VLLMServerSampler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        sampler = make(policy)
        monkeypatch.setattr("research.rollouts.vllm.routes.save_file", full)
        with pytest.raises(UserError, match=r"cannot write the policy's weights to .*version-0: .*No space left"):
            sampler.sync(0)

    def test_close_before_anything_was_begun(self, make: Callable[..., VLLMServerSampler], tmp_path: Path) -> None:
        make().close()
        assert list(tmp_path.iterdir()) == []

    def test_close_leaves_nothing(self, policy: Policy, make: Callable[..., VLLMServerSampler], tmp_path: Path) -> None:
        sampler = make(policy)
        sampler.sync(0)
        sampler.close()
        assert list(tmp_path.iterdir()) == []

    def test_version_of_a_run_that_was_killed_goes(
        self, policy: Policy, make: Callable[..., VLLMServerSampler], tmp_path: Path
    ) -> None:
        left = tmp_path / "policy-weights" / "version-9"
        left.mkdir(parents=True)
        make(policy)
        assert not left.exists()


@pytest.mark.process
class TestRestart:
    @pytest.fixture
    def sampler(self, policy: Policy, make: Callable[..., VLLMServerSampler]) -> VLLMServerSampler:
        moved(policy)
        sampler = make(policy)
        sampler.sync(5)
        return sampler

    def test_unnoticed_by_any_request(self, fake: FakeVLLM, sampler: VLLMServerSampler) -> None:
        expected = drawn(sampler)
        fake.restart()
        assert fake.label == "default"
        assert drawn(sampler) == expected
        assert (sampler.restarts, fake.label) == (1, sampler.label)

    @pytest.mark.parametrize("place", [0, 2])
    @pytest.mark.parametrize("after", [0.0, 0.2])
    def test_in_the_middle_of_a_rollout(
        self, after: float, place: int, fake: FakeVLLM, sampler: VLLMServerSampler
    ) -> None:
        expected = drawn(sampler)
        right = [fake.v1_completions] * place
        fake.faults[COMPLETIONS] += [*right, fake.dies(after)]
        assert drawn(sampler) == expected
        assert fake.label == sampler.label
        assert sampler.restarts >= 1

    def test_in_the_middle_of_the_first_rollout(
        self, fake: FakeVLLM, sampler: VLLMServerSampler, make: Callable[..., VLLMServerSampler]
    ) -> None:
        fake.faults[COMPLETIONS].append(fake.dies())
        first = drawn(sampler)
        assert drawn(sampler) == first

    def test_between_the_last_completion_and_the_end(self, fake: FakeVLLM, sampler: VLLMServerSampler) -> None:
        """All requests were answered, some of them maybe by a server without the weights: they are asked again."""
        expected = drawn(sampler)
        asked = len(fake.bodies[COMPLETIONS])
        fake.faults["/weight_info"] += [fake.weight_info, lambda _: (200, {"weight_version": "default"})]
        assert drawn(sampler) == expected
        assert len(fake.bodies[COMPLETIONS]) == asked + 2 * len(PROMPTS)

    @pytest.mark.parametrize("path", [RELOAD, LABEL])
    def test_in_the_middle_of_a_sync(
        self, path: str, fake: FakeVLLM, sampler: VLLMServerSampler, policy: Policy
    ) -> None:
        moved(policy, 1)
        fake.faults[path].append(fake.dies(0.1))
        sampler.sync(6)
        restarted = drawn(sampler)
        fresh = {name: value.clone() for name, value in fake.model.state_dict().items()}
        assert all(value.equal(fresh[name]) for name, value in policy.model.state_dict().items())
        assert drawn(sampler) == restarted

    def test_a_broken_connection_alone_is_tried_again(self, fake: FakeVLLM, sampler: VLLMServerSampler) -> None:
        expected = drawn(sampler)
        fake.faults[COMPLETIONS].append(drop)
        sent = fake.calls.count(RELOAD)
        assert drawn(sampler) == expected
        assert (sampler.restarts, fake.calls.count(RELOAD)) == (0, sent)

    def test_over_and_over(self, fake: FakeVLLM, sampler: VLLMServerSampler) -> None:
        fake.faults[COMPLETIONS] += [drop] * 50
        with pytest.raises(UserError, match=r"cannot be reached.*That was the 3rd time at the same work"):
            drawn(sampler)

    def test_never(self, fake: FakeVLLM, policy: Policy, make: Callable[..., VLLMServerSampler]) -> None:
        sampler = make(policy, restart_timeout=0.1)
        sampler.sync(0)
        fake.kill()
        with pytest.raises(UserError, match=r"was lost and has not come back within 0.1 s.*refused.*resumes"):
            drawn(sampler)
        fake.start()

    def test_as_another_server(self, fake: FakeVLLM, sampler: VLLMServerSampler) -> None:
        """The weights are right, the log-probabilities are not: it was started without processed log-probabilities."""
        drawn(sampler)
        fake.restart()
        fake.heeds_temperature = False
        with pytest.raises(UserError, match=r"was restarted and is not what it was.*nats apart.*Start it as before"):
            drawn(sampler)

    def test_as_another_server_that_is_lost_while_it_is_compared(
        self, fake: FakeVLLM, sampler: VLLMServerSampler
    ) -> None:
        """The weights are there and have their label, and yet the comparison is still owed."""
        drawn(sampler)
        fake.restart()
        fake.heeds_temperature = False
        fake.faults[COMPLETIONS].append(drop)
        with pytest.raises(UserError, match="is not what it was"):
            drawn(sampler)

    def test_taken_by_another_run(self, fake: FakeVLLM, sampler: VLLMServerSampler) -> None:
        fake.label = "other/3"
        with pytest.raises(UserError, match=r"has weights of another run .other/3, not .*/5.: give each run a server"):
            drawn(sampler)

    def test_ranks_send_again_one_after_the_other(self, fake: FakeVLLM, sampler: VLLMServerSampler) -> None:
        """Two ranks notice at once: the second waits for the first, and finds that the weights are there."""
        expected = drawn(sampler)
        sent = fake.calls.count(RELOAD)
        fake.restart()
        results: list[Any] = []
        ranks = [threading.Thread(target=lambda: results.append(drawn(sampler))) for _ in range(2)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        assert results == [expected, expected]
        assert fake.calls.count(RELOAD) == sent + 1


class TestNCCL:
    def test_refused_where_it_cannot_work(
        self, tiny_policy: str, policy: Policy, make: Callable[..., VLLMServerSampler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        route = NCCLRoute(address="trainer", port=9000)
        with pytest.raises(UserError, match="sends whole models only"):
            make(loaded(tiny_policy, LoRA(rank=2, alpha=4.0)), route=route)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(UserError, match="needs a GPU"):
            make(policy, route=route)

    def test_is_experimental(
        self, fake: FakeVLLM, policy: Policy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
        server = Server(fake.url, request_timeout=5.0, connections=1)
        NCCLRoute(address="trainer", port=9000).attach(server, policy.model)
        assert "NCCLRoute is experimental: it has never run on GPUs" in caplog.text

    def test_calls(self, fake: FakeVLLM, make: Callable[..., VLLMServerSampler]) -> None:
        """As the routes of vLLM's server name their arguments."""
        calls = TransferCalls(make().server)
        for path in ("init_weight_transfer_engine", "start_weight_update", "update_weights", "finish_weight_update"):
            fake.faults[f"/{path}"].append(lambda _: (200, {}))
        calls.init_weight_transfer_engine({"world_size": 2})
        calls.start_weight_update()
        calls.update_weights({"names": []})
        calls.finish_weight_update()
        assert fake.bodies["/init_weight_transfer_engine"] == [{"init_info": {"world_size": 2}}]
        assert fake.bodies["/update_weights"] == [{"update_info": {"names": []}}]
        assert fake.calls[-4:-2] == ["/init_weight_transfer_engine", "/start_weight_update"]
        fake.faults["/start_weight_update"].append(lambda _: (500, "no engine"))
        with pytest.raises(UserError, match=r"POST /start_weight_update with 500.*no engine"):
            calls.start_weight_update()
