"""A recipe that runs after another: one budget, one start, one curve, and it resumes in either phase."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import Interrupt, Interrupted, assert_same_run, metrics_of, result_of

from research.errors import UserError
from research.recipe import Recipe, parse
from research.runs.evaluate import evaluate
from research.runs.fit import fit
from research.runs.folder import BEFORE, CHECKPOINT
from research.training.budget import tokens_processed

RUN = {"tokens": 900, "evaluate_every": 2, "checkpoint_every": 1, "save_policy": True}
FIRST = {"steps": 3, "evaluate_every": 3, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def config(small: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Three steps of imitation, then GRPO until both have processed 900 tokens."""
    sft = small("sft", {"model.rollouts.completions_per_prompt": 1, "data.prompts_per_step": 12})
    return {**small("grpo"), "run": RUN, "after": {**sft, "run": FIRST}}


@pytest.fixture(scope="module")
def whole(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """The recipe of both phases, and the folder of its uninterrupted run."""
    folder = tmp_path_factory.mktemp("two_phases")
    fit(parse(config), folder)
    return parse(config), folder


class TestARunOfTwoPhases:
    def test_counts_both_in_one_budget_and_one_curve(self, whole: tuple[Recipe, Path]) -> None:
        lines = metrics_of(whole[1])
        assert lines[: len(metrics_of(whole[1] / BEFORE))] == metrics_of(whole[1] / BEFORE)
        trained = [line for line in lines if "rewards/accuracy" in line]
        assert [line["step"] for line in trained] == [*range(1, len(trained) + 1)]
        spent = [tokens_processed(line) for line in trained]
        assert spent == sorted(spent)
        assert spent[-2] < RUN["tokens"] <= spent[-1]
        assert trained[2]["cost/tokens_sampled"] == 0 < trained[3]["cost/tokens_sampled"]

    def test_begins_where_the_first_phase_ended(self, whole: tuple[Recipe, Path]) -> None:
        result = result_of(whole[1])
        assert result["steps"] > 3
        assert result["evaluated"][:2] == [0, 3]
        assert result["start"] == {k: v for k, v in metrics_of(whole[1])[0].items() if k.startswith("evaluation/")}

    def test_its_second_phase_trains_the_first_ones_policy(self, whole: tuple[Recipe, Path]) -> None:
        """Its first optimizer step is small beside what the first phase did to the weights."""
        first, second = (
            torch.load(folder / CHECKPOINT, weights_only=True)["state_dict"] for folder in (whole[1] / BEFORE, whole[1])
        )
        names = [name for name in first if first[name].is_floating_point()]
        moved = sum(float((second[name] - first[name]).norm()) for name in names)
        assert 0 < moved < sum(float(first[name].norm()) for name in names)

    def test_evaluates_its_checkpoint_and_its_start(self, whole: tuple[Recipe, Path]) -> None:
        after = evaluate(whole[0], whole[1], whole[1] / CHECKPOINT)
        before = evaluate(whole[0], whole[1], None)
        assert after.settings["step"] == result_of(whole[1])["steps"]
        assert before.settings["step"] == 0

    @pytest.mark.parametrize(("phase", "step"), [(BEFORE, 2), (".", 4), (".", 5)])
    def test_interrupted_it_ends_as_uninterrupted(
        self, phase: str, step: int, whole: tuple[Recipe, Path], tmp_path: Path
    ) -> None:
        recipe = whole[0].before if phase == BEFORE else whole[0]
        assert recipe is not None
        with pytest.raises(Interrupted):
            fit(recipe, tmp_path / phase, [Interrupt(step, "updating")])
        fit(whole[0], tmp_path)
        assert_same_run(tmp_path, whole[1])


class TestARecipeAfterAnother:
    def test_resolves_to_itself_and_is_told_from_one_phase(self, config: dict[str, Any]) -> None:
        recipe = parse(config)
        assert parse(recipe.config).digest == recipe.digest
        assert parse({k: v for k, v in config.items() if k != "after"}).digest != recipe.digest

    def test_takes_the_seed_of_the_second(self, config: dict[str, Any]) -> None:
        seeded = parse({**config, "model": {**config["model"], "seed": 7}})
        assert seeded.before is not None
        assert seeded.before.config["model"]["seed"] == 7

    def test_refuses_two_starts(self, config: dict[str, Any]) -> None:
        policy = {**config["model"]["policy"], "path": "elsewhere"}
        with pytest.raises(UserError, match=r"model\.policy"):
            parse({**config, "model": {**config["model"], "policy": policy}})

    def test_refuses_a_first_phase_that_spends_everything(self, config: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(UserError, match="has spent the whole budget of 10 tokens"):
            fit(parse({**config, "run": {**RUN, "tokens": 10}}), tmp_path)
