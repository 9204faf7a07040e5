"""The differentiable part, per micro-batch: ratio, surrogate, KL penalty, entropy bonus.

Slots: `Ratio`, `Surrogate`, `KL`, `Entropy`, one each; `Gate`, a list. Pure tensors. Components return
things to maximize; the minus sign occurs once, in `Objective`.
"""

from research.objective.entropy import Entropy, EntropyBonus, NoBonus
from research.objective.gates import Gate
from research.objective.kl import K3, KL, NoKL
from research.objective.objective import Objective
from research.objective.ratio import NoRatio, Ratio, TokenRatio
from research.objective.surrogate import Clip, LogLikelihood, Surrogate, Unclipped

__all__ = [
    "K3",
    "KL",
    "Clip",
    "Entropy",
    "EntropyBonus",
    "Gate",
    "LogLikelihood",
    "NoBonus",
    "NoKL",
    "NoRatio",
    "Objective",
    "Ratio",
    "Surrogate",
    "TokenRatio",
    "Unclipped",
]
