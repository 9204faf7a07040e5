"""The differentiable part, per micro-batch: ratio, surrogate, KL penalty, entropy bonus.

Slots: `Ratio`, `Surrogate`, `KL`, `Entropy`, one each; `Gate`, a list. Pure tensors. Components return
things to maximize; the minus sign occurs once, in `Objective`.
"""

from research.objective.entropy import AdaptiveEntropyBonus, Entropy, EntropyBonus, NoBonus
from research.objective.gates import Gate, OffPolicyMask
from research.objective.kl import K1, K2, K3, KL, NoKL
from research.objective.kl_off_policy import ImportanceWeightedK3, TopCovarianceKL
from research.objective.objective import Objective
from research.objective.ratio import NoRatio, Ratio, TokenRatio
from research.objective.reweighted import ClippedWeight, GeometricClip
from research.objective.sequence_ratio import MeanTokenRatio, SequenceRatio, SequenceTokenRatio
from research.objective.surrogate import Clip, LogLikelihood, Surrogate, Unclipped
from research.objective.token_bounds import DualClip, DynamicClip, SigmoidGate

__all__ = [
    "K1",
    "K2",
    "K3",
    "KL",
    "AdaptiveEntropyBonus",
    "Clip",
    "ClippedWeight",
    "DualClip",
    "DynamicClip",
    "Entropy",
    "EntropyBonus",
    "Gate",
    "GeometricClip",
    "ImportanceWeightedK3",
    "LogLikelihood",
    "MeanTokenRatio",
    "NoBonus",
    "NoKL",
    "NoRatio",
    "Objective",
    "OffPolicyMask",
    "Ratio",
    "SequenceRatio",
    "SequenceTokenRatio",
    "SigmoidGate",
    "Surrogate",
    "TokenRatio",
    "TopCovarianceKL",
    "Unclipped",
]
