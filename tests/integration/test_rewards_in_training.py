"""Whole runs in which some completions cannot be judged, and whose rewards come from a function of the user's."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import pytest

from research.recipe import Recipe, instantiate
from research.rewards import Verifier
from research.rewards.verdicts import Fault
from research.runs.fit import fit
from research.tracking import merged_steps
from research.types import Completion, Prompt

FUNCTION = """
async def shortness(completion, meta):
    return None if completion.startswith("1") else -0.1 * len(completion)
"""


@dataclass(frozen=True, kw_only=True)
class Forgetful(Verifier):
    """Right with a 7; a completion that holds a 3 runs out of time."""

    right: float = 1.0
    wrong: float = -1.0

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool | Fault:
        return Fault(reason="timeout") if "3" in completion.text else "7" in completion.text


FORGETFUL = {"model.rewards.verifiers": [{"class_path": "test_rewards_in_training.Forgetful"}]}


@pytest.mark.parametrize("name", ["dapo", "ppo", "gtpo", "grpo_process"])
def test_a_run_goes_on_without_them(name: str, recipe: Callable[..., Recipe], tmp_path: Path):
    fit(recipe(name, FORGETFUL), tmp_path)
    steps = merged_steps(tmp_path)
    assert sum(steps[k]["rewards/timeouts"] for k in range(1, 5)) > 0
    for k in range(1, 5):
        assert all(isfinite(value) for value in steps[k].values() if isinstance(value, float))
        assert steps[k]["rewards/unscored"] == steps[k]["rewards/timeouts"] / (
            steps[k]["rollouts/rounds"] * 3 * 4  # 3 prompts a round, 4 completions each
        )
    assert steps[4]["cost/nonfinite_updates"] == 0


def test_a_function_of_the_user_by_import_path(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_rewards.py").write_text(FUNCTION, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    node: Any = {"class_path": "FunctionReward", "init_args": {"function": "my_rewards.shortness", "timeout": 60.0}}
    module, data, _ = instantiate(recipe("grpo", {"model.rewards.functions": [node]}))
    module.setup("fit")
    data.setup()
    groups = module.sample(data.stream.draw(6), 0)
    for group in groups:
        for completion, reward, scored in zip(group.completions, group.columns[1], group.scored, strict=True):
            if scored:
                assert reward == pytest.approx(0.0 if completion.text.startswith("1") else -0.1 * len(completion.text))
    assert any(group.columns[1] != (0.0,) * 4 for group in groups)
