"""Credit: advantage, then weights, then coefficients, in that order, without a gradient."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch

from research.component import apply, needs_of, require
from research.credit.advantage import Advantage
from research.credit.aggregate import Aggregate
from research.credit.covariance import covariance_quantities
from research.credit.weights import TokenWeight
from research.errors import UserError
from research.types import UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Credit:
    """The worth of each token of an update batch: Â, w and c, all constant in θ."""

    advantage: Advantage
    """Â: credit after the baseline."""
    weights: list[TokenWeight]
    """w: factors on each token's gain, multiplied; an empty list is 1."""
    aggregate: Aggregate
    """c: how much one token counts."""
    denominator: Literal["all", "kept"]
    """Tokens that `aggregate` counts: `all` completion tokens, or only those `kept` with a weight other than 0."""

    def __post_init__(self) -> None:
        importance = [type(weight).__name__ for weight in self.weights if "rollout_logprobs" in weight.needs()]
        require(
            len(importance) <= 1,
            f"credit.weights: {' and '.join(importance)} would both multiply by the importance: take one",
        )

    def needs(self) -> frozenset[str]:
        """The quantities that the three slots name; `old_logprobs` for the covariances, which are computed here."""
        named = needs_of([self.advantage, *self.weights, self.aggregate])
        computed = {"advantages", "covariances", "covariance_rank"}
        return (named - computed) | ({"old_logprobs"} if named & computed - {"advantages"} else set())

    @torch.no_grad()
    def __call__(self, batch: UpdateBatch) -> UpdateBatch:
        """The batch with `advantages`, `weights` and `coefficients` [B T], float32."""
        mask, advantages = batch["mask"], apply(self.advantage, batch.quantities)
        rewards = batch.quantities.get("rewards")
        if rewards is not None and rewards.isnan().any() and not advantages.isfinite().all():
            name = type(self.advantage).__name__
            raise UserError(
                f"{name} does not leave out completions without a reward: set `unverified: wrong` in the verifiers"
            )
        credited = batch.with_quantities(advantages=advantages)
        if "old_logprobs" in batch.quantities:
            credited = credited.with_quantities(**covariance_quantities(batch["old_logprobs"], advantages, mask))
        weights = prod((apply(weight, credited.quantities) for weight in self.weights), start=mask.float())
        counted = mask if self.denominator == "all" else mask & (weights != 0)
        coefficients = apply(self.aggregate, {**credited.quantities, "mask": counted})
        return credited.with_quantities(weights=weights, coefficients=coefficients)
