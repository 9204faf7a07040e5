"""The metrics of a training step, one line each, with unit and range.

Means over tokens are sums that are divided by counts at the end, so they do not depend on micro-batches.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from research.objective.objective import Terms
from research.rollouts import Collected
from research.training.ranks import Ranks
from research.training.reward_measures import verdict_measures
from research.types import Group, UpdateBatch


def collected_measures(collected: Collected) -> dict[str, float]:
    """Metrics of all groups sampled in the step, kept or not."""
    groups = collected.sampled
    completions = [completion for group in groups for completion in group.completions]
    lengths = [len(completion.token_ids) for completion in completions]
    errors = [error for group in groups for error in group.length_errors]
    return {
        **verdict_measures(groups),
        **tool_measures(groups, "rollouts"),
        "rollouts/length_mean": fmean(lengths),  # tokens
        "rollouts/length_max": max(lengths),  # tokens
        **({"rollouts/length_error_mean": fmean(errors)} if errors else {}),  # tokens from what the prompts ask for
        "rollouts/truncated": fmean(completion.truncated for completion in completions),  # share, 0 to 1
        "rollouts/rounds": collected.rounds,  # sampling rounds
        "rollouts/groups_trained": len(collected.groups),  # groups
        "rollouts/groups_stale": sum(g.step < groups[0].step for g in collected.groups),  # groups of earlier steps
    }


def tool_measures(groups: Sequence[Group], stage: str) -> dict[str, float]:
    """Metrics of the use of a tool; empty without a tool.

    Args:
        groups: sampled groups.
        stage: prefix of the metrics' names.
    """
    completions = [completion for group in groups for completion in group.completions]
    calls = [completion.tool_calls for completion in completions if completion.tool_calls is not None]
    if not calls:
        return {}
    written = sum(call.tokens for each in calls for call in each)
    return {
        f"{stage}/tool_calls_mean": fmean(map(len, calls)),  # a completion
        f"{stage}/tool_failures_mean": fmean(sum(call.failed for call in each) for each in calls),  # a completion
        # share of the completions' tokens that the tool wrote, 0 to 1
        f"{stage}/tool_tokens": written / sum(len(completion.token_ids) for completion in completions),
    }


def credit_measures(batch: UpdateBatch) -> dict[str, float]:
    """Metrics of the rows that train."""
    mask, advantages, rewards = batch["mask"], batch["advantages"], batch["rewards"]
    annotated, valued = "entropies" in batch.quantities, "values" in batch.quantities
    ranked = ranked_right(rewards, batch["right"])
    return {
        # nats a token, of the policy that sampled them; if it was computed
        **({"rollouts/entropy_mean": float(batch["entropies"][mask].mean())} if annotated else {}),
        # share of the pairs (right, wrong) of a group that the shaped reward ranks correctly; 0 to 1
        **({"rewards/ranked_right": ranked} if ranked is not None else {}),
        # 1 − Var(R − V) / Var(R) over tokens: 1 for a perfect critic, 0 for a constant one
        **({"critic/explained_variance": explained_variance(batch)} if valued else {}),
        "rewards/reward_mean": float(rewards.nanmean()),  # reward units, shaping included
        "credit/advantage_abs_mean": float(advantages[mask].abs().mean()),  # per token
        "credit/zero_advantage_tokens": float((advantages[mask] == 0).float().mean()),  # share, 0 to 1
        "credit/removed_tokens": float((batch["weights"][mask] == 0).float().mean()),  # share, 0 to 1
    }


def explained_variance(batch: UpdateBatch) -> float:
    """1 − Var(R − V) / Var(R) over the tokens, where R are the critic's targets; 0 if R is constant."""
    mask = batch["mask"]
    spread = batch["returns"][mask].var(correction=0)
    left = (batch["returns"] - batch["values"])[mask].var(correction=0)
    return float(1 - left / spread) if spread > 0 else 0.0


def ranked_right(rewards: Float[Tensor, "N G"], right: Bool[Tensor, "N G"]) -> float | None:
    """Share of the pairs (right, wrong) of a group in which the right completion has the higher reward; a tie is half.

    None if no group has right and wrong completions.

    Example:
        >>> from torch import tensor
        >>> ranked_right(tensor([[2.0, 1.0, 0.0]]), tensor([[True, False, True]]))
        0.5
    """
    wrong = ~right & ~rewards.isnan()
    pairs = right[:, :, None] & wrong[:, None, :]
    if not pairs.any():
        return None
    ahead = rewards[:, :, None] - rewards[:, None, :]
    return float(((ahead > 0).float() + 0.5 * (ahead == 0).float())[pairs].mean())


