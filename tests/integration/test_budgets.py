"""A run ends after the step that spends its budget, is evaluated there, and resumes to the same end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import assert_same_run, interrupted_fit, metrics_of, result_of

from research.errors import UserError
from research.recipe import Recipe
from research.runs.fit import fit
from research.runs.folder import CHECKPOINT
from research.tracking import merged_steps
from research.training.budget import Budget, share_in, tokens_processed
from research.training.settings import RunSettings

TOKENS = {"run.steps": None, "run.tokens": 700, "run.evaluate_every": 3, "run.checkpoint_every": 3}


@pytest.fixture(scope="module")
def whole(recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe with a budget of tokens, and the folder of its uninterrupted run."""
    folder = tmp_path_factory.mktemp("tokens")
    fit(recipe("grpo", TOKENS), folder)
    return recipe("grpo", TOKENS), folder


class TestTokens:
    def test_the_run_ends_after_the_step_that_spends_them(self, whole: tuple[Recipe, Path]) -> None:
        steps = merged_steps(whole[1])
        processed = [tokens_processed(metrics) for step, metrics in steps.items() if step > 0]
        assert len(processed) > 1
        assert processed[-2] < 700 <= processed[-1]
        assert result_of(whole[1])["steps"] == len(processed)
        assert share_in(Budget(tokens=700), steps) == processed[-1] / 700

    def test_the_last_step_is_evaluated_and_kept_whatever_its_number(self, whole: tuple[Recipe, Path]) -> None:
        last = result_of(whole[1])["steps"]
        assert last % 3 != 0
        assert result_of(whole[1])["evaluated"] == sorted({0, *range(3, last, 3), last})
        assert "evaluation/avg_at_k" in result_of(whole[1])["last"]
        assert torch.load(whole[1] / CHECKPOINT, weights_only=True)["research"]["steps_done"] == last

    def test_steps_as_many_as_the_tokens_allow_are_the_same_run(
        self, whole: tuple[Recipe, Path], recipe: Callable[..., Recipe], tmp_path: Path
    ) -> None:
        last = result_of(whole[1])["steps"]
        fit(recipe("grpo", {"run.steps": last, "run.evaluate_every": last}), tmp_path)
        ours = [line for line in metrics_of(whole[1]) if line["step"] in (0, last) or "rewards/accuracy" in line]
        assert metrics_of(tmp_path) == ours

    def test_interrupted_it_ends_as_uninterrupted(self, whole: tuple[Recipe, Path], tmp_path: Path) -> None:
        last = result_of(whole[1])["steps"]
        interrupted_fit(whole[0], tmp_path, [(2, "updating"), (last, "logged"), (last, "evaluated")])
        assert_same_run(tmp_path, whole[1])

    def test_killed_before_its_result_it_trains_no_further(self, whole: tuple[Recipe, Path], tmp_path: Path) -> None:
        for name in (CHECKPOINT, "metrics.jsonl", "items.jsonl", "config.yaml"):
            (tmp_path / name).write_bytes((whole[1] / name).read_bytes())
        fit(whole[0], tmp_path)
        assert_same_run(tmp_path, whole[1])

    def test_demonstrations_are_trained_on_and_not_sampled(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        size = {"model.rollouts.completions_per_prompt": 1, "run.steps": 1, "run.evaluate_every": 1}
        last = fit(recipe("sft", size), tmp_path)["last"]
        assert last["cost/tokens_sampled"] == 0
        assert tokens_processed(last) == last["cost/tokens_trained"] > 0


class TestSeconds:
    def test_the_run_ends_and_the_checkpoint_knows_what_was_spent(
        self, recipe: Callable[..., Recipe], tmp_path: Path
    ) -> None:
        result = fit(recipe("grpo", {"run.steps": 4, "run.seconds": 1e-4, "run.evaluate_every": 4}), tmp_path)
        assert (result["steps"], result["evaluated"]) == (1, [0, 1])
        state = torch.load(tmp_path / CHECKPOINT, weights_only=True)["callbacks"]["BudgetWatch"]
        assert state["seconds"] == pytest.approx(result["seconds"]["time/step_seconds"], rel=0.5)


class TestSettings:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "a run needs a budget: give run.steps, run.tokens or run.seconds"),
            ({"tokens": 0}, "run.tokens is at least 1, got 0"),
            ({"seconds": -1.0}, "run.seconds is above 0, got -1.0"),
            ({"steps": 10, "evaluate_every": 3}, "multiple of run.evaluate_every"),
        ],
    )
    def test_refused(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            RunSettings(**{"evaluate_every": 1, "checkpoint_every": 1, **given})

    def test_a_recipe_without_a_budget_is_refused_in_one_sentence(self, recipe: Callable[..., Recipe]) -> None:
        with pytest.raises(UserError, match="a run needs a budget"):
            recipe("grpo", {"run.steps": None}).run_settings()

    def test_a_budget_that_is_not_given_leaves_the_digest_as_it_was(self, recipe: Callable[..., Recipe]) -> None:
        one = recipe("grpo")
        run = {key: value for key, value in one.config["run"].items() if key not in ("tokens", "seconds")}
        assert Recipe(config={**one.config, "run": run}).digest == one.digest
        assert recipe("grpo", {"run.tokens": 700}).digest != one.digest
