"""What learns or is renewed beside the policy: critic, reward model, reference, entropy bonus; and other sources."""

from collections.abc import Callable
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from torch import Tensor

from research.errors import UserError
from research.policy import PolicySpec
from research.policy.policy import Policy
from research.policy.scalar import ScalarModel
from research.prompts import worked_solution
from research.recipe import Recipe, instantiate, parse
from research.runs.fit import fit
from research.tracking import merged_steps
from research.training.critic import value_loss
from research.training.iterations import RewardModel, RewardModelSpec, comparison_loss
from research.training.measures import ranked_right
from research.training.module import RLModule
from research.types import Completion, Group, Prompt

IMITATE = {
    "model.credit.advantage": {"class_path": "Imitate"},
    "model.objective.ratio": {"class_path": "NoRatio"},
    "model.objective.surrogate": {"class_path": "LogLikelihood"},
    "model.objective.kl": {"class_path": "NoKL"},
}
GAE = {"class_path": "GAE", "init_args": {"gamma": 1.0, "lam": 1.0, "whiten": True}}
CRITIC = {"learning_rate": 1e-2, "shares_body": False, "value_clip": 0.2}
LEARNED = {"learning_rate": 1e-3, "prompts": 2, "epochs": 1, "groups_per_update": 2}
LENGTH = {
    "model.rewards.verifiers": [{"class_path": "ExactAnswer", "init_args": {"marker": "#", "wrong": 0.0}}],
    "model.rewards.shaping": [{"class_path": "LengthExact"}],
    "data.targets": {
        "class_path": "LengthTarget",
        "init_args": {"template": "{text}{target}", "low": 2, "high": 9, "seed": 0},
    },
}
PPO = {"model.credit.advantage": GAE, "model.critic": CRITIC, "model.objective.kl": {"class_path": "NoKL"}}


def ready(recipe: Recipe) -> tuple[RLModule, Any]:
    module, data, trainer = instantiate(recipe)
    module.setup("fit")
    data.setup()
    module._trainer = trainer
    trainer.datamodule = data
    return module, data


