"""The differentiable part, per micro-batch: ratio, surrogate, KL penalty, entropy bonus.

Slots: `Ratio`, `Surrogate`, `KL`, `Entropy`, one each. Pure tensors. Components return things to maximize; the minus
sign occurs once, in `Objective`.
"""

from research.objective.entropy import Entropy, EntropyBonus, NoBonus
from research.objective.kl import K3, KL, NoKL
from research.objective.objective import Objective
from research.objective.ratio import Ratio, TokenRatio
from research.objective.surrogate import Clip, Surrogate

__all__ = [
    "K3",
    "KL",
    "Clip",
    "Entropy",
    "EntropyBonus",
    "NoBonus",
    "NoKL",
    "Objective",
    "Ratio",
    "Surrogate",
    "TokenRatio",
]
