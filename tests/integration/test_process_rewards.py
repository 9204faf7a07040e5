"""Length targets, steps, KL in the reward and retirement in whole runs: prompts → metrics, and resumed bit for bit."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DYNAMIC
from test_resume import assert_same_run, checkpoint_of, interrupted_fit

from research.recipe import Recipe, instantiate
from research.rewards import ArithmeticSteps, Rewards
from research.runs.evaluate import evaluate
from research.runs.fit import fit
from research.tracking import merged_steps

VERIFIER = {"class_path": "conftest.Contains", "init_args": {"character": "7", "right": 1.0, "wrong": 0.0}}
TARGETS = {
    "class_path": "LengthTarget",
    "init_args": {"template": "({target}){text}", "low": 2, "high": 12, "seed": 0},
}
LENGTH: Mapping[str, Any] = {
    "model.rewards.verifiers": [VERIFIER],
    "model.rewards.shaping": [{"class_path": "LengthMax", "init_args": {"alpha": 0.1, "delta": 0.5}}],
    "data.targets": TARGETS,
}
RETIRE: Mapping[str, Any] = {
    **DYNAMIC,
    "model.rollouts.retire": {"class_path": "RetireSolved", "init_args": {"pass_rate": 0.5}},
    "data.train.init_args.size": 9,
    "data.prompts_per_step": 2,
}


class TestLengthTargets:
    def test_prompts_ask_and_metrics_say_how_far_off(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        fit(recipe("grpo", LENGTH), tmp_path)
        steps = merged_steps(tmp_path)
        assert all(0 <= steps[k]["rollouts/length_error_mean"] <= 12 for k in range(1, 5))
        assert [k for k in steps if "evaluation/length_error_mean" in steps[k]] == [0, 2, 4]
        metrics = evaluate(recipe("grpo", LENGTH), tmp_path, tmp_path / "last.ckpt").settings["metrics"][0]
        assert metrics["evaluation/length_error_mean"] == steps[4]["evaluation/length_error_mean"]

    def test_the_reward_is_the_outcome_clipped_by_length(self, recipe: Callable[..., Recipe]) -> None:
        module, data, _ = instantiate(recipe("grpo", LENGTH))
        module.setup("fit")
        data.setup()
        groups = module.annotate(module.sample(data.stream.draw(4), 0))
        batch = module.reward(module.assemble(groups))
        assert {group.prompt.text.split(")")[0] for group in groups} == {
            f"({group.prompt.meta['target']}" for group in groups
        }
        kept = (0.1 * (batch["targets"] - batch["lengths"]) + 0.5).clamp(0, 1)
        # One float32 rounding of a number below 1.
        torch.testing.assert_close(batch["rewards"], batch["outcomes"] * kept, rtol=1e-6, atol=1e-6)
        assert batch["outcomes"].any()


class TestSteps:
    def test_steps_are_verified_when_a_group_is_sampled(self, recipe: Callable[..., Recipe]) -> None:
        module, data, _ = instantiate(recipe("grpo"))
        module.setup("fit")
        data.setup()
        module.rewards = Rewards(
            verifiers=module.rewards.verifiers, shaping=[], tokens=[], steps=ArithmeticSteps(right=1.0, wrong=0.0)
        )
        groups = module.sample(data.stream.draw(6), 0)
        batch = module.assemble(groups)
        last = batch.lengths - 1
        rows = torch.arange(len(last))
        assert batch["step_ends"][rows, last].all()
        done = [completion for group in groups for completion in group.completions]
        apart = torch.tensor([not c.text.endswith(";") or not c.truncated for c in done])  # cut just behind a step
        assert torch.equal(batch["step_rewards"][rows, last].bool()[apart], batch["right"].flatten()[apart])
        separators = module.model.tokenizer.convert_tokens_to_ids(";")
        for row, completion in enumerate(done):
            ends = {t for t in range(len(completion.token_ids)) if batch["step_ends"][row, t]}
            before = completion.text.split("#")[0]
            assert len(ends - {int(last[row])}) <= before.count(";")
            assert all(completion.token_ids[t] == separators for t in ends - {int(last[row])})


class TestKLInTheReward:
    KL: Mapping[str, Any] = {
        "model.objective.kl": {"class_path": "NoKL"},
        "model.rewards.shaping": [{"class_path": "ReferenceKL", "init_args": {"beta": 0.1, "estimator": "k1"}}],
    }

    def test_the_reference_is_there_and_costs_nothing_at_the_start(self, recipe: Callable[..., Recipe]) -> None:
        module, data, _ = instantiate(recipe("grpo", {**self.KL, "model.updates.minibatches": 1}))
        module.setup("fit")
        data.setup()
        assert module.annotates  # the term reads the log-probabilities at sampling
        groups = module.annotate(module.sample(data.stream.draw(3), 0))
        batch = module.reward(module.assemble(groups))
        # The policy is the reference: the same weights, summed over a batch of another padding.
        torch.testing.assert_close(batch["rewards"], batch["outcomes"], rtol=0, atol=1e-5)
        with torch.no_grad():
            for parameter in module.model.parameters():
                parameter *= 1.2
        groups = module.annotate(module.sample(data.stream.draw(3), 0))
        batch = module.reward(module.assemble(groups))
        gap = ((batch["old_logprobs"] - batch["ref_logprobs"]) * batch["mask"]).sum(1).reshape(3, 4)
        assert gap.abs().max() > 0.01
        # Sums of a dozen float32 numbers near −3.
        torch.testing.assert_close(batch["rewards"], batch["outcomes"] - 0.1 * gap, rtol=1e-5, atol=1e-5)
        assert torch.count_nonzero(batch["token_rewards"]) == 0

    def test_a_run(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        result = fit(recipe("grpo", {**self.KL, "run.steps": 2}), tmp_path)
        assert all(value == value for value in result["last"].values())


class TestRetire:
    @pytest.fixture(scope="class")
    def whole(self, recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("retire") / "whole"
        fit(recipe("grpo", RETIRE), folder)
        return folder

    def test_solved_prompts_are_counted_and_not_drawn_again(self, whole: Path) -> None:
        steps = merged_steps(whole)
        counts = [steps[k]["rollouts/prompts_retired"] for k in range(1, 5)]
        assert counts == sorted(counts)
        assert 0 < counts[-1] < 9
        assert len(checkpoint_of(whole)["PromptData"]["retired"]) == counts[-1]

    @pytest.mark.parametrize("point", ["sampled", "updating"])
    def test_interrupted_in_every_step(
        self, point: str, whole: Path, recipe: Callable[..., Recipe], tmp_path: Path
    ) -> None:
        interrupted_fit(recipe("grpo", RETIRE), tmp_path, [(step, point) for step in range(1, 5)])
        assert_same_run(tmp_path, whole)

    def test_without_it_nothing_retires(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        result = fit(recipe("grpo", {"run.steps": 2}), tmp_path)
        assert result["last"]["rollouts/prompts_retired"] == 0
