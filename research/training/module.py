"""The LightningModule of every recipe: one training step, from prompts to the update, that names no algorithm."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.optim import Optimizer

from research.credit import Credit
from research.evaluation import Evaluation
from research.objective import Objective
from research.policy import PolicySpec
from research.prompts import PromptStream
from research.rewards import Rewards
from research.rollouts import Collected, Rollouts
from research.seeding import derive_seed
from research.training.batch import annotated
from research.training.critic import CriticSpec
from research.training.inspection import Inspected, inspected
from research.training.iterations import IterationSpec
from research.training.legality import fault, rewards_fault, run_fault
from research.training.measures import UpdateMeasures, collected_measures, credit_measures
from research.training.optimization import Optimization, as_list, guarded_step, parameters_of
from research.training.policy_module import PolicyModule
from research.training.reward_measures import reward_measures
from research.training.updates import Updates
from research.types import Group, Prompt, UpdateBatch


class RLModule(PolicyModule):
    """prompts → rollouts → rewards → credit ─┊─ objective → update → metrics.

    Args:
        policy: the model to train.
        rollouts: sampling of groups.
        rewards: verifiers, and shaping of their rewards.
        credit: advantages, token weights, coefficients.
        objective: ratio, surrogate, KL, entropy bonus.
        updates: optimizer steps per update batch.
        optimization: the optimizer.
        critic: the value model of an advantage that reads values; null for none.
        iterations: periodic renewal of the reference or the reward model; null for none.
        evaluation: sampling and scoring of held-out prompts.
        seed: of all random numbers of the run.
    """

    def __init__(
        self,
        *,
        policy: PolicySpec,
        rollouts: Rollouts,
        rewards: Rewards,
        credit: Credit,
        objective: Objective,
        updates: Updates,
        optimization: Optimization,
        critic: CriticSpec | None,
        iterations: IterationSpec | None,
        evaluation: Evaluation,
        seed: int = 0,
    ) -> None:
        super().__init__(
            policy=policy,
            rollouts=rollouts,
            rewards=rewards,
            optimization=optimization,
            critic=critic,
            iterations=iterations,
            evaluation=evaluation,
            needs=credit.needs() | objective.needs() | rewards.needs(),
            seed=seed,
        )
        self.credit, self.objective, self.updates = credit, objective, updates
        reason = fault(credit, objective) or rewards_fault(rewards, credit, objective) or run_fault(self)
        if reason is not None:
            raise ValueError(reason)
        self.entropy_coefficient = objective.entropy.start

    def training_step(self, prompts: list[Prompt], _: int) -> None:
        """One step: collect groups, reward them, compute credit, update the policy."""
        synced = self.sync_sampler(prompts)
        if self.iterations is not None and self.steps_done % self.iterations.steps == 0:
            self.begin_iteration(self.iterations)
        collected = self.collect(prompts)
        self.synced.sleep()
        measures = collected_measures(collected) | reward_measures(collected.sampled, self.rewards.names()) | synced
        measures["rollouts/prompts_retired"] = len(self.stream.retired)  # prompts
        if collected.groups:
            batch = self.credit(self.reward(self.assemble(collected.groups)))
            measures |= credit_measures(batch) | self.update(batch)
        for schedule in self.schedules:
            schedule.step()
        self.record(collected, measures)

    def collect(self, prompts: Sequence[Prompt]) -> Collected:
        """Prompts → verified groups, with log-probabilities and entropies of the policy that sampled them."""
        collected = self.rollouts.collect(prompts, draw=self.stream.draw, sample=self.sample, surplus=self.surplus)
        self.stream.retire(g.prompt.id for g in collected.sampled if self.rollouts.retire(right=g.right))
        groups = self.annotate([*collected.groups, *collected.surplus])
        n = len(collected.groups)
        self.surplus = tuple(groups[n:])
        return replace(collected, groups=tuple(groups[:n]), surplus=self.surplus)

    def sample(self, prompts: Sequence[Prompt], round_: int) -> list[Group]:
        """One sampling round: one verified group for each prompt, on every rank."""
        own = self.ranks.share(prompts)
        seed = self.ranks.seed(derive_seed(self.seed, "rollouts", self.steps_done, round_))
        with self.phases("sampling"), self.model.whole():
            groups = self.rollouts.source.sample(
                own, n=self.rollouts.completions_per_prompt, decoding=self.rollouts.decoding(), seed=seed
            )
        with self.phases("verifying"):
            verified = [self.rewards.verify_steps(self.rewards.verify(group), self.decode) for group in groups]
            return self.ranks.gather([replace(group, step=self.steps_done) for group in verified])

    @property
    def annotates(self) -> bool:
        """True if groups need an extra forward pass of the policy that sampled them.

        With one optimizer step on new groups they need none: the old log-probabilities equal the new ones, detached.
        """
        stale = self.rollouts.collect.max_rounds > 1 or not self.updates.on_policy
        read = (self.credit.needs() | self.rewards.needs()) & {"old_logprobs", "entropies"}
        of_batch = self.needs & {"covariances", "covariance_rank"}
        return bool(read or of_batch) or (stale and "old_logprobs" in self.objective.needs())

    def annotate(self, groups: list[Group], *, always: bool = False) -> list[Group]:
        """Add log-probabilities and entropies of the sampling policy to groups, if some component reads them.

        Args:
            groups: sampled by the current policy, or annotated before.
            always: True to add them even if no component reads them.
        """
        if not (always or self.annotates):
            return groups
        fresh = [k for k, group in enumerate(groups) if not group.annotations]
        if fresh:
            with self.phases("annotating"):
                batch = self.assemble([groups[k] for k in fresh])
                values = self.ranks.read(lambda rows: self.model.annotate(rows, self.updates.micro_batch_tokens), batch)
                tokens = {"old_logprobs": values.logprobs.cpu(), "entropies": values.entropies.cpu()}
            for k, group in zip(fresh, annotated([groups[k] for k in fresh], tokens), strict=True):
                groups[k] = group
        return groups

    def reward(self, batch: UpdateBatch) -> UpdateBatch:
        """Add the rewards, and the other quantities that credit and objective read, to the batch."""
        batch, tokens = self.with_reference(self.with_numbers(batch)), self.updates.micro_batch_tokens
        if self.reward_model is not None:
            with self.phases("reward_model"):
                batch = self.reward_model.judge(batch, tokens)
        batch = batch.with_quantities(**self.rewards(batch.quantities))
        if self.critic is not None:
            with self.phases("critic"):
                batch = self.critic.annotate(batch, tokens)
        return batch

    def with_numbers(self, batch: UpdateBatch) -> UpdateBatch:
        """Add random numbers and the coefficient of the entropy bonus, if some component reads them."""
        device = batch.input_ids.device
        if "uniform" in self.needs:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "uniform", self.steps_done))
            batch = batch.with_quantities(uniform=torch.rand(batch["mask"].shape, generator=generator).to(device))
        if "entropy_coefficient" in self.needs:
            batch = batch.with_quantities(entropy_coefficient=torch.tensor(self.entropy_coefficient, device=device))
        return batch

    def with_reference(self, batch: UpdateBatch) -> UpdateBatch:
        """Add the log-probabilities of the reference, if some component reads them."""
        if "ref_logprobs" not in self.needs:
            return batch
        tokens = self.updates.micro_batch_tokens
        with self.phases("reference"):
            values = self.ranks.read(lambda rows: self.model.reference(rows, tokens), batch)
        return batch.with_quantities(ref_logprobs=values.logprobs)

    def begin_iteration(self, spec: IterationSpec) -> None:
        """Set the reference to the policy, and train the reward model on new completions of the policy."""
        if spec.resets_reference and self.steps_done > 0:
            self.model.reset_reference()
        if self.reward_model is None:
            return
        seed = derive_seed(self.seed, "comparisons", self.steps_done // spec.steps)
        groups = self.sample(PromptStream(self.data.train_prompts, seed).draw(self.reward_model.spec.prompts), -1)
        self.costs.add_sampling(groups, by_model=self.rollouts.source.samples)
        with self.phases("reward_model"):
            self.reward_model.refresh(groups, self.assemble, seed)

    def update(self, batch: UpdateBatch) -> dict[str, float]:
        """Epochs × minibatches × micro-batches: backward(−J of the rows), then one optimizer step for each minibatch.

        Completions without influence on the objective, such as those of a group that is all right, are not read by the
        policy.
        """
        measures = UpdateMeasures()
        learns = self.critic is None or self.steps_done >= self.critic.spec.pretrain_steps
        with self.phases("updating"):
            for minibatch in self.updates.split(batch, derive_seed(self.seed, "updates", self.steps_done)):
                part = self.ranks.rows(self.read_rows(minibatch))
                quiet = ~part.gains
                for rows in self.model.micro_batches(part, self.updates.micro_batch_tokens, apart=quiet):
                    if learns and not (self.objective.gain_only and quiet[rows[0]]):
                        self.backward_rows(part.rows(rows), measures)
                    if self.critic is not None:
                        measures.sums["value_loss"] += self.critic.backward_rows(part.rows(rows))
                measures.add_step(self.optimizer_step(learns))
        measures.over(self.ranks)
        return self.adapt_entropy(measures.summary())

    def adapt_entropy(self, summary: dict[str, float]) -> dict[str, float]:
        """Adapt the coefficient of the entropy bonus to the measured entropy; the metrics with the coefficient used."""
        if "entropy_coefficient" in self.needs:
            summary["objective/entropy_coefficient"] = self.entropy_coefficient
        entropy = summary["objective/entropy_mean"]
        self.entropy_coefficient = self.objective.entropy.adapt(self.entropy_coefficient, entropy)
        return summary

    def read_rows(self, minibatch: UpdateBatch) -> UpdateBatch:
        """The rows that influence the objective, or all rows if the critic or a penalty learns from them."""
        everything = self.critic is not None or not self.objective.gain_only
        return minibatch if everything else minibatch.rows(minibatch.gains.nonzero()[:, 0])

    def backward_rows(self, rows: UpdateBatch, measures: UpdateMeasures) -> None:
        """Add the gradient of −J of these rows.

        The objective is first differentiated with respect to the log-probabilities. A token whose gain has no gradient
        there counts as clipped, for any surrogate, and rows without any gradient need no backward pass of the model.
        """
        values = self.model.values(rows, entropy_gradient="entropies" in self.objective.needs())
        leaves = [values.logprobs.detach().requires_grad_(), values.entropies.detach().requires_grad_()]
        known = "old_logprobs" in rows.quantities or self.updates.on_policy
        old = rows.quantities.get("old_logprobs", values.logprobs.detach())
        terms = self.objective({**rows.quantities, "old_logprobs": old, "logprobs": leaves[0], "entropies": leaves[1]})
        gradients = torch.autograd.grad(terms.loss, leaves, retain_graph=True, allow_unused=True)
        pairs = zip((values.logprobs, values.entropies), gradients, strict=True)
        used = [(value, g) for value, g in pairs if g is not None and (self.model.sharded or bool(g.any()))]
        if used:
            torch.autograd.backward([value for value, _ in used], [g for _, g in used])
        measures.add_rows(rows, terms, leaves, old if known and self.rollouts.source.of_policy else None)

    def optimizer_step(self, learns: bool = True) -> tuple[float, bool] | None:
        """One step of each optimizer.

        Args:
            learns: False to leave the policy as it is while the critic trains alone.

        Returns: the policy's gradient norm before clipping, and True if its step was taken; None if it does not learn.
        """
        optimizers = as_list(self.optimizers())
        clip = self.optimization.gradient_clip
        stepping = optimizers if learns else optimizers[1:]
        for optimizer in stepping:
            self.add_gradients(optimizer)
        taken = [guarded_step(optimizer, clip=clip, guard=self.guard) for optimizer in stepping]
        self.weights_version += 1
        for optimizer in optimizers:
            optimizer.zero_grad()
        return taken[0] if learns else None

    def add_gradients(self, optimizer: Optimizer | LightningOptimizer) -> None:
        """Sum the gradients over the ranks; sharded weights have been summed already."""
        parameters = parameters_of(optimizer)
        for parameter in parameters:  # without any row a gradient is 0 to the optimizer, and not missing
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if not self.model.sharded:
            self.ranks.add(parameter.grad for parameter in parameters if parameter.grad is not None)

    def predict_step(self, drawn: tuple[list[Prompt], int], _: int) -> Inspected:
        """A dry run of a step up to credit: nothing is learned, kept or logged.

        Args:
            drawn: the prompts, and a number that takes the place of the sampling round in the seed.
        """
        prompts, number = drawn
        self.sync_sampler(prompts)
        return inspected(self, prompts, number)
