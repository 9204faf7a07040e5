"""Quantities that a page of samples shows of each token, taken from the update batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from research.training.inspection import Inspected
from research.types import UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity of each token."""

    name: str
    """Its name on the page."""
    meaning: str
    """Its explanation on the page: one line, with the unit."""
    diverging: bool = False
    """True if its sign matters, so that its colours diverge from 0."""
    reaches: float = 0.0
    """A value that its scale of colours holds in any case."""


ENTROPY = Quantity(name="entropy", meaning="−Σ p log p over the vocabulary when the token was drawn, nats")
PROBABILITY = Quantity(
    name="probability", meaning="of the token, at the policy's temperature, under the policy that drew it", reaches=1.0
)
ADVANTAGE = Quantity(name="advantage", meaning="credit after the baseline", diverging=True)
DEVIATION = Quantity(
    name="advantage − its mean",
    meaning="the token's advantage minus the mean of its completion: how credit differs between the tokens",
    diverging=True,
)
WEIGHT = Quantity(name="weight", meaning="the product of the token weights; 0 takes the token out", reaches=1.0)
CREDIT = Quantity(
    name="advantage × weight", meaning="what the token's log-probability is pushed up or down by", diverging=True
)
TOKEN_REWARDS = Quantity(
    name="token reward", meaning="reward of the single token, beyond its completion's", diverging=True
)
STEP_REWARDS = Quantity(name="step reward", meaning="reward of the step that ends here, 0 elsewhere", diverging=True)
VALUES = Quantity(
    name="value", meaning="what the critic expects of the rewards to come, before the token", diverging=True
)


def token_values(inspected: Inspected, *, token_rewards: bool) -> dict[Quantity, Float[Tensor, "B T"]]:
    """All quantities of all tokens; NaN on padding, on a tool's tokens, and for credit where a group does not train.

    Args:
        inspected: groups and their update batch.
        token_rewards: True if the recipe rewards single tokens.
    """
    batch, mask = inspected.rewarded, inspected.rewarded["mask"].cpu()
    found = {ENTROPY: batch["entropies"], PROBABILITY: batch["old_logprobs"].exp()}
    if inspected.credited is not None:
        found |= _credited(inspected.credited, mask, _rows(inspected))
    if token_rewards:
        found[TOKEN_REWARDS] = batch["token_rewards"]
    for quantity, name in {STEP_REWARDS: "step_rewards", VALUES: "values"}.items():
        if name in batch.quantities:
            found[quantity] = batch[name]
    return {quantity: value.cpu().float().masked_fill(~mask, torch.nan) for quantity, value in found.items()}


def _rows(inspected: Inspected) -> Bool[Tensor, " B"]:
    size = len(inspected.groups[0].completions)
    return torch.tensor(inspected.trains).repeat_interleave(size)


def _credited(
    batch: UpdateBatch, mask: Bool[Tensor, "B T"], rows: Bool[Tensor, " B"]
) -> dict[Quantity, Float[Tensor, "B T"]]:
    """The quantities of the credit stage, spread over the rows of all groups.

    Args:
        batch: the groups that train.
        mask: of the completion tokens of all groups.
        rows: True for the rows of groups that train.
    """
    advantages, weights = batch["advantages"].cpu(), batch["weights"].cpu()
    means = (advantages.sum(1) / batch["mask"].sum(1).cpu())[:, None]
    of_batch = {
        DEVIATION: advantages - means,
        ADVANTAGE: advantages,
        WEIGHT: weights,
        CREDIT: advantages * weights,
    }
    spread: dict[Quantity, Tensor] = {}
    for quantity, value in of_batch.items():
        spread[quantity] = torch.full(mask.shape, torch.nan)
        spread[quantity][rows, : value.shape[1]] = value
    return spread
