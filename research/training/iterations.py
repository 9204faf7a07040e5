"""Iterative GRPO: every few steps the reference is reset to the policy and the reward model is trained further."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from research.component import require
from research.policy import Policy
from research.types import Group, UpdateBatch


@dataclass(frozen=True, kw_only=True)
class RewardModelSpec:
    """Settings of a reward model that is trained on pairs of a right and a wrong completion."""

    learning_rate: float
    """Learning rate of AdamW; above 0. DeepSeekMath: 2e-5."""
    prompts: int
    """Prompts sampled for pairs at the start of each iteration; at least 1."""
    epochs: int
    """Passes over the pairs in each iteration; at least 1."""
    groups_per_update: int
    """Groups of completions in an optimizer step; at least 1."""
    replay: float = 0.1
    """Share of the groups that come from earlier iterations; in [0, 1)."""

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"RewardModel: learning_rate is above 0, got {self.learning_rate}")
        for name in ("prompts", "epochs", "groups_per_update"):
            require(getattr(self, name) >= 1, f"RewardModel: {name} is at least 1, got {getattr(self, name)}")
        require(0 <= self.replay < 1, f"RewardModel: replay is in [0, 1), got {self.replay}")


@dataclass(frozen=True, kw_only=True)
class IterationSpec:
    """The length of an iteration, and the models that are renewed at its start."""

    steps: int
    """Steps in an iteration; at least 1."""
    resets_reference: bool
    """True to set the reference to the current policy at the start of each iteration."""
    reward_model: RewardModelSpec | None
    """Model whose rewards replace the verifiers' outcomes, trained further in each iteration; null for none."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"Iterations: steps is at least 1, got {self.steps}")
        require(
            self.resets_reference or self.reward_model is not None,
            "Iterations: nothing is renewed: reset the reference, learn a reward model, or set iterations to null",
        )


def comparison_loss(rewards: Float[Tensor, "N G"], right: Bool[Tensor, "N G"]) -> Float[Tensor, ""]:
    """Bradley–Terry loss: mean over groups of the mean over pairs (i right, j wrong) of −log σ(r_i − r_j).

    Source: Ouyang et al. 2022, eq. 1 (arXiv:2203.02155), with verified answers in the place of preferences.
    """
    pairs = right[:, :, None] & ~right[:, None, :]
    losses = nn.functional.softplus(rewards[:, None, :] - rewards[:, :, None]) * pairs
    return (losses.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()


class RewardModel(nn.Module):
    """A language model whose mean log-likelihood of a completion is the completion's reward.

        r_φ(q, o) = 1/|o| Σ_t log π_φ(o_t | q, o_{<t})

    It starts from the same weights as the policy, trains all of them, and keeps the groups of earlier iterations for
    replay. research/decisions/0009 explains the choice of a likelihood over a scalar head.
    """

    def __init__(self, spec: RewardModelSpec, policy: Policy) -> None:
        super().__init__()
        self.spec = spec
        start = replace(policy.spec, lora=None, weights="float32")
        self.model = Policy(start, temperature=policy.temperature, with_reference=False)
        self.history: tuple[Group, ...] = ()

    def judge(self, batch: UpdateBatch, tokens: int) -> UpdateBatch:
        """Replace the outcomes by the model's rewards, in micro-batches of at most `tokens` padded tokens."""
        values = self.model.annotate(batch, tokens)
        outcomes = _rewards(values.logprobs, batch)
        return batch.with_quantities(outcomes=outcomes, columns=outcomes[None])

    def refresh(self, groups: Sequence[Group], assemble: Callable[[Sequence[Group]], UpdateBatch], seed: int) -> None:
        """Train further on groups with both right and wrong completions, and on a share of earlier ones.

        Args:
            groups: newly sampled and verified; those with a completion that could not be judged are skipped.
            assemble: groups → update batch.
            seed: of the order and of the choice among earlier groups.
        """
        random = Random(seed)
        fresh = [group for group in groups if any(group.right) and not all(group.right) and all(group.scored)]
        wanted = round(self.spec.replay / (1 - self.spec.replay) * len(fresh))
        pool = [*fresh, *random.sample(self.history, min(wanted, len(self.history)))]
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.spec.learning_rate, weight_decay=0.0, fused=True)
        self.train()
        for _ in range(self.spec.epochs):
            order = random.sample(pool, len(pool))
            for start in range(0, len(order), self.spec.groups_per_update):
                batch = assemble(order[start : start + self.spec.groups_per_update])
                values = self.model.values(batch, entropy_gradient=False)
                comparison_loss(_rewards(values.logprobs, batch), batch["right"]).backward()
                torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        self.history += tuple(fresh)


def _rewards(logprobs: Float[Tensor, "B T"], batch: UpdateBatch) -> Float[Tensor, "N G"]:
    return (logprobs.sum(1) / batch["mask"].sum(1)).reshape(batch["right"].shape)
