"""The server sampler and vLLM's own server, on the CPU: its log-probabilities are right, its death is survived."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL

from research.errors import UserError
from research.policy import LoRA, Policy, PolicySpec, TinyModel, character_tokenizer, tiny_model
from research.prompts.arithmetic import ALPHABET
from research.recipe import Recipe, instantiate
from research.rollouts import CheckpointRoute, Decoding, VLLMServerSampler
from research.rollouts.vllm.completions import Call, Completions
from research.rollouts.vllm.http import Server
from research.runs.train import train, trainer_settings
from research.tracking import merged_steps
from research.training.batch import assemble
from research.training.module import RLModule
from research.training.sync import Sync
from research.types import Group, Prompt

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

PROMPTS = [Prompt(id=str(k), text=f"{37 * k}+{k}=", answer=str(38 * k)) for k in range(8)]
HOT = 1.3
START_SECONDS = 300.0
VARIABLES = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
OPTIONS = {
    "--host": "127.0.0.1",
    "--dtype": "float32",
    "--max-model-len": "64",
    "--logprobs-mode": "processed_logprobs",
    "--generation-config": "vllm",
    "--max-lora-rank": "8",
}
FLAGS = ("--enforce-eager", "--enable-lora")


class Process:
    """`vllm serve` on a port of its own, with all processes that it starts in one group."""

    def __init__(self, path: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.path, self.log = path, log
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        # Not `vllm serve`: the command of the CPU build does not find its own version.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.path), *FLAGS]
        options = {**OPTIONS, "--port": str(self.port)}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, *(word for option in options.items() for word in option)],
                env={**os.environ, **VARIABLES},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        try:
            Server(self.url, request_timeout=10.0, connections=1).wait(START_SECONDS)
        except UserError as error:
            pytest.fail(f"{error}\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """As a person stops it; what is left of the group then is killed."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=30)
        with suppress(ProcessLookupError):
            self.kill()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights that vLLM has kernels for."""
    folder = tmp_path_factory.mktemp("served")
    tokenizer = character_tokenizer(ALPHABET)
    tiny_model(TinyModel(hidden=64, layers=2, heads=2, feedforward=128, positions=64), tokenizer, 0).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def served(path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(Path(path), tmp_path_factory.mktemp("log") / "server.log")
    try:
        process.wait()
        yield process
    finally:
        process.stop()


def synced(
    served: Process, path: str, folder: Path, lora: LoRA | None = None
) -> tuple[Policy, VLLMServerSampler, Sync]:
    policy = Policy(PolicySpec(path=path, lora=lora, precision="float32"), temperature=HOT, with_reference=False)
    sampler = VLLMServerSampler(url=served.url, route=CheckpointRoute(folder=str(folder)), tolerance=1e-4)
    sampler.attach(policy.model, policy.tokenizer)
    decoding = Decoding(max_tokens=16, temperature=HOT)
    return policy, sampler, Sync(sampler, policy, assemble=batch_of(policy), decoding=decoding)


def batch_of(policy: Policy) -> Callable[..., Any]:
    return lambda groups: assemble(groups, pad=policy.tokenizer.pad_token_id, device=torch.device("cpu"))  # pyright: ignore


def moved(policy: Policy, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def gap(policy: Policy, groups: list[Group]) -> float:
    """Largest |Δ| of the sampler's and the policy's log-probabilities."""
    batch = batch_of(policy)(groups)
    return float((policy.annotate(batch, 4096).logprobs - batch["rollout_logprobs"]).abs()[batch["mask"]].max())


@pytest.mark.parametrize("lora", [LoRA(rank=4, alpha=8.0), None], ids=["adapters", "all weights"])
def test_versions(lora: LoRA | None, served: Process, path: str, tmp_path: Path) -> None:
    """Every version arrives, is proved at a temperature, and samples as the policy does, twice the same."""
    policy, sampler, sync = synced(served, path, tmp_path, lora)
    decoding = Decoding(max_tokens=24, temperature=HOT)
    seen = []
    for version in range(5):
        assert sync(version, PROMPTS, version)["rollouts/sync_gap_max"] < 1e-4
        groups = sampler.sample(PROMPTS, n=4, decoding=decoding, seed=1)
        assert gap(policy, groups) < 1e-4
        assert sampler.sample(PROMPTS, n=4, decoding=decoding, seed=1) == groups
        seen.append(groups)
        moved(policy, version)
    assert all(first != second for first, second in pairwise(seen))
    completions = [completion for group in seen[-1] for completion in group.completions]
    assert len({completion.token_ids for completion in completions}) > len(completions) / 2
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}
    assert all((completion.token_ids[-1] == 1) != completion.truncated for completion in completions)
    sampler.close()
    assert list(tmp_path.iterdir()) == []


def test_stale_weights_are_caught(served: Process, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, sampler, sync = synced(served, path, tmp_path)
    sync(0, PROMPTS, 0)
    moved(policy, 0)
    monkeypatch.setattr(CheckpointRoute, "send", lambda self: None)
    with pytest.raises(UserError, match=r"does not have the policy's weights.*stale output layer"):
        sync(1, PROMPTS, 1)
    sampler.close()


def test_truncation_and_stop_strings(served: Process, path: str, tmp_path: Path) -> None:
    """Two tokens are left, and their log-probabilities are of the two; a stop string ends a completion and is kept."""
    policy, sampler, sync = synced(served, path, tmp_path)
    sync(0, PROMPTS, 0)
    two = Decoding(max_tokens=24, temperature=HOT, top_k=2, stop=("7",))
    completions = [c for g in sampler.sample(PROMPTS, n=4, decoding=two, seed=1) for c in g.completions]
    for completion in completions:
        assert (
            completion.text.count("7")
            == completion.text.endswith("7")
            == (completion.finish_reason == "stop") * (completion.token_ids[-1] != 1)
        )
    for group in sampler.sample(PROMPTS, n=1, decoding=two, seed=2):
        ids = torch.tensor([[*group.prompt_ids, *group.completions[0].token_ids]])
        scores = policy.model(input_ids=ids).logits[0, len(group.prompt_ids) - 1 : -1] / HOT  # pyright: ignore
        kept = torch.log_softmax(scores.topk(2).values, -1)
        for t, value in enumerate(group.completions[0].rollout_logprobs):
            assert (kept[t] - value).abs().min() < 1e-4
    sampler.close()


class Recorded:
    """What was sampled, in order; the server is killed in the middle of a step's rollout, where one is named."""

    def __init__(self, served: Process, monkeypatch: pytest.MonkeyPatch, death: int | None) -> None:
        self.groups: list[Group] = []
        self.rollouts, self.deaths = 0, 0
        sample, ask = VLLMServerSampler.sample, Completions._group

        def recorded(sampler: VLLMServerSampler, *args: Any, **settings: Any) -> list[Group]:
            self.rollouts += settings["n"] == SMALL["model.rollouts.completions_per_prompt"]
            groups = sample(sampler, *args, **settings)
            self.groups += groups
            return groups

        def mortal(completions: Completions, call: Call, index: int) -> Group:
            if self.rollouts == death and index == 1 and self.deaths == 0:  # the others are under way
                self.deaths += 1
                served.kill()
            return ask(completions, call, index)

        monkeypatch.setattr(VLLMServerSampler, "sample", recorded)
        monkeypatch.setattr(Completions, "_group", mortal)


