"""The LightningModule: policy, reference and rollout engine around one algorithm-blind training step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from lightning import LightningModule

from research.credit import Credit
from research.errors import UserError
from research.evaluation import Evaluation
from research.objective import Objective
from research.policy import Policy, PolicySpec, micro_batches
from research.rewards import Rewards
from research.rollouts import Collected, Collector, Decoding, Sampler
from research.seeding import derive_seed, random_states, set_random_states, torch_seed
from research.tracking import RunLogger
from research.training.batch import assemble
from research.training.legality import fault
from research.training.measures import UpdateMeasures, collected_measures, credit_measures
from research.training.optimization import NonFiniteGuard, Optimization
from research.training.phases import Phases
from research.training.updates import Updates
from research.training.warm_start import resolve_path
from research.types import Group, Prompt, UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """How a step's groups are sampled."""

    sampler: Sampler
    """The engine."""
    collect: Collector
    """Which groups train: dynamic sampling."""
    completions_per_prompt: int
    """G; at least 1."""
    max_completion_tokens: int
    """A completion is cut here."""
    temperature: float = 1.0
    """Of sampling, and of every log-probability in training; above 0."""

    def __post_init__(self) -> None:
        if self.completions_per_prompt < 1:
            raise ValueError(f"rollouts.completions_per_prompt is at least 1, got {self.completions_per_prompt}")
        self.decoding()

    def decoding(self) -> Decoding:
        """Untruncated sampling, so that the sampler's distribution is the policy's."""
        return Decoding(max_tokens=self.max_completion_tokens, temperature=self.temperature)


