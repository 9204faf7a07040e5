"""A complete run through the engine learns what a run through our own decoding loop learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import saved
from scipy.stats import t

from research.recipe import Recipe
from research.runs.fit import fit
from research.tracking import merged_steps

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

SEEDS = (0, 1, 2)
SAMPLERS: dict[str, dict[str, Any]] = {
    "CompactSampler": {"class_path": "CompactSampler"},
    "VLLMSampler": {
        "class_path": "VLLMSampler",
        "init_args": {"tolerance": 1e-4, "kv_cache_gib": 0.125, "enforce_eager": True},
    },
}
LEARNS: dict[str, Any] = {
    "model.rollouts.completions_per_prompt": 8,
    "model.optimization.learning_rate": 1e-2,
    "model.evaluation.completions_per_prompt": 16,
    "data.evaluation.init_args.size": 16,
    "run.steps": 12,
    "run.evaluate_every": 12,
    "run.checkpoint_every": 12,
}
"""What a policy of random weights learns in seconds: to write a seven."""


@pytest.fixture(scope="module")
def accuracies(
    recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[tuple[float, float]]]:
    """For each sampler the evaluation before and after training, seed by seed."""
    start = saved(tmp_path_factory.mktemp("start"), tied=True)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SAMPLERS}
    for name, sampler in SAMPLERS.items():
        for seed in SEEDS:
            folder = tmp_path_factory.mktemp(f"{name}-{seed}")
            given = {"model.rollouts.sampler": sampler, "model.policy.path": str(start), "model.seed": seed}
            fit(recipe("grpo", {**LEARNS, **given}), folder)
            found[name].append(before_and_after(folder))
    return found


def before_and_after(folder: Path) -> tuple[float, float]:
    steps = merged_steps(folder)
    return steps[0]["evaluation/avg_at_k"], steps[max(steps)]["evaluation/avg_at_k"]


def test_both_learn(accuracies: dict[str, list[tuple[float, float]]]) -> None:
    for pairs in accuracies.values():
        assert all(after > before + 0.2 for before, after in pairs)


def test_they_learn_the_same_within_the_interval(accuracies: dict[str, list[tuple[float, float]]]) -> None:
    """The 95 % interval of the mean of the paired differences, three seeds: Student's t."""
    ours, engines = (np.array([after for _, after in accuracies[name]]) for name in SAMPLERS)
    differences = engines - ours
    half = t.ppf(0.975, len(SEEDS) - 1) * differences.std(ddof=1) / len(SEEDS) ** 0.5
    assert abs(differences.mean()) <= half
    assert abs(differences.mean()) < 0.1
