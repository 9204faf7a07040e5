"""The benchmark against TRL, at its tiniest: both sides do the same work, and all of a step is accounted for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from research.policy.builtin import TinyModel, character_tokenizer, tiny_model
from research.prompts.arithmetic import ALPHABET

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROMPTS, COMPLETIONS, TOKENS = 4, 4, 8


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("benchmark")
    tokenizer = character_tokenizer(ALPHABET)
    model = tiny_model(TinyModel(hidden=32, layers=1, heads=2, feedforward=64), tokenizer, seed=0)
    for saved in (model, tokenizer):
        saved.save_pretrained(folder / "model")
    words = {
        "--model": folder / "model",
        "--prompts": PROMPTS,
        "--completions": COMPLETIONS,
        "--max-tokens": TOKENS,
        "--repetitions": 2,
        "--steps": 1,
        "--threads": 1,
        "--precision": "float32",
        "--trl-rows": PROMPTS * COMPLETIONS,
        "--output": folder / "result.json",
    }
    subprocess.run(
        [sys.executable, "-m", "benchmarks.step_vs_trl", *(str(word) for pair in words.items() for word in pair)],
        cwd=ROOT,
        env={**os.environ, "RESEARCH_CACHE": str(folder / "cache")},
        check=True,
        timeout=240,
    )
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("system", ["ours", "trl"])
def test_every_repetition_of_each_system_is_there(result: dict, system: str) -> None:
    measured = result[system]
    assert len(measured["repetitions"]) == 2
    assert all(len(repetition["steps"]) == 1 for repetition in measured["repetitions"])
    time = measured["seconds_per_step"]
    assert 0 < time["min"] <= time["median"] <= time["max"]
    assert measured["steps_per_second"] == pytest.approx(1 / time["median"])
    assert measured["peak_bytes"] > 50 * 2**20  # torch alone is larger than that


def test_both_systems_process_the_same_prompts_and_comparably_many_tokens(result: dict) -> None:
    prompts = [
        [step["prompts"] for repetition in result[system]["repetitions"] for step in repetition["steps"]]
        for system in ("ours", "trl")
    ]
    assert prompts[0] == prompts[1]
    ours, trl = (result[system]["completion_tokens_per_step"]["median"] for system in ("ours", "trl"))
    limit = PROMPTS * COMPLETIONS * TOKENS
    # A random model ends a completion at one token in twenty or so: nearly all run to the limit.
    assert 0.5 * limit < ours <= limit
    assert 0.5 * limit < trl <= limit


def test_ratios_are_ours_over_trl(result: dict) -> None:
    ratio = result["ratio"]["seconds_per_step"]
    pairs = zip(result["ours"]["repetitions"], result["trl"]["repetitions"], strict=True)
    expected = [ours["steps"][0]["seconds"] / trl["steps"][0]["seconds"] for ours, trl in pairs]
    assert (ratio["min"], ratio["max"]) == (min(expected), max(expected))
    memory = result["ours"]["peak_bytes"] / result["trl"]["peak_bytes"]
    assert result["ratio"]["peak_memory"] == pytest.approx(memory)


def test_the_account_adds_up_to_the_step(result: dict) -> None:
    account = result["account"]
    assert set(account["breakdown_seconds"]) == {"generate", "forward and backward", "optimizer", "harness"}
    assert all(seconds > 0 for name, seconds in account["breakdown_seconds"].items() if name != "optimizer")
    assert sum(account["breakdown_seconds"].values()) == pytest.approx(account["step_seconds_mean"])
    assert sum(account["breakdown_percent"].values()) == pytest.approx(100)
    assert account["harness_under_5_percent"] == (account["breakdown_percent"]["harness"] < 5)
    between = account["limit"]["between_floor_and_measured_seconds"]
    assert sum(between.values()) == pytest.approx(account["step_seconds_mean"])


def test_the_run_measured_its_own_phases_and_limit(result: dict) -> None:
    assert {"time/sampling_seconds", "time/verifying_seconds", "time/updating_seconds"} <= set(
        result["account"]["phases_seconds"]
    )
    limit = result["account"]["limit"]
    assert set(limit["matmul_flops_per_second"]) == {"square", "update", "decode"}
    assert limit["flops"]["sampling"] > 0
    # A random model is never right: the groups have no advantages, and the update reads nothing.
    assert limit["flops"]["update"] >= 0
    assert all(share >= 1 for share in limit["padding"].values())


def test_the_environment_is_written_down(result: dict) -> None:
    assert {"cpu", "cores", "threads", "torch", "transformers", "trl"} <= set(result["environment"])
    assert result["command"].startswith("python -m benchmarks.step_vs_trl --model")


def test_the_shape_counts_what_a_hand_counts() -> None:
    from benchmarks.limit import Shape, sampling_flops, training_flops, training_positions

    shape = Shape(layers=1, attention_width=2, linears=((3, 5),), head=(7, 3))
    # One row, 2 prompt tokens and 2 completion tokens: 3 are read. Causal keys of positions 1 to 3: 1 + 2 + 3 = 6.
    forward = 2 * (3 * 15 + 2 * 21) + 4 * 2 * 6
    assert training_flops(shape, [(2, 2, True)], 1) == 3 * forward
    assert training_flops(shape, [(2, 2, False)], 1) == 0
    # A second row of the same prompt adds its own token: one position that sees three, two that are predicted.
    assert training_positions([(2, 2, True)] * 2, 2) == 4
    assert training_flops(shape, [(2, 2, True)] * 2, 2) == 3 * (forward + 2 * (15 + 2 * 21) + 4 * 2 * 3)
    assert training_flops(shape, [(2, 2, True), (2, 2, False)], 2) == 3 * forward
    # Two rows of one prompt: its 2 tokens are read once, then one more token in each row, at position 3.
    assert sampling_flops(shape, [(2, 2, True)] * 2, 2) == 2 * (4 * 15 + 4 * 21) + 8 * (3 + 2 * 3)
