"""The training step in the real module: what a gradient may depend on, what is learned, what is left alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DYNAMIC
from lightning import Callback
from torch import Tensor

from research.policy import micro_batches
from research.recipe import Recipe, instantiate
from research.runs.evaluate import evaluate
from research.runs.fit import fit
from research.seeding import derive_seed
from research.tracking import merged_steps
from research.training.measures import UpdateMeasures
from research.training.module import RLModule
from research.types import UpdateBatch

RECIPES: dict[str, dict[str, Any]] = {
    "grpo": {},
    "dynamic": dict(DYNAMIC),
    "bonus": {"model.objective.entropy": {"class_path": "EntropyBonus", "init_args": {"alpha": 0.05}}},
}


def at_work(recipe: Recipe) -> tuple[RLModule, UpdateBatch]:
    """A module, and an update batch of a policy that it has since moved away from: some ratios are clipped."""
    module, data, _ = instantiate(recipe)
    module.setup("fit")
    data.setup()
    groups = module.annotate(module.sample(data.stream.draw(6), 0))
    batch = module.credit(module.reward(module.assemble(groups)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return module, batch


def gradient(module: RLModule, pieces: Sequence[UpdateBatch], measures: UpdateMeasures | None = None) -> Tensor:
    """The gradient that `backward_rows` leaves behind, in float64."""
    module.zero_grad()
    for rows in pieces:
        module.backward_rows(rows, measures or UpdateMeasures())
    return torch.cat([p.grad.flatten() for p in module.model.parameters() if p.grad is not None]).double()


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def in_micro_batches(batch: UpdateBatch, tokens: int) -> list[UpdateBatch]:
    return [batch.rows(rows) for rows in micro_batches(batch.prompt_lengths + batch.lengths, tokens)]


@pytest.mark.parametrize("name", RECIPES)
class TestGradient:
    @pytest.fixture
    def work(self, name: str, recipe: Callable[..., Recipe]) -> tuple[RLModule, UpdateBatch]:
        return at_work(recipe("grpo", RECIPES[name]))

    def test_micro_batches_change_nothing(self, work: tuple[RLModule, UpdateBatch]) -> None:
        module, batch = work
        measures = {tokens: UpdateMeasures() for tokens in (32, 128, 10_000)}
        counts = [len(in_micro_batches(batch, tokens)) for tokens in measures]
        assert counts[0] > counts[1] > counts[2] == 1
        gradients = [gradient(module, in_micro_batches(batch, tokens), m) for tokens, m in measures.items()]
        assert gradients[2].norm() > 0
        # float32 sums in another order: about 1e-7 for each of some dozens of terms
        assert relative(gradients[0], gradients[2]) < 1e-6
        assert relative(gradients[1], gradients[2]) < 1e-6
        for m in measures.values():
            m.add_step((1.0, True))
        whole = measures[10_000].summary()
        assert whole["objective/ratio_max"] > 1.2
        assert whole["tokens_trained"] == int(batch.lengths.sum())
        for tokens in (32, 128):
            assert measures[tokens].summary() == pytest.approx(whole, rel=1e-4, abs=1e-7)  # float32 means

    def test_minibatches_average_to_the_whole_batch(self, work: tuple[RLModule, UpdateBatch]) -> None:
        module, batch = work
        whole = gradient(module, [batch])
        for minibatches in (2, 5):
            updates = replace(module.updates, minibatches=minibatches)
            parts = [gradient(module, [minibatch]) for minibatch in updates.split(batch, seed=3)]
            assert len(parts) == minibatches
            assert relative(torch.stack(parts).mean(0), whole) < 1e-6
            assert relative(parts[0], whole) > 0.05  # each part alone is another one

    def test_padding_of_the_batch_changes_nothing(self, work: tuple[RLModule, UpdateBatch]) -> None:
        module, batch = work
        wider = {
            name: torch.nn.functional.pad(value, (0, 3)) if value.shape == batch["mask"].shape else value
            for name, value in batch.quantities.items()
        }
        pad = module.model.tokenizer.pad_token_id
        padded = UpdateBatch(
            input_ids=torch.nn.functional.pad(batch.input_ids, (0, 3), value=pad),
            prompt_lengths=batch.prompt_lengths,
            lengths=batch.lengths,
            quantities=wider,
        )
        rows = torch.arange(len(batch.lengths))
        assert relative(gradient(module, [padded.rows(rows)]), gradient(module, [batch])) < 1e-6


class TestStep:
    @pytest.fixture(scope="class")
    def learned(self, recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
        folder = tmp_path_factory.mktemp("learned")
        longer = recipe(
            "grpo",
            {
                "model.rollouts.completions_per_prompt": 8,
                "model.optimization.learning_rate": 1e-2,
                "model.evaluation.completions_per_prompt": 8,
                "data.evaluation.init_args.size": 8,
                "run.steps": 16,
                "run.evaluate_every": 16,
                "run.checkpoint_every": 16,
                "run.save_policy": True,
            },
        )
        fit(longer, folder)
        return longer, folder

    def test_what_is_rewarded_becomes_frequent(self, learned: tuple[Recipe, Path]) -> None:
        steps = merged_steps(learned[1])
        assert steps[0]["evaluation/avg_at_k"] < 0.5
        assert steps[16]["evaluation/avg_at_k"] > 0.8
        assert 0 < steps[2]["objective/kl_mean"] < steps[16]["objective/kl_mean"]

    def test_a_checkpoint_is_evaluated_as_the_run_did(self, learned: tuple[Recipe, Path]) -> None:
        recipe, folder = learned
        last = {k: v for k, v in merged_steps(folder)[16].items() if k.startswith("evaluation/")}
        record = evaluate(recipe, folder, folder / "last.ckpt")
        assert record.settings["metrics"] == [last]
        assert record.right().shape == (1, 8, 8)
        assert record.right().mean() == last["evaluation/avg_at_k"]

    def test_the_saved_policy_is_the_trained_one(
        self, learned: tuple[Recipe, Path], recipe: Callable[..., Recipe]
    ) -> None:
        """Another run can start from it."""
        start = {"model.policy.path": str(learned[1] / "policy"), "model.evaluation.completions_per_prompt": 8}
        metrics = evaluate(recipe("grpo", start), learned[1], None).settings["metrics"][0]
        assert metrics["evaluation/avg_at_k"] > 0.8

    def test_nothing_to_train_on(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        """No group is ever mixed: each step ends after its rounds, is counted, and leaves the weights as they were."""
        never = {"class_path": "conftest.Contains", "init_args": {"character": "x"}}
        weights: list[list[Tensor]] = []

        class Weights(Callback):
            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                weights.append([p.detach().clone() for p in pl_module.model.parameters()])

            def on_train_start(self, trainer: Any, pl_module: Any) -> None:
                self.on_train_epoch_end(trainer, pl_module)

        result = fit(recipe("grpo", {**DYNAMIC, "model.rewards.verifiers": [never]}), tmp_path, [Weights()])
        last = result["last"]
        assert last["rollouts/rounds"] == 3
        assert last["rollouts/groups_trained"] == 0
        assert last["cost/optimizer_steps"] == last["cost/tokens_trained"] == 0
        assert last["cost/prompts_drawn"] == last["cost/groups_dropped"] == 4 * 3 * 3
        assert len(weights) == 5
        assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[-1], strict=True))

    def test_equal_rewards_have_no_gradient(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        never = {"class_path": "conftest.Contains", "init_args": {"character": "x"}}
        no_kl = {"model.objective.kl": {"class_path": "NoKL"}, "model.rewards.verifiers": [never]}
        steps = merged_steps(tmp_path) if fit(recipe("grpo", {**no_kl, "run.steps": 2}), tmp_path) else {}
        assert [steps[k]["objective/gradient_norm"] for k in (1, 2)] == [0, 0]
        assert steps[2]["cost/optimizer_steps"] == 4

    def test_every_completion_truncated(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        """Nothing counts when all completions are cut and cut ones are skipped: no division by zero."""
        short = {**DYNAMIC, "model.rollouts.max_completion_tokens": 1, "run.steps": 2}
        short["model.rewards.shaping"] = []
        result = fit(recipe("grpo", short), tmp_path)
        assert all(value == value for value in result["last"].values())
        assert result["last"]["cost/nonfinite_updates"] == 0


class TestModule:
    def test_off_policy_samples_keep_their_own_log_probabilities(self, recipe: Callable[..., Recipe]) -> None:
        """A surplus group trains later, against the policy that sampled it."""
        module, data, trainer = instantiate(recipe("grpo", DYNAMIC))
        module.setup("fit")
        data.setup()
        module._trainer = trainer
        trainer.datamodule = data
        for _ in range(6):
            module.collect(data.stream.draw(3))
            if module.surplus:
                break
            module.steps_done += 1
        assert module.surplus
        sampled_at = module.steps_done
        kept = [[v.clone() for v in group.annotations["old_logprobs"]] for group in module.surplus]
        with torch.no_grad():
            for parameter in module.model.parameters():
                parameter *= 1.5
        module.steps_done += 1
        n = len(kept)
        collected = module.collect(data.stream.draw(3))
        for group, values in zip(collected.groups[:n], kept, strict=True):
            assert group.step == sampled_at
            assert all(torch.equal(a, b) for a, b in zip(group.annotations["old_logprobs"], values, strict=True))
        batch = module.assemble(collected.groups)
        now = module.model.annotate(batch, 10_000).logprobs
        gaps = (batch["old_logprobs"] - now).abs().amax(1)
        assert (gaps[: 4 * n] > 1e-3).all()
        assert (gaps[4 * n :] < 1e-5).all()

    def test_the_policy_is_asked_beyond_the_update_only_where_it_must_be(self, recipe: Callable[..., Recipe]) -> None:
        module, _, _ = instantiate(recipe("grpo"))
        assert module.annotates  # minibatches
        module.updates = replace(module.updates, minibatches=1)
        assert not module.annotates
        module.updates = replace(module.updates, epochs=2)
        assert module.annotates  # epochs
        module.updates = replace(module.updates, epochs=1)
        module.rollouts = replace(module.rollouts, collect=replace(module.rollouts.collect, max_rounds=2))
        assert module.annotates  # a surplus

    def test_one_step_on_fresh_groups_has_ratio_one(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        fit(recipe("grpo", {"model.updates.minibatches": 1, "run.steps": 2}), tmp_path)
        steps = merged_steps(tmp_path)
        assert [steps[k]["objective/ratio_max"] for k in (1, 2)] == [1, 1]
        assert "time/annotating_seconds" not in steps[1]

    def test_the_samples_of_a_step_depend_on_seed_step_and_round(self, recipe: Callable[..., Recipe]) -> None:
        module, data, _ = instantiate(recipe("grpo"))
        module.setup("fit")
        data.setup()
        prompts = data.stream.draw(2)

        def texts(round_: int) -> list[str]:
            return [c.text for group in module.sample(prompts, round_) for c in group.completions]

        first = texts(0)
        assert texts(0) == first
        assert texts(1) != first
        module.steps_done = 1
        assert texts(0) != first
        module.steps_done, module.seed = 0, derive_seed("another")
        assert texts(0) != first