def run(recipe: Callable[..., Recipe], served: Process, path: str, folder: Path) -> RLModule:
    route = {"class_path": "CheckpointRoute", "init_args": {"folder": str(folder / "weights")}}
    settings = {"url": served.url, "route": route, "tolerance": 1e-4, "restart_timeout": START_SECONDS}
    sampler = {"class_path": "VLLMServerSampler", "init_args": settings}
    overrides = {"model.rollouts.sampler": sampler, "model.policy.path": path, "run.steps": 3, "run.evaluate_every": 3}
    checked = recipe("grpo", overrides)
    module, data, trainer = instantiate(checked, **trainer_settings(checked.run_settings(), folder, []))
    train(trainer, module, data, folder)
    module.rollouts.sampler.close()
    return module


def test_a_run_survives_the_servers_death(
    recipe: Callable[..., Recipe], served: Process, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of the second step's rollout, restarted: prompts, completions and metrics are the same."""
    with monkeypatch.context() as patched:
        undisturbed = Recorded(served, patched, death=None)
        run(recipe, served, path, tmp_path / "undisturbed")
    killed = served.process

    def restart() -> None:
        killed.wait()
        served.start()

    starter = threading.Thread(target=restart)
    starter.start()
    with monkeypatch.context() as patched:
        disturbed = Recorded(served, patched, death=2)
        module = run(recipe, served, path, tmp_path / "disturbed")
    starter.join()
    assert disturbed.deaths == 1
    assert killed.returncode == -signal.SIGKILL
    assert module.rollouts.sampler.restarts == 1  # pyright: ignore
    assert [group.prompt.id for group in disturbed.groups] == [group.prompt.id for group in undisturbed.groups]
    assert disturbed.groups == undisturbed.groups
    before, after = (merged_steps(tmp_path / name) for name in ("undisturbed", "disturbed"))
    for step, measures in before.items():
        for name, value in measures.items():
            if not name.startswith("time/") and name != "rollouts/server_restarts" and "bytes" not in name:
                assert after[step][name] == pytest.approx(value, rel=1e-6, nan_ok=True), name
