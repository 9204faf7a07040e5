"""Every recipe trains: a step of two updates at the size of a test, with finite metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPERIMENTS, SMALL

from research.recipe import Recipe
from research.runs.fit import fit
from research.tracking import merged_steps

NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
TINY = {"run.steps": 1, "run.evaluate_every": 1, "data.evaluation.init_args.size": 2}
BATCH = SMALL["data.prompts_per_step"] * SMALL["model.rollouts.completions_per_prompt"]
SPECIAL: dict[str, dict[str, Any]] = {
    "priming": {"model.rollouts.completions_per_prompt": 1, "data.prompts_per_step": BATCH},
    "sft": {"model.rollouts.completions_per_prompt": 1, "data.prompts_per_step": BATCH},
    "sft_then_grpo": {"run.steps": 5, "after.model.rollouts.completions_per_prompt": 1},  # four steps imitate
    "grpo_iterative": {"run.steps": 2, "model.iterations.steps": 1, "model.iterations.reward_model.prompts": 6},
    "ppo": {"run.steps": 2, "model.critic.pretrain_steps": 1},
    "gtpo_trajectory": {
        "model.credit.weights": [{"class_path": "SkipHighEntropy", "init_args": {"limit": 9.0}}]  # a random policy's
    },
}
"""What a recipe of one small step of a random policy cannot leave as it is."""


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    kept = {"model.rewards.verifiers": [verifier(name)]}
    fit(recipe(name, {**TINY, **kept, **SPECIAL.get(name, {})}), tmp_path)
    steps = merged_steps(tmp_path)
    last = steps[max(steps)]
    for metrics in steps.values():
        assert all(value == value and abs(value) != float("inf") for value in metrics.values())
    assert last["cost/nonfinite_updates"] == 0
    assert last["cost/optimizer_steps"] > 0
    assert last["cost/tokens_trained"] > 0


def verifier(name: str) -> dict[str, Any]:
    """One that a random policy satisfies now and then, worth what the recipe's terms are written for."""
    zero_one = name in ("lcpo_exact", "lcpo_max", "cosine_length")
    return {"class_path": "conftest.Contains", "init_args": {"character": "7", "wrong": 0.0 if zero_one else -1.0}}
