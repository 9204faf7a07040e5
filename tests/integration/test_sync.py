"""An engine with weights of its own has the policy's, or the run stops and says why."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from research.errors import UserError
from research.recipe import Recipe, instantiate
from research.rollouts import CompactSampler, Decoding
from research.runs.train import train, trainer_settings
from research.tracking import merged_steps
from research.training.measures import importance_measures
from research.training.module import RLModule
from research.types import Group, Prompt

LORA = {"rank": 4, "alpha": 8.0}


class CopySampler(CompactSampler):
    """An engine with a copy of the weights: takes over those that `fresh` names, and heeds the temperature or not."""

    tolerance = 1e-4

    def __init__(self, fresh: Callable[[str], bool] = lambda _: True, heeds_temperature: bool = True) -> None:
        super().__init__()
        self.fresh, self.heeds_temperature = fresh, heeds_temperature
        self.calls: list[Any] = []

    def attach(self, model: Any, tokenizer: Any) -> None:
        super().attach(deepcopy(model), tokenizer)
        self.policy = model

    def sync(self, version: int) -> dict[str, float]:
        self.calls.append(version)
        own = self.model.state_dict()
        with torch.no_grad():
            for name, value in self.policy.state_dict().items():
                if self.fresh(name):
                    own[name].copy_(value)
        return {"rollouts/sync_bytes": 1.0}

    def sleep(self) -> None:
        self.calls.append("sleep")

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        self.calls.append("sample")
        if not self.heeds_temperature:
            decoding = Decoding(max_tokens=decoding.max_tokens)
        return super().sample(prompts, n=n, decoding=decoding, seed=seed)


def with_sampler(recipe: Recipe, sampler: CopySampler) -> tuple[RLModule, Any, Any]:
    module, data, trainer = instantiate(recipe)
    module.rollouts.sampler.__class__ = CopySampler  # the recipe's own sampler object, so that nothing else changes
    module.rollouts.sampler.__dict__.update(sampler.__dict__)
    module.setup("fit")
    data.setup()
    module.trainer = trainer
    return module, data, trainer


def moved(module: RLModule) -> None:
    """The policy learns something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    module.weights_version += 1


def prompts(data: Any) -> list[Prompt]:
    return data.stream.draw(3)


class TestProof:
    def test_holds_over_many_versions(self, recipe: Callable[..., Recipe]) -> None:
        module, data, _ = with_sampler(recipe("grpo"), CopySampler())
        for _ in range(5):
            measures = module.sync_sampler(prompts(data))
            assert measures["rollouts/sync_gap_max"] < 1e-4  # float32, after five large moves
            assert measures["rollouts/sync_bytes"] == 1.0
            calls = len(module.rollouts.sampler.calls)  # pyright: ignore
            assert module.sync_sampler(prompts(data)) == measures  # the same version
            assert len(module.rollouts.sampler.calls) == calls  # pyright: ignore
            moved(module)

    @pytest.mark.parametrize(
        ("fresh", "overrides", "cause"),
        [
            (lambda name: False, {}, "stale output layer"),  # the built-in model's head is tied
            (lambda name: "embed" not in name and "lm_head" not in name, {}, "stale output layer"),
            (lambda name: False, {"model.policy.lora": LORA}, "has not loaded the adapter"),
        ],
        ids=["nothing", "stale head", "no adapter"],
    )
    def test_catches_stale_weights(
        self,
        fresh: Callable[[str], bool],
        overrides: dict[str, Any],
        cause: str,
        recipe: Callable[..., Recipe],
    ) -> None:
        module, data, _ = with_sampler(recipe("grpo", overrides), CopySampler(fresh))
        module.sync_sampler(prompts(data))
        moved(module)
        with pytest.raises(UserError, match=f"CopySampler does not have the policy's weights.*{cause}"):
            module.sync_sampler(prompts(data))

    def test_catches_an_old_adapter(self, recipe: Callable[..., Recipe]) -> None:
        sampler = CopySampler(lambda name: sampler.calls.count("sample") < 2)
        module, data, _ = with_sampler(recipe("grpo", {"model.policy.lora": LORA}), sampler)
        for _ in range(2):
            module.sync_sampler(prompts(data))
            moved(module)
        with pytest.raises(UserError, match="an old adapter"):
            module.sync_sampler(prompts(data))

    def test_catches_log_probabilities_before_the_temperature(self, recipe: Callable[..., Recipe]) -> None:
        hot = recipe("grpo", {"model.rollouts.temperature": 1.5})
        module, data, _ = with_sampler(hot, CopySampler())
        module.sync_sampler(prompts(data))
        module, data, _ = with_sampler(hot, CopySampler(heeds_temperature=False))
        with pytest.raises(UserError, match="right before the temperature"):
            module.sync_sampler(prompts(data))

    def test_catches_weights_lost_in_sleep(self, recipe: Callable[..., Recipe]) -> None:
        sampler = CopySampler(lambda name: "sleep" not in sampler.calls)
        module, data, _ = with_sampler(recipe("grpo"), sampler)
        module.sync_sampler(prompts(data))
        module.synced.sleep()
        moved(module)
        with pytest.raises(UserError, match="lost its weights while it slept"):
            module.sync_sampler(prompts(data))

    def test_is_of_no_sampler_that_shares_the_parameters(self, recipe: Callable[..., Recipe]) -> None:
        module, data, _ = instantiate(recipe("grpo"))
        module.setup("fit")
        data.setup()
        assert module.sync_sampler(prompts(data)) == {}


