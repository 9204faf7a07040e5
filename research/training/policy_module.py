"""The part of the LightningModule that no algorithm changes: models, sampler, counters, clocks, Lightning's hooks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from lightning import LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from research.errors import UserError
from research.evaluation import Evaluation
from research.policy import Policy, PolicySpec
from research.prompts import PromptData, PromptStream
from research.rewards import Rewards
from research.rollouts import Collected, Rollouts
from research.seeding import derive_seed, torch_seed
from research.training.batch import assemble
from research.training.costs import Costs
from research.training.critic import Critic, CriticSpec
from research.training.held_out import HeldOut
from research.training.iterations import IterationSpec, RewardModel
from research.training.memory import state_bytes
from research.training.optimization import NonFiniteGuard, Optimization, as_list
from research.training.phases import Phases
from research.training.ranks import Ranks
from research.training.resume import restore, run_state, trained_weights
from research.training.sync import Sync
from research.training.warm_start.builtin import resolve_path
from research.types import Group, Prompt, UpdateBatch

Batch = TypeVar("Batch")


class PolicyModule(LightningModule):
    """A policy that Lightning sets up, evaluates and checkpoints. The training step is in the subclass.

    Args:
        policy: the model to train.
        rollouts: sampling of groups.
        rewards: verification and rewards of completions.
        optimization: the optimizer.
        critic: the value model; None for none.
        iterations: periodic renewal of the reference or the reward model; None for none.
        evaluation: sampling and scoring of held-out prompts.
        needs: quantities that the components of the run read.
        seed: of all random numbers of the run.
    """

    def __init__(
        self,
        *,
        policy: PolicySpec,
        rollouts: Rollouts,
        rewards: Rewards,
        optimization: Optimization,
        critic: CriticSpec | None,
        iterations: IterationSpec | None,
        evaluation: Evaluation,
        needs: frozenset[str],
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = policy.lora is None
        self.spec, self.rollouts, self.rewards, self.optimization = policy, rollouts, rewards, optimization
        self.critic_spec, self.iterations, self.evaluation = critic, iterations, evaluation
        self.needs, self.seed = needs, seed
        self.held_out = HeldOut(evaluation, rollouts, seed)
        self.guard = NonFiniteGuard(optimization.max_nonfinite)
        self.phases, self.costs = Phases(), Costs()
        self.steps_done = 0
        self.surplus: tuple[Group, ...] = ()
        self.entropy_coefficient = 0.0
        self.weights_version = 0
        self.ranks = Ranks()
        self.policy: Policy | None = None
        self.sync: Sync | None = None
        self.sync_measures: dict[str, float] = {}
        self.critic: Critic | None = None
        self.reward_model: RewardModel | None = None

    @property
    def model(self) -> Policy:
        """The policy, available after `setup`."""
        assert self.policy is not None, "setup comes first"
        return self.policy

    @property
    def synced(self) -> Sync:
        """The synchronization of the sampler with the policy, available after `setup`."""
        assert self.sync is not None, "setup comes first"
        return self.sync

    @property
    def data(self) -> PromptData:
        """The prompts of the run."""
        found = getattr(self.trainer, "datamodule", None)
        assert isinstance(found, PromptData), "a recipe's data are a PromptData"
        return found

    @property
    def stream(self) -> PromptStream:
        """The stream that training prompts are drawn from."""
        assert self.data.stream is not None, "setup comes first"
        return self.data.stream

    def sync_sampler(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Give the sampler the current weights and check that it has them; metrics of the last transfer."""
        with self.phases("syncing"):
            seed = derive_seed(self.seed, "proof", self.steps_done)
            self.sync_measures = self.synced(self.weights_version, prompts, seed) or self.sync_measures
        return self.sync_measures

    def decode(self, ids: Sequence[int]) -> str:
        """The text of completion tokens, decoded as the sampler does."""
        return str(self.model.tokenizer.decode(list(ids), skip_special_tokens=True))

    def assemble(self, groups: Sequence[Group]) -> UpdateBatch:
        """The groups as tensors on the policy's device."""
        return assemble(groups, pad=self.model.padding, device=self.device)

    # --- set-up -------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Load the policy, once, and attach the sampler and the data to it."""
        self.ranks = Ranks.of(self._trainer)
        if self.policy is None:
            self.load_models()
            self.attach_sampler()
        if (data := getattr(self._trainer, "datamodule", None)) is not None:
            data.attach(self.model.tokenizer)

    def load_models(self) -> None:
        """Load the policy, and the critic and the reward model if the recipe has them."""
        spec = replace(self.spec, path=resolve_path(self.spec.path))
        with torch_seed(derive_seed(self.seed, "policy")):
            self.policy = Policy(
                spec, temperature=self.rollouts.temperature, with_reference="ref_logprobs" in self.needs
            )
            if self.critic_spec is not None:
                self.critic = Critic(self.critic_spec, self.policy)
            if self.iterations is not None and self.iterations.reward_model is not None:
                self.reward_model = RewardModel(self.iterations.reward_model, self.policy)

    def attach_sampler(self) -> None:
        """Attach the sampler and the source of completions to the policy, and record the memory of all models."""
        policy, rollouts = self.model, self.rollouts
        rollouts.sampler.attach(policy.model, policy.tokenizer)
        rollouts.source.attach(rollouts.sampler, policy.model, policy.tokenizer)
        self.sync = Sync(rollouts.sampler, policy, assemble=self.assemble, decoding=rollouts.decoding())
        held = state_bytes([*self.children(), *policy.frozen, *rollouts.source.frozen])
        self.costs.totals["cost/state_bytes"] = held

    def configure_model(self) -> None:
        """Shard the policy over the ranks, once, if the strategy has a device mesh.

        Raises: UserError if a critic or a reward model is trained beside it.
        """
        if self.device_mesh is not None and not self.model.sharded:
            if self.critic is not None or self.reward_model is not None:
                raise UserError("a critic or a reward model is not sharded yet: take the strategy ddp, or one device")
            self.model.shard(self.device_mesh["data_parallel"], most=self.ranks.most)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """AdamW with a warm-up that `training_step` advances once a step; the critic has an optimizer of its own."""
        built = [self.optimization.build(self.model)]
        if self.critic is not None:
            rate = self.critic.spec.learning_rate
            built.append(replace(self.optimization, learning_rate=rate).build(self.critic))
        return [optimizer for optimizer, _ in built], [schedule for _, schedule in built]

    @property
    def schedules(self) -> list[LambdaLR]:
        """Learning-rate schedules of the policy and, if there is one, of the critic."""
        return [schedule for schedule in as_list(self.lr_schedulers()) if isinstance(schedule, LambdaLR)]

    # --- steps --------------------------------------------------------------------------------------------------

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Leave prompts as they are, since they are text."""
        return batch

    def on_train_epoch_start(self) -> None:
        """Start the step's clock."""
        self.phases.reset()

    def record(self, collected: Collected, measures: dict[str, float]) -> None:
        """Count the step, and log its metrics with the cumulative costs."""
        self.costs.add_sampling(collected.sampled, by_model=self.rollouts.source.samples)
        self.costs.add_step(collected, measures)
        times = self.phases.times()
        self.steps_done += 1
        if self.logger is not None:
            self.logger.log_metrics({**measures, **self.costs.totals, **times}, step=self.steps_done)

    # --- evaluation ---------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Start a new evaluation."""
        self.held_out.begin()

    def validation_step(self, prompts: list[Prompt], index: int) -> None:
        """Sample and verify one chunk of held-out prompts."""
        self.sync_sampler(prompts)
        own = self.ranks.share(prompts)
        seed = self.ranks.seed(derive_seed(self.held_out.seed, "evaluation", self.steps_done, index))
        with self.model.whole():
            groups = self.held_out.sample(own, seed)
        self.held_out.groups += self.ranks.gather([self.rewards.verify(group) for group in groups])

    def on_validation_epoch_end(self) -> None:
        """Log the results of the evaluation."""
        if self.logger is not None:
            self.held_out.log(self.logger, step=self.steps_done)

    # --- checkpoints --------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save only the weights that training changes, and the run state that Lightning does not save."""
        checkpoint["state_dict"] = trained_weights(self, checkpoint["state_dict"])
        checkpoint["research"] = run_state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the run state, and mark the weights as new, since the sampler does not have them."""
        restore(self, checkpoint)
        self.weights_version += 1
