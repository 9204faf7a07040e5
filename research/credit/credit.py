"""Credit: advantage, then weights, then coefficients, in that order, without a gradient."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch

from research.component import apply, needs_of
from research.credit.advantage import Advantage
from research.credit.aggregate import Aggregate
from research.credit.weights import TokenWeight
from research.types import UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Credit:
    """What each token of an update batch is worth: Â, w and c, all constant in θ."""

    advantage: Advantage
    """Â: credit after the baseline."""
    weights: list[TokenWeight]
    """w: factors on each token's gain, multiplied; an empty list is 1."""
    aggregate: Aggregate
    """c: how much one token counts."""
    denominator: Literal["all", "kept"]
    """Which tokens `aggregate` counts: `all` completion tokens, or only those `kept` with a weight other than 0."""

    def needs(self) -> frozenset[str]:
        """The quantities that the three slots name."""
        return needs_of([self.advantage, *self.weights, self.aggregate])

    @torch.no_grad()
    def __call__(self, batch: UpdateBatch) -> UpdateBatch:
        """The batch with `advantages`, `weights` and `coefficients` [B T], float32."""
        mask = batch["mask"]
        advantages = apply(self.advantage, batch.quantities)
        weights = prod((apply(weight, batch.quantities) for weight in self.weights), start=mask.float())
        counted = mask if self.denominator == "all" else mask & (weights != 0)
        coefficients = apply(self.aggregate, {**batch.quantities, "mask": counted})
        return batch.with_quantities(advantages=advantages, weights=weights, coefficients=coefficients)