def test_a_run_syncs_once_a_version_and_sleeps_through_updates(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    checked = recipe("grpo", {"run.steps": 2, "run.evaluate_every": 1})
    module, data, trainer = instantiate(checked, **trainer_settings(checked.run_settings(), tmp_path, []))
    usual = CopySampler()
    module.rollouts.sampler.__class__ = CopySampler
    module.rollouts.sampler.__dict__.update(usual.__dict__)
    train(trainer, module, data, tmp_path)
    calls = [call for call in usual.calls if call != "sample"]
    # Start, evaluated; step 1, then its evaluation wakes the engine with version 2 (two minibatches), and so on.
    assert calls == [0, "sleep", 2, "sleep", 4]
    steps = merged_steps(tmp_path)
    assert steps[2]["rollouts/logprob_gap_max"] < 1e-4
    assert all("rollouts/sync_gap_max" in steps[k] for k in (1, 2))
    assert steps[2]["rollouts/importance_mean"] == pytest.approx(1.0, abs=1e-4)  # float32 log-probabilities
    assert "time/syncing_seconds" in steps[2]


def test_start_policy_has_no_room_in_an_engine(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(UserError, match="CopySampler holds only one model"):
        with_sampler(recipe("rft"), CopySampler())


@pytest.mark.parametrize("truncation", [{"top_p": 0.9}, {"top_k": 5}])
def test_truncation_is_refused_together_with_an_importance_correction(
    truncation: dict[str, Any], recipe: Callable[..., Recipe]
) -> None:
    overrides = {f"model.rollouts.{name}": value for name, value in truncation.items()}
    instantiate(recipe("grpo", overrides))
    with pytest.raises(UserError, match="top_p and top_k take over fewer tokens"):
        instantiate(recipe("truncated_importance", overrides))


class TestImportance:
    def test_by_hand(self) -> None:
        """importance 1 and 3: mean 2, (1 + 3)² / (2 (1 + 9)) = 0.8."""
        measures = importance_measures(torch.tensor([0.0, 3.0]).clamp(min=1).log())
        assert measures["rollouts/importance_mean"] == pytest.approx(2.0)
        assert measures["rollouts/importance_effective_share"] == pytest.approx(0.8)
        assert measures["rollouts/logprob_gap_max"] == pytest.approx(float(Tensor([3.0]).log()))

    def test_quantiles(self) -> None:
        measures = importance_measures(torch.linspace(1, 2, 101).log())
        assert measures["rollouts/importance_p01"] == pytest.approx(1.01)
        assert measures["rollouts/importance_p99"] == pytest.approx(1.99)
        assert measures["rollouts/importance_max"] == pytest.approx(2.0)