def importance_measures(log_importance: Float[Tensor, " K"]) -> dict[str, float]:
    """Differences between the sampler's distribution and the policy's, over the tokens that enter the objective.

    Args:
        log_importance: old_logprobs − rollout_logprobs of at least one token, in nats.

    Example:
        >>> importance_measures(torch.tensor([0.0, 0.0]))["rollouts/importance_effective_share"]
        1.0
    """
    gap, importance = log_importance.abs(), log_importance.double().exp()
    low, high = np.quantile(importance.numpy(), [0.01, 0.99])
    return {
        "rollouts/logprob_gap_mean": float(gap.mean()),  # |old − rollout|, nats
        "rollouts/logprob_gap_max": float(gap.max()),  # nats
        "rollouts/importance_mean": float(importance.mean()),  # exp(old − rollout); 1 where engine and trainer agree
        "rollouts/importance_max": float(importance.max()),
        "rollouts/importance_p01": float(low),  # 1 % of the tokens are below
        "rollouts/importance_p99": float(high),  # 1 % of the tokens are above
        # (Σρ)² / (n Σρ²), effective sample size as a share of the tokens; 0 to 1
        "rollouts/importance_effective_share": float(importance.mean() ** 2 / importance.square().mean()),
    }


class UpdateMeasures:
    """Sums over the micro-batches of a step's updates.

    `objective/kl_mean` is a mean over all tokens that the policy read. The other means are over completions with an
    advantage and a weight other than 0, which every recipe reads, so that they are comparable between recipes.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.steps: dict[str, float] = defaultdict(float)
        self.ratio_max = 0.0
        self.log_importance: list[Tensor] = []

    def add_rows(self, rows: UpdateBatch, terms: Terms, leaves: list[Tensor], old: Tensor | None) -> None:
        """Add one micro-batch.

        Args:
            rows: the micro-batch.
            terms: its objective.
            leaves: log-probabilities and entropies from which the terms were computed.
            old: log-probabilities of the policy that sampled the rows; None if they are not known.
        """
        read, advantages = rows["mask"], rows["advantages"]
        mask = read & rows.gains[:, None]
        logprobs, entropies = leaves[0].detach(), leaves[1].detach()
        slope = torch.autograd.grad(terms.gain.sum(), leaves[0], allow_unused=True)[0]
        still = torch.zeros_like(mask) if slope is None else mask & (slope == 0)
        up, down = still & (advantages > 0), still & (advantages < 0)
        for name, value in {
            "tokens_read": read.sum(),
            "tokens": mask.sum(),
            "loss": terms.loss.detach(),
            "entropy": entropies[mask].sum(),
            "probability": logprobs[mask].exp().sum(),
            "kl": terms.kl.detach()[read].sum(),
            "ratio": terms.ratio.detach()[mask].sum(),
            "clipped_up": up.sum(),
            "clipped_down": down.sum(),
            "clipped_up_probability": logprobs[up].exp().sum(),
        }.items():
            self.sums[name] += float(value)
        if mask.any():
            self.ratio_max = max(self.ratio_max, float(terms.ratio.detach()[mask].max()))
            if old is not None:
                self.log_importance.append((old - rows["rollout_logprobs"])[mask].cpu())

    def add_step(self, step: tuple[float, bool] | None) -> None:
        """Add an optimizer step: the gradient norm, and True if the step was taken; None if only the critic learned."""
        self.steps["minibatches"] += 1
        if step is not None:
            norm, taken = step
            self.steps["steps"] += 1
            self.steps["taken"] += taken
            self.steps["gradient_norm"] += norm if taken else 0.0

    def over(self, ranks: Ranks) -> None:
        """Add the sums of the other ranks; the optimizer steps are the same on every rank."""
        if ranks.size == 1:
            return
        others = ranks.gather([(dict(self.sums), self.ratio_max, self.log_importance)])
        self.sums = defaultdict(float)
        for sums, _, _ in others:
            for name, value in sums.items():
                self.sums[name] += value
        self.ratio_max = max(ratio_max for _, ratio_max, _ in others)
        self.log_importance = [part for _, _, parts in others for part in parts]

    def summary(self) -> dict[str, float]:
        """Means per token and per optimizer step."""
        s, steps, tokens = self.sums, self.steps, max(1.0, self.sums["tokens"])
        taken = max(1.0, steps["taken"])
        return {
            # ½ (V − R)², clipped, a token; mean over minibatches
            **({"critic/value_loss": s["value_loss"] / steps["minibatches"]} if "value_loss" in s else {}),
            "objective/loss": s["loss"] / max(1.0, steps["steps"]),  # −J, mean over minibatches
            "objective/entropy_mean": s["entropy"] / tokens,  # nats a token
            "objective/probability_mean": s["probability"] / tokens,  # of the sampled tokens, 0 to 1
            "objective/kl_mean": s["kl"] / max(1.0, s["tokens_read"]),  # β·nats a token
            "objective/ratio_mean": s["ratio"] / tokens,
            "objective/ratio_max": self.ratio_max,
            "objective/clip_high_fraction": s["clipped_up"] / tokens,  # Â > 0 and no gradient; share of tokens
            "objective/clip_low_fraction": s["clipped_down"] / tokens,  # Â < 0 and no gradient; share of tokens
            "objective/clip_high_probability": s["clipped_up_probability"] / max(1.0, s["clipped_up"]),  # 0 to 1
            "objective/gradient_norm": steps["gradient_norm"] / taken,  # before clipping
            **(importance_measures(torch.cat(self.log_importance)) if self.log_importance else {}),
            "tokens_trained": s["tokens_read"],
            "optimizer_steps": steps["taken"],
            "nonfinite_updates": steps["steps"] - steps["taken"],
        }
