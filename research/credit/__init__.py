"""Rewards → advantages, token weights and aggregation coefficients: all that is constant in θ, once per update batch.

Slots: `Advantage` (one), `TokenWeight` (a list, multiplied, so order cannot matter), `Aggregate` (one). Pure tensors,
no gradient, computed over the whole update batch, so no batch statistic can depend on a minibatch or micro-batch.
"""

from research.credit.advantage import Advantage, GroupMean, GroupZScore, LeaveOneOut
from research.credit.aggregate import Aggregate, ConstantLength, SequenceMean, TokenMean
from research.credit.credit import Credit
from research.credit.weights import SkipTruncated, TokenWeight

__all__ = [
    "Advantage",
    "Aggregate",
    "ConstantLength",
    "Credit",
    "GroupMean",
    "GroupZScore",
    "LeaveOneOut",
    "SequenceMean",
    "SkipTruncated",
    "TokenMean",
    "TokenWeight",
]
