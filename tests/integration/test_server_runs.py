"""Whole runs whose completions come from a server: it dies, or two ranks ask it, and the results are those of a run."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_vllm import FakeVLLM
from test_ranks import command, environment

from research.errors import UserError
from research.recipe import Recipe
from research.runs.fit import fit
from research.tracking import merged_steps

pytestmark = pytest.mark.process
UNEQUAL = ("rollouts/server_restarts", "cost/peak")
"""What may differ: how often the server was restarted, and how much memory that took."""


@pytest.fixture
def fake(tiny_policy: str) -> Iterator[FakeVLLM]:
    server = FakeVLLM(tiny_policy)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("research.rollouts.vllm.http.POLL_SECONDS", 0.01)


def served(fake: FakeVLLM, folder: Path, **more: Any) -> dict[str, Any]:
    """Overrides of a recipe that samples with the server."""
    route = {"class_path": "CheckpointRoute", "init_args": {"folder": str(folder / "weights")}}
    settings = {"url": fake.url, "route": route, "tolerance": 1e-4, "restart_timeout": 20.0}
    sampler = {"class_path": "VLLMServerSampler", "init_args": settings}
    return {"model.rollouts.sampler": sampler, "run.steps": 3, "run.evaluate_every": 3, **more}


def measured(folder: Path) -> dict[int, dict[str, float]]:
    """The steps' measures that do not depend on the clock, nor on the machine."""
    return {
        step: {name: value for name, value in of_step.items() if not name.startswith(("time/", *UNEQUAL))}
        for step, of_step in merged_steps(folder).items()
    }


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4.0}], ids=["all weights", "adapters"])
def test_a_death_in_the_middle_of_a_rollout_changes_nothing(
    lora: Any, fake: FakeVLLM, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    overrides = served(fake, tmp_path, **{"model.policy.lora": lora, "model.rollouts.temperature": 1.2})
    fit(recipe("grpo", overrides), tmp_path / "undisturbed")
    assert not (tmp_path / "weights").exists() or not list((tmp_path / "weights").iterdir())
    prompts = [body["prompt"] for body in fake.bodies["/v1/completions"] if body.get("n") == 4]
    fake.restart()
    fake.bodies.clear()
    deaths = []

    def die_in_the_second_step(body: dict[str, Any]) -> Any:
        rollouts = sum(asked.get("n") == 4 for asked in fake.bodies["/v1/completions"])
        if rollouts == 5 and not deaths:  # three prompts a step
            deaths.append(time.monotonic())
            return fake.dies(0.1)(body)
        fake.faults["/v1/completions"].append(die_in_the_second_step)
        return fake.answer("/v1/completions", body)

    fake.faults["/v1/completions"] += [die_in_the_second_step] * 3
    fit(recipe("grpo", overrides), tmp_path / "disturbed")
    assert len(deaths) == 1
    before, after = measured(tmp_path / "undisturbed"), measured(tmp_path / "disturbed")
    assert after == before
    assert merged_steps(tmp_path / "disturbed")[3]["rollouts/server_restarts"] == 1.0
    assert before[3]["rollouts/logprob_gap_max"] < 1e-4
    again = [body["prompt"] for body in fake.bodies["/v1/completions"] if body.get("n") == 4]
    assert len(again) > len(prompts) == 9
    assert {tuple(prompt) for prompt in again} == {tuple(prompt) for prompt in prompts}


def test_a_run_whose_server_stays_away_resumes(
    fake: FakeVLLM, recipe: Callable[..., Recipe], small: Callable[..., Any], tmp_path: Path
) -> None:
    """It ends with a sentence; the same command goes on from the last checkpoint, to the results of one run."""
    fit(recipe("grpo", served(fake, tmp_path)), tmp_path / "undisturbed")
    fake.restart()
    overrides = served(fake, tmp_path)
    overrides["model.rollouts.sampler"]["init_args"]["restart_timeout"] = 0.1
    ended = recipe("grpo", overrides)
    reload = fake.collective_rpc

    def gone(body: dict[str, Any]) -> Any:
        fake.kill()

    fake.faults["/collective_rpc"] += [reload, reload, gone]
    with pytest.raises(UserError, match=r"was lost and has not come back within 0.1 s.*resumes at the last checkpoint"):
        fit(ended, tmp_path / "run")
    fake.start()
    fit(ended, tmp_path / "run")
    assert measured(tmp_path / "run") == measured(tmp_path / "undisturbed")


@pytest.mark.slow
def test_two_ranks_share_a_server(fake: FakeVLLM, small: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """One rank sends the weights, once a version; both sample with them."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(small("grpo", served(fake, tmp_path, **{"run.steps": 2, "run.evaluate_every": 2}))))
    words = command(path, tmp_path / "run", "fsdp")
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    labels = [body["new_version"] for body in fake.bodies["/update_weight_version"]]
    assert len(labels) == len(set(labels)) == len(fake.bodies["/collective_rpc"]) == 3
    steps = merged_steps(tmp_path / "run")
    assert steps[2]["rollouts/sync_gap_max"] < 1e-4
    assert steps[2]["rollouts/logprob_gap_max"] < 1e-4
    assert sum(body.get("n") == 4 for body in fake.bodies["/v1/completions"]) == 2 * 3
    assert not (tmp_path / "weights" / "policy-weights").exists()
