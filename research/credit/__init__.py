"""Rewards → advantages, token weights and aggregation coefficients: everything constant in θ, once per update batch.

Slots: `Advantage` (one), `TokenWeight` (a list, multiplied, so order cannot matter), `Aggregate` (one). Pure tensors,
no gradient, computed over the whole update batch, so no batch statistic can depend on a minibatch or micro-batch.
"""

from research.credit.advantage import Advantage, GroupMean, GroupZScore, LeaveOneOut
from research.credit.aggregate import Aggregate, ConstantLength, PromptMean, SequenceMean, TokenMean
from research.credit.batch import BatchScaled, BatchWhitened, EachZScore, WhitenedReturns
from research.credit.credit import Credit
from research.credit.entropy_shaped import EntropyShapedSequences, EntropyShapedTokens
from research.credit.gae import GAE, generalized_advantage
from research.credit.imitation import CorrectOnly, Imitate
from research.credit.importance import MaskedImportance, TruncatedImportance
from research.credit.process import ProcessZScore
from research.credit.token_choice import CovarianceBand, TopEntropy
from research.credit.trajectories import SkipConflicts, SkipHighEntropy
from research.credit.weights import SkipTruncated, TokenWeight

__all__ = [
    "GAE",
    "Advantage",
    "Aggregate",
    "BatchScaled",
    "BatchWhitened",
    "ConstantLength",
    "CorrectOnly",
    "CovarianceBand",
    "Credit",
    "EachZScore",
    "EntropyShapedSequences",
    "EntropyShapedTokens",
    "GroupMean",
    "GroupZScore",
    "Imitate",
    "LeaveOneOut",
    "MaskedImportance",
    "ProcessZScore",
    "PromptMean",
    "SequenceMean",
    "SkipConflicts",
    "SkipHighEntropy",
    "SkipTruncated",
    "TokenMean",
    "TokenWeight",
    "TopEntropy",
    "TruncatedImportance",
    "WhitenedReturns",
    "generalized_advantage",
]