class RLModule(LightningModule):
    """prompts → rollouts → rewards → credit ─┊─ objective → update → metrics.

    Args:
        policy: the model to train.
        rollouts: how groups are sampled.
        rewards: what makes a completion right, and what its length costs.
        credit: advantages, token weights, coefficients.
        objective: ratio, surrogate, KL, entropy bonus.
        updates: optimizer steps per update batch.
        optimization: the optimizer.
        evaluation: how held-out prompts are sampled and scored.
        seed: of everything random in the run.
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
        evaluation: Evaluation,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = policy.lora is None
        self.spec, self.rollouts, self.rewards, self.credit = policy, rollouts, rewards, credit
        self.objective, self.updates, self.optimization, self.evaluation = objective, updates, optimization, evaluation
        if (reason := fault(credit, objective)) is not None:
            raise ValueError(reason)
        self.seed = seed
        self.needs = credit.needs() | objective.needs()
        self.guard = NonFiniteGuard(optimization.max_nonfinite)
        self.phases = Phases()
        self.surplus: tuple[Group, ...] = ()
        self.totals: dict[str, float] = {}
        self.steps_done = 0
        self.policy: Policy | None = None

    # --- the algorithm ------------------------------------------------------------------------------------------

    def training_step(self, prompts: list[Prompt], _: int) -> None:
        """One step: collect, reward, credit, update."""
        collected = self.collect(prompts)
        measures = collected_measures(collected)
        if collected.groups:
            batch = self.credit(self.reward(self.assemble(collected.groups)))
            measures |= credit_measures(batch) | self.update(batch)
        self.lr_schedulers().step()  # pyright: ignore
        self.record(collected, measures)

    def collect(self, prompts: Sequence[Prompt]) -> Collected:
        """Prompts → verified groups, annotated by the policy that sampled them."""
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        collected = self.rollouts.collect(prompts, draw=data.stream.draw, sample=self.sample, surplus=self.surplus)
        groups = self.annotate([*collected.groups, *collected.surplus])
        n = len(collected.groups)
        self.surplus = tuple(groups[n:])
        return replace(collected, groups=tuple(groups[:n]), surplus=self.surplus)

    def sample(self, prompts: Sequence[Prompt], round_: int) -> list[Group]:
        """One sampling round, and the verifiers' outcomes."""
        seed = derive_seed(self.seed, "rollouts", self.steps_done, round_)
        with self.phases("sampling"):
            groups = self.rollouts.sampler.sample(
                prompts, n=self.rollouts.completions_per_prompt, decoding=self.rollouts.decoding(), seed=seed
            )
        with self.phases("verifying"):
            return [replace(self.rewards.verify(group), step=self.steps_done) for group in groups]

    def annotate(self, groups: list[Group]) -> list[Group]:
        """Groups with what the policy that sampled them says of their tokens, where some component needs it later."""
        if not self.annotates:
            return groups
        fresh = [k for k, group in enumerate(groups) if not group.annotations]
        if fresh:
            with self.phases("annotating"):
                batch = self.assemble([groups[k] for k in fresh])
                values = self.model.annotate(batch, self.updates.micro_batch_tokens)
                tokens = {"old_logprobs": values.logprobs.cpu(), "entropies": values.entropies.cpu()}
            G = self.rollouts.completions_per_prompt
            for j, k in enumerate(fresh):
                lengths = batch.lengths[j * G : (j + 1) * G].tolist()
                cut = {
                    name: tuple(value[j * G + g, :length].clone() for g, length in enumerate(lengths))
                    for name, value in tokens.items()
                }
                groups[k] = replace(groups[k], annotations=cut)
        return groups

    def reward(self, batch: UpdateBatch) -> UpdateBatch:
        """Outcomes plus shaping, and the reference's log-probabilities where the objective needs them."""
        shaped = batch.with_quantities(**self.rewards(batch.quantities))
        if "ref_logprobs" not in self.needs:
            return shaped
        with self.phases("reference"):
            values = self.model.reference(batch, self.updates.micro_batch_tokens)
        return shaped.with_quantities(ref_logprobs=values.logprobs)

    def update(self, batch: UpdateBatch) -> dict[str, float]:
        """Epochs × minibatches × micro-batches: backward(−J of the rows), then one optimizer step a minibatch.

        Completions that have no part in the objective, such as those of a group whose completions are all right, are
        not put through the policy.
        """
        measures = UpdateMeasures()
        with self.phases("updating"):
            for minibatch in self.updates.split(batch, derive_seed(self.seed, "updates", self.steps_done)):
                spans, quiet = minibatch.prompt_lengths + minibatch.lengths, ~minibatch.gains
                for rows in micro_batches(spans, self.updates.micro_batch_tokens, apart=quiet):
                    if not (self.objective.gain_only and quiet[rows[0]]):
                        self.backward_rows(minibatch.rows(rows), measures)
                measures.add_step(*self.optimizer_step())
        return measures.summary()

    def backward_rows(self, rows: UpdateBatch, measures: UpdateMeasures) -> None:
        """Add the gradient of −J of these rows.

        The objective is differentiated with respect to the log-probabilities first: a token whose gain has no gradient
        there is a clipped one, whatever the surrogate; and rows without any such gradient need no backward pass.
        """
        values = self.model(rows, entropy_gradient="entropies" in self.objective.needs())
        leaves = [values.logprobs.detach().requires_grad_(), values.entropies.detach().requires_grad_()]
        old = rows.quantities.get("old_logprobs", values.logprobs.detach())
        terms = self.objective({**rows.quantities, "old_logprobs": old, "logprobs": leaves[0], "entropies": leaves[1]})
        gradients = torch.autograd.grad(terms.loss, leaves, retain_graph=True, allow_unused=True)
        pairs = zip((values.logprobs, values.entropies), gradients, strict=True)
        used = [(value, g) for value, g in pairs if g is not None and bool(g.any())]
        if used:
            torch.autograd.backward([value for value, _ in used], [g for _, g in used])
        measures.add_rows(rows, terms, leaves)

    def optimizer_step(self) -> tuple[float, bool]:
        """Clip and step, unless the gradient is not finite; its norm before clipping, and whether it was taken."""
        optimizer = self.optimizers()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]  # pyright: ignore
        for parameter in parameters:  # no row had a gradient: that is a gradient of 0, not none, to the optimizer
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.optimization.gradient_clip))
        taken = self.guard.admit(norm)
        if taken:
            optimizer.step()  # pyright: ignore
        optimizer.zero_grad()  # pyright: ignore
        return norm, taken

    # --- what Lightning asks for --------------------------------------------------------------------------------

    @property
    def model(self) -> Policy:
        """The policy, once it is loaded."""
        assert self.policy is not None, "setup comes first"
        return self.policy

    @property
    def annotates(self) -> bool:
        """Whether the rollout's own policy must be asked, beyond the update's forward pass.

        Not with one optimizer step on fresh groups: there the old log-probabilities are the new ones, detached.
        """
        stale = self.rollouts.collect.max_rounds > 1
        return stale or not self.updates.on_policy or bool(self.credit.needs() & {"old_logprobs", "entropies"})

    def setup(self, stage: str) -> None:
        """Load the policy, once, and attach the sampler to it."""
        if self.policy is None:
            spec = replace(self.spec, path=resolve_path(self.spec.path))
            with torch_seed(derive_seed(self.seed, "policy")):
                self.policy = Policy(
                    spec, temperature=self.rollouts.temperature, with_reference="ref_logprobs" in self.needs
                )
            self.rollouts.sampler.attach(self.policy.model, self.policy.tokenizer)

    def configure_optimizers(self) -> Any:
        """AdamW and its warm-up, advanced by hand once a step."""
        optimizer, schedule = self.optimization.build(self.model)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def transfer_batch_to_device(self, batch: list[Prompt], device: torch.device, dataloader_idx: int) -> list[Prompt]:
        """Prompts are text: they stay where they are."""
        return batch

    def assemble(self, groups: Sequence[Group]) -> UpdateBatch:
        """The groups as tensors on the policy's device."""
        return assemble(groups, pad=self.model.tokenizer.pad_token_id, device=self.device)  # pyright: ignore

    def on_train_epoch_start(self) -> None:
        """Start the step's clocks."""
        self.phases.reset()
        self._began = perf_counter()

    def record(self, collected: Collected, measures: dict[str, float]) -> None:
        """Log the step's metrics, cumulative costs included."""
        for name, amount in {
            "cost/tokens_sampled": sum(len(c.token_ids) for group in collected.sampled for c in group.completions),
            "cost/tokens_trained": measures.pop("tokens_trained", 0),
            "cost/prompts_drawn": len(collected.sampled),
            "cost/groups_dropped": collected.dropped,
            "cost/optimizer_steps": measures.pop("optimizer_steps", 0),
            "cost/nonfinite_updates": measures.pop("nonfinite_updates", 0),
        }.items():
            self.totals[name] = self.totals.get(name, 0) + amount
        times = {f"time/{phase}_seconds": seconds for phase, seconds in self.phases.seconds.items()}
        times["time/step_seconds"] = perf_counter() - self._began
        self.steps_done += 1
        if self.logger is not None:
            self.logger.log_metrics({**measures, **self.totals, **times}, step=self.steps_done)

    # --- evaluation ---------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Begin with no groups."""
        self.evaluated: list[Group] = []
        self._evaluation_began = perf_counter()

    def validation_step(self, prompts: list[Prompt], index: int) -> None:
        """Sample and verify one chunk of held-out prompts."""
        groups = self.rollouts.sampler.sample(
            prompts,
            n=self.evaluation.completions_per_prompt,
            decoding=Decoding(
                max_tokens=self.evaluation.max_completion_tokens or self.rollouts.max_completion_tokens,
                temperature=self.evaluation.temperature,
                top_p=self.evaluation.top_p,
            ),
            seed=derive_seed(self.seed, "evaluation", self.steps_done, index),
        )
        self.evaluated += [self.rewards.verify(group) for group in groups]

    def on_validation_epoch_end(self) -> None:
        """Log the evaluation of the policy after so many steps, item by item too."""
        metrics = self.evaluation.metrics(self.evaluated)
        metrics["time/evaluation_seconds"] = perf_counter() - self._evaluation_began
        if self.logger is not None:
            self.logger.log_metrics(metrics, step=self.steps_done)
            if isinstance(self.logger, RunLogger):
                self.logger.log_items(self.evaluation.items(self.evaluated), step=self.steps_done)

    # --- checkpoints --------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know: the surplus of dynamic sampling, counters, every random state."""
        if self.spec.lora is not None:
            trained = {f"policy.{name}" for name, p in self.model.named_parameters() if p.requires_grad}
            checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}
        checkpoint["research"] = {
            "surplus": self.surplus,
            "totals": dict(self.totals),
            "steps_done": self.steps_done,
            "guard": (self.guard.skipped, self.guard.in_a_row),
            "random": random_states(),
            "seed": self.seed,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back.

        Raises: UserError if the checkpoint is of a run with another seed, or was not written by this program.
        """
        state = checkpoint.get("research")
        if state is None:
            raise UserError("the checkpoint was not written by a run of this program, so it cannot be resumed")
        if state["seed"] != self.seed:
            raise UserError(
                f"the checkpoint is of seed {state['seed']}, the run's seed is {self.seed}: resume with the same seed"
            )
        self.surplus, self.totals, self.steps_done = state["surplus"], dict(state["totals"]), state["steps_done"]
        self.guard.skipped, self.guard.in_a_row = state["guard"]
        set_random_states(state["random"])