class Weights(Callback):
    """The policy's weights before the first step and after each."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append(torch.cat([p.detach().flatten() for p in pl_module.model.parameters()]))


class TestCritic:
    # ½ max((V − R)², (clip(V, V_old ± 0.2) − R)²) with V_old = 0, by hand.
    @pytest.mark.parametrize(
        ("value", "target", "expected"),
        [
            (0.1, 1.0, 0.5 * 0.9**2),  # inside the bounds
            (0.9, 1.0, 0.5 * 0.8**2),  # beyond them and nearer: the clipped value, 0.2, counts
            (-0.5, 1.0, 0.5 * 1.5**2),  # beyond them and farther: the value itself counts
            (2.0, 0.0, 0.5 * 2.0**2),
        ],
    )
    def test_clipped_value_loss(self, value: float, target: float, expected: float) -> None:
        loss = value_loss(torch.tensor([[value]]), torch.tensor([[0.0]]), torch.tensor([[target]]), 0.2)
        assert loss.item() == pytest.approx(expected, rel=1e-6)

    def test_without_a_clip_it_is_half_the_square(self) -> None:
        loss = value_loss(torch.tensor([[3.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]), None)
        assert loss.item() == 2.0

    def test_a_value_beyond_its_bound_and_nearer_the_target_has_no_gradient(self) -> None:
        values = torch.tensor([[0.9, 0.1]], requires_grad=True)
        value_loss(values, torch.zeros(1, 2), torch.ones(1, 2), 0.2).sum().backward()
        assert values.grad is not None
        assert values.grad.tolist() == [[0.0, pytest.approx(-0.9)]]

    def test_values_are_read_before_each_token(self, tiny_policy: str, recipe: Callable[..., Recipe]) -> None:
        """A value depends on the tokens before its own, and on none after."""
        module, data = ready(recipe("grpo", PPO))
        batch = module.assemble(module.sample(data.stream.draw(2), 0))
        model = module.critic.model  # pyright: ignore[reportOptionalMemberAccess]
        torch.nn.init.normal_(model.head.weight)
        values = model.values(batch, 1000)
        row = int(batch.lengths.argmax())
        changed = batch.input_ids.clone()
        at = int(batch.prompt_lengths[row]) + 3
        changed[row, at] = (changed[row, at] + 1) % 5
        other = model.values(replace(batch, input_ids=changed), 1000)
        assert torch.equal(values[row, :4], other[row, :4])
        assert (values[row, 4:] != other[row, 4:])[batch["mask"][row, 4:]].all()
        assert torch.count_nonzero(values[~batch["mask"]]) == 0

    def test_pre_training_leaves_the_policy_alone(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        weights = Weights()
        overrides = {**PPO, "model.critic": {**CRITIC, "pretrain_steps": 2}, "model.optimization.warmup_steps": 0}
        fit(recipe("grpo", overrides), tmp_path, [weights])
        same = [torch.equal(a, b) for a, b in zip(weights.seen, weights.seen[1:], strict=False)]
        assert same == [True, True, False, False]
        steps = merged_steps(tmp_path)
        assert steps[4]["cost/optimizer_steps"] == 2 * 2
        assert steps[4]["cost/nonfinite_updates"] == 0

    def test_the_critic_learns(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        """The policy standing still, its values come to explain more of the rewards than nothing."""
        still = {
            "model.critic": {**CRITIC, "learning_rate": 3e-2, "value_clip": None, "pretrain_steps": 16},
            "run.steps": 16,
        }
        more = {"data.prompts_per_step": 12, "model.optimization.warmup_steps": 0, "run.evaluate_every": 16}
        fit(recipe("grpo", {**PPO, **still, **more}), tmp_path)
        steps = merged_steps(tmp_path)
        assert steps[1]["critic/explained_variance"] <= 0.01  # a head of zeros knows nothing
        assert steps[16]["critic/explained_variance"] > 0.04
        assert steps[16]["critic/value_loss"] < steps[1]["critic/value_loss"]

    @pytest.mark.parametrize("shares_body", [True, False])
    def test_the_critic_has_the_parameters_it_says(self, shares_body: bool, recipe: Callable[..., Recipe]) -> None:
        module, _ = ready(recipe("grpo", {**PPO, "model.critic": {**CRITIC, "shares_body": shares_body}}))
        assert module.critic is not None
        own = sum(p.numel() for p in module.critic.parameters())
        hidden = module.model.causal_lm.config.hidden_size
        assert own == hidden + 1 if shares_body else own > 1000
        assert (module.critic.model.body is module.model.causal_lm.get_decoder()) == shares_body

    def test_its_memory_is_counted(self, recipe: Callable[..., Recipe]) -> None:
        plain, _ = ready(recipe("grpo", {"model.objective.kl": {"class_path": "NoKL"}}))
        ppo, _ = ready(recipe("grpo", PPO))
        # Weights, gradients and two moments of a second body, but for the output layer, which is tied to its input.
        ratio = ppo.costs.totals["cost/state_bytes"] / plain.costs.totals["cost/state_bytes"]
        assert 1.9 < ratio < 2.1

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"model.critic": None}, "model.critic is null"),
            ({"model.credit.advantage": {"class_path": "GroupMean"}}, "reads none"),
            ({"model.critic": {**CRITIC, "gamma": 0.9}}, "γ is one number"),
            ({"model.critic": {**CRITIC, "learning_rate": 0.0}}, "learning_rate is above 0"),
        ],
    )
    def test_refusals(self, change: dict[str, Any], sentence: str, small: Callable[..., dict[str, Any]]) -> None:
        with pytest.raises(UserError, match=sentence):
            parse(small("grpo", {**PPO, **change}))


def group(text: str, completions: list[tuple[tuple[int, ...], bool]]) -> Group:
    return Group(
        prompt=Prompt(id=text, text=text, answer=""),
        prompt_ids=(2, 3),
        completions=tuple(
            Completion(token_ids=ids, rollout_logprobs=(0.0,) * len(ids), text="", finish_reason="stop")
            for ids, _ in completions
        ),
        outcomes=tuple(1.0 if right else -1.0 for _, right in completions),
        right=tuple(right for _, right in completions),
        columns=(tuple(1.0 if right else -1.0 for _, right in completions),),
    )


class TestRewardModel:
    def test_comparison_loss_by_hand(self) -> None:
        """Two right, one wrong: the mean of −log σ(1) and −log σ(−1); a group without a pair adds nothing."""
        rewards = torch.tensor([[2.0, 0.0, 1.0], [5.0, 5.0, 5.0]])
        right = torch.tensor([[True, True, False], [True, True, True]])
        pair = (log(1 + torch.tensor(-1.0).exp().item()) + log(1 + torch.tensor(1.0).exp().item())) / 2
        assert comparison_loss(rewards, right).item() == pytest.approx(pair / 2, rel=1e-6)

    def test_ranked_right(self) -> None:
        right = torch.tensor([[True, False]])
        assert ranked_right(torch.tensor([[1.0, 0.0]]), right) == 1.0
        assert ranked_right(torch.tensor([[0.0, 1.0]]), right) == 0.0
        assert ranked_right(torch.tensor([[1.0, 1.0]]), right) == 0.5
        assert ranked_right(torch.tensor([[1.0, 0.0]]), torch.tensor([[True, True]])) is None

    def test_it_learns_what_is_right_and_is_reminded(self, recipe: Callable[..., Recipe]) -> None:
        module, _ = ready(recipe("grpo"))
        spec = RewardModelSpec(learning_rate=1e-2, prompts=1, epochs=4, groups_per_update=2, replay=0.2)
        torch.manual_seed(0)
        model = RewardModel(spec, module.model)
        groups = [group(str(k), [((4, 5, k % 3 + 6), True), ((7, 8, k % 3 + 6), False)]) for k in range(8)]
        model.refresh([*groups, group("all right", [((4,), True), ((5,), True)])], module.assemble, seed=0)
        batch = module.assemble(groups)
        assert ranked_right(model.judge(batch, 1000)["outcomes"], batch["right"]) == 1.0
        assert len(model.history) == 8  # the mixed ones
        seen: list[int] = []

        def counting(pool: Any) -> Any:
            seen.append(len(pool))
            return module.assemble(pool)

        model.refresh(groups, counting, seed=1)
        assert sum(seen) == 4 * (8 + 2)  # a fifth of ten groups is from the iteration before

    def test_its_rewards_do_not_depend_on_the_micro_batch(self, recipe: Callable[..., Recipe]) -> None:
        module, data = ready(recipe("grpo"))
        torch.manual_seed(0)
        model = RewardModel(RewardModelSpec(learning_rate=1e-3, prompts=1, epochs=1, groups_per_update=1), module.model)
        batch = module.assemble(module.sample(data.stream.draw(3), 0))
        narrow, wide = (model.judge(batch, tokens) for tokens in (30, 10_000))
        torch.testing.assert_close(narrow["outcomes"], wide["outcomes"], rtol=1e-4, atol=1e-5)
        assert torch.equal(wide["columns"][0], wide["outcomes"])
        first = module.model.annotate(batch, 10_000).logprobs[0, : batch.lengths[0]].mean()
        assert wide["outcomes"][0, 0].item() == pytest.approx(first.item(), rel=1e-5)  # it starts as the policy does


class TestIterations:
    def test_the_reference_becomes_the_policy(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        """An iteration begins with a penalty of 0, which it does not without a reset."""

        def kl(resets: bool) -> list[float]:
            iterations = {"steps": 2, "resets_reference": True, "reward_model": None} if resets else None
            overrides = {
                "model.iterations": iterations,
                "model.updates.minibatches": 1,
                "model.optimization.learning_rate": 1e-2,
            }
            folder = tmp_path / str(resets)
            fit(recipe("grpo", overrides), folder)
            return [merged_steps(folder)[k]["objective/kl_mean"] for k in (1, 2, 3, 4)]

        without, with_reset = kl(False), kl(True)
        assert without[0] == with_reset[0] == 0
        assert without[1] == with_reset[1] > 0
        assert without[2] > 1e-6 > with_reset[2]
        assert with_reset[3] > 0

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"model.objective.kl": {"class_path": "NoKL"}}, "nothing reads"),
            ({"model.policy.lora": {"rank": 2, "alpha": 4.0}}, "LoRA"),
            ({"model.iterations.reward_model": LEARNED, **LENGTH}, "a reward model gives others"),
            ({"model.iterations": {"steps": 2, "resets_reference": False, "reward_model": None}}, "nothing is renewed"),
            ({"model.iterations": {"steps": 0, "resets_reference": True, "reward_model": None}}, "at least 1"),
        ],
    )
    def test_refusals(self, change: dict[str, Any], sentence: str, small: Callable[..., dict[str, Any]]) -> None:
        iterations = {"model.iterations": {"steps": 2, "resets_reference": True, "reward_model": None}}
        with pytest.raises(UserError, match=sentence):
            parse(small("grpo", {**iterations, **change}))


class TestSources:
    def test_the_start_is_sampled_wherever_the_policy_goes(self, recipe: Callable[..., Recipe]) -> None:
        source = {"model.rollouts.source": {"class_path": "StartPolicy"}}
        module, data = ready(recipe("grpo", {**IMITATE, **source}))
        prompts = data.stream.draw(2)

        def texts() -> list[str]:
            return [c.text for group in module.sample(prompts, 0) for c in group.completions]

        before = texts()
        with torch.no_grad():
            for parameter in module.model.parameters():
                parameter *= 1.5
        assert texts() == before
        module.rollouts.source.attach(module.rollouts.sampler, module.model.model, module.model.tokenizer)
        assert texts() != before

    def test_evaluation_asks_the_policy(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        source = {"model.rollouts.source": {"class_path": "Demonstrations"}}
        one = {"model.rollouts.completions_per_prompt": 1, "model.rollouts.max_completion_tokens": 32}
        fit(recipe("grpo", {**IMITATE, **source, **one, "run.steps": 2}), tmp_path)
        steps = merged_steps(tmp_path)
        assert steps[0]["evaluation/length_mean"] != steps[1]["rollouts/length_mean"]

    def test_demonstrations_are_the_solutions_to_the_token(self, recipe: Callable[..., Recipe]) -> None:
        source = {"model.rollouts.source": {"class_path": "Demonstrations"}}
        overrides = {**IMITATE, **source, "model.rollouts.completions_per_prompt": 1}
        module, data = ready(recipe("grpo", {**overrides, "model.rollouts.max_completion_tokens": 40}))
        tokenizer = module.model.tokenizer
        for group_ in module.sample(data.stream.draw(5), 0):
            (completion,) = group_.completions
            assert completion.text == worked_solution(group_.prompt.text)
            assert completion.token_ids[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(completion.token_ids[:-1]) == completion.text
            assert completion.finish_reason == "stop"
        module.rollouts = replace(module.rollouts, max_completion_tokens=4)
        (cut,) = module.sample(data.stream.draw(1), 0)[0].completions
        assert (len(cut.token_ids), cut.finish_reason) == (4, "length")

    def test_a_prompt_without_a_solution(self, recipe: Callable[..., Recipe]) -> None:
        source = {"model.rollouts.source": {"class_path": "Demonstrations"}}
        module, _ = ready(recipe("grpo", {**IMITATE, **source, "model.rollouts.completions_per_prompt": 1}))
        with pytest.raises(UserError, match="no reference solution"):
            module.sample([Prompt(id="a", text="1+1=", answer="2")], 0)

    @pytest.mark.parametrize("source", ["StartPolicy", "Demonstrations"])
    def test_a_ratio_to_a_policy_that_wrote_nothing_is_refused(
        self, source: str, small: Callable[..., dict[str, Any]]
    ) -> None:
        overrides = {"model.rollouts.source": {"class_path": source}, "model.rollouts.completions_per_prompt": 1}
        advantage = {"model.credit.advantage": {"class_path": "GroupMean"}}
        with pytest.raises(UserError, match=f"{source} are not the policy's"):
            parse(small("grpo", {**overrides, **advantage}))

    def test_two_solutions_of_one_prompt_are_refused(self, small: Callable[..., dict[str, Any]]) -> None:
        source = {"model.rollouts.source": {"class_path": "Demonstrations"}}
        with pytest.raises(UserError, match="a prompt has one solution"):
            parse(small("grpo", {**IMITATE, **source}))


class TestAdaptiveEntropy:
    def test_the_coefficient_follows_the_entropy(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        """A random policy's entropy is near log 20: below a target of 9 the coefficient rises, above 0.1 it stays 0."""

        def coefficients(target: float) -> list[float]:
            bonus = {"target": target, "step": 0.01, "initial": 0.0, "largest": 0.025}
            entropy = {"class_path": "AdaptiveEntropyBonus", "init_args": bonus}
            folder = tmp_path / str(target)
            fit(recipe("grpo", {"model.objective.entropy": entropy}), folder)
            return [merged_steps(folder)[k]["objective/entropy_coefficient"] for k in (1, 2, 3, 4)]

        assert coefficients(9.0) == pytest.approx([0.0, 0.01, 0.02, 0.025])
        assert coefficients(0.1) == [0.0, 0.0, 0.0, 0.0]


def test_lora_trains_beside_a_critic(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """The checkpoint holds the adapters and the critic, and continues."""
    lora = {"model.policy.lora": {"rank": 2, "alpha": 4.0}}
    longer, shorter = recipe("grpo", {**PPO, **lora}), tmp_path / "run"
    fit(longer, shorter)
    names = torch.load(shorter / "last.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("critic.") for name in names)
    assert all("lora_" in name or name.startswith("critic.") for name in names)


def test_a_policy_in_bf16_has_values_in_float32(tiny_policy: str) -> None:
    spec = PolicySpec(path=tiny_policy, lora=None, precision="bfloat16")
    policy = Policy(spec, temperature=1.0, with_reference=False)
    assert ScalarModel.beside(policy, shared=True).head.weight.dtype == torch.float32
